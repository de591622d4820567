"""Masked language modelling as sums, so that the mean can be taken over a whole effective batch; without all logits.

The logits of M masked tokens over V = 401 145 pieces would be the largest tensor of the step. Here they exist for
`CHUNK_ROWS` tokens at a time: the forward pass computes the gradient of each chunk and then drops its logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

CHUNK_ROWS = 2048
"""Masked tokens of a chunk. Every chunk reads the whole output embedding, 616 MB in bf16 at that V, so small chunks are
slow. (Heuristics that make the logits of a chunk as small as its input would choose 16 tokens.)"""
ALIGNED = 64
"""GPUs multiply matrices with aligned rows. On an H100 the products of the head over 401,145 pieces (Glot500) run at
96 to 150 TFLOP/s, over 401,152 at 700 to 780 (benchmarks/h100.md)."""


def masked_lm_losses(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    row_weight: torch.Tensor,
    chunk_rows: int = CHUNK_ROWS,
    align: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ row_weight · cross-entropy, and the cross-entropy of each token.

    The softmax is computed in fp32, matrix products in the type of autocast where that is enabled.

    Args:
        features: [M, d] what the output embedding is applied to.
        weight, bias: [V, d] and [V] output embedding.
        labels: [M]; row_weight: [M] fp32, without gradient.
        align: the vocabulary is padded to a multiple of it, with pieces of probability 0; default: 64 on a GPU.

    Returns:
        The sum (scalar fp32, differentiable in features, weight and bias), and [M] fp32 losses (without gradient).
    """
    align = align or (ALIGNED if features.is_cuda else 1)
    total, losses = _ChunkedCrossEntropy.apply(features, weight, bias, labels, row_weight, chunk_rows, align)
    return total, losses


def group_sums(losses: torch.Tensor, group: torch.Tensor, groups: int) -> torch.Tensor:
    """Σ losses of each group of tokens, such as a stream or a language.

    These are sums, because ranks and micro-batches hold different numbers of masked tokens: the mean of their means is
    not the mean over the batch.

    Args:
        losses, group: [M], groups 0 … groups − 1.

    Returns:
        [groups]; zero for one without masked tokens.
    """
    return losses.new_zeros(groups).index_add(0, group, losses)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        row_weight: torch.Tensor,
        chunk_rows: int,
        align: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device = features.device.type
        compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        needed = any(ctx.needs_input_grad[:3])
        # Gradients are kept as if the largest weight were 1: with weights of 1 / tokens of a batch they vanish in fp16.
        largest = F.pad(row_weight, (0, 1), value=torch.finfo(torch.float32).tiny).max()
        relative_weight = row_weight / largest
        x, w, b = features.to(compute), weight.to(compute), bias.float()
        if padding := -len(w) % align:
            w, b = F.pad(w, (0, 0, 0, padding)), F.pad(b, (0, padding), value=float("-inf"))
        losses = torch.empty(len(x), dtype=torch.float32, device=x.device)
        gradients = [torch.zeros_like(t, dtype=torch.float32) for t in (features, w, b)] if needed else []
        with torch.autocast(device, enabled=False):
            for start in range(0, len(x), chunk_rows):
                part = slice(start, start + chunk_rows)
                logits = (x[part] @ w.T).float() + b  # [R, V]
                normaliser = logits.logsumexp(dim=1)
                losses[part] = normaliser - logits.gather(1, labels[part, None]).squeeze(1)
                if not needed:
                    continue
                error = logits.sub_(normaliser[:, None]).exp_()  # softmax, in the logits' memory
                error.scatter_add_(1, labels[part, None], -torch.ones_like(normaliser)[:, None])
                error.mul_(relative_weight[part, None])
                gradients[2] += error.sum(dim=0)
                error = error.to(compute)
                gradients[0][part] = (error @ w).float()
                gradients[1] += error.T @ x[part]
        ctx.save_for_backward(
            largest, *(g[: len(t)].to(t.dtype) for g, t in zip(gradients, (features, weight, bias), strict=False))
        )
        ctx.mark_non_differentiable(losses)
        return (losses * row_weight).sum(), losses

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        largest, *kept = ctx.saved_tensors
        scale = largest * gradients[0]  # of no dimension, so that the products have the kept gradients' type
        return (*(g * scale for g in kept), None, None, None, None)
