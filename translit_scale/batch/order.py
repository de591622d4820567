"""Which pair stands at a position of the training stream: a pure function of (manifest, mixture, seed, position).

The stream is periodic in languages: a cycle gives language l its quota q_l of slots, spread so evenly that at
every prefix the number of its pairs is within one of its share (Tijdeman 1980, the chairman assignment problem).
Within a language the pairs of an epoch are visited in a keyed permutation: windows of neighbouring rows in random
order, rows in random order inside a window, so that reading stays close together. Rows are stored in the order of
their hashes, so a window is a random sample of the language. The only state is the position.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from translit_scale.batch.random_bits import Bits, derive, key, permute
from translit_scale.errors import ConfigError

EXACT_CYCLE = 1 << 20
"""Up to this many pairs a cycle is an epoch, so that concatenation is exact to the pair."""
LONG_CYCLE = 1 << 16
"""Slots of a cycle otherwise: shares are exact to 1/65 536."""
WINDOW_ROWS = 1 << 14
"""Rows that are shuffled together: about 6 MB of text."""

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

    def __getitem__(self, chosen: slice | Indices) -> PairKeys:
        return PairKeys(self.language[chosen], self.epoch[chosen], self.row[chosen], self.bits[chosen])


class PairOrder:
    """The infinite stream of pairs.

    Args:
        pairs: number of pairs of each language.
        mixture: `concatenate` (share ∝ pairs) or `temperature` (share ∝ pairs ** alpha).
        seed: seed of the permutations and of the visits' keys.

    Raises:
        ConfigError: there is no pair at all.
    """

    def __init__(
        self,
        pairs: Mapping[str, int],
        mixture: Literal["concatenate", "temperature"] = "concatenate",
        alpha: float = 0.3,
        seed: int = 0,
    ) -> None:
        self.pairs = {language: n for language, n in sorted(pairs.items()) if n}
        if not self.pairs:
            raise ConfigError("no pairs to train on: every language is empty")
        self.languages = tuple(self.pairs)
        self.total = sum(self.pairs.values())
        exponent = 1.0 if mixture == "concatenate" else alpha
        cycle = self.total if mixture == "concatenate" and self.total <= EXACT_CYCLE else LONG_CYCLE
        quotas = apportion([n**exponent for n in self.pairs.values()], max(cycle, len(self.languages)))
        self.slot_language, self.slot_rank = interleave(quotas)
        self._quotas = np.array(quotas)
        self._pairs = np.array(list(self.pairs.values()))
        self._keys = np.array([key(seed, "order", language) for language in self.languages])

    def batch(self, start: int, count: int) -> PairKeys:
        """The pairs at positions start … start + count − 1."""
        cycle, slot = np.divmod(np.arange(start, start + count), len(self.slot_language))
        language = self.slot_language[slot].astype(np.int64)
        size = self._pairs[language]
        epoch, offset = np.divmod(cycle * self._quotas[language] + self.slot_rank[slot], size)
        epoch_key = derive(self._keys[language], epoch)
        row = self._row(offset, size, epoch_key)
        return PairKeys(language, epoch, row, derive(epoch_key, row))

    def _row(self, offset: Indices, size: Indices, epoch_key: Bits) -> Indices:
        """The row visited `offset`-th in an epoch: a permutation of 0 … size−1.

        Full windows come in random order, the shorter rest last; a random rotation makes every epoch cut other windows.
        """
        windows = size // WINDOW_ROWS
        window, inside = np.divmod(offset, WINDOW_ROWS)
        is_full = window < windows
        window = permute(np.where(is_full, window, 0), np.maximum(windows, 1), derive(epoch_key, 1)) * is_full + (
            windows * ~is_full
        )
        width = np.where(is_full, WINDOW_ROWS, np.maximum(size - windows * WINDOW_ROWS, 1))
        inside = permute(inside, width, derive(derive(epoch_key, 2), window))
        rotation = (derive(epoch_key, 0) % size.astype(np.uint64)).astype(np.int64)
        return (window * WINDOW_ROWS + inside + rotation) % size


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
