"""The fixture that runs a script on several ranks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.ranks import TIMED_OUT, Ranks

pytestmark = pytest.mark.slow

SCRIPT = """
import os, signal, sys, time
assert __name__ == "__main__" and os.environ["LOCAL_RANK"] == os.environ["RANK"]
rank, what = int(os.environ["RANK"]), sys.argv[1]
print(f"rank {rank} of {os.environ['WORLD_SIZE']} with {sys.argv[1:]}", flush=True)
if what != "end" and rank:
    open(f"{what}.{rank}", "w").write(str(os.getpid()))
    time.sleep(60)
while what != "end" and not os.path.exists(f"{what}.1"):
    time.sleep(0.01)
if what.endswith("raise"):
    raise ValueError("a defect")
if what.endswith("leave"):
    sys.exit(3)
if what.endswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
if what.endswith("hang"):
    time.sleep(60)
"""


def test_ranks_of_a_script(run_ranks: Ranks, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run_ranks(3, script, "end", 1, tmp_path)
    assert sorted(done.stdout.splitlines()) == [
        f"rank {rank} of 3 with ['end', '1', '{tmp_path}']" for rank in range(3)
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_ranks_of_a_failed_one_are_killed(run_ranks: Ranks, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for how, code, timeout in (
        ("raise", 1, 60),
        ("leave", 3, 60),
        ("kill", -signal.SIGKILL, 60),
        ("hang", TIMED_OUT, 1),
    ):
        began = time.monotonic()
        done = run_ranks(2, script, tmp_path / how, check=False, timeout=timeout)
        assert done.returncode == code and time.monotonic() - began < 30
        assert ("ValueError: a defect" in done.stderr) == (how == "raise")
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"{how}.1").read_text()), 0)
    with pytest.raises(AssertionError, match="exit code 1"):
        run_ranks(2, script, tmp_path / "raise")


BOUND = """
import os, sys, torch
own = set(map(int, sys.argv[1 + int(os.environ["RANK"])].split()))
os.sched_getaffinity = lambda process: own  # this machine may have fewer cores
os.environ.pop("OMP_NUM_THREADS", None)
from translit_scale.train.launching.ranks import leave_ranks, start_rank
start_rank()
print(torch.get_num_threads(), flush=True)
leave_ranks()
"""


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        (["0 1 2 3 4 5 6 7"] * 2, ["4", "4"]),
        (["0 1 2 3", "4 5 6 7"], ["4", "4"]),  # bound, as by mpirun
        (["0 1 2", "0 1 2 3 4 5"], ["1", "4"]),
        (["0"], ["1"]),
    ],
)
def test_threads_of_ranks_that_share_cores_or_are_bound_to_their_own(
    cores: list[str], threads: list[str], run_ranks: Ranks, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(BOUND)
    assert sorted(run_ranks(len(cores), script, *cores).stdout.split()) == threads


LATE_FIRST = """
import os, time
from translit_scale.errors import ConfigError
from translit_scale.train.launching.failure import run_rank
def body():
    if os.environ["RANK"] == "0":
        time.sleep(7)
    raise ConfigError("a wrong setting")
run_rank(body)
"""


def test_error_of_all_ranks_is_that_of_the_first_even_if_it_starts_late(run_ranks: Ranks, tmp_path: Path) -> None:
    """`error on rank 1` would send the user of a wrong setting to a machine that has nothing to do with it."""
    script = tmp_path / "script.py"
    script.write_text(LATE_FIRST)
    done = run_ranks(2, script, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: a wrong setting\n")
