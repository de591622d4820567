"""A request to stop is noted, however often it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from translit_scale.errors import EXIT_LOST
from translit_scale.train.launching.preemption import StopRequest

REQUESTS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
SECOND_INTERRUPT = """
import signal, sys, time
from translit_scale.train.launching.failure import end_at_once, run_rank
from translit_scale.train.launching.preemption import StopRequest

def body():
    StopRequest(lambda: print("first", flush=True), lambda: end_at_once("second", 0))
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # torchrun passes the first one on
    print("still there", flush=True)
    time.sleep(1.2)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    print("never", flush=True)

run_rank(body)
"""


FAILURE = """
import sys
from translit_scale.train.launching.failure import run_rank

def body():
    raise {"RuntimeError": RuntimeError, "OSError": OSError}[sys.argv[1]](sys.argv[2])

run_rank(body)
"""


def request() -> StopRequest:
    return StopRequest(lambda: None, lambda: None)


@pytest.fixture(autouse=True)
def handlers_kept() -> Iterator[None]:
    """Those of before are there again after the test."""
    before = {number: signal.getsignal(number) for number in REQUESTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_that_follow_the_first_do_not_end_the_process() -> None:
    """SLURM signals ranks and launchers, which pass it on to the ranks: each rank gets it twice."""
    fatal: list[int] = []
    for number in REQUESTS:
        signal.signal(number, lambda number, _: fatal.append(number))
    stop = request()
    assert not stop
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        signal.raise_signal(number)
        assert stop and stop.signal == signal.SIGUSR1
    assert not fatal


def test_ranks_heed_what_their_launcher_ignores() -> None:
    """`trap '' USR1` before a launcher (docs/launching.md): ignored signals stay so in the processes it starts."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    stop = request()
    signal.raise_signal(signal.SIGUSR1)
    assert stop


def test_the_second_ctrl_c_ends_the_process_at_once() -> None:
    run = subprocess.run([sys.executable, "-c", SECOND_INTERRUPT], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "first\nstill there\n", "second\n")


def test_a_job_in_the_background_does_not_heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = request()
    signal.raise_signal(signal.SIGINT)
    assert not stop


TWO_RANKS = {
    "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "message", "is_peer"),
    [
        (
            "RuntimeError",
            "[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.7]:38615. This is typically …",
            True,
        ),
        (
            "RuntimeError",
            "NCCL error in: x.cpp:94\nncclRemoteError: remote process exited or there was a network error",
            True,
        ),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", False),
        ("OSError", "[Errno 32] Broken pipe", False),  # of the console, for example
    ],
)
def test_a_killed_peer_is_no_traceback(kind: str, message: str, is_peer: bool) -> None:
    """A rank of which the kernel has killed the peer did nothing wrong; a defect still shows where it is."""
    command = [sys.executable, "-c", FAILURE, kind, message]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | TWO_RANKS)
    assert run.returncode == (EXIT_LOST if is_peer else 1) and ("Traceback" in run.stderr) != is_peer
    assert ("rank 0 lost contact with another rank" in run.stderr) == is_peer
    assert message.partition("\n")[0].partition(". This")[0] in run.stderr and "typically" not in run.stderr


def test_one_process_has_no_peer_to_lose() -> None:
    """A training whose output nobody reads any more, for example, would be started again and again."""
    command = [sys.executable, "-c", FAILURE, "RuntimeError", "[Errno 32] Broken pipe"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" in run.stderr
