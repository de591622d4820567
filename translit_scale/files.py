"""Files that are complete under their final name or not there at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from translit_scale.errors import DataError


@contextmanager
def atomic_open(path: Path, temporary_dir: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` only when the block ends without an exception.

    Written under a temporary name, which no process on any host shares, synced to disk, then renamed.

    Args:
        temporary_dir: a folder on the same file system (default: that of `path`) for the temporary file, which
            a killed process leaves there.

    Raises:
        DataError: the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (temporary_dir or path.parent) / f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp"
    try:
        with full_disk_as_error(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_as_error(path: Path) -> Iterator[None]:
    """Says so if the disk is full while `path` is written.

    Raises:
        DataError: the disk, the quota or the limit of the size of files is exhausted.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"no space left on the disk while writing {path}",
                "free some space and run the same command again: finished parts are kept",
            ) from error
        raise


def sync(path: Path) -> None:
    """Makes a file's bytes, or the names in a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, temporary_dir: Path | None = None) -> None:
    """Writes `data` to `path` atomically, see `atomic_open`."""
    with atomic_open(path, temporary_dir) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, atomically and byte-reproducibly (key order is the caller's)."""
    write_bytes(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def read_json(path: Path, what: str, hint: str = "") -> Any:
    """Reads a JSON file; `what` names it in the error.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{what} not found: {path}", hint) from None
    except ValueError as error:
        raise DataError(f"{what} is not valid JSON: {path}: {error}", hint) from None


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path) -> IO[bytes]:
    """Opens a regular file for reading: a named pipe could wait for ever, and a device never end.

    Raises:
        OSError: it cannot be opened, or it is a directory, a pipe, a device or a socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")
