"""Signals are requests to write a checkpoint and to stop at the end of the step: SIGTERM, SIGUSR1 and Ctrl-C (SIGINT).

SLURM sends one of the first two before it takes a node away (`--signal=USR1@300`); launchers send SIGTERM when they are
stopped. One rank that gets a signal is enough: all ranks learn of it in the reduction of the step and stop together.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from translit_scale.errors import UserError

EXIT_PREEMPTED, EXIT_INTERRUPTED = 75, 130
"""EX_TEMPFAIL: nothing is wrong, and the same command resumes the training. 130: the same, but after Ctrl-C."""
REPEATED_SECONDS = 1.0
"""A later Ctrl-C is another one. Within this time it is the same one: the terminal sends it to every process, and
torchrun also passes it on to its ranks."""


class Preempted(UserError):  # noqa: N818 - nothing is wrong
    """Training was asked to stop, and has written a checkpoint."""

    exit_code = EXIT_PREEMPTED


class Interrupted(Preempted):
    """The same after Ctrl-C: whoever starts preempted jobs again must not start this one."""

    exit_code = EXIT_INTERRUPTED


class StopRequest:
    """Becomes true with the first signal; further signals are ignored, but for a second Ctrl-C.

    They say nothing new: SLURM and shells signal both launchers and ranks, and each launcher passes its signals on to
    its ranks. SIGKILL ends a rank at once; launchers and SLURM send it after a delay.

    Args:
        interrupted: called with the first Ctrl-C; end: called with the second one, ends the process.
    """

    def __init__(self, interrupted: Callable[[], object], end: Callable[[], object]) -> None:
        self.signal: signal.Signals | None = None
        self._interrupted, self._end, self._since = interrupted, end, 0.0
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._note)
            if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # jobs in the background ignore it
                signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
            if number == signal.SIGINT:
                self._interrupted()
        elif number == signal.SIGINT and time.monotonic() - self._since > REPEATED_SECONDS:
            self._end()

    def __bool__(self) -> bool:
        return self.signal is not None
