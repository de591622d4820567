"""Gathers the embeddings of all ranks, and returns to each rank the gradients that others computed for its embeddings.

The papers' code gathers without a gradient and puts only the rank's own embeddings back into the graph. As the engine
averages gradients over ranks, that divides the contrastive gradient by the number of ranks. Here the gradients that
other ranks compute for our embeddings come back to us.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F


def all_gather_embeddings(embeddings: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Concatenates the embeddings of all ranks, in rank order. Every rank must call it.

    Ranks may hold different numbers of embeddings. All ranks know `counts` beforehand, because it follows from the plan
    of the batch, so nothing has to be exchanged first.

    Args:
        embeddings: [n, d] with n = counts[rank]; any type.
        counts: [W] embeddings of each rank.

    Returns:
        [Σ counts, d].
    """
    if len(counts) == 1:
        return embeddings
    longest = max(1, *counts)
    gathered = embeddings.new_empty(len(counts) * longest, *embeddings.shape[1:])
    dist.all_gather_into_tensor(gathered, F.pad(embeddings, (0, 0, 0, longest - len(embeddings))).contiguous())
    return torch.cat([part[:n] for part, n in zip(gathered.split(longest), counts, strict=True)])


def reduce_scatter_embeddings(gradients: torch.Tensor, counts: list[int], rank: int) -> torch.Tensor:
    """Sums over ranks the gradients of all embeddings, and returns those of this rank. Every rank must call it.

    It is the transpose of `all_gather_embeddings`.

    Args:
        gradients: [Σ counts, d]; counts: [W] embeddings of each rank.

    Returns:
        [counts[rank], d].
    """
    if len(counts) == 1:
        return gradients
    longest = max(1, *counts)
    padded = torch.cat([F.pad(part, (0, 0, 0, longest - len(part))) for part in gradients.split(counts)])
    own = gradients.new_empty(longest, *gradients.shape[1:])
    dist.reduce_scatter_tensor(own, padded, op=dist.ReduceOp.SUM)
    return own[: counts[rank]]
