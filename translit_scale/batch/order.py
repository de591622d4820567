"""Which pair stands at a position of the training stream: a pure function of (manifest, mixture, seed, position).

The stream is periodic in languages: a cycle gives language l its quota q_l of slots, spread so evenly that at
every prefix the number of its pairs is within one of its share (Tijdeman 1980, the chairman assignment problem).
Within a language the pairs of an epoch are visited in a keyed permutation: blocks in random order, rows in random
order inside windows of consecutive blocks, so that few blocks are open at a time. The only state is the position.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from translit_scale.batch.random_bits import permutation
from translit_scale.errors import ConfigError

EXACT_CYCLE = 1 << 20
"""Up to this many pairs a cycle is an epoch, so that concatenation is exact to the pair."""
LONG_CYCLE = 1 << 16
"""Slots of a cycle otherwise: shares are exact to 1/65 536."""
WINDOW_BLOCKS = 16
"""Blocks whose rows are shuffled together. Rows already stand in hash order, so a block is a random sample."""


ALL = slice(None)


class PairKey(NamedTuple):
    """Identity of one visit of one pair: masks are drawn from it, whatever rank sees it."""

    language: str
    epoch: int
    """How often the language has been passed through before."""
    block: int
    row: int
    """Row inside the block."""


class PairOrder:
    """The infinite stream of pairs.

    Args:
        block_rows: rows of each block, for each language.
        mixture: `concatenate` (share ∝ pairs) or `temperature` (share ∝ pairs ** alpha).
        seed: seed of the permutations.

    Raises:
        ConfigError: there is no pair at all.
    """

    def __init__(
        self,
        block_rows: Mapping[str, Sequence[int]],
        mixture: Literal["concatenate", "temperature"] = "concatenate",
        alpha: float = 0.3,
        seed: int = 0,
    ) -> None:
        self.block_rows = {language: tuple(rows) for language, rows in sorted(block_rows.items()) if sum(rows)}
        if not self.block_rows:
            raise ConfigError("no pairs to train on: every language is empty")
        self.languages = tuple(self.block_rows)
        self.seed = seed
        self.pairs = {language: sum(rows) for language, rows in self.block_rows.items()}
        self.total = sum(self.pairs.values())
        exponent = 1.0 if mixture == "concatenate" else alpha
        cycle = self.total if mixture == "concatenate" and self.total <= EXACT_CYCLE else LONG_CYCLE
        self.quotas = apportion([n**exponent for n in self.pairs.values()], max(cycle, len(self.languages)))
        self.slot_language, self.slot_rank = interleave(self.quotas)
        self._window = lru_cache(maxsize=4 * len(self.languages))(self._build_window)
        self._windows = lru_cache(maxsize=2 * len(self.languages))(self._build_windows)

    def batch(self, start: int, count: int, share: slice = ALL) -> list[PairKey]:
        """The pairs at positions start … start + count − 1, or of these a share."""
        return [self.pair_at(position) for position in range(start, start + count)[share]]

    def pair_at(self, position: int) -> PairKey:
        """The pair at one position (≥ 0)."""
        cycle, slot = divmod(position, len(self.slot_language))
        index = int(self.slot_language[slot])
        language = self.languages[index]
        epoch, offset = divmod(cycle * self.quotas[index] + int(self.slot_rank[slot]), self.pairs[language])
        starts, _ = self._windows(language, epoch)
        window = int(np.searchsorted(starts, offset, side="right")) - 1
        block, row = self._window(language, epoch, window)[offset - int(starts[window])]
        return PairKey(language, epoch, int(block), int(row))

    def _build_windows(self, language: str, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First offset of each window, and the epoch's order of blocks."""
        rows = np.asarray(self.block_rows[language])
        blocks = permutation(len(rows), self.seed, "blocks", language, epoch)
        ends = np.concatenate([[0], np.cumsum(rows[blocks])])
        return ends[:-1:WINDOW_BLOCKS], blocks

    def _build_window(self, language: str, epoch: int, window: int) -> npt.NDArray[np.int64]:
        """(block, row) of every offset in a window: [rows, 2]."""
        _, order = self._windows(language, epoch)
        blocks = order[window * WINDOW_BLOCKS : (window + 1) * WINDOW_BLOCKS]
        rows = [self.block_rows[language][block] for block in blocks]
        pairs = np.stack([np.repeat(blocks, rows), np.concatenate([np.arange(n) for n in rows])], axis=1)
        return pairs[permutation(len(pairs), self.seed, "rows", language, epoch, window)]


def apportion(weights: Sequence[float], slots: int) -> list[int]:
    """Whole quotas ∝ weights that sum to `slots` (largest remainder), at least one each."""
    assert slots >= len(weights)
    total = sum(weights)
    exact = [weight * slots / total for weight in weights]
    quotas = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (quotas[i] - exact[i], i))
    while (missing := slots - sum(quotas)) > 0:
        for i in by_remainder[:missing]:
            quotas[i] += 1
    while sum(quotas) > slots:  # the minimum of one has been given too often: take from the largest
        quotas[quotas.index(max(quotas))] -= 1
    return quotas


def interleave(quotas: Sequence[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Spreads each language's slots evenly over a cycle of sum(quotas) slots.

    The k-th slot (from 0) of a language with quota q in a cycle of C must lie in [⌊kC/q⌋, ⌈(k+1)C/q⌉ − 1] for its
    count to stay within one of its share at every prefix; serving the earliest deadline first always meets this.

    Returns:
        slot → language index [C], slot → how many slots of this language came before in the cycle [C].
    """
    cycle = sum(quotas)
    language, rank = np.empty(cycle, np.int32), np.empty(cycle, np.int64)
    waiting = [(0, i, 0) for i in range(len(quotas))]  # (release, language, k)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []  # (deadline, language, k)
    for slot in range(cycle):
        while waiting and waiting[0][0] <= slot:
            _, i, k = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(k + 1) * cycle // quotas[i]) - 1, i, k))
        _, i, k = heapq.heappop(ready)
        language[slot], rank[slot] = i, k
        if k + 1 < quotas[i]:
            heapq.heappush(waiting, ((k + 1) * cycle // quotas[i], i, k + 1))
    return language, rank
