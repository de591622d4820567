"""Writes checkpoints while training continues: each writer copies its part to host memory, a thread writes the file.

All ranks gather the state between two steps. After that they share only the folder `step_N.tmp`, because collectives
of a thread would mix with those of the steps. Each writer writes its file and then, by a rename, a record
of it; the thread of the first rank waits for all records and publishes the checkpoint by renaming the folder. `latest`
is written last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file

from translit_scale.config import RunConfig
from translit_scale.errors import DataError, UserError
from translit_scale.files import read_json, sha256_file, sync, write_bytes, write_json
from translit_scale.progress import say
from translit_scale.train.checkpointing import state
from translit_scale.train.checkpointing.checkpoint import (
    COMPLETE,
    FORMAT,
    CheckpointInfo,
    EngineCounts,
    best_checkpoint,
    checkpoint_name,
    checkpoint_step,
    complete_checkpoints,
    file_errors,
    remove_if_possible,
    remove_unfinished,
)
from translit_scale.train.launching.ranks import Rank

MOST_WRITERS = 16
"""Ranks that write a file each; more writers would make many files without making them much smaller."""
REMOVED = ".removed.tmp"
"""End of the name of a checkpoint that is being removed."""
POLL_SECONDS = 0.02
SETTLE_SECONDS = 60.0
"""Longest time that a failing rank waits for a checkpoint that is being written."""


class CheckpointWriter:
    """Saves checkpoints of a run, one at a time; a context manager.

    If this rank's thread fails, the next call of a method raises its error. A checkpoint is published only when all
    ranks have written their parts, so after a failure the previous one is the newest, and no partial one is left.
    """

    def __init__(self, run: RunConfig, rank: Rank) -> None:
        """Raises DataError for a damaged best.json already now, not only when an old checkpoint is to be removed."""
        self.run, self.rank = run, rank
        self.directory = run.path / "checkpoints"
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.copy: dict[str, torch.Tensor] = {}
        """This rank's part; kept, because most of the time of a first copy is spent on allocating memory."""
        self.temporary: Path | None = None
        self.written: Future[bool] | None = None
        self.published: Future[bool] | None = None
        self.began = time.monotonic()
        """When the last checkpoint was begun, or training."""
        if rank.is_first:
            best_checkpoint(run.path)

    def is_due(self) -> bool:
        """Whether so much time has passed since the last checkpoint that another one is written."""
        return self.rank.is_first and time.monotonic() - self.began > 60 * self.run.checkpoint_minutes

    def save(self, engine: Any, info: CheckpointInfo) -> None:
        """Copies the state and starts writing it, after the previous checkpoint is finished. Every rank must call it.

        Raises:
            DataError: the disk is too small, or `check` or `finish` raise it.
        """
        self.finish()
        self.began = time.monotonic()
        self.temporary = self.directory / f"{checkpoint_name(info.step)}.tmp"
        if self.rank.is_first:
            with _writing(self.temporary):
                self.directory.mkdir(parents=True, exist_ok=True)
                if self.temporary.exists():
                    _remove(self.temporary)
                _check_space(engine, self.directory)
                self.temporary.mkdir()
        dist.barrier()
        files = _copy_own_part(engine, self.rank, self.copy)
        self.written = self.thread.submit(_write, self.copy, self.temporary, self.rank.rank)
        if self.rank.is_first:
            counts = EngineCounts(state.adam_updates(engine), engine.skipped_steps, state.loss_scaler_state(engine))
            record = {"format": FORMAT, **asdict(info), "counts": asdict(counts)}
            self.published = self.thread.submit(_publish, self.written, self.temporary, record, files, self.run)

    def check(self) -> None:
        """Raises the error of a part that has failed so far.

        Raises:
            DataError: this rank could not write its part (full disk, no permission), or could not publish.
        """
        for part in (self.written, self.published):
            if part and part.done():
                part.result()

    def finish(self) -> None:
        """Waits until the last checkpoint is published. Every rank must call it.

        Raises:
            DataError: as `check`, or the folder was removed meanwhile.
        """
        if not self.temporary:
            return
        complete = bool(self.written and self.written.result())
        dist.barrier()  # a rank that could not write never gets here: its launcher ends the others
        if self.published:
            complete = self.published.result() and complete
        if not complete:
            raise DataError(f"{self.temporary} was removed while it was written", "run the same command again")
        dist.barrier()
        self.temporary = self.written = self.published = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets a checkpoint that is being written finish, even if a non-finite loss or the like ends the training."""
        try:
            self._settle(value)
        finally:
            self.thread.shutdown(wait=kind is None, cancel_futures=True)

    def _settle(self, value: BaseException | None) -> None:
        if isinstance(value, UserError) and self.temporary:
            deadline = time.monotonic() + SETTLE_SECONDS
            parts = [part for part in (self.written, self.published) if part]
            wait(parts, SETTLE_SECONDS)
            if any(part.done() and part.exception() for part in parts):
                return  # it will never be complete, and this rank may be unable to remove it (a read-only disk)
            while self.temporary.exists() and time.monotonic() < deadline:  # as long as other ranks write
                time.sleep(POLL_SECONDS)


def removable(run: RunConfig) -> list[Path]:
    """Complete checkpoints that may be removed, oldest first.

    Kept are the newest ones, those at multiples of `run.keep_every`, and the one that best.json names.

    Raises:
        DataError: best.json is damaged.
    """
    best = best_checkpoint(run.path)
    return [
        path
        for path in complete_checkpoints(run.path / "checkpoints")[: -run.keep_checkpoints]
        if path.name != best and not (run.keep_every and checkpoint_step(path) % run.keep_every == 0)
    ]


def _check_space(engine: Any, directory: Path) -> None:
    needed = state.checkpoint_bytes(engine)
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DataError(
            f"a checkpoint needs {needed / 1e9:.2f} GB, and the disk of {directory} has {free / 1e9:.2f} GB free",
            "make room, or set run.dir to another disk; the previous checkpoint is intact",
        )


def _copy_own_part(engine: Any, rank: Rank, copy: dict[str, torch.Tensor]) -> list[str]:
    """Gathers the state and copies this rank's part of it, if any, into `copy`, under the names used in the file.

    Returns:
        Names of the files of all ranks.
    """
    writer = assign_writers(state.tensor_sizes(engine), min(rank.world_size, MOST_WRITERS))
    for kind, name, tensor in state.gathered(engine):
        key = f"{kind}/{name}"
        if writer[key] == rank.rank:
            if key not in copy:
                copy[key] = torch.empty(tensor.shape, dtype=torch.float32)
            copy[key].copy_(tensor)
    return [_file_name(number) for number in sorted(set(writer.values()))]


def assign_writers(sizes: Mapping[str, int], writers: int) -> dict[str, int]:
    """Who writes which tensor, the same on every rank: the largest first, each to who has the least so far.

    The moments of a parameter need not be where its weights are: embeddings of many languages are most of a model, and
    at a preemption the last writer decides whether the checkpoint is complete in time.

    Args:
        sizes: of each tensor, by its key.
    """
    writer, load = {}, [0] * writers
    for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
        writer[key] = load.index(min(load))
        load[writer[key]] += sizes[key]
    return writer


def _file_name(rank: int) -> str:
    return f"state-{rank:05d}.safetensors"


def _write(tensors: dict[str, torch.Tensor], temporary: Path, rank: int) -> bool:
    """Writes a rank's file, then its record; returns False if another rank has failed and removed the folder."""
    path = temporary / _file_name(rank)
    with _writing(temporary):
        try:
            if tensors:
                save_file(tensors, path)  # releases Python's lock
                path.chmod(temporary.stat().st_mode & 0o666)  # safetensors ignores the umask: only the owner may read
                sync(path)
                write_json(_record_of(path), {"bytes": path.stat().st_size, "sha256": sha256_file(path)})
        except (OSError, SafetensorError, DataError):
            if temporary.is_dir():
                raise
            # The first rank publishes as soon as it sees the record, which may be before the record's folder is synced.
            return (temporary.with_suffix("") / COMPLETE).is_file()
    return True


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _publish(written: Future[bool], temporary: Path, record: dict[str, Any], files: list[str], run: RunConfig) -> bool:
    """Waits for the records of all files and publishes the checkpoint; returns False if a rank has failed."""
    if written.exception():
        return False
    records = {name: _record_of(temporary / name) for name in files}
    final = temporary.with_suffix("")
    with _writing(temporary):
        if not _await_files(temporary, {path.name for path in records.values()}):
            return False
        parts = {name: read_json(path, "record of a part") for name, path in records.items()}
        write_json(temporary / COMPLETE, record | {"files": parts})
        for path in records.values():
            path.unlink()
        if final.exists():  # a run that was reset by hand writes the same step again
            _remove(final)
        temporary.replace(final)
        sync(final.parent)
        write_bytes(final.parent / "latest", f"{final.name}\n".encode())
    _remove_old(run)
    return True


def _remove_old(run: RunConfig) -> None:
    """Removes old checkpoints and what earlier calls could not remove; what fails now is left to the next call.

    Raises:
        DataError: best.json is damaged.
    """
    directory = run.path / "checkpoints"
    try:
        remove_unfinished(directory, f"*{REMOVED}")
        for path in removable(run):
            _remove(path)
    except OSError as error:
        say(
            f"warning: old checkpoints in {directory} take space, because they cannot be removed yet: {error}",
            error=True,
        )


def _await_files(folder: Path, names: set[str]) -> bool:
    """Waits until a listing of the folder (see `files.is_listed`) has all names; False if the folder is removed."""
    try:
        while not names <= {path.name for path in folder.iterdir()}:
            time.sleep(POLL_SECONDS)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _writing(temporary: Path) -> Iterator[None]:
    """Turns errors of safetensors and of the system into a DataError, and frees the space."""
    hint = "is the disk full? make room and run the same command again: it resumes from the previous checkpoint"
    try:
        with file_errors(f"could not write the checkpoint {temporary.with_suffix('')}", hint):
            yield
    except BaseException:
        with suppress(OSError):  # another rank may be removing it too
            _remove(temporary)
        raise


def _remove(folder: Path) -> None:
    """Renames a folder, then removes it, so that an interrupted removal does not look like a checkpoint."""
    aside = folder.with_name(f"{folder.name}.{time.time_ns()}{REMOVED}")  # an earlier one may still be there
    folder.replace(aside)
    remove_if_possible(aside)
