"""Masked language modelling as sums, so that the mean can be taken over a whole effective batch; without all logits.

The logits of M masked tokens over V = 401 145 pieces would be the largest tensor of the step. Here they exist for
`CHUNK_TOKENS` tokens at a time: the forward pass computes the gradient of each chunk and then drops its logits.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F

from translit_scale.objectives.chunks import ALIGNED, BIAS_COLUMNS, CHUNK_TOKENS

HAS_TRITON = find_spec("triton") is not None


def masked_lm_losses(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    token_weights: torch.Tensor,
    chunk_tokens: int = CHUNK_TOKENS,
    align: int | None = None,
    fused: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ token_weights · cross-entropy, and the cross-entropy of each token.

    The softmax is computed in fp32, matrix products in the type of autocast where that is enabled.

    Args:
        features: [M, d] what the output embedding is applied to.
        weight, bias: [V, d] and [V] output embedding.
        labels: [M]; token_weights: [M] fp32, without gradient.
        align: the vocabulary is padded to a multiple of this, with pieces of probability 0; default: 64 on a GPU.
        fused: the element-wise work on the logits is one kernel, see `fused_cross_entropy`; default: on a GPU, if
            Triton is installed (torch for CUDA installs it).

    Returns:
        The sum (scalar fp32, differentiable in features, weight and bias), and [M] fp32 losses (without gradient).
    """
    align = align or (ALIGNED if features.is_cuda else 1)
    fused = features.is_cuda and HAS_TRITON if fused is None else fused
    total, losses = _ChunkedCrossEntropy.apply(
        features, weight, bias, labels, token_weights, chunk_tokens, align, fused
    )
    return total, losses


def group_sums(losses: torch.Tensor, group: torch.Tensor, groups: int) -> torch.Tensor:
    """Σ losses of each group of tokens, such as a stream or a language.

    Sums, because ranks and micro-batches hold different numbers of masked tokens: the mean of their means is not the
    mean over the batch.

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
        token_weights: torch.Tensor,
        chunk_tokens: int,
        align: int,
        fused: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of the losses [] and the losses [M], of features [M, d], weight [V, d] and bias [V].

        The gradients are computed here too, chunk by chunk, while a chunk has its logits [R, V]; `backward` only scales
        them. So the logits of all tokens are never there at once.
        """
        device = features.device.type
        compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        needed = any(ctx.needs_input_grad[:3])
        # Gradients are stored relative to the largest weight: with weights of 1 / tokens of a batch fp16 underflows.
        largest = F.pad(token_weights, (0, 1), value=torch.finfo(torch.float32).tiny).max()
        relative_weight = token_weights / largest
        padding = -len(weight) % align
        x, w = features.to(compute), _padded(weight, padding, compute)
        b = F.pad(bias.float(), (0, padding), value=float("-inf"))
        inputs = F.pad(x, (0, BIAS_COLUMNS))  # the gradient of the weight and, in the first of these columns, the bias
        inputs[:, x.shape[1]] = 1
        losses = torch.empty(len(x), dtype=torch.float32, device=x.device)
        feature_gradient = torch.empty_like(features)
        output_gradient: torch.Tensor | None = None  # [V, d + BIAS_COLUMNS]
        cross_entropy = _eager
        if fused:  # imported here, because Triton is installed with torch for GPUs only
            from translit_scale.objectives.fused_cross_entropy import fused_cross_entropy as cross_entropy
        with torch.autocast(device, enabled=False):
            for start in range(0, len(x), chunk_tokens):
                part = slice(start, start + chunk_tokens)
                losses[part], logit_gradient = cross_entropy(
                    x[part] @ w.T, b, labels[part], relative_weight[part], needed
                )  # [R], [R, V] in the memory of the logits
                if needed:
                    logit_gradient = logit_gradient.to(compute)
                    feature_gradient[part] = logit_gradient @ w
                    output_gradient = _add_product(
                        output_gradient, logit_gradient.T, inputs[part], is_only=len(x) <= chunk_tokens
                    )
                del logit_gradient  # before the next chunk has its logits
        if needed:
            if output_gradient is None:
                output_gradient = inputs.new_zeros(len(w), inputs.shape[1])
            ctx.save_for_backward(largest, feature_gradient, output_gradient)
            ctx.output = weight.shape, weight.dtype, bias.dtype
        ctx.mark_non_differentiable(losses)
        return (losses * token_weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        largest, feature_gradient, output_gradient = ctx.saved_tensors
        (vocabulary, dimensions), weight_type, bias_type = ctx.output
        scale = largest * gradients[0]
        weight_gradient = torch.empty(vocabulary, dimensions, dtype=weight_type, device=scale.device)
        torch.mul(output_gradient[:vocabulary, :dimensions], scale[None], out=weight_gradient)
        bias_gradient = (output_gradient[:vocabulary, dimensions] * scale[None]).to(bias_type)
        return feature_gradient * scale, weight_gradient, bias_gradient, None, None, None, None, None


def _padded(weight: torch.Tensor, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """The weight [V, d] with rows of zeros appended, in one copy, or without one if there is nothing to change."""
    if rows == 0:
        return weight.to(dtype)
    result = torch.empty(len(weight) + rows, weight.shape[1], dtype=dtype, device=weight.device)
    result[: len(weight)], result[len(weight) :] = weight, 0
    return result


def _add_product(total: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, is_only: bool) -> torch.Tensor:
    """total + a @ b [V, d] in the memory of `total`, which is fp32 unless this is the only product.

    The output embedding is large, so each pass over its gradient counts: in fp32 the matrix product adds by itself.
    """
    if total is None:
        return a @ b if is_only else (a @ b).float()
    return total.addmm_(a, b) if total.dtype == a.dtype else total.add_(a @ b)


def _eager(
    logits: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `fused_cross_entropy`, by operations of torch: the logits are overwritten where they are fp32."""
    logits = logits.float().add_(bias)
    log_denominator = logits.logsumexp(dim=1)
    losses = log_denominator - logits.gather(1, labels[:, None]).squeeze(1)
    if gradient:
        logits.sub_(log_denominator[:, None]).exp_()  # softmax, in the logits' memory
        logits.scatter_add_(1, labels[:, None], -torch.ones_like(log_denominator)[:, None])
        logits.mul_(weights[:, None])
    return losses, logits
