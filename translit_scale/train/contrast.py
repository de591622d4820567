"""The contrastive objective over ranks: rows go out, gradients come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from translit_scale.config import ContrastiveConfig
from translit_scale.objectives.contrastive import contrast
from translit_scale.objectives.gather import all_gather_rows, reduce_scatter_rows
from translit_scale.train.launch import Rank


@dataclass(frozen=True)
class RowGradients:
    """The contrastive loss of this rank's rows and its gradient with respect to them."""

    rows: list[torch.Tensor]
    """Per micro-batch [2P, d]: the rows the gradients belong to."""
    gradients: list[torch.Tensor]
    """Per micro-batch [2P, d] fp32: ∂ scale · loss / ∂ rows, from the terms of all ranks."""
    log_inverse_temperature: torch.Tensor
    """∂ scale · loss / ∂ log 1/τ, from the terms of this rank's rows (scalar)."""
    sums: torch.Tensor
    """[4]: loss, hits, similarity to the positive, mean similarity to rows of other sentences; summed over this rank's
    rows."""


def contrast_over_ranks(
    rows: Sequence[torch.Tensor],
    texts: Sequence[torch.Tensor],
    counts: list[int],
    log_inverse_temperature: torch.Tensor,
    scale: float,
    tcm: ContrastiveConfig,
    rank: Rank,
) -> RowGradients:
    """Contrasts this rank's rows with those of all ranks. Every rank must call it.

    Args:
        rows: per micro-batch [2P, d], orig rows then latn rows.
        texts: per micro-batch [P, 2] numbers of the texts of each pair.
        counts: [W] rows of every rank; one entry: the rows are contrasted among themselves.
        scale: what the sum of the loss over the rows of all ranks is multiplied by.
    """
    sizes, place = [len(part) for part in rows], rank.rank if len(counts) > 1 else 0
    own_rows = torch.cat(list(rows)).float()
    compared = F.normalize(own_rows, dim=-1) if tcm.similarity == "cosine" else own_rows
    columns = all_gather_rows(compared, counts)
    own = sum(counts[:place]) + torch.arange(len(own_rows), device=own_rows.device)
    positive = own + torch.cat([_to_partner(size, own_rows.device) for size in sizes])
    numbers = None
    if tcm.exclude_duplicates:
        own_texts = torch.cat([part.repeat(2, 1) for part in texts])
        numbers = own_texts, all_gather_rows(own_texts, counts)
    found = contrast(compared, columns, own, positive, log_inverse_temperature.exp(), scale, numbers)
    gradient = found.rows + reduce_scatter_rows(found.columns, counts, place)
    if tcm.similarity == "cosine":
        gradient = _through_normalisation(own_rows, gradient)
    to_others = (compared @ columns.sum(0)).sum() - compared.square().sum() - found.positive_sum
    negative_sum = to_others / max(1, len(columns) - 2)
    sums = torch.stack([found.loss_sum, found.hits, found.positive_sum, negative_sum])
    return RowGradients(list(rows), list(gradient.split(sizes)), found.log_inverse_temperature, sums)


def _to_partner(rows: int, device: torch.device) -> torch.Tensor:
    """[2P] offset from each row of a micro-batch to its positive: +P for orig rows, −P for latn rows."""
    half = torch.full((rows // 2,), rows // 2, device=device)
    return torch.cat([half, -half])


def _through_normalisation(rows: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """[n, d] gradient with respect to the rows, from that with respect to the rows of length 1."""
    with torch.enable_grad():
        leaf = rows.detach().requires_grad_()
        (result,) = torch.autograd.grad(F.normalize(leaf, dim=-1), leaf, gradient)
    return result
