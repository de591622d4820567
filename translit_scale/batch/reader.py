"""Text of the pairs that an order names: read block by block, and kept for the next batches, which need the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from translit_scale.batch.order import PairKeys
from translit_scale.corpus.shards import ShardSet

CACHE_BYTES = 1 << 30
"""Text that a reader keeps at most. One process that reads all of 500 languages has use for all of it: it moves in some
five blocks of each. A rank among several keeps to its own part of the languages."""
CACHE_LENGTHS = 1 << 26
"""Lengths that a reader keeps at most, in bytes; every rank looks at the lengths of all pairs of a batch."""

Indices = npt.NDArray[np.int64]
Value = TypeVar("Value")


class _Column(NamedTuple):
    """Lines of a block."""

    text: bytes
    ends: list[int]
    """Position of the newline after each line, with −1 in front."""

    @classmethod
    def of(cls, text: bytes) -> _Column:
        return cls(text, [-1, *np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")).tolist()])

    def lines(self, rows: Sequence[int]) -> list[bytes]:
        text, ends = self
        return [text[ends[row] + 1 : ends[row + 1]] for row in rows]


class PairReader:
    """Reads lengths and text of pairs from a shard set.

    Args:
        languages: what `PairKeys.language` counts.
        damaged: blocks (language, number) that must not be read.
    """

    def __init__(
        self, shards: ShardSet, languages: Sequence[str], damaged: Collection[tuple[str, int]] = frozenset()
    ) -> None:
        of_language = {language: shards.block_rows(language) for language in languages}
        self._names = [(language, block) for language, rows in of_language.items() for block in range(len(rows))]
        self._starts = np.concatenate([[0], np.cumsum([n for rows in of_language.values() for n in rows])])
        self._first_row = np.concatenate([[0], np.cumsum([sum(rows) for rows in of_language.values()])[:-1]])
        self._damaged = np.array([name in damaged for name in self._names]) if damaged else None
        self._columns: _Cache[tuple[_Column, _Column]] = _Cache(
            CACHE_BYTES, lambda name: _columns(*shards.read_columns(*name)), _column_bytes
        )
        self._lengths = _Cache(CACHE_LENGTHS, lambda name: shards.read_lengths(*name), lambda array: array.nbytes)

    def usable(self, keys: PairKeys) -> PairKeys:
        """The pairs that do not stand in damaged blocks."""
        return keys if self._damaged is None else keys[~self._damaged[self._place(keys)[0]]]

    def lengths(self, keys: PairKeys) -> Indices:
        """[n, 2] bytes of each sentence and of its transliteration.

        Raises:
            DataError: a shard is damaged.
        """
        result = np.empty((len(keys), 2), np.int64)
        for name, chosen, rows in self._by_block(keys):
            result[chosen] = self._lengths[name][rows]
        return result

    def texts(self, keys: PairKeys) -> tuple[list[bytes], list[bytes]]:
        """Sentences and transliterations of pairs, in UTF-8.

        Raises:
            DataError: a shard is damaged.
        """
        orig, latn = [b""] * len(keys), [b""] * len(keys)
        for name, chosen, rows in self._by_block(keys):
            for side, column in zip((orig, latn), self._columns[name], strict=True):
                for index, line in zip(chosen.tolist(), column.lines(rows.tolist()), strict=True):
                    side[index] = line
        return orig, latn

    def blocks(self, keys: PairKeys) -> set[tuple[str, int]]:
        """The blocks (language, number) that pairs stand in."""
        return {self._names[number] for number in np.unique(self._place(keys)[0])}

    def _place(self, keys: PairKeys) -> tuple[Indices, Indices]:
        """[n] block of each pair, and its row there."""
        row = self._first_row[keys.language] + keys.row
        block = np.searchsorted(self._starts, row, side="right") - 1
        return block, row - self._starts[block]

    def _by_block(self, keys: PairKeys) -> Iterator[tuple[tuple[str, int], Indices, Indices]]:
        """Each block with the indices of its pairs in `keys` and their rows."""
        block, row = self._place(keys)
        order = np.argsort(block, kind="stable")
        found, first = np.unique(block[order], return_index=True)
        for number, chosen in zip(found.tolist(), np.split(order, first[1:]), strict=True):
            yield self._names[number], chosen, row[chosen]


def _columns(orig: bytes, latn: bytes) -> tuple[_Column, _Column]:
    return _Column.of(orig), _Column.of(latn)


def _column_bytes(columns: tuple[_Column, _Column]) -> int:
    return sum(len(column.text) + 36 * len(column.ends) for column in columns)  # a list of ints: 8 + 28 bytes each


class _Cache(Generic[Value]):
    """Values by block, the longest unused dropped first."""

    def __init__(self, limit: int, read: Callable[[tuple[str, int]], Value], size: Callable[[Value], int]) -> None:
        self._limit, self._read, self._size = limit, read, size
        self._held: OrderedDict[tuple[str, int], Value] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, name: tuple[str, int]) -> Value:
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        value = self._held[name] = self._read(name)
        self._bytes += self._size(value)
        while self._bytes > self._limit and len(self._held) > 1:
            self._bytes -= self._size(self._held.popitem(last=False)[1])
        return value
