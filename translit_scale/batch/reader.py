"""Reads the text of pairs block by block and caches the blocks, because neighbouring batches need the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from translit_scale.batch.order import PairKeys
from translit_scale.batch.random_bits import derive, uniforms
from translit_scale.corpus.blocks import Lengths
from translit_scale.corpus.shards import ShardSet

CACHE_BYTES = 1 << 30
"""Largest size of the cached text. A single process that reads 500 languages uses all of it, because it needs about
five blocks of each language at a time. One of several ranks reads only part of the languages."""
CACHE_LENGTHS = 1 << 26
"""Bytes of the cached lengths, unless one batch needs more; every rank reads the lengths of all pairs of a batch."""

_TRANSLITERATION = 5
"""A number derived from the key of a visit; those before it decide masks and the order in TLM (`pack`)."""

Indices = npt.NDArray[np.int64]
Value = TypeVar("Value")


class _Column(NamedTuple):
    """The lines of one side of a block."""

    text: bytes
    ends: list[int]
    """−1, then the position of the newline after each line."""

    @classmethod
    def of(cls, text: bytes) -> _Column:
        return cls(text, [-1, *np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")).tolist()])

    def lines(self, rows: Sequence[int]) -> list[bytes]:
        text, ends = self
        return [text[ends[row] + 1 : ends[row + 1]] for row in rows]


class PairReader:
    """Reads lengths and texts of pairs from a shard set.

    Args:
        languages: the languages that `PairKeys.language` indexes.
        damaged: blocks (language, number) that must not be read.
        transliterations: of a sentence that has several, `draw` takes one at each visit, all with the same probability
            and as a function of the visit's key, so that every rank knows it; `first` always takes the first one.
    """

    def __init__(
        self,
        shards: ShardSet,
        languages: Sequence[str],
        damaged: Collection[tuple[str, int]] = frozenset(),
        transliterations: Literal["draw", "first"] = "draw",
    ) -> None:
        block_rows = {language: shards.block_rows(language) for language in languages}
        self._names = [(language, block) for language, rows in block_rows.items() for block in range(len(rows))]
        self._starts = np.concatenate([[0], np.cumsum([n for rows in block_rows.values() for n in rows])])
        self._first_row = np.concatenate([[0], np.cumsum([sum(rows) for rows in block_rows.values()])[:-1]])
        self._damaged = np.array([name in damaged for name in self._names]) if damaged else None
        of_languages = [shards.transliterations(language) for language in languages]
        self._several = np.array(of_languages) > 1 if transliterations == "draw" else np.zeros(len(languages), bool)
        """[L] whether sentences of each language have several transliterations, one of which is drawn."""
        self._columns: _Cache[list[_Column]] = _Cache(
            CACHE_BYTES, lambda name: [_Column.of(text) for text in shards.read_columns(*name)], _column_bytes
        )
        self._lengths = _LengthsCache(
            len(self._names), 1 + max(of_languages), lambda block: shards.read_lengths(*self._names[block])
        )

    def without_damaged(self, keys: PairKeys) -> PairKeys:
        """The pairs that are not in damaged blocks."""
        return keys if self._damaged is None else keys[~self._damaged[self.locate(keys)[0]]]

    def lengths(self, keys: PairKeys) -> Lengths:
        """[n, 2] length in bytes of each sentence and of its transliteration in this visit, at most 65 535.

        It takes least time if the pairs are in the order of language and row.

        Raises:
            DataError: a shard is damaged.
        """
        lengths = self._lengths(*self.locate(keys))
        if not self._several.any():
            return lengths[:, :2]
        return np.stack([lengths[:, 0], lengths[np.arange(len(keys)), 1 + self._drawn(keys, lengths)]], axis=1)

    def _drawn(self, keys: PairKeys, lengths: Lengths) -> Indices:
        """[n] which transliteration of its sentence each visit takes, counted from 0.

        Args:
            lengths: [n, columns] of each sentence and all its transliterations; those that it does not have are empty.
        """
        drawn = np.zeros(len(keys), np.int64)
        several = np.flatnonzero(self._several[keys.language] & (lengths[:, 2:] > 0).any(1))
        number = 1 + (lengths[several, 2:] > 0).sum(1)
        drawn[several] = uniforms(derive(keys[several].bits, _TRANSLITERATION)) * number
        return drawn

    def texts(self, keys: PairKeys) -> tuple[list[bytes], list[bytes]]:
        """([n] sentences, [n] their transliterations in this visit) of the pairs, in UTF-8.

        Raises:
            DataError: a shard is damaged.
        """
        orig, latn = [b""] * len(keys), [b""] * len(keys)
        drawn = self._drawn(keys, self._lengths(*self.locate(keys))) if self._several.any() else None
        for name, chosen, rows in self._by_block(keys):
            sentences, *columns = self._columns[name]
            sides = [(orig, sentences, slice(None)), (latn, columns[0], slice(None))]
            if drawn is not None:
                sides[1:] = [(latn, column, drawn[chosen] == number) for number, column in enumerate(columns)]
            for side, column, of_column in sides:
                lines = column.lines(rows[of_column].tolist())
                for index, line in zip(chosen[of_column].tolist(), lines, strict=True):
                    side[index] = line
        return orig, latn

    def blocks(self, keys: PairKeys) -> set[tuple[str, int]]:
        """The blocks (language, number) that contain the pairs."""
        return {self._names[number] for number in np.unique(self.locate(keys)[0])}

    def locate(self, keys: PairKeys) -> tuple[Indices, Indices]:
        """[n] block of each pair, numbered over all languages, and [n] its row in the block."""
        row = self._first_row[keys.language] + keys.row
        block = np.searchsorted(self._starts, row, side="right") - 1
        return block, row - self._starts[block]

    def _by_block(self, keys: PairKeys) -> Iterator[tuple[tuple[str, int], Indices, Indices]]:
        """Yields each block's name, the indices of its pairs in `keys`, and their rows in the block."""
        block, row = self.locate(keys)
        order = np.argsort(block, kind="stable")
        numbers, first = np.unique(block[order], return_index=True)
        for number, chosen in zip(numbers.tolist(), np.split(order, first[1:]), strict=True):
            yield self._names[number], chosen, row[chosen]


def _column_bytes(columns: Sequence[_Column]) -> int:
    return sum(len(column.text) + 36 * len(column.ends) for column in columns)  # 8 + 28 bytes for each int in a list


class _LengthsCache:
    """Lengths of the blocks that batches needed, in one array, so that those of a whole batch are one lookup.

    Args:
        blocks: number of blocks; read: reads the lengths of a block.
        columns: largest number of lengths of a row; those that a row does not have are 0.
    """

    def __init__(self, blocks: int, columns: int, read: Callable[[int], Lengths]) -> None:
        self._read = read
        self._lengths, self._used = np.zeros((CACHE_LENGTHS // (2 * columns), columns), np.uint16), 0
        self._first, self._rows = np.full(blocks, -1), np.zeros(blocks, np.int64)
        """[blocks] index of the first row of each block in the array, or −1, and its number of rows."""

    def __call__(self, block: Indices, row: Indices) -> Lengths:
        """[n, columns] lengths of the given rows of blocks."""
        is_needed = np.zeros(len(self._first), bool)
        is_needed[block] = True
        for number in np.flatnonzero(is_needed & (self._first < 0)).tolist():
            lengths = self._read(number)
            if self._used + len(lengths) > len(self._lengths):
                self._make_room(len(lengths), is_needed)
            self._add(number, lengths)
        return self._lengths.take(self._first[block] + row, axis=0)

    def _make_room(self, rows: int, is_needed: npt.NDArray[np.bool_]) -> None:
        """Forgets the blocks that are not needed now; enlarges the array if the others nearly fill it."""
        kept = np.flatnonzero(is_needed & (self._first >= 0)).tolist()
        lengths = [self._lengths[self._first[block] :][: self._rows[block]] for block in kept]
        size = max(len(self._lengths), 2 * (sum(map(len, lengths)) + rows))
        self._lengths, self._used = np.zeros((size, self._lengths.shape[1]), np.uint16), 0
        self._first[:] = -1
        for block, of_block in zip(kept, lengths, strict=True):
            self._add(block, of_block)

    def _add(self, block: int, lengths: Lengths) -> None:
        self._first[block], self._rows[block] = self._used, len(lengths)
        self._lengths[self._used : self._used + len(lengths), : lengths.shape[1]] = lengths
        self._used += len(lengths)


class _Cache(Generic[Value]):
    """Values of blocks; drops the least recently used ones when they exceed `limit` bytes in total."""

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
