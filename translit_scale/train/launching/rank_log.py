"""A log of each rank, `logs/rank_0003.log` of the run: where it runs, how far it came, and where it ended.

Consoles show what one rank says. When ranks wait for each other, the reason is in the logs of all of them.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

LOG = logging.getLogger("translit_scale.rank")
LOG.setLevel(logging.INFO)
LOG.propagate = False
LOG.addHandler(logging.NullHandler())


class _File(logging.FileHandler):
    """A full disk must not end a training that could go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - a method of logging
        """Ignores what cannot be written."""


def open_rank_log(folder: Path, rank: int, world_size: int, device: str) -> None:
    """From now on `LOG` writes to the file of this rank, behind what earlier jobs of the run have written."""
    folder.mkdir(exist_ok=True)
    close_rank_log()
    file = _File(folder / f"rank_{rank:04}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(file)
    LOG.info("rank %d of %d on %s: process %d, %s", rank, world_size, socket.gethostname(), os.getpid(), device)


def close_rank_log() -> None:
    """Closes the file, if there is one."""
    for handler in LOG.handlers[:]:
        if isinstance(handler, _File):
            LOG.removeHandler(handler)
            handler.close()


def log_stacks() -> None:
    """Writes what every thread of this process does now."""
    for handler in LOG.handlers:
        if isinstance(handler, _File) and handler.stream is not None:
            with suppress(OSError):
                handler.stream.flush()
            faulthandler.dump_traceback(handler.stream, all_threads=True)
