"""`shards verify`: every difference between a shard set and its manifest, not only the first."""

from __future__ import annotations

from pathlib import Path

from translit_scale.corpus.manifest import SHARD_NAME, ShardEntry, read_manifest
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import DataError
from translit_scale.files import sha256_file
from translit_scale.progress import Advance


def verify(directory: Path, deep: bool, advance: Advance) -> list[str]:
    """All problems of a shard set, one line each; an empty list means it is what the manifest says.

    Compares sizes and sha256 of all shards and looks for shards the manifest does not know. `deep` also
    decodes every block (members, rows, crc32), which tells what exactly is damaged. `advance` is called
    with the number of bytes of each shard that is done.

    Raises:
        DataError: there is no readable manifest.
    """
    manifest, fingerprint = read_manifest(directory)
    shard_set = ShardSet(directory, manifest, fingerprint)
    known = {shard.name for shard in manifest.shards}
    problems = [
        f"{path}: not in the manifest"
        for path in sorted(directory.iterdir())
        if SHARD_NAME.fullmatch(path.name) and path.name not in known
    ]
    first_block = dict.fromkeys(manifest.languages, 0)
    for shard in manifest.shards:
        first = first_block[shard.language]
        first_block[shard.language] += len(shard.blocks)
        try:
            problems.extend(_shard_problems(directory / shard.name, shard))
            if deep:
                problems.extend(_block_problems(shard_set, shard.language, first, len(shard.blocks)))
        except OSError as error:
            problems.append(f"{directory / shard.name}: {error.strerror}")
        advance(shard.bytes)
    return problems


def _shard_problems(path: Path, shard: ShardEntry) -> list[str]:
    size = path.stat().st_size
    if size != shard.bytes:
        return [f"{path}: expected {shard.bytes:,} bytes, found {size:,}"]
    digest = sha256_file(path)
    return [] if digest == shard.sha256 else [f"{path}: expected sha256 {shard.sha256}, found {digest}"]


def _block_problems(shard_set: ShardSet, language: str, first: int, count: int) -> list[str]:
    problems = []
    for block in range(first, first + count):
        try:
            shard_set.read_block(language, block)
        except DataError as error:
            problems.append(error.message)
    return problems
