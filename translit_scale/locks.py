"""Locks that go with the process, however it ends, so that what a killed one held is free.

They are `flock`s. On a file system without them nothing is locked, and `try_lock` says so.
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
"""By then the helpers of a killed process, which hold its lock as well, have ended."""


def try_lock(file: IO[bytes], shared: bool = False) -> OSError | None:
    """Locks an open file until it is closed, if nobody else holds it.

    Returns:
        Why nothing is locked, on a file system without locks.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return error
        raise
    return None


@contextmanager
def only_user(folder: Path, other: str) -> Iterator[None]:
    """Use of a folder by this process alone; its file `.lock` says by whom.

    Args:
        other: hint, what the user may do instead of waiting.

    Raises:
        DataError: another process uses it.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+b") as file:
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            try:
                missing = try_lock(file)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().decode() or "another process"
                    raise DataError(f"{folder} is in use: {holder}", other) from None
            time.sleep(0.1)
        if missing:
            what = f"{folder} is on a file system without locks ({missing.strerror})"
            print(f"{what}: start nothing else in it", file=sys.stderr)
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        file.write(f"process {os.getpid()} on {os.uname().nodename}, since {since}".encode())
        file.flush()
        yield
