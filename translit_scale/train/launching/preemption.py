"""SIGTERM and SIGUSR1 are requests to write a checkpoint and to stop at the end of the step.

SLURM sends one of them before it takes a node away (`--signal=USR1@300`); launchers send SIGTERM when they are stopped.
One rank that gets the signal is enough: all ranks learn of it in the reduction of the step and stop together.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from translit_scale.errors import UserError

EXIT_PREEMPTED = 75
"""EX_TEMPFAIL: nothing is wrong, and the same command resumes the training."""


class Preempted(UserError):  # noqa: N818 - nothing is wrong
    """Training was asked to stop, and has written a checkpoint."""

    exit_code = EXIT_PREEMPTED


class StopRequest:
    """Becomes true with the first signal; further signals are ignored.

    Further signals say nothing new: SLURM and shells signal both launchers and ranks, and each launcher passes its
    signals on to its ranks. Only SIGKILL ends a rank at once; launchers and SLURM send it after a delay.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None
