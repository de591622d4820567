"""STATUS.json of a run: what its job does now or how it has ended, for people and scripts that look from outside.

The process is that of the first rank, on the first of the hosts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from translit_scale.errors import DataError
from translit_scale.files import write_json
from translit_scale.progress import say

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
    exit_code: int | None = None
    """That of the ranks, once the run has ended: not every launcher passes it on."""


class StatusFile:
    """Writes the status of a run, from `begin` on; without it (on all ranks but the first) nothing is written.

    No method raises an error if the file cannot be written, for example on a full disk: a training that can go on goes
    on, and one that ends does so for its own reason.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.hosts: list[str] = []
        self.status, self.written, self.has_failed = Status(), -WRITE_SECONDS, False

    def begin(self, run: Path, hosts: Sequence[str]) -> None:
        """This job has the run directory now, and writes its status there."""
        self.path, self.hosts = run / "STATUS.json", list(hosts)

    def at(self, step: int, doing: str) -> None:
        """Says what the run does now; the file changes every `WRITE_SECONDS` at most."""
        self.status.step, self.status.doing = step, doing
        if time.monotonic() - self.written >= WRITE_SECONDS:
            self._write()

    def end(self, state: Literal["finished", "stopped", "failed"], reason: str = "", exit_code: int = 0) -> None:
        """Says that the run has ended."""
        self.status.state, self.status.reason, self.status.exit_code = state, reason, exit_code
        self._write()

    def finish(self, step: int) -> None:
        """Says that nothing is left to train, if the job that took the last step was killed before it could."""
        try:
            state = json.loads(self.path.read_text())["state"] if self.path else "finished"
        except (OSError, ValueError, KeyError):
            state = ""
        if state != "finished":
            self.status.step, self.status.doing = step, "nothing"
            self.end("finished")

    def _write(self) -> None:
        self.written = time.monotonic()
        if self.path is None:
            return
        try:
            write_json(self.path, asdict(self.status) | self._place(self.path.parent / "checkpoints" / "latest"))
        except (OSError, DataError) as error:
            if not self.has_failed:
                reason = error.message if isinstance(error, DataError) else error
                say(f"warning: cannot write {self.path}, which does not end the training: {reason}", error=True)
            self.has_failed = True

    def _place(self, latest: Path) -> dict[str, object]:
        """When and where the run is at work, and its last checkpoint."""
        return {
            "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "checkpoint": latest.read_text().strip() if latest.is_file() else "",
            "hosts": self.hosts,
            "process": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
        }
