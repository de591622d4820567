"""Where the sentences of a flat sequence begin and end, and which of them attention may run over together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch


class Work(NamedTuple):
    """What the operations of a pass over packed sentences follow from (`model/flops.py`); sums add up."""

    tokens: int
    """T: all of them, special ones included."""
    squares: int
    """Σ length² of the segments: pairs of tokens that attend to each other."""
    masked: int
    """M: predicted tokens."""
    masked_keys: int
    """Σ masked · length of the segments: pairs of a predicted token and what it attends to."""

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64], masked: npt.NDArray[np.int64]) -> Work:
        """Args: lengths: [S] tokens of each segment; masked: [S] predicted tokens of each."""
        sums = lengths, lengths**2, masked, lengths * masked
        return cls(*(int(values.sum()) for values in sums))


@dataclass
class Segments:
    """Boundaries of the sentences in a flat sequence of T tokens, and groups of similar length.

    Attention over ragged sentences runs as one batched call per group, padded to the longest of the group only.
    """

    cu_seqlens: torch.Tensor
    """[S+1] int32, as kernels want it: segment s holds tokens cu_seqlens[s] … cu_seqlens[s+1] − 1."""
    groups: list[tuple[int, int]]
    """(number of segments g, padded length L) of each group; Σ g·L = padded slots."""
    slot_token: torch.Tensor
    """[Σ g·L] flat token in each padded slot (padding repeats the segment's first token)."""
    token_slot: torch.Tensor
    """[T] padded slot of each token."""
    key_masks: list[torch.Tensor | None]
    """Per group [g, 1, 1, L] bool, True = a real token; None where the group has no padding."""

    @property
    def longest(self) -> int:
        """Tokens of the longest segment."""
        return self.groups[0][1]

    @classmethod
    def from_lengths(cls, lengths: npt.NDArray[np.int64]) -> Segments:
        """Groups segments whose lengths differ by at most 8 tokens or an eighth.

        Args:
            lengths: [S] ≥ 1.
        """
        order = np.argsort(-lengths, kind="stable")
        descending, firsts = lengths[order], [0]
        while firsts[-1] < len(lengths):
            longest_here = descending[firsts[-1]]
            shortest = longest_here - max(8, longest_here // 8)
            firsts.append(int(np.searchsorted(-descending, -shortest, side="right")))
        counts, longest = np.diff(firsts), descending[firsts[:-1]]
        padded = np.repeat(longest, counts)  # [S], in `order`
        first_slot = np.empty_like(padded)
        first_slot[order] = np.cumsum(padded) - padded
        ends = np.cumsum(lengths)
        place = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        token_slot = np.repeat(first_slot, lengths) + place
        slot_token = np.repeat((ends - lengths)[order], padded)
        slot_token[token_slot] = np.arange(ends[-1])
        key_masks: list[torch.Tensor | None] = []
        for of_group, length in zip(np.split(lengths[order], np.cumsum(counts)[:-1]), longest, strict=True):
            real = np.arange(length) < of_group[:, None]
            key_masks.append(None if real.all() else torch.from_numpy(real)[:, None, None, :])
        return cls(
            torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
            list(zip(counts.tolist(), longest.tolist(), strict=True)),
            torch.from_numpy(slot_token),
            torch.from_numpy(token_slot),
            key_masks,
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> Segments:
        """The same segments on another device."""
        return Segments(
            self.cu_seqlens.to(device, non_blocking=non_blocking),
            self.groups,
            self.slot_token.to(device, non_blocking=non_blocking),
            self.token_slot.to(device, non_blocking=non_blocking),
            [None if mask is None else mask.to(device, non_blocking=non_blocking) for mask in self.key_masks],
        )
