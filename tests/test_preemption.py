"""A request to stop is noted, however often it comes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from translit_scale.train.launching.preemption import StopRequest

REQUESTS = (signal.SIGTERM, signal.SIGUSR1)


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
    stop = StopRequest()
    assert not stop
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        signal.raise_signal(number)
        assert stop and stop.signal == signal.SIGUSR1
    assert not fatal


def test_ranks_heed_what_their_launcher_ignores() -> None:
    """`trap '' USR1` before a launcher (docs/launching.md): ignored signals stay so in the processes it starts."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    stop = StopRequest()
    signal.raise_signal(signal.SIGUSR1)
    assert stop
