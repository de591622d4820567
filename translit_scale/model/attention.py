"""Attention inside the segments of a flat sequence: tokens of one sentence never attend to another sentence.

There are two implementations: the variable-length flash kernel on GPUs that have it in half precision, and batched
calls for groups of similar length everywhere else. Both apply dropout, and the same seed gives the same dropout.

The function is registered with transformers under the name `packed`, so that Hugging Face's own layers call it. The
layers pass `segments` on unchanged; no code of the model is copied or patched. (Position ids alone are not enough:
transformers ignores them when it builds masks, and sentences of a flat batch would attend to each other.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from translit_scale.batch.segments import Segments
from translit_scale.model.devices import is_ampere

ATTENTION = "packed"
"""Value of a model's `_attn_implementation`."""
WIDEST_HEAD = 256
"""Largest head dimension of the flash kernel; it must also be a multiple of 8."""


def segment_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scale: float,
    dropout: float = 0.0,
    window: int | None = None,
) -> torch.Tensor:
    """softmax(Q Kᵀ · scale) V within each segment.

    Args:
        query, key, value: [T, H, D].
        dropout: probability on the attention weights.
        window: a token attends to those at most so far away; None: to its whole segment.

    Returns:
        [T, H, D].
    """
    attend = flash_attention if has_kernel(query.device, query.dtype, query.shape[2]) else grouped_attention
    return attend(query, key, value, segments, scale, dropout, window)


def has_kernel(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether attention runs as one call of the variable-length flash kernel."""
    half = dtype in (torch.float16, torch.bfloat16)
    fits = half and head_size % 8 == 0 and head_size <= WIDEST_HEAD
    return device.type == "cuda" and fits and is_ampere(device)


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scale: float,
    dropout: float,
    window: int | None = None,
) -> torch.Tensor:
    """`segment_attention` by torch's own flash kernel: no padding, no copies, no wait for the device.

    The operator is called directly, because torch's public function (`torch.nn.attention.varlen`) has no dropout.
    """
    bounds, longest = segments.cu_seqlens, segments.longest
    attended: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, bounds, bounds, longest, longest, dropout, False, False, scale=scale,
        window_size_left=window, window_size_right=window,
    )[0]  # fmt: skip
    return attended


def grouped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scale: float,
    dropout: float,
    window: int | None = None,
) -> torch.Tensor:
    """`segment_attention` as one batched call for each group of segments, padded to the longest of the group."""
    heads, width = query.shape[1:]
    sizes = [segment * length for segment, length in segments.groups]
    padding = segments.padding_on(query.device)
    padded = [x.index_select(0, padding.padded_from_flat).split(sizes) for x in (query, key, value)]
    outputs = []
    for (count, length), mask, *qkv in zip(segments.groups, padding.key_masks, *padded, strict=True):
        q, k, v = (x.view(count, length, heads, width).transpose(1, 2) for x in qkv)  # [g, H, L, D]
        if window is not None and length > window + 1:
            near = _band(length, window, query.device)
            mask = near if mask is None else mask & near
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
        outputs.append(attended.transpose(1, 2).reshape(count * length, heads, width))
    return torch.cat(outputs).index_select(0, padding.flat_from_padded)


def _band(length: int, window: int, device: torch.device) -> torch.Tensor:
    """[L, L] True where two positions are at most `window` apart."""
    position = torch.arange(length, device=device)
    return (position[:, None] - position).abs() <= window


@torch.compiler.disable
def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Segments,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query, key, value [1, H, T, D] → [1, T, H, D].

    Args:
        sliding_window: one more than the largest distance at which a token attends to another.
    """
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    window = None if sliding_window is None else sliding_window - 1
    return segment_attention(q, k, v, segments, scaling, dropout, window).unsqueeze(0), None


AttentionInterface.register(ATTENTION, _packed_attention)
