"""Spreads languages evenly over the positions of a stream without end, in any proportions.

A cycle of slots repeats for ever. If the proportions are not whole numbers of its slots, each language has as many
slots of its own as fit, and what remains of all languages shares some slots, which are distributed by a second cycle.
So a language with a billionth of the stream gets a billionth, and not a whole slot.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LONG_CYCLE = 1 << 18
"""Slots of a cycle, unless it is an epoch. Two of them give proportions to a few billionths of the stream."""
STRIDE = 1 << 14
"""Slots between two for which the numbers of earlier slots are kept."""

Indices = npt.NDArray[np.int64]


def apportion(weights: Sequence[float], slots: int) -> list[int]:
    """Integer quotas ∝ `weights` that sum to `slots` (largest remainder); weights above 0 get at least one slot."""
    total = sum(weights)
    exact = [weight * slots / total for weight in weights]
    quotas = [max(1, int(quota)) if quota else 0 for quota in exact]
    assert slots >= sum(map(bool, quotas))
    by_remainder = sorted((i for i, quota in enumerate(quotas) if quota), key=lambda i: (quotas[i] - exact[i], i))
    while (missing := slots - sum(quotas)) > 0:
        for i in by_remainder[:missing]:
            quotas[i] += 1
    while sum(quotas) > slots:  # the minimum of one made the sum too large: take from the largest quota
        quotas[quotas.index(max(quotas))] -= 1
    return quotas


def interleave(quotas: Sequence[int]) -> npt.NDArray[np.int32]:
    """[C] language of each slot of a cycle of C = sum(quotas) slots, in which the slots of each are spread evenly.

    At every prefix, a language's count stays within one of its proportion if its k-th slot (from 0) of q lies in
    [⌊kC/q⌋, ⌈(k+1)C/q⌉ − 1]. Scheduling the earliest deadline first always achieves this (Tijdeman 1980, the chairman
    assignment problem).
    """
    cycle = sum(quotas)
    language = np.empty(cycle, np.int32)
    waiting = [(0, i, 0) for i, quota in enumerate(quotas) if quota]  # (release, language, k)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []  # (deadline, language, k)
    for slot in range(cycle):
        while waiting and waiting[0][0] <= slot:
            _, i, k = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(k + 1) * cycle // quotas[i]) - 1, i, k))
        _, i, k = heapq.heappop(ready)
        language[slot] = i
        if k + 1 < quotas[i]:
            heapq.heappush(waiting, ((k + 1) * cycle // quotas[i], i, k + 1))
    return language


class Cycle:
    """C slots in which each of L languages has its quota, repeated for ever."""

    def __init__(self, quotas: Sequence[int]) -> None:
        self.quotas: Indices = np.array(quotas, np.int64)
        self.slots = interleave(quotas)
        parts = [self.slots[start : start + STRIDE] for start in range(0, len(self.slots), STRIDE)]
        counts = np.stack([np.bincount(part, minlength=len(quotas)) for part in parts])
        self._before = np.cumsum(counts, axis=0) - counts
        """[⌈C / STRIDE⌉, L] slots of each language before every STRIDE-th slot."""

    def languages(self, positions: Indices) -> npt.NDArray[np.int32]:
        """[n] language at each of n positions."""
        return self.slots[positions % len(self.slots)]

    def counts(self, position: int) -> Indices:
        """[L] positions of each language before a position."""
        cycles, slot = divmod(position, len(self.slots))
        mark = slot // STRIDE
        since = np.bincount(self.slots[mark * STRIDE : slot], minlength=len(self.quotas))
        counts: Indices = cycles * self.quotas + self._before[mark] + since
        return counts


class Stream:
    """The language of each position. At every prefix, a language is within one pair of its proportion if an epoch is
    given, and within three pairs otherwise.

    Args:
        proportions: [L], which sum to 1.
        epoch: length of a cycle in which each language has a whole number of slots; None: there is no such cycle.
    """

    def __init__(self, proportions: npt.NDArray[np.float64], epoch: int | None) -> None:
        self.shared: Cycle | None = None
        """Distributes the shared slots, which are those of the language L of `cycle`."""
        if epoch is not None:
            self.cycle = Cycle(apportion(proportions.tolist(), epoch))
            return
        exact = proportions * LONG_CYCLE
        own = np.floor(exact).astype(np.int64)
        shared = LONG_CYCLE - int(own.sum())
        self.cycle = Cycle([*own.tolist(), shared] if shared else own.tolist())
        if shared:
            self.shared = Cycle(apportion((exact - own).tolist(), max(LONG_CYCLE, len(own))))

    def languages(self, start: int, count: int) -> npt.NDArray[np.int32]:
        """[count] language at the positions start … start + count − 1."""
        languages = self.cycle.languages(np.arange(start, start + count))
        if self.shared is not None:
            shared = np.flatnonzero(languages == len(self.shared.quotas))
            earlier = self.cycle.counts(start)[-1]
            languages[shared] = self.shared.languages(earlier + np.arange(len(shared)))
        return languages

    def counts(self, position: int) -> Indices:
        """[L] positions of each language before a position."""
        counts = self.cycle.counts(position)
        if self.shared is not None:
            return counts[:-1] + self.shared.counts(int(counts[-1]))
        return counts
