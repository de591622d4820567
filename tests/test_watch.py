"""Ranks that end, stop or stand still while the others wait for them; each is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.ranks import Ranks
from tests.support.train_script import SCRIPT, STEPS
from translit_scale.errors import EXIT_LOST

pytestmark = pytest.mark.slow

BODY = """
import os, signal, sys, time
from pathlib import Path

import torch

from translit_scale.config import RunConfig
from translit_scale.train.launching import failure, rank_log, watch
from translit_scale.train.launching.environment import join_world
from translit_scale.train.launching.ranks import start_rank

rank, what, folder, lost, stalled = int(os.environ["RANK"]), sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:])
seldom = {"fails": 1, "stops at once": 2}.get(what) == rank
watch.BEAT_SECONDS = 3.0 if seldom else 0.2  # of a busy machine
watch.MEETING_SECONDS = 5.0

def body():
    start_rank()
    if what == "does not begin" and rank == 2:
        time.sleep(60)
    run = RunConfig.model_construct(lost_seconds=lost, stalled_minutes=stalled / 60)
    peers = watch.Watch(run, join_world(), failure.end_process)
    failure.watched[:] = [peers]
    if what == "stops at once":
        torch.distributed.barrier()  # as the ranks of a training compare their settings
        if rank == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
    peers.at(7, watch.WAITS)
    time.sleep(3)  # the others learn of this step
    (folder / str(rank)).write_text(str(os.getpid()))
    rank_log.open_rank_log(folder / "logs", rank, 3, "cpu")
    time.sleep(1)
    if rank == 2:
        if what == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        if what == "reads":
            peers.at(6, "reading its batch")
            time.sleep(60)
        if what == "fails":
            raise ValueError("a defect of rank 2")
    torch.distributed.all_reduce(torch.ones(3))
    peers.close()
    print("done", flush=True)

failure.run_rank(body)
"""


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("is killed", "lost contact with rank 2 on {host} at step "),
        ("stops", "lost contact with rank 2 on {host} at step 7: no heartbeat for 4 s"),
        ("stops at once", "lost contact with rank 2 on {host} at step 0: no heartbeat for 4 s"),
        ("does not begin", "lost contact with rank 2: no heartbeat since the ranks met, 5 s ago"),
        ("reads", "no rank has made progress for 8 s: rank 2 on {host} is reading its batch, step 6"),
    ],
)
def test_a_rank_that_the_others_wait_for_is_named(
    what: str, message: str, run_ranks: Ranks, tmp_path: Path
) -> None:  # fmt: skip
    code, printed, seconds = wait_for(run_ranks, tmp_path, what, lost=4, stalled=8)
    if what == "is killed":  # the launcher of this test ends the others at once
        assert code in (EXIT_LOST, -signal.SIGKILL)
    else:
        assert code == EXIT_LOST and message.format(host=os.uname().nodename) in printed, printed
        assert "the same command resumes" in printed and seconds < 30
        log = (tmp_path / "logs/rank_0001.log").read_text()  # says where the rank stood
        assert message.format(host=os.uname().nodename) in log and "all_reduce" in log and "in body" in log, log


def test_a_rank_that_fails_ends_the_others_with_its_reason(run_ranks: Ranks, tmp_path: Path) -> None:
    code, printed, _ = wait_for(run_ranks, tmp_path, "fails", lost=20, stalled=60)
    assert code == 1 and printed.count("a defect of rank 2") == 2 and printed.count("Traceback") == 1, printed
    assert "ValueError: a defect of rank 2" in (tmp_path / "logs/rank_0002.log").read_text()
    late = (tmp_path / "logs/rank_0001.log").read_text()
    assert late.count(f"ended by {os.uname().nodename}: rank 2: Traceback") == 1, late


def test_a_rank_that_stops_for_a_while_is_waited_for(run_ranks: Ranks, tmp_path: Path) -> None:
    if os.fork() == 0:
        while not (tmp_path / "2").exists():
            time.sleep(0.05)
        time.sleep(3)
        os.kill(int((tmp_path / "2").read_text()), signal.SIGCONT)
        os._exit(0)
    code, printed, _ = wait_for(run_ranks, tmp_path, "stops", lost=20, stalled=60)
    assert code == 0 and not printed


def wait_for(
    run_ranks: Ranks, tmp_path: Path, what: str, lost: float, stalled: float
) -> tuple[int, str, float]:  # fmt: skip
    """Exit code, error output and seconds of three ranks."""
    script = tmp_path / "script.py"
    script.write_text(BODY)
    began = time.monotonic()
    done = run_ranks(3, script, what, tmp_path, lost, stalled, check=False, timeout=60)
    return done.returncode, done.stderr, time.monotonic() - began


def test_status_of_a_run(experiment: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    path = tmp_path / "runs/tiny/STATUS.json"
    words = ["--config", experiment, "run.name=tiny"]
    job = {**os.environ, "SLURM_JOB_ID": "4711"}
    assert subprocess.run([sys.executable, SCRIPT, *words], env=job).returncode == 0
    status = json.loads(path.read_text())
    assert (status["state"], status["reason"], status["doing"]) == ("finished", "", "nothing")
    assert status["exit_code"] == 0
    assert (status["job"], status["hosts"]) == ("4711", [os.uname().nodename])
    assert (status["step"], status["checkpoint"]) == (STEPS, f"step_{STEPS:06}")
    before = path.read_text()
    run_ranks(1, SCRIPT, *words)
    assert path.read_text() == before  # nothing was left to train
    path.write_text(before.replace('"finished"', '"running"'))  # it was killed after the last checkpoint
    run_ranks(1, SCRIPT, *words)
    assert json.loads(path.read_text())["state"] == "finished"
    log = (path.parent / "logs/rank_0000.log").read_text()
    assert log.count("rank 0 of 1 on ") == 1 and log.endswith(f" step {STEPS}: done\n"), log
    failed = run_ranks(1, SCRIPT, *words, "train.lr=0.5", check=False)
    status = json.loads(path.read_text())
    assert failed.returncode == 3 == status["exit_code"] and status["state"] == "failed"
    assert "train.lr" in status["reason"]
