"""Rows of all ranks, and the gradients that ranks compute for each other's rows.

The papers' code gathers without a gradient and puts only its own rows back into the graph. As the engine averages
gradients over ranks, that divides the contrastive gradient by the world size. Here what other ranks find for our rows
comes back to us.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F


def all_gather_rows(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Concatenates the rows of all ranks, in rank order.

    Every rank must call it. Ranks may hold different numbers of rows; `counts` is known to all of them beforehand
    (it follows from the batch plan), so nothing has to be exchanged first.

    Args:
        rows: [n, d] with n = counts[rank]; any type.
        counts: [W] rows of each rank.

    Returns:
        [Σ counts, d].
    """
    if len(counts) == 1:
        return rows
    longest = max(counts)
    gathered = rows.new_empty(len(counts) * longest, *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, F.pad(rows, (0, 0, 0, longest - len(rows))).contiguous())
    return torch.cat([part[:n] for part, n in zip(gathered.split(longest), counts, strict=True)])


def reduce_scatter_rows(gathered: torch.Tensor, counts: list[int], rank: int) -> torch.Tensor:
    """Sums over ranks what each has for all rows, and returns the part of this rank's rows.

    Every rank must call it; the transpose of `all_gather_rows`.

    Args:
        gathered: [Σ counts, d]; counts: [W] rows of each rank.

    Returns:
        [counts[rank], d].
    """
    if len(counts) == 1:
        return gathered
    longest = max(counts)
    padded = torch.cat([F.pad(part, (0, 0, 0, longest - len(part))) for part in gathered.split(counts)])
    own = gathered.new_empty(longest, *gathered.shape[1:])
    dist.reduce_scatter_tensor(own, padded, op=dist.ReduceOp.SUM)
    return own[: counts[rank]]
