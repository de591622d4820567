"""SIGTERM and SIGUSR1 as a request to write a checkpoint and leave, at the end of the step.

SLURM sends one of them before it takes a node away (`--signal=USR1@300`), launchers send SIGTERM when they are stopped.
One rank that is asked is enough: all ranks learn of it in the step's own reduction and leave together.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from translit_scale.errors import UserError

EXIT_PREEMPTED = 75
"""EX_TEMPFAIL: nothing is wrong, the same command goes on."""


class Preempted(UserError):  # noqa: N818 - nothing is wrong
    """Training was asked to stop, and has written a checkpoint."""

    exit_code = EXIT_PREEMPTED


class StopRequest:
    """Becomes true with the first signal; more of them say nothing new.

    They are no sign of impatience: SLURM and a shell signal launchers and ranks alike, and each launcher passes on to
    its ranks what it gets. Who cannot wait has SIGKILL, as launchers and SLURM after their time.
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
