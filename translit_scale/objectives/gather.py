"""Rows of all ranks, with the gradient that others compute for ours."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F


class _AllGather(torch.autograd.Function):
    """Forward: all-gather [n, d] → [W·n, d]. Backward: reduce-scatter of the sum, i.e. Σ over ranks of ∂/∂(our rows).

    The papers' code puts only the local rows back into the graph, which divides the contrastive gradient by the
    world size once the engine averages it.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered = rows.new_empty(dist.get_world_size() * rows.shape[0], *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (gradient,) = gradients
        own = gradient.new_empty(gradient.shape[0] // dist.get_world_size(), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous(), op=dist.ReduceOp.SUM)
        return own


def all_gather_rows(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Concatenates the rows of all ranks, in rank order.

    Every rank must call it. Ranks may hold different numbers of rows; `counts` is known to all of them beforehand
    (it follows from the batch plan), so nothing has to be exchanged first.

    Args:
        rows: [n, d] with n = counts[rank].
        counts: [W] rows of each rank.

    Returns:
        [Σ counts, d]; backward sums the gradient over ranks.
    """
    if len(counts) == 1:
        return rows
    longest = max(counts)
    gathered = _AllGather.apply(F.pad(rows, (0, 0, 0, longest - len(rows))))
    return torch.cat([gathered[r * longest : r * longest + n] for r, n in enumerate(counts)])
