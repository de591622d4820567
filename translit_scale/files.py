"""Atomic files: under its final name, a file is complete or does not exist."""

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

SHARED_SECONDS = 40.0
"""Time within which a file that one host has written must be seen by the others. Network file systems may remember for
half a minute that there is no such file."""


@contextmanager
def atomic_open(path: Path, temporary_dir: Path | None = None) -> Iterator[IO[bytes]]:
    """Opens a binary file that appears under `path` only if the block ends without an exception.

    It is written under a temporary name that is unique to this process and host, synced to disk, and then renamed.

    Args:
        temporary_dir: folder of the temporary file, on the same file system (default: the folder of `path`). A killed
            process leaves its temporary file there.

    Raises:
        DataError: the disk is full; no partial file remains.
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
    """Turns the operating system's errors about a full disk into an error that names `path`.

    Raises:
        DataError: the disk or the quota is full, or the file exceeds the limit of file sizes.
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
    """Syncs a file's bytes, or the names in a directory, to disk, so that they survive a power failure."""
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
    """Writes `value` as JSON, atomically; the same value, with keys in the same order, gives the same bytes."""
    write_bytes(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def read_json(path: Path, what: str, hint: str = "") -> Any:
    """Reads a JSON file; error messages call it `what`.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{what} not found: {path}", hint) from None
    except ValueError as error:
        raise DataError(f"{what} is not valid JSON: {path}: {error}", hint) from None


def is_listed(path: Path) -> bool:
    """Whether a listing of its folder has a file.

    Listing a folder makes a network file system ask its server. Asked about a single file, it may answer from its
    cache, for up to a minute, that the file does not exist although another host has written it meanwhile.
    """
    try:
        return path in path.parent.iterdir()
    except (FileNotFoundError, NotADirectoryError):
        return False


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path) -> IO[bytes]:
    """Opens a regular file for reading; a named pipe could block and a device be endless, so they are refused.

    Raises:
        OSError: the file cannot be opened, or it is a directory, a pipe, a device or a socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")
