"""Splits an effective batch over ranks and micro-batches so that each has about equally many tokens.

The split is a permutation of the batch. All losses are means over the batch, so the update does not depend on it. It
balances the load of the ranks, and it makes each rank read about the same part of the shards in every step.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from translit_scale.errors import ConfigError

CANDIDATES = 32
"""How many of the next pairs are considered when a rank's part is filled up."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BatchLayout:
    """How an effective batch of B pairs is divided into W ranks × K micro-batches.

    Ranks and micro-batches have about equally many tokens and therefore different numbers of pairs. Every rank has the
    same number K of micro-batches, because all ranks must call the engine equally often.

    Raises:
        ConfigError: there are more ranks, or more micro-batches, than pairs.
    """

    batch_pairs: int
    world_size: int
    micro_batch_pairs: int
    """Largest mean number of pairs in a micro-batch (`train_micro_batch_size_per_gpu` of the DeepSpeed JSON)."""

    def __post_init__(self) -> None:
        if self.world_size > self.batch_pairs:
            raise ConfigError(
                f"{self.world_size} ranks cannot share a batch of {self.batch_pairs} pairs",
                "start fewer processes or raise train.batch_pairs",
            )
        if self.world_size * self.micro_batches > self.batch_pairs:
            raise ConfigError(
                f"{self.batch_pairs} pairs cannot fill {self.world_size} ranks × {self.micro_batches} micro-batches of "
                f"{self.micro_batch_pairs}",
                "raise train_micro_batch_size_per_gpu in the DeepSpeed JSON, or make train.batch_pairs a multiple of "
                f"{self.world_size}",
            )

    @property
    def micro_batches(self) -> int:
        """K, the number of micro-batches of each rank."""
        return math.ceil(self.batch_pairs / (self.world_size * self.micro_batch_pairs))

    def equal_split(self, pairs: int) -> list[list[Indices]]:
        """[W][K] indices of the pairs of each micro-batch; their numbers of pairs differ by at most one.

        Lengths are ignored, so that each micro-batch is a random sample of the batch, as objectives defined on
        micro-batches need.
        """
        step = self.world_size * self.micro_batches
        return [
            [np.arange(micro * self.world_size + rank, pairs, step) for micro in range(self.micro_batches)]
            for rank in range(self.world_size)
        ]


def split_over_ranks(language: Indices, row: Indices, cost: Indices, ranks: int, least: int) -> list[Indices]:
    """Sorts the pairs by their position in the shards and cuts them into consecutive parts of equal cost.

    Each part is filled up with the best fitting of the next pairs, so that its cost is within a fraction of a pair of
    the target. A rank's part is at about the same position of the shards in every step.

    Args:
        language, row: [B] position of each pair in the shards; cost: [B] its tokens.
        least: smallest number of pairs of a rank.

    Returns:
        [W] indices of the pairs of each rank.

    Raises:
        ValueError: there are fewer than `ranks` · `least` pairs.
    """
    if len(row) < ranks * least:
        raise ValueError(f"{len(row)} pairs for {ranks} ranks with at least {least} each")
    order = np.lexsort((row, language))
    total = np.cumsum(cost[order])
    parts, start = [], 0
    for rank in range(ranks - 1):
        target = total[-1] * (rank + 1) // ranks
        last = len(order) - least * (ranks - rank - 1)
        end = min(max(int(np.searchsorted(total, target, side="right")), start + least), last)
        while end < last:
            gap = target - total[end - 1]
            left = gap - cost[order[end : min(end + CANDIDATES, last)]]
            best = int(np.where(left >= 0, left, left.max(initial=0) - left).argmin())  # prefer not to overfill
            if abs(left[best]) >= abs(gap):
                break
            best += end
            # Move the chosen pair to the end of this part and update the running totals behind it.
            moved = slice(end, best + 1)
            order[moved] = np.roll(order[moved], 1)
            total[moved] = total[end - 1] + np.cumsum(cost[order[moved]])
            end += 1
        parts.append(order[start:end])
        start = end
    return [*parts, order[start:]]


def split_into_micro_batches(cost: Indices, micro_batches: int) -> list[Indices]:
    """Splits a rank's pairs into micro-batches of about equal cost.

    Pairs are taken in descending order of cost, and each goes to the micro-batch with the lowest cost so far.

    Args:
        cost: [n] tokens of each pair, n ≥ `micro_batches`.

    Returns:
        [K] ascending indices of the pairs of each micro-batch; none is empty.
    """
    if micro_batches == 1:
        return [np.arange(len(cost))]
    members: list[list[int]] = [[] for _ in range(micro_batches)]
    heap = [(0, k) for k in range(micro_batches)]  # (cost so far, micro-batch)
    for index in np.argsort(-cost, kind="stable").tolist():
        total, k = heap[0]
        members[k].append(index)
        heapq.heapreplace(heap, (total + int(cost[index]), k))
    return [np.sort(np.array(indices)) for indices in members]
