"""File locks (`flock`), which the system releases when the process ends, even if it is killed.

On a file system without locks nothing is locked, and `try_lock` reports that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from translit_scale.errors import DataError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
GRACE_SECONDS = 2.0
"""How long to wait for the child processes of a killed process to end; they hold its lock too."""


def try_lock(file: IO[bytes], shared: bool = False) -> OSError | None:
    """Locks an open file until it is closed, without waiting.

    Returns:
        None, or the system's error if the file system has no locks and nothing is locked.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return error
        raise
    return None


def await_lock(file: IO[bytes], waiting: str) -> None:
    """Locks an open file until it is closed, as soon as nobody else holds it; nothing on a file system without locks.

    Args:
        waiting: printed if another process holds it.
    """
    try:
        try_lock(file)
    except BlockingIOError:
        print(waiting, file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def lock_folder(folder: Path, hint: str) -> Iterator[None]:
    """Reserves a folder for this process; the folder's file `.lock` names the process.

    Args:
        hint: what the user can do if the folder is in use.

    Raises:
        DataError: another process uses the folder.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+b") as file:
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            try:
                no_locks = try_lock(file)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().decode() or "another process"
                    raise DataError(f"{folder} is in use: {holder}", hint) from None
            time.sleep(0.1)
        if no_locks:
            reason = f"{folder} is on a file system without locks ({no_locks.strerror})"
            print(f"{reason}: do not start another process in it", file=sys.stderr)
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        file.write(f"process {os.getpid()} on {os.uname().nodename}, since {since}".encode())
        file.flush()
        yield
