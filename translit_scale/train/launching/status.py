"""STATUS.json of a run: what its job does now or how it has ended, for people and scripts that look from outside."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from translit_scale.files import write_json

WRITE_SECONDS = 10.0
"""Time between two writes while training goes on."""


@dataclass
class Status:
    """What STATUS.json says besides the time, and where the first rank runs."""

    state: Literal["running", "finished", "stopped", "failed"] = "running"
    """`stopped` is on request. A job that was killed leaves `running`, with a `time` that no longer changes."""
    step: int = 0
    """Steps that are taken."""
    doing: str = "starting"
    reason: str = ""
    """The message with which the run has ended."""


class StatusFile:
    """Writes the status of a run; only the first rank has a path.

    Args:
        path: the file, in a folder that exists when the first step is taken.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.status, self.written = path, Status(), -WRITE_SECONDS

    def at(self, step: int, doing: str) -> None:
        """Says what the run does now; the file changes every `WRITE_SECONDS` at most."""
        self.status.step, self.status.doing = step, doing
        if time.monotonic() - self.written >= WRITE_SECONDS:
            self._write()

    def end(self, state: Literal["finished", "stopped", "failed"], reason: str = "") -> None:
        """Says that the run has ended."""
        self.status.state, self.status.reason = state, reason
        self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        if self.path is None or not self.path.parent.is_dir():
            return
        where = {"host": socket.gethostname(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
        write_json(self.path, asdict(self.status) | {"time": time.strftime("%Y-%m-%d %H:%M:%S %z")} | where)
