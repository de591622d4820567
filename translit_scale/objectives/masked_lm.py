"""Masked language modelling as sums, so that the mean can be taken over a whole effective batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def masked_lm_sums(logits: torch.Tensor, labels: torch.Tensor, stream: torch.Tensor, num_streams: int) -> torch.Tensor:
    """Σ cross-entropy of masked tokens, for each stream, in fp32.

    Sums, not means: ranks and micro-batches hold different numbers of masked tokens, and the mean of their means
    is not the mean over the batch.

    Args:
        logits: [M, V]; labels: [M]; stream: [M] with values 0 … num_streams − 1.

    Returns:
        [num_streams]; zero for a stream without masked tokens.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    return losses.new_zeros(num_streams).index_add(0, stream, losses)
