"""A request to stop is noted, however often it comes."""

from __future__ import annotations

import signal

from translit_scale.train.preemption import StopRequest


def test_signals_that_follow_the_first_do_not_end_the_process() -> None:
    """SLURM signals ranks and launchers, which pass it on to the ranks: each rank gets it twice."""
    fatal: list[int] = []
    handlers = {n: signal.signal(n, lambda number, _: fatal.append(number)) for n in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        stop = StopRequest()
        assert not stop
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
            assert stop and stop.signal == signal.SIGUSR1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert not fatal


def test_ranks_heed_what_their_launcher_ignores() -> None:
    """`trap '' USR1` before a launcher (docs/launching.md): ignored signals stay so in the processes it starts."""
    terminate = signal.getsignal(signal.SIGTERM)
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        stop = StopRequest()
        signal.raise_signal(signal.SIGUSR1)
        assert stop
    finally:
        signal.signal(signal.SIGUSR1, handler)
        signal.signal(signal.SIGTERM, terminate)
