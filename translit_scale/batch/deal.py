"""Who gets which pairs of an effective batch: ranks by place and length, micro-batches by length.

Dealing is a permutation: the batch is unchanged, and as all losses are means over it, so is the update. What it buys:
all ranks have equally much to compute, and a rank keeps to its own part of the shards, step after step.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from translit_scale.errors import ConfigError

CANDIDATES = 32
"""Pairs ahead of a cut among which the one that fills a rank best is looked for."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Deal:
    """How an effective batch of B pairs is dealt to W ranks × K micro-batches.

    Ranks and micro-batches get about equally many tokens, and so different numbers of pairs; but every rank has the
    same number K of micro-batches, because ranks must call the engine equally often.
    """

    batch_pairs: int
    world_size: int
    micro_pairs: int
    """Pairs of a micro-batch on average, at most (`train_micro_batch_size_per_gpu` of the DeepSpeed JSON)."""

    def __post_init__(self) -> None:
        if self.world_size > self.batch_pairs:
            raise ConfigError(
                f"{self.world_size} ranks cannot share a batch of {self.batch_pairs} pairs",
                "start fewer processes or raise train.batch_pairs",
            )
        if self.world_size * self.micro_batches > self.batch_pairs:
            raise ConfigError(
                f"{self.batch_pairs} pairs cannot fill {self.world_size} ranks × {self.micro_batches} micro-batches of "
                f"{self.micro_pairs}",
                "raise train_micro_batch_size_per_gpu in the DeepSpeed JSON, or make train.batch_pairs a multiple of "
                f"{self.world_size}",
            )

    @property
    def micro_batches(self) -> int:
        """K, the number of micro-batches of each rank."""
        return math.ceil(self.batch_pairs / (self.world_size * self.micro_pairs))

    def in_order(self, pairs: int) -> list[list[Indices]]:
        """[W][K] indices of the pairs of each micro-batch, as equally many as can be, without regard to their length.

        For objectives that are defined on micro-batches: each is a random sample of the batch.
        """
        step = self.world_size * self.micro_batches
        return [
            [np.arange(micro * self.world_size + rank, pairs, step) for micro in range(self.micro_batches)]
            for rank in range(self.world_size)
        ]


def deal_to_ranks(language: Indices, row: Indices, cost: Indices, ranks: int, least: int) -> list[Indices]:
    """Cuts the pairs, laid out as in the shards, into stretches of equal cost.

    A stretch is completed by those of the next pairs that fill it best, so that it ends within a fraction of a pair of
    its share; and a rank's stretch is at about the same place of the shards in every step.

    Args:
        language, row, cost: [B] place of each pair in the shards, and what it costs (tokens).
        least: every rank gets at least so many pairs.

    Returns:
        [W] indices of the pairs of each rank.

    Raises:
        ValueError: there are fewer than `ranks` · `least` pairs.
    """
    if len(row) < ranks * least:
        raise ValueError(f"{len(row)} pairs for {ranks} ranks with at least {least} each")
    order = np.lexsort((row, language))
    spent = np.cumsum(cost[order])
    shares, begin = [], 0
    for rank in range(ranks - 1):
        target = spent[-1] * (rank + 1) // ranks
        last = len(order) - least * (ranks - rank - 1)
        end = min(max(int(np.searchsorted(spent, target, side="right")), begin + least), last)
        while end < last:
            gap = target - spent[end - 1]
            left = gap - cost[order[end : min(end + CANDIDATES, last)]]
            best = int(np.where(left >= 0, left, left.max(initial=0) - left).argmin())  # fill, rather than overfill
            if abs(left[best]) >= abs(gap):
                break
            best += end
            # The chosen pair moves to the front of those ahead; the sums in between follow.
            moved = slice(end, best + 1)
            order[moved] = np.roll(order[moved], 1)
            spent[moved] = spent[end - 1] + np.cumsum(cost[order[moved]])
            end += 1
        shares.append(order[begin:end])
        begin = end
    return [*shares, order[begin:]]


def deal_to_micro_batches(cost: Indices, micro_batches: int) -> list[Indices]:
    """Deals a rank's pairs to micro-batches of about equal cost: the costliest first, each to the cheapest so far.

    Args:
        cost: [n] what each pair costs, n ≥ `micro_batches`.

    Returns:
        [K] indices of the pairs of each micro-batch, ascending; none is empty.
    """
    if micro_batches == 1:
        return [np.arange(len(cost))]
    chosen: list[list[int]] = [[] for _ in range(micro_batches)]
    heap = [(0, k) for k in range(micro_batches)]
    for index in np.argsort(-cost, kind="stable").tolist():
        spent, k = heap[0]
        chosen[k].append(index)
        heapq.heapreplace(heap, (spent + int(cost[index]), k))
    return [np.sort(np.array(indices)) for indices in chosen]
