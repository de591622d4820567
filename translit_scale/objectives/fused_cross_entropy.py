"""Cross-entropy and its gradient in the memory of the logits: a Triton kernel for GPUs.

As separate operations in fp32 the element-wise work moves about 72 bytes per logit, and took 45 % of a step of
Glot500-base on an H100 (benchmarks/h100.md). The kernel reads each logit twice and writes its gradient once, in the
type of the matrix product, and computes in fp32.
"""

import torch
import triton
import triton.language as tl

BLOCK, WARPS = 4096, 8
"""Logits that a program reads at once, and its warps: 2.5 TB/s on an H100, the fastest of 16 combinations."""


@triton.jit
def _kernel(logits, bias, labels, weights, losses, columns, GRADIENT: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row: the softmax is normalised while it is read, by its largest logit so far."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * columns
    label = tl.load(labels + row)
    maximum = tl.full((), -3.0e38, tl.float32)  # not infinite: the difference of two infinities is not a number
    total, at_label = tl.full((), 0.0, tl.float32), tl.full((), 0.0, tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < columns
        x = tl.load(logits + column, mask=inside, other=float("-inf")).to(tl.float32)
        x += tl.load(bias + column, mask=inside, other=0.0)
        larger = tl.maximum(maximum, tl.max(x, axis=0))
        total = total * tl.exp(maximum - larger) + tl.sum(tl.exp(x - larger), axis=0)
        at_label += tl.sum(tl.where(column == label, x, 0.0), axis=0)
        maximum = larger
    log_denominator = maximum + tl.log(total)
    tl.store(losses + row, log_denominator - at_label)
    if GRADIENT:
        weight = tl.load(weights + row)
        for start in range(0, columns, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < columns
            x = tl.load(logits + column, mask=inside, other=0.0).to(tl.float32)
            x += tl.load(bias + column, mask=inside, other=0.0)
            gradient = weight * (tl.exp(x - log_denominator) - tl.where(column == label, 1.0, 0.0))
            tl.store(logits + column, gradient.to(logits.dtype.element_ty), mask=inside)


def fused_cross_entropy(
    logits: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each row of logits + bias, and its gradient times the row's weight, if asked for.

    Args:
        logits: [R, V] contiguous; overwritten with the gradient.
        bias: [V] fp32, −∞ where a column is padding; labels: [R]; weights: [R] fp32.

    Returns:
        [R] fp32 losses, and `logits`.
    """
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    arguments = logits, bias, labels, weights, losses, logits.shape[1]
    _kernel[(len(logits),)](*arguments, GRADIENT=gradient, BLOCK=BLOCK, num_warps=WARPS)
    return losses, logits
