"""Where the sentences of a flat sequence begin and end, and which of them attention may run over together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class Segments:
    """Boundaries of the sentences in a flat sequence of T tokens, and groups of similar length.

    Attention over ragged sentences runs as one batched call per group, padded to the longest of the group only.
    """

    cu_seqlens: torch.Tensor
    """[S+1] int64: segment s holds tokens cu_seqlens[s] … cu_seqlens[s+1] − 1."""
    groups: list[tuple[int, int]]
    """(number of segments g, padded length L) of each group; Σ g·L = padded slots."""
    slot_token: torch.Tensor
    """[Σ g·L] flat token in each padded slot (padding repeats the segment's first token)."""
    token_slot: torch.Tensor
    """[T] padded slot of each token."""
    key_masks: list[torch.Tensor | None]
    """Per group [g, 1, 1, L] bool, True = a real token; None where the group has no padding."""

    @classmethod
    def from_lengths(cls, lengths: Sequence[int]) -> Segments:
        """Groups segments whose lengths differ by at most 8 tokens or an eighth."""
        length = torch.tensor(lengths, dtype=torch.int64)
        cu_seqlens = F.pad(length.cumsum(0), (1, 0))
        order = torch.argsort(length, descending=True, stable=True).tolist()
        members: list[list[int]] = []
        for s in order:
            longest = lengths[members[-1][0]] if members else 0
            if members and longest - lengths[s] <= max(8, longest // 8):
                members[-1].append(s)
            else:
                members.append([s])
        slot_token, key_masks = [], []
        for group in members:
            within = torch.arange(lengths[group[0]]).expand(len(group), -1)  # [g, L]
            real = within < length[group, None]
            slot_token.append((cu_seqlens[group, None] + within * real).flatten())
            key_masks.append(None if bool(real.all()) else real[:, None, None, :])
        slots = torch.cat(slot_token)
        real_slots = torch.cat([
            torch.ones(len(group) * lengths[group[0]], dtype=torch.bool) if mask is None else mask.flatten()
            for group, mask in zip(members, key_masks, strict=True)
        ])  # fmt: skip
        token_slot = torch.empty(int(cu_seqlens[-1]), dtype=torch.int64)
        token_slot[slots[real_slots]] = real_slots.nonzero().flatten()
        groups = [(len(group), lengths[group[0]]) for group in members]
        return cls(cu_seqlens, groups, slots, token_slot, key_masks)

    def to(self, device: torch.device, non_blocking: bool = False) -> Segments:
        """The same segments on another device."""
        return Segments(
            self.cu_seqlens.to(device, non_blocking=non_blocking),
            self.groups,
            self.slot_token.to(device, non_blocking=non_blocking),
            self.token_slot.to(device, non_blocking=non_blocking),
            [None if mask is None else mask.to(device, non_blocking=non_blocking) for mask in self.key_masks],
        )
