"""Splits an effective batch over ranks and micro-batches so that each has about equally many tokens.

The split is a permutation of the batch. All losses are means over the batch, so the update does not depend on it. For
the ranks, the pairs are sorted by their position in the shards and cut into consecutive parts (`batch.cuts`). This
balances the load, and each rank reads about the same part of the shards in every step.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from translit_scale.batch.sizes import BatchSizes
from translit_scale.errors import ConfigError

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

    @classmethod
    def of(cls, sizes: BatchSizes, world_size: int, micro_batch_pairs: int) -> BatchLayout:
        """The layout of full batches.

        Raises:
            ConfigError: full batches, or those at the beginning of a batch-size warm-up, cannot be divided in this way.
        """
        if sizes.first:  # if these can be divided, so can all others, which are multiples of them
            try:
                cls(sizes.first, world_size, micro_batch_pairs)
            except ConfigError as error:
                error.message = f"batch-size warm-up from train.first_batch_pairs={sizes.first}: {error.message}"
                error.hint = (error.hint or "").replace("train.batch_pairs", "train.first_batch_pairs")
                raise
        return cls(sizes.full, world_size, micro_batch_pairs)

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


def sort_by_position(language: Indices, row: Indices) -> Indices:
    """[B] indices of the pairs in the order of language and row; equal ones stay in the order of the batch."""
    # Language, row and index form one integer each: sorting these is ten times as fast as `lexsort`.
    digits = len(row).bit_length()
    keys = (language * (row.max(initial=0) + 1) + row << digits) | np.arange(len(row))
    keys.sort()
    return keys & ((1 << digits) - 1)


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
