"""Which pair stands at a position of the training stream: a pure function of (manifest, mixture, seed, position).

The stream is periodic in languages: a cycle gives language l its quota q_l of slots, spread so evenly that at
every prefix the number of its pairs is within one of its share. Within a language the pairs of an epoch are visited
in a keyed permutation: windows of neighbouring rows in random order, rows in random order inside a window, so that
reading stays close together. Rows are stored in the order of their hashes, so a window is a random sample of the
language. The only state is the position.

A mixture that changes at some position starts a new segment there; every language goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from translit_scale.batch.mixture import apportion, capped, interleave, shares_of
from translit_scale.batch.random_bits import Bits, derive, key, permute
from translit_scale.config import MixtureConfig
from translit_scale.errors import ConfigError

EXACT_CYCLE = 1 << 22
"""Up to this many pairs a cycle of `concatenate` is an epoch, exact to the pair; it takes some seconds at the start."""
LONG_CYCLE = 1 << 18
"""Slots of a cycle otherwise: shares are exact to 1/262 144."""
MIN_WINDOW, MAX_WINDOW, ALL_WINDOWS = 1 << 12, 1 << 14, 1 << 18
"""Rows of a language that are shuffled together, and of all languages, if there are few: some 100 MB of text."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairKeys:
    """Identities of n visits of pairs: masks are drawn from them, whatever rank sees the pair."""

    language: Indices
    """[n] index into the order's `languages`."""
    epoch: Indices
    """[n] how often the language has been passed through before."""
    row: Indices
    """[n] row of the language in the shard set."""
    bits: Bits
    """[n] random key of the visit."""

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: slice | Indices | npt.NDArray[np.bool_]) -> PairKeys:
        return PairKeys(self.language[chosen], self.epoch[chosen], self.row[chosen], self.bits[chosen])


@dataclass(frozen=True)
class Segment:
    """A stretch of the stream with one mixture."""

    start: int
    """Its first position."""
    quotas: Indices
    """[L] slots of each language in a cycle."""
    slot_language: npt.NDArray[np.int32]
    """[C] language of each slot."""
    slot_rank: Indices
    """[C] how many slots of this language came before in the cycle."""
    visited: Indices
    """[L] pairs of each language visited before the segment."""

    def visits(self, position: Indices) -> tuple[Indices, Indices]:
        """Language, and number of its visits before, at positions of this segment."""
        cycle, slot = np.divmod(position - self.start, len(self.slot_language))
        language = self.slot_language[slot].astype(np.int64)
        visit = self.visited[language] + cycle.astype(np.int64) * self.quotas[language] + self.slot_rank[slot]
        return language, visit

    def visited_at(self, position: int) -> Indices:
        """[L] pairs of each language visited before a position of this segment or its end."""
        cycles, slots = divmod(position - self.start, len(self.slot_language))
        return self.visited + cycles * self.quotas + np.bincount(self.slot_language[:slots], minlength=len(self.quotas))


class PairOrder:
    """The infinite stream of pairs.

    Args:
        pairs: number of pairs of each language.
        mixture: shares of the languages.
        changes: further mixtures and the positions they start at, in ascending order.
        seed: seed of the permutations and of the visits' keys.
        length: positions that will be used: what `max_repeats` is measured against.

    Raises:
        ConfigError: there is no pair at all, or a mixture does not fit.
    """

    def __init__(
        self,
        pairs: Mapping[str, int],
        mixture: MixtureConfig | None = None,
        changes: Sequence[tuple[int, MixtureConfig]] = (),
        seed: int = 0,
        length: int | None = None,
    ) -> None:
        self.pairs = {language: n for language, n in sorted(pairs.items()) if n}
        if not self.pairs:
            raise ConfigError("no pairs to train on: every language is empty")
        self.languages = tuple(self.pairs)
        self.total = sum(self.pairs.values())
        # Few languages have wide windows: then each of many ranks finds whole blocks of its own in them.
        self.window_rows = max(MIN_WINDOW, min(MAX_WINDOW, ALL_WINDOWS // len(self.languages)))
        self._pairs = np.array(list(self.pairs.values()))
        self._keys = np.array([key(seed, "order", language) for language in self.languages])
        self.segments: list[Segment] = []
        starts = [0, *(start for start, _ in changes)]
        mixtures = [mixture or MixtureConfig(), *(changed for _, changed in changes)]
        for start, wanted in zip(starts, mixtures, strict=True):
            # Measured to the end of training, not of the segment: a later change must not move earlier pairs.
            self.segments.append(self._segment(start, wanted, None if length is None else length - start))

    def _segment(self, start: int, mixture: MixtureConfig, left: int | None) -> Segment:
        share = shares_of(mixture, self.languages, self._pairs)
        visited = self.segments[-1].visited_at(start) if self.segments else np.zeros(len(self._pairs), np.int64)
        if mixture.max_repeats is not None and left is not None and left > 0:
            allowed = np.maximum(mixture.max_repeats * self._pairs - visited, 0)
            share = capped(share, allowed / left, self.languages)
        exact = mixture.kind == "concatenate" and mixture.max_repeats is None and self.total <= EXACT_CYCLE
        quotas = apportion(share.tolist(), self.total if exact else max(LONG_CYCLE, len(share)))
        return Segment(start, np.array(quotas), *interleave(quotas), visited)

    def batch(self, start: int, count: int) -> PairKeys:
        """The pairs at positions start … start + count − 1."""
        position = np.arange(start, start + count)
        cuts = np.searchsorted(position, [segment.start for segment in self.segments[1:]])
        parts = [s.visits(p) for s, p in zip(self.segments, np.split(position, cuts), strict=True) if len(p)]
        language, visit = (np.concatenate(column) for column in zip(*parts, strict=True))
        size = self._pairs[language]
        epoch, offset = np.divmod(visit, size)
        epoch_key = derive(self._keys[language], epoch)
        row = self._row(offset, size, epoch_key)
        return PairKeys(language, epoch, row, derive(epoch_key, row))

    def _row(self, offset: Indices, size: Indices, epoch_key: Bits) -> Indices:
        """The row visited `offset`-th in an epoch: a permutation of 0 … size−1.

        Full windows come in random order, the shorter rest last; a random rotation makes every epoch cut other windows.
        """
        windows = size // self.window_rows
        window, inside = np.divmod(offset, self.window_rows)
        is_full = window < windows
        window = permute(np.where(is_full, window, 0), np.maximum(windows, 1), derive(epoch_key, 1)) * is_full + (
            windows * ~is_full
        )
        width = np.where(is_full, self.window_rows, np.maximum(size - windows * self.window_rows, 1))
        inside = permute(inside, width, derive(derive(epoch_key, 2), window))
        rotation = (derive(epoch_key, 0) % size.astype(np.uint64)).astype(np.int64)
        return (window * self.window_rows + inside + rotation) % size
