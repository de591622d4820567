"""The pairs of a shard set for training loops other than ours: a PyTorch dataset, and a stream of `webdataset`."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import Dataset

from translit_scale.corpus.blocks import Block
from translit_scale.corpus.shards import ShardSet

if TYPE_CHECKING:
    import webdataset as wds


class Pair(NamedTuple):
    """A sentence and its transliteration."""

    language: str
    """`iso3_Script`."""
    orig: str
    latn: str


class PairDataset(Dataset[Pair]):
    """All pairs of a shard set by number, language by language in stored order, for `torch.utils.data.DataLoader`.

    Pairs are read in blocks of about a thousand. A process keeps the blocks that it read last, so reading in a random
    order is fast only while they are most of the set: for large sets use `stream_pairs`.

    Args:
        directory: shard set made by `translit-scale prepare`.
        languages: only these, `iso3_Script`; None for all.
        cached_blocks: number of blocks that a process keeps, about 0.3 MB each.

    Raises:
        DataError: no shard set, or a language that it does not have (here); a damaged block (when it is read).
    """

    def __init__(self, directory: str | Path, languages: Sequence[str] | None = None, cached_blocks: int = 256) -> None:
        self._shards = ShardSet.open(directory)
        self._blocks = [
            (language, number, rows)
            for language in (self._shards.languages if languages is None else languages)
            for number, rows in enumerate(self._shards.block_rows(language))
        ]
        self._ends = list(accumulate(rows for _, _, rows in self._blocks))
        self._cache: dict[int, Block] = {}
        self._cached_blocks = cached_blocks

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Pair:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        index %= len(self)
        number = bisect_right(self._ends, index)
        language, _, rows = self._blocks[number]
        block = self._block(number)
        row = index - self._ends[number] + rows
        return Pair(language, block.orig[row], block.latn[row])

    def _block(self, number: int) -> Block:
        if number in self._cache:
            self._cache[number] = self._cache.pop(number)  # the most recent one is the last
        else:
            language, of_language, _ = self._blocks[number]
            self._cache[number] = self._shards.read_block(language, of_language)
            if len(self._cache) > self._cached_blocks:
                del self._cache[next(iter(self._cache))]
        return self._cache[number]


def stream_pairs(
    directory: str | Path, languages: Sequence[str] | None = None, shuffle: int = 0, seed: int = 0
) -> wds.DataPipeline:
    """The pairs of a shard set as a stream of `webdataset`; one pass over it reads every pair once.

    Shards are divided among the processes of torch.distributed and then among the workers of a `DataLoader`. With fewer
    shards than there are of both together, some of them get nothing. Unlike `ShardSet` it does not compare checksums:
    `translit-scale shards verify` does.

    Args:
        languages: as in `PairDataset`.
        shuffle: number of pairs in the buffer from which the next one is drawn, with the shards in random order as
            well; 0 keeps the stored order.
        seed: of the random order. It must be the same in all processes, which divide the shards in this order. Another
            epoch is another stream with another seed.

    Raises:
        DataError: as `PairDataset`.
    """
    import webdataset as wds

    shards = ShardSet.open(directory)
    for language in languages or ():
        shards.rows(language)  # raises if the set does not have it
    entries = [shard for shard in shards.manifest.shards if languages is None or shard.language in languages]
    paths = [str(shards.directory / shard.name) for shard in entries]
    mix = []
    if shuffle:
        random.Random(seed).shuffle(paths)
        mix = [wds.shuffle(shuffle, initial=shuffle, rng=random.Random(seed))]
    return wds.DataPipeline(
        wds.SimpleShardList(paths),
        wds.split_by_node,
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        _all_block_pairs,
        *mix,
    )


def _all_block_pairs(blocks: Iterable[Mapping[str, Any]]) -> Iterator[Pair]:
    for block in blocks:
        yield from block_pairs(block)


def block_pairs(block: Mapping[str, Any]) -> Iterator[Pair]:
    """The pairs of a block as `webdataset` or `datasets` reads it: `__key__`, `orig.txt` and `latn.txt`."""
    language = block["__key__"].rsplit("/", 1)[-1].rsplit("-", 2)[0]
    columns = (block[name] for name in ("orig.txt", "latn.txt"))
    texts = (column.decode() if isinstance(column, bytes) else column for column in columns)
    for orig, latn in zip(*(text.split("\n")[:-1] for text in texts), strict=True):
        yield Pair(language, orig, latn)
