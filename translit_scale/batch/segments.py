"""Boundaries of the sentences in a flat sequence, and groups of sentences that attention processes together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch


class Padding(NamedTuple):
    """How sentences are padded to the longest of their group; what only grouped attention needs."""

    padded_from_flat: torch.Tensor
    """[Σ g·L] index of the flat token at each padded position (padding repeats the segment's first token)."""
    flat_from_padded: torch.Tensor
    """[T] padded position of each flat token."""
    key_masks: list[torch.Tensor | None]
    """Per group [g, 1, 1, L] bool, True for a real token; None if the group has no padding."""


@dataclass
class Segments:
    """Boundaries of the sentences in a flat sequence of T tokens, and groups of sentences of similar length.

    Grouped attention runs as one batched call per group, in which sentences are padded only to the longest of their
    group. The flash kernel needs the boundaries alone.
    """

    cu_seqlens: torch.Tensor
    """[S+1] int32, as flash-attention kernels expect: segment s has tokens cu_seqlens[s] … cu_seqlens[s+1] − 1."""
    groups: list[tuple[int, int]]
    """(number of segments g, padded length L) of each group; Σ g·L is the padded size."""
    padding: Padding
    """On the host, until grouped attention asks for it."""

    @property
    def longest(self) -> int:
        """Length of the longest segment in tokens."""
        return self.groups[0][1]

    @classmethod
    def from_lengths(cls, lengths: npt.NDArray[np.int64]) -> Segments:
        """Groups segments whose lengths differ by at most 8 tokens or by an eighth, whichever is more.

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
        first_padded = np.empty_like(padded)
        first_padded[order] = np.cumsum(padded) - padded
        ends = np.cumsum(lengths)
        flat_from_padded = np.repeat(first_padded - (ends - lengths), lengths) + np.arange(ends[-1])
        padded_from_flat = np.repeat((ends - lengths)[order], padded)
        padded_from_flat[flat_from_padded] = np.arange(ends[-1])
        key_masks: list[torch.Tensor | None] = []
        for of_group, length in zip(np.split(lengths[order], np.cumsum(counts)[:-1]), longest, strict=True):
            real = np.arange(length) < of_group[:, None]
            key_masks.append(None if real.all() else torch.from_numpy(real)[:, None, None, :])
        return cls(
            torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
            list(zip(counts.tolist(), longest.tolist(), strict=True)),
            Padding(torch.from_numpy(padded_from_flat), torch.from_numpy(flat_from_padded), key_masks),
        )

    @property
    def padded_size(self) -> int:
        """Σ g·L, tokens and padding that grouped attention processes."""
        return sum(number * length for number, length in self.groups)

    def to(self, device: torch.device) -> Segments:
        """The same boundaries on another device."""
        return replace(self, cu_seqlens=self.cu_seqlens.to(device))

    def padding_on(self, device: torch.device) -> Padding:
        """The padding on a device; it stays there for the layers that follow."""
        if self.padding.padded_from_flat.device != device:
            there, back, masks = self.padding
            masks = [None if mask is None else mask.to(device) for mask in masks]
            self.padding = Padding(there.to(device), back.to(device), masks)
        return self.padding
