"""Locks on the folder of a shard set: shared by the tasks that make parts of it, exclusive for a run that finishes it.

Locks are `flock`s and end with their process. Without them, on some file systems, files cannot be damaged either:
each is written under a unique name and renamed when complete. But nothing then stops a run from finishing the set while
tasks are still running.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from translit_scale.errors import DataError
from translit_scale.files import full_disk_as_error
from translit_scale.languages import listed
from translit_scale.locks import await_lock, try_lock

_RUN_DIR = re.compile(r"\.run\.(?P<host>.+)\.(?P<pid>[0-9]+)")
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")
"""Names that `files.atomic_open` gives."""


@contextmanager
def lock_shard_set(out_dir: Path, label: str, exclusive: bool) -> Iterator[Path]:
    """Locks the folder of a shard set.

    Yields a new folder for temporary files, which is removed at the end. At the beginning it removes what killed runs
    left behind: everything if the lock is exclusive, otherwise only what runs of this host left.

    Args:
        label: names this run in the error messages of others.

    Raises:
        DataError: the folder cannot be written, or another run has locked it.
    """
    work_dir = out_dir / ".work"
    run_dir = work_dir / f".run.{os.uname().nodename}.{os.getpid()}"
    with ExitStack() as stack:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((out_dir / ".lock").open("a+b"))
        except OSError as error:
            raise DataError(f"cannot write into {out_dir}: {error.strerror}") from None
        stack.enter_context(full_disk_as_error(out_dir))
        has_locks = _lock(lock, out_dir, exclusive)
        if has_locks:
            _remove_leftovers(out_dir, exclusive)
        shutil.rmtree(run_dir, ignore_errors=True)  # a killed run may have had this process number, as in containers
        run_dir.mkdir(parents=True)
        stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
        if has_locks:
            run_lock = stack.enter_context((run_dir / "lock").open("a+b"))
            fcntl.flock(run_lock, fcntl.LOCK_EX)
            run_lock.write(f"{label} on {os.uname().nodename}".encode())
            run_lock.flush()
        yield run_dir


def _lock(lock: IO[bytes], out_dir: Path, exclusive: bool) -> bool:
    """Locks the folder until the file is closed; False if the file system has no locks."""
    try:
        unsupported = try_lock(lock, shared=not exclusive)
    except BlockingIOError:
        running = sorted(_running(out_dir / ".work")) or ["another prepare"]
        if len(running) == 1:
            message = f"{running[0]} is running in {out_dir}"
        else:
            message = f"{len(running)} tasks are still running in {out_dir}: {listed(running, 8)}"
        raise DataError(message, "wait until it ends, or choose another --out") from None
    if unsupported:
        reason = f"{out_dir} is on a file system without locks ({unsupported.strerror})"
        print(f"{reason}: do not finish a set while its tasks are running", file=sys.stderr)
    return not unsupported


def _running(work_dir: Path) -> Iterator[str]:
    """Labels of the runs that are alive."""
    for path in work_dir.glob(".run.*"):
        with suppress(FileNotFoundError):  # it has ended meanwhile
            if not _is_dead(path):
                yield (path / "lock").read_text()


def _is_dead(run_dir: Path) -> bool:
    """Whether no process holds the lock of a run folder."""
    try:
        with (run_dir / "lock").open("r+b") as lock:
            try_lock(lock)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _remove_leftovers(out_dir: Path, exclusive: bool) -> None:
    work_dir = out_dir / ".work"
    for path in work_dir.glob(".run.*"):
        if exclusive or (_process_has_ended(path.name) and _is_dead(path)):
            shutil.rmtree(path, ignore_errors=True)
    for path in (*out_dir.glob(".*.tmp"), *work_dir.glob(".*.tmp")) if exclusive else ():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _process_has_ended(run_dir_name: str) -> bool:
    """Whether a run folder belongs to a process of this host that no longer exists.

    The lock alone does not tell: a run folder has none just after it is made, and on some file systems other hosts do
    not see it.
    """
    match = _RUN_DIR.fullmatch(run_dir_name)
    if match is None or match["host"] != os.uname().nodename:
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except OSError as error:  # PermissionError: the process of another user
        return isinstance(error, ProcessLookupError)
    return False


@contextmanager
def one_at_a_time(target: Path) -> Iterator[None]:
    """Waits until no other process makes the same file, if the file system has locks."""
    with full_disk_as_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_suffix(".lock").open("a+b")
    with lock:
        await_lock(lock, f"waiting for another task that makes {target.name}")
        yield
