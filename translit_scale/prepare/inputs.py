"""Checksums of input files, kept between runs: a corpus of 600 GB is read for them once, not by every task.

A checksum is valid as long as path, size and time of modification of its file are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from translit_scale.corpus.text import Columns
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import DataError
from translit_scale.files import read_json, sha256_file, write_json
from translit_scale.prepare.locking import one_at_a_time
from translit_scale.progress import Advance, Progress

REMEMBERED_NAME = ".inputs.json"
"""A file in the folder of a finished set, but not a part of the set."""


class Stamp(NamedTuple):
    """Size and time of modification: as long as they are the same, a file counts as unchanged."""

    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The present stamp of a file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)

    def check(self, path: Path) -> None:
        """Raises a DataError if the present stamp of the file is another."""
        if Stamp.of(path) != self:
            raise DataError(f"{path} changed while it was read", "run the same command again")


class InputFile(NamedTuple):
    """A text file of a recipe."""

    name: str
    """Relative to the data directory, with `/`."""
    columns: Columns
    sha256: str
    stamp: Stamp


@dataclass(frozen=True)
class ChecksumTask:
    """The sha256 of one file."""

    path: Path
    stamp: Stamp
    work_dir: Path

    def __str__(self) -> str:
        return f"the checksum of {self.path}"

    @property
    def key(self) -> str:
        """Identifies the file by path, size and time of modification."""
        return content_key([str(self.path.resolve()), self.stamp])

    @property
    def target(self) -> Path:
        """File of the result."""
        return self.work_dir / f"input-{self.key}.json"


def run_checksum(task: ChecksumTask, advance: Advance) -> None:
    """Computes a checksum, if no other task has; `advance` is called with the bytes of the file."""
    with one_at_a_time(task.target):
        if not task.target.exists():
            digest = sha256_file(task.path)
            task.stamp.check(task.path)
            write_json(task.target, digest)
    advance(task.stamp.bytes)


def checksums(paths: Sequence[Path], out_dir: Path, workers: int) -> dict[Path, tuple[str, Stamp]]:
    """The sha256 and the stamp of every file; checksums from earlier runs in `out_dir` are used again."""
    tasks = [ChecksumTask(path, Stamp.of(path), out_dir / ".work") for path in paths]
    path = out_dir / REMEMBERED_NAME
    remembered = read_json(path, "checksums", f"remove {path}") if path.exists() else {}
    missing = [task for task in tasks if task.key not in remembered and not task.target.exists()]
    if missing:
        with Progress("checksums of the input", sum(task.stamp.bytes for task in missing), "bytes") as progress:
            run_tasks(run_checksum, missing, workers, progress.advance)
    return {task.path: (remembered.get(task.key) or read_json(task.target, "checksum"), task.stamp) for task in tasks}


def remember(files: Mapping[Path, tuple[str, Stamp]], out_dir: Path) -> None:
    """Keeps checksums after the preparation, so that the next one can tell quickly whether anything has changed."""
    known = {ChecksumTask(path, stamp, out_dir).key: digest for path, (digest, stamp) in files.items()}
    write_json(out_dir / REMEMBERED_NAME, known)


def content_key(value: Any) -> str:
    """A hash of everything that a result depends on."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
