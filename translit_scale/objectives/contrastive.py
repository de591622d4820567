"""The contrastive loss of both papers (TCM, SEQ) over rows that live on several ranks.

A batch of B pairs has 2B rows z: row i is f(orig_i), row B+i is f(latn_i). Each row's positive is the other script
of its sentence, its negatives the 2B−2 rows of other sentences (paper B, section 3.2):

    loss = 1/2B Σ_i −log( exp(s(z_i, z_i⁺)/τ) / Σ_{j≠i} exp(s(z_i, z_j)/τ) )

A rank computes the terms of its own rows against all rows, so the work is shared; the gradient with respect to the
rows of others is what `gather.all_gather_rows` sends back to them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F


class ContrastiveTerms(NamedTuple):
    """Sums over the given rows."""

    loss_sum: torch.Tensor
    """Σ −log softmax of the positive (scalar fp32, differentiable)."""
    hits: torch.Tensor
    """How many rows have their positive as nearest of all columns."""
    positive_sum: torch.Tensor
    """Σ similarity to the positive, before the temperature."""


def contrastive_terms(
    rows: torch.Tensor,
    columns: torch.Tensor,
    own: torch.Tensor,
    positive: torch.Tensor,
    temperature: float = 1.0,
    similarity: Literal["dot", "cosine"] = "dot",
) -> ContrastiveTerms:
    """Terms of the loss that belong to `rows`.

    Computed in fp32 whatever the encoder's precision: with τ = 1 the dot products of a wide model reach hundreds,
    where bf16 steps are larger than 1.

    Args:
        rows: [n, d] this rank's rows.
        columns: [2B, d] rows of the whole effective batch.
        own: [n] column that is the row itself (excluded); positive: [n] column of its positive.
    """
    rows, columns = rows.float(), columns.float()
    if similarity == "cosine":
        rows, columns = F.normalize(rows, dim=-1), F.normalize(columns, dim=-1)
    similarities = rows @ columns.T  # [n, 2B]
    logits = (similarities / temperature).scatter(1, own[:, None], float("-inf"))
    loss_sum = F.cross_entropy(logits, positive, reduction="sum")
    with torch.no_grad():
        hits = (logits.argmax(dim=1) == positive).sum()
        positive_sum = similarities.gather(1, positive[:, None]).sum()
    return ContrastiveTerms(loss_sum, hits, positive_sum)
