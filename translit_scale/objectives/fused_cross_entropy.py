"""Cross-entropy and its gradient in the memory of the logits: a Triton kernel for GPUs.

The element-wise work on the logits is memory traffic: as separate operations in fp32 it moves about 72 bytes per logit
and takes 45 % of a step of Glot500 on an H100 (benchmarks/h100.md). This kernel reads a row twice and writes it once,
in the type that the matrix product has written. It computes in fp32.
"""

import torch
import triton
import triton.language as tl

BLOCK = 8192
"""Logits that a program reads at once."""
WARPS = 16


@triton.jit
def _kernel(
    logits, bias, labels, weights, losses, vocabulary, columns, GRADIENT: tl.constexpr, BLOCK: tl.constexpr
):
    """One row of logits."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * columns
    label = tl.load(labels + row)
    maximum = tl.full((), -3.0e38, tl.float32)
    total = tl.full((), 0.0, tl.float32)
    target = tl.full((), 0.0, tl.float32)
    for start in range(0, vocabulary, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < vocabulary
        x = tl.load(logits + column, mask=inside, other=0.0).to(tl.float32)
        x = tl.where(inside, x + tl.load(bias + column, mask=inside, other=0.0), float("-inf"))
        larger = tl.maximum(maximum, tl.max(x, axis=0))
        total = total * tl.exp(maximum - larger) + tl.sum(tl.exp(x - larger), axis=0)
        target += tl.sum(tl.where(column == label, x, 0.0), axis=0)
        maximum = larger
    log_denominator = maximum + tl.log(total)
    tl.store(losses + row, log_denominator - target)
    if GRADIENT:
        weight = tl.load(weights + row)
        for start in range(0, columns, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < vocabulary
            x = tl.load(logits + column, mask=inside, other=0.0).to(tl.float32)
            x += tl.load(bias + column, mask=inside, other=0.0)
            gradient = weight * (tl.exp(x - log_denominator) - tl.where(column == label, 1.0, 0.0))
            gradient = tl.where(inside, gradient, 0.0)
            tl.store(logits + column, gradient.to(logits.dtype.element_ty), mask=column < columns)


def fused_cross_entropy(
    logits: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, gradient: bool
) -> torch.Tensor:
    """Cross-entropy of each row; the logits are overwritten with its gradient.

    Args:
        logits: [R, C ≥ V] contiguous, without bias; columns from V on are padding and get the gradient 0.
        bias: [V] fp32; labels: [R]; weights: [R] fp32, that the gradient of each row is multiplied by.
        gradient: if false, the logits stay as they are.

    Returns:
        [R] fp32.
    """
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _kernel[(len(logits),)](
        logits, bias, labels, weights, losses, len(bias), logits.shape[1],
        GRADIENT=gradient, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return losses
