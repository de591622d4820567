"""The contrastive loss over the embeddings of all ranks, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from translit_scale.config import ContrastiveConfig
from translit_scale.objectives.contrastive import LOSSES, LogitParameters, contrastive_loss
from translit_scale.objectives.gather import all_gather_embeddings, reduce_scatter_embeddings
from translit_scale.train.launching.ranks import Rank


@dataclass(frozen=True)
class EmbeddingGradients:
    """The contrastive loss of this rank's embeddings and its gradient with respect to them."""

    embeddings: list[torch.Tensor]
    """Per micro-batch [2P, d]: the embeddings that the gradients belong to."""
    gradients: list[torch.Tensor]
    """Per micro-batch [2P, d] fp32: ∂ weight · loss / ∂ embeddings, from the terms of all ranks."""
    parameters: LogitParameters
    """∂ weight · loss / ∂ logit parameters, from the terms of this rank's embeddings."""
    sums: dict[str, torch.Tensor]
    """Sums over this rank's embeddings, by name: the `loss`, and what TensorBoard shows as a mean over the effective
    batch under `train_tcm/`. A further metric is a further entry here."""


def contrastive_loss_over_ranks(
    embeddings: Sequence[torch.Tensor],
    texts: Sequence[torch.Tensor],
    counts: list[int],
    parameters: LogitParameters,
    weight: float,
    tcm: ContrastiveConfig,
    rank: Rank,
) -> EmbeddingGradients:
    """Compares this rank's embeddings with those of all ranks. Every rank must call it.

    Args:
        embeddings: per micro-batch [2P, d], those of orig, then those of latn.
        texts: per micro-batch [P, 2] ids of the two texts of each pair.
        counts: [W] embeddings of every rank; one entry: this rank's embeddings are compared among themselves.
        weight: factor of the sum of the loss over the embeddings of all ranks.
    """
    sizes, group_rank = [len(part) for part in embeddings], rank.rank if len(counts) > 1 else 0
    pooled = torch.cat(list(embeddings)).float()
    compared = F.normalize(pooled, dim=-1) if tcm.similarity == "cosine" else pooled
    candidates = all_gather_embeddings(compared, counts)
    self_index = sum(counts[:group_rank]) + torch.arange(len(pooled), device=pooled.device)
    positive = self_index + torch.cat([_offset_to_positive(size, pooled.device) for size in sizes])
    text_ids = None
    if tcm.exclude_duplicates:
        local_texts = torch.cat([part.repeat(2, 1) for part in texts])
        text_ids = local_texts, all_gather_embeddings(local_texts, counts)
    output = contrastive_loss(
        LOSSES[tcm.loss], compared, candidates, self_index, positive, parameters, weight, text_ids
    )
    gradient = output.embedding_gradient + reduce_scatter_embeddings(output.candidate_gradient, counts, group_rank)
    if tcm.similarity == "cosine":
        gradient = _through_normalisation(pooled, gradient)
    all_similarities = (compared @ candidates.sum(0)).sum()
    negative_similarity = all_similarities - compared.square().sum() - output.positive_similarity
    sums = {
        "loss": output.loss,
        "top1": output.correct,
        "positive_similarity": output.positive_similarity,
        "negative_similarity": negative_similarity / max(1, len(candidates) - 2),
    }
    if tcm.learn_temperature:
        sums["inverse_temperature"] = parameters.logit_scale.exp() * len(pooled)
    if tcm.loss == "sigmoid":
        sums["logit_bias"] = parameters.logit_bias * len(pooled)
    return EmbeddingGradients(list(embeddings), list(gradient.split(sizes)), output.parameter_gradients, sums)


def _offset_to_positive(embeddings: int, device: torch.device) -> torch.Tensor:
    """[2P] offset from each embedding of a micro-batch to its positive: +P for orig, −P for latn."""
    half = torch.full((embeddings // 2,), embeddings // 2, device=device)
    return torch.cat([half, -half])


def _through_normalisation(embeddings: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """[n, d] gradient with respect to the embeddings, from the gradient with respect to their normalised form."""
    with torch.enable_grad():
        leaf = embeddings.detach().requires_grad_()
        (result,) = torch.autograd.grad(F.normalize(leaf, dim=-1), leaf, gradient)
    return result
