"""The contrastive loss of both papers (TCM, SEQ) over rows that live on several ranks, with its gradient.

A batch of B pairs has 2B rows z: row i is f(orig_i), row B+i is f(latn_i). Each row's positive is the other script
of its sentence, its negatives the 2B−2 rows of other sentences (paper B, section 3.2):

    loss = 1/2B Σ_i −log( exp(s(z_i, z_i⁺)/τ) / Σ_{j≠i} exp(s(z_i, z_j)/τ) )

A rank computes the terms of its own rows against all rows, so the work is shared; what it finds for the rows of others
goes back to them (`gather.reduce_scatter_rows`). The gradient is written down, not recorded: the [n, 2B] similarities
exist for a tile of rows at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

TILE_ELEMENTS = 1 << 24
"""Similarities of a tile: 64 MB in fp32, and three times that while it is worked on. Larger ones are no faster on CPU;
much smaller ones read and write the gradient of all columns, 2B·d numbers, too often for few rows of a tile."""


class Contrasted(NamedTuple):
    """Sums over the given rows, and gradients of `scale` · loss sum."""

    loss_sum: torch.Tensor
    """Σ −log softmax of the positive (scalar fp32)."""
    hits: torch.Tensor
    """How many rows have their positive as nearest of all columns."""
    positive_sum: torch.Tensor
    """Σ similarity to the positive, before the temperature."""
    rows: torch.Tensor
    """[n, d] fp32 gradient with respect to the rows."""
    columns: torch.Tensor
    """[C, d] fp32 gradient with respect to the columns."""
    log_inverse_temperature: torch.Tensor
    """Gradient with respect to log 1/τ (scalar)."""


def contrast(
    rows: torch.Tensor,
    columns: torch.Tensor,
    own: torch.Tensor,
    positive: torch.Tensor,
    inverse_temperature: float | torch.Tensor = 1.0,
    scale: float = 1.0,
    texts: tuple[torch.Tensor, torch.Tensor] | None = None,
    tile_elements: int = TILE_ELEMENTS,
) -> Contrasted:
    """Loss and gradient of the terms that belong to `rows`.

    Computed in fp32 whatever the encoder's precision: with τ = 1 the dot products of a wide model reach hundreds,
    where bf16 steps are larger than 1.

    Args:
        rows: [n, d] this rank's rows; for the cosine, of length 1.
        columns: [C, d] all rows that are contrasted, these among them.
        own: [n] column that is the row itself (excluded); positive: [n] column of its positive.
        inverse_temperature: 1/τ.
        scale: what the sum of the loss is multiplied by.
        texts: numbers of the texts that rows [n, 2] and columns [C, 2] come from (original and transliteration). A
            column that shares one of them with the row is no negative; without them every other column is one.
    """
    rows, columns = rows.float(), columns.float()
    gradients = torch.empty_like(rows), torch.zeros_like(columns)
    sums = rows.new_zeros(4)  # loss, hits, positive similarity, gradient of log 1/τ
    tile = max(1, tile_elements // max(1, len(columns)))
    for start in range(0, len(rows), tile):
        part = slice(start, start + tile)
        target = positive[part, None]
        logits = rows[part] @ columns.T * inverse_temperature  # [r, C]
        at_positive = logits.gather(1, target)
        logits.scatter_(1, own[part, None], float("-inf"))
        if texts is not None:
            shared = (texts[0][part, None, :] == texts[1][None]).any(dim=2)
            logits.masked_fill_(shared.scatter_(1, target, False), float("-inf"))
        normaliser = logits.logsumexp(dim=1, keepdim=True)
        sums[0] += (normaliser - at_positive).sum()
        sums[1] += (logits.argmax(dim=1, keepdim=True) == target).sum()
        sums[2] += at_positive.sum() / inverse_temperature
        error = (logits - normaliser).exp_().scatter_add_(1, target, -torch.ones_like(at_positive)).mul_(scale)
        sums[3] += (error * logits.masked_fill_(logits.isneginf(), 0.0)).sum()
        gradients[0][part] = error @ columns * inverse_temperature
        gradients[1].addmm_(error.T, rows[part] * inverse_temperature)
    return Contrasted(sums[0], sums[1], sums[2], *gradients, sums[3])
