"""Who is at work in a shard set's folder: many tasks of `prepare` at once, or one run that finishes the set.

Locks are `flock`s: they go with the process, however it ends. On a file system without them nothing is lost or
spoiled either, because every file is written under a name of its own and renamed when it is complete; but
nothing stops a set from being finished while tasks are still at work.
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
from translit_scale.locks import try_lock

_RUN_DIR = re.compile(r"\.run\.(?P<host>.+)\.(?P<pid>[0-9]+)")
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")
"""Of `files.atomic_open`."""


@contextmanager
def at_work(out_dir: Path, label: str, alone: bool) -> Iterator[Path]:
    """Use of the folder of a shard set, alone or together with others who do not want it alone.

    Yields a new folder for temporary files, which is removed at the end. What killed runs left behind in theirs is
    removed at the beginning: all of it when alone, otherwise that of this host.

    Args:
        label: what others are told is at work.

    Raises:
        DataError: the folder cannot be written, or is in use.
    """
    work_dir = out_dir / ".work"
    run_dir = work_dir / f".run.{os.uname().nodename}.{os.getpid()}"
    with ExitStack() as held:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((out_dir / ".lock").open("a+b"))
        except OSError as error:
            raise DataError(f"cannot write into {out_dir}: {error.strerror}") from None
        held.enter_context(full_disk_as_error(out_dir))
        has_locks = _lock_folder(lock, out_dir, alone)
        _remove_left_behind(out_dir, has_locks, alone)
        shutil.rmtree(run_dir, ignore_errors=True)  # of a killed run with this number, as in containers
        run_dir.mkdir(parents=True)
        held.callback(shutil.rmtree, run_dir, ignore_errors=True)
        if has_locks:
            name = held.enter_context((run_dir / "lock").open("a+b"))
            fcntl.flock(name, fcntl.LOCK_EX)
            name.write(f"{label} on {os.uname().nodename}".encode())
            name.flush()
        yield run_dir


def _lock_folder(lock: IO[bytes], out_dir: Path, alone: bool) -> bool:
    """Whether the file system has locks; then the folder is locked until the file is closed."""
    try:
        missing = try_lock(lock, shared=not alone)
    except BlockingIOError:
        others = sorted(_at_work(out_dir / ".work")) or ["another prepare"]
        if len(others) == 1:
            what = f"{others[0]} is at work in {out_dir}"
        else:
            more = ", ..." if len(others) > 8 else ""
            what = f"{len(others)} tasks are still at work in {out_dir}: {', '.join(others[:8])}{more}"
        raise DataError(what, "wait for the end, or choose another --out") from None
    if missing:
        what = f"{out_dir} is on a file system without locks ({missing.strerror})"
        print(f"{what}: do not finish a set while tasks are at work", file=sys.stderr)
    return not missing


def _at_work(work_dir: Path) -> Iterator[str]:
    """Labels of the runs that are alive."""
    for path in work_dir.glob(".run.*"):
        with suppress(FileNotFoundError):  # ends meanwhile
            if not _is_dead(path):
                yield (path / "lock").read_text()


def _is_dead(run_dir: Path) -> bool:
    """Whether nobody holds the lock of a run folder."""
    try:
        with (run_dir / "lock").open("r+b") as lock:
            try_lock(lock)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _remove_left_behind(out_dir: Path, has_locks: bool, alone: bool) -> None:
    """Removes what runs that were killed left behind."""
    work_dir = out_dir / ".work"
    for path in work_dir.glob(".run.*") if has_locks else ():
        if alone or (_was_here(path.name) and _is_dead(path)):
            shutil.rmtree(path, ignore_errors=True)
    for path in (*out_dir.glob(".*.tmp"), *work_dir.glob(".*.tmp")) if has_locks and alone else ():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _was_here(name: str) -> bool:
    """Whether a run folder is that of a process of this host that does not exist any more.

    The lock alone does not tell: a run folder has none yet when it is made, and on some file systems other hosts
    do not see it.
    """
    match = _RUN_DIR.fullmatch(name)
    if match is None or match["host"] != os.uname().nodename:
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        return False
    return False


@contextmanager
def one_at_a_time(target: Path) -> Iterator[None]:
    """Waits, where the file system has locks, until no other process makes the same file."""
    with full_disk_as_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_suffix(".lock").open("a+b")
    with lock:
        try:
            try_lock(lock)
        except BlockingIOError:
            print(f"waiting for another task that makes {target.name}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
