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
    """Becomes true with the first signal; a second one ends the process at once, as it would have without this."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        for each, before in self._before.items():
            signal.signal(each, before)

    def __bool__(self) -> bool:
        return self.signal is not None
