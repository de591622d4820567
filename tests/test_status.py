"""The status of a run and its console may be lost, but not the run, nor the reason for which it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
import torch.distributed as dist

from tests.support.full_disk import full_disk
from tests.support.ranks import Ranks
from tests.support.tiny import make_shards
from tests.support.train_script import SCRIPT, SECONDS_TO_END, STEPS, records
from translit_scale.config import RunConfig
from translit_scale.errors import EXIT_LOST, NumericError
from translit_scale.train.launching import watch
from translit_scale.train.launching.environment import World
from translit_scale.train.launching.rank_log import LOG, close_rank_log, open_rank_log
from translit_scale.train.launching.status import StatusFile


def test_a_run_goes_on_and_ends_without_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = StatusFile()
    status.begin(tmp_path, ["host1"])
    status.at(2, "reading its batch")
    before = (tmp_path / "STATUS.json").read_text()
    status.written -= 60
    with full_disk():
        status.at(3, "reading its batch")
        status.end("failed", "lost contact with rank 1", EXIT_LOST)
    assert (tmp_path / "STATUS.json").read_text() == before
    printed = capsys.readouterr().err
    assert printed.count(f"warning: cannot write {tmp_path / 'STATUS.json'}") == 1 and "no space left" in printed
    (tmp_path / "STATUS.json").unlink()
    (tmp_path / "STATUS.json").mkdir()  # an error of another kind
    status.end("finished")


WAYS: dict[str, Callable[[watch.Watch], object]] = {
    "decides": lambda peers: peers._decide("lost contact with rank 1"),
    "obeys": lambda peers: peers._obey(watch.Verdict("lost contact with rank 1", EXIT_LOST, "host2", 1)),
    "waits": lambda peers: peers._wait_for_store(),
}


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[watch.Watch]:
    """A watch whose threads are not started, because its world has one rank; in place of the end, `stop` is set."""

    def end(message: str, code: int) -> None:
        assert code == EXIT_LOST
        peers.stop.set()

    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.5)
    peers = watch.Watch(RunConfig.model_construct(lost_seconds=1, stalled_minutes=1), World(), end)
    peers.store, peers.reached = dist.HashStore(), float("-inf")
    peers.status.begin(tmp_path, ["host1"])
    open_rank_log(tmp_path / "logs", 0, 2, "cpu")
    yield peers
    close_rank_log()


@pytest.mark.parametrize("way", WAYS)
def test_a_rank_ends_on_a_full_disk(way: str, peers: watch.Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """If the thread of its watch died instead, nobody would end the rank, which waits in a collective."""
    with full_disk():
        LOG.info("this cannot be written, and stays in the buffer of the file")
        WAYS[way](peers)
    assert peers.stop.is_set()


@pytest.mark.parametrize("way", WAYS)
def test_a_rank_ends_whatever_fails_on_the_way(
    way: str, peers: watch.Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "log_stacks", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        WAYS[way](peers)
    assert peers.stop.is_set()


UNREAD = """
import sys
from translit_scale.errors import NumericError
from translit_scale.progress import say
from translit_scale.train.launching.failure import run_rank

def body():
    sys.stdin.read()
    if sys.argv[1] == "fails":
        raise NumericError("the loss is not finite")
    for _ in range(3):
        say("step 1")
        say("a warning", error=True)

run_rank(body)
"""


@pytest.mark.parametrize(("how", "code"), [("ends well", 0), ("fails", NumericError.exit_code)])
def test_a_console_that_nobody_reads_changes_no_exit_code(how: str, code: int) -> None:
    """`train … 2>&1 | tee log` after `tee` was killed."""
    run = subprocess.Popen([sys.executable, "-c", UNREAD, how], stdin=PIPE, stdout=PIPE, stderr=subprocess.STDOUT)
    assert run.stdout and run.stdin
    run.stdout.close()
    run.stdin.close()
    assert run.wait(60) == code


@pytest.mark.slow
def test_a_training_whose_console_nobody_reads_comes_to_its_end(experiment: Path, tmp_path: Path) -> None:
    training = subprocess.Popen([sys.executable, SCRIPT, "--config", experiment, "run.name=tiny"], stdout=PIPE)
    assert training.stdout and training.stdout.readline()  # of the banner
    training.stdout.close()
    assert training.wait(SECONDS_TO_END) == 0
    assert [record["step"] for record in records(tmp_path / "runs/tiny")] == list(range(1, STEPS + 1))
    assert json.loads((tmp_path / "runs/tiny/STATUS.json").read_text())["state"] == "finished"


READING = """
import os, runpy, sys, time
from translit_scale.corpus.shards import ShardSet

read, how = ShardSet.read_lengths, sys.argv.pop(1)
pauses = [] if how == "killed" else 20 * [float(how)]

def read_lengths(self, *block):
    if how == "killed" and os.environ["RANK"] == "0":
        os.kill(os.getpid(), 9)
    if pauses:
        time.sleep(pauses.pop())
    return read(self, *block)

ShardSet.read_lengths = read_lengths
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.fixture
def read_blocks(experiment: Path, tmp_path: Path, run_ranks: Ranks) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Trains with two ranks, which read all of the 40 blocks first."""
    (tmp_path / "script.py").write_text(READING)
    shards = make_shards(tmp_path / "shards", {"ukr_Cyrl": 40}, block_rows=1)
    words = (SCRIPT, "--config", experiment, "run.name=tiny", f"data.shards={shards}", "data.max_damaged_fraction=0.1")
    return lambda how, *more: run_ranks(2, tmp_path / "script.py", how, *words, *more, check=False)


@pytest.mark.slow
def test_reading_all_blocks_is_progress(read_blocks: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """It takes 12 s, and `stalled_minutes` are 9 s, which is longer than anything else here."""
    done = read_blocks(0.6, "run.stalled_minutes=0.15", "train.max_steps=1")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_start_that_is_killed_while_it_reads_all_blocks_is_recorded(
    read_blocks: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """As one that can go on, and one of those of which there may not be too many."""
    run = tmp_path / "runs/tiny"
    run.mkdir(parents=True)
    (run / "STATUS.json").write_text('{"state": "finished"}')  # of an earlier job
    assert read_blocks("killed").returncode == -signal.SIGKILL
    status = json.loads((run / "STATUS.json").read_text())
    assert (status["state"], status["step"], status["exit_code"]) == ("running", 0, None)
    assert len((run / "starts.jsonl").read_text().splitlines()) == 1


def test_the_status_names_step_and_end(tmp_path: Path) -> None:
    status = StatusFile()
    status.begin(tmp_path, ["host1"])
    status.at(3, "computing")
    assert json.loads((tmp_path / "STATUS.json").read_text())["state"] == "running"
    status.end("failed", "lost contact with rank 1", EXIT_LOST)
    found = json.loads((tmp_path / "STATUS.json").read_text())
    assert [found[name] for name in ("state", "step", "doing", "reason", "exit_code")] == [
        "failed", 3, "computing", "lost contact with rank 1", EXIT_LOST,
    ]  # fmt: skip
