"""Copies a shard set to a folder of this host, so that training does not read it over the network.

The copy is in a folder named after the set's fingerprint, the sha256 of its manifest: other sets, and newer versions of
the same one, have other folders. Like every set it is complete if it has a manifest, which is written last.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from translit_scale.corpus.manifest import MANIFEST_NAME, ShardEntry
from translit_scale.corpus.shards import ShardSet, size_problem
from translit_scale.errors import DataError
from translit_scale.files import atomic_open, full_disk_as_error, write_bytes
from translit_scale.locks import await_lock
from translit_scale.progress import Progress

CHUNK_BYTES = 2**24


def staged_folder(shards: ShardSet, folder: Path) -> Path:
    """Where the copy of a set is under `folder`."""
    return folder / f"shards-{shards.fingerprint[:16]}"


def open_staged(shards: ShardSet, folder: Path) -> ShardSet:
    """The copy of a set under `folder`.

    Raises:
        DataError: this host has no complete copy of this set there.
    """
    try:
        copy = ShardSet.open(staged_folder(shards, folder))
    except DataError as error:
        raise DataError(
            f"this host has no complete copy of {shards.directory} in {folder}: {error.message}",
            f"on every host: translit-scale shards stage {shards.directory} --out {folder}",
        ) from None
    if copy.fingerprint != shards.fingerprint:
        raise DataError(
            f"{copy.directory} is no copy of {shards.directory}: its manifest has the sha256 {copy.fingerprint}, "
            f"expected {shards.fingerprint}",
            f"remove it on this host, and stage the set again: rm -r {copy.directory}",
        )
    return copy


def stage(directory: Path, folder: Path) -> tuple[Path, int]:
    """Copies a shard set under `folder`; several processes may call it at a time, and one of them copies.

    A copy that was interrupted is completed; shards that are there with the right size are kept. The sha256 of every
    shard is compared while it is copied.

    Returns:
        The folder of the copy, and how many bytes were copied.

    Raises:
        DataError: there is no such set, a shard differs from the manifest, or the disk is too small.
    """
    shards = ShardSet.open(directory)
    copy = staged_folder(shards, folder)
    with full_disk_as_error(copy):
        copy.mkdir(parents=True, exist_ok=True)
        lock = (copy / ".lock").open("a+b")
    with lock:
        await_lock(lock, f"waiting for another process that copies to {copy}")
        if (copy / MANIFEST_NAME).is_file():
            return open_staged(shards, folder).directory, 0
        missing = [shard for shard in shards.manifest.shards if size_problem(copy, shard)]
        size = sum(shard.bytes for shard in missing)
        _check_space(copy, size)
        with Progress("stage", size, "bytes") as progress:
            for shard in missing:
                _copy(directory, copy, shard)
                progress.advance(shard.bytes)
        write_bytes(copy / MANIFEST_NAME, (directory / MANIFEST_NAME).read_bytes())
    return open_staged(shards, folder).directory, size


def _check_space(copy: Path, size: int) -> None:
    free = shutil.disk_usage(copy).free
    if size > free:
        raise DataError(
            f"{copy} needs {size / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB free",
            "free some space, or stage the set in another folder",
        )


def _copy(directory: Path, copy: Path, shard: ShardEntry) -> None:
    """Copies one shard; it appears under its name when its sha256 is right."""
    digest = hashlib.sha256()
    with (directory / shard.name).open("rb") as source, atomic_open(copy / shard.name) as target:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
        if digest.hexdigest() != shard.sha256:
            raise DataError(
                f"{directory / shard.name} has the sha256 {digest.hexdigest()}, expected {shard.sha256}",
                f"translit-scale shards verify --deep {directory}",
            )
