"""The contrastive objective of both papers (TCM, SEQ) over embeddings that live on several ranks, with its gradient.

A batch of B pairs has 2B embeddings z: embedding i is f(orig_i), embedding B+i is f(latn_i). The positive of each is
the other script of its sentence; its negatives are the 2B−2 embeddings of other sentences. Their logits are

    logits_ij = exp(logit_scale) · s(z_i, z_j) + logit_bias            (j ≠ i; exp(logit_scale) = 1/τ)

A loss is one function of a tile of logits that returns its sum and its gradient with respect to the logits, see
`ContrastiveLoss`; everything else is the same for every loss. A rank computes the terms of its own embeddings against
all candidates and sends the gradients of other ranks' embeddings back to these ranks
(`gather.reduce_scatter_embeddings`). The gradient is computed here instead of by autograd, so that only one tile of the
[n, 2B] logits exists at a time.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F

from translit_scale.objectives.chunks import TILE_ELEMENTS


class ContrastiveLoss(Protocol):
    """A loss over the logits of some embeddings, without state.

    Args:
        logits: [r, C] fp32; −inf where a candidate is left out (the embedding itself, duplicates).
        positive: [r, 1] index of the candidate that is the positive.

    Returns:
        The sum of the loss over the r embeddings (scalar), and its gradient with respect to the logits, [r, C]; the
        gradient is 0 where a logit is −inf.
    """

    def __call__(self, logits: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]: ...


def info_nce(logits: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_i −log softmax(logits_i)[positive]: the loss of both papers (paper B, section 3.2; Oord et al., 2018)."""
    at_positive = logits.gather(1, positive)
    log_denominator = logits.logsumexp(dim=1, keepdim=True)
    gradient = (logits - log_denominator).exp_().scatter_add_(1, positive, -torch.ones_like(at_positive))
    return (log_denominator - at_positive).sum(), gradient


def sigmoid(logits: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_i Σ_{j≠i} −log σ(±logits_ij), + for the positive and − for negatives (SigLIP, Zhai et al. 2023, section 3.2).

    SigLIP compares images with texts only; here, as in the papers' InfoNCE, sentences of the same script are negatives
    too. The number of terms grows with the batch, but the bias makes nearly all terms of negatives small.
    """
    at_positive = logits.gather(1, positive)
    loss = F.softplus(logits).sum() - at_positive.sum()  # −log σ(x) = softplus(x) − x
    return loss, logits.sigmoid().scatter_add_(1, positive, -torch.ones_like(at_positive))


LOSSES: dict[str, ContrastiveLoss] = {"info_nce": info_nce, "sigmoid": sigmoid}
"""By their names in the setting `objectives.tcm.loss`."""


class LogitParameters(NamedTuple):
    """Temperature and bias of the logits, or the gradients with respect to them (fp32 scalars)."""

    logit_scale: torch.Tensor
    """log 1/τ."""
    logit_bias: torch.Tensor


class ContrastiveOutput(NamedTuple):
    """Sums over n embeddings, and gradients of `weight` · loss."""

    loss: torch.Tensor
    """Sum of the loss (scalar fp32)."""
    correct: torch.Tensor
    """How many embeddings are nearer to their positive than to any other candidate (scalar)."""
    positive_similarity: torch.Tensor
    """Sum of the similarities to the positives (scalar)."""
    embedding_gradient: torch.Tensor
    """[n, d] fp32, with respect to the embeddings."""
    candidate_gradient: torch.Tensor
    """[C, d] fp32, with respect to the candidates."""
    parameter_gradients: LogitParameters
    """With respect to the logit parameters."""


def contrastive_loss(
    loss: ContrastiveLoss,
    embeddings: torch.Tensor,
    candidates: torch.Tensor,
    self_index: torch.Tensor,
    positive: torch.Tensor,
    parameters: LogitParameters,
    weight: float = 1.0,
    texts: tuple[torch.Tensor, torch.Tensor] | None = None,
    tile_elements: int = TILE_ELEMENTS,
) -> ContrastiveOutput:
    """Loss and gradient of the terms that belong to `embeddings`.

    Computed in fp32 whatever the encoder's precision: with τ = 1 the dot products of a wide model reach hundreds, where
    two neighbouring bf16 numbers are more than 1 apart.

    Args:
        embeddings: [n, d] of this rank; for the cosine, of length 1.
        candidates: [C, d] all embeddings that these are compared with, including themselves.
        self_index: [n] index of the candidate that is the embedding itself; it is left out.
        positive: [n] index of the candidate that is the embedding's positive.
        weight: factor of the loss in the gradients.
        texts: ids of the texts (original, transliteration) that the embeddings [n, 2] and the candidates [C, 2] come
            from. A candidate that shares a text with the embedding is not used as a negative. None: all are used.
    """
    embeddings, candidates = embeddings.float(), candidates.float()
    inverse_temperature = parameters.logit_scale.exp()
    gradient, candidate_gradient = torch.empty_like(embeddings), torch.zeros_like(candidates)
    total, correct, similarity, scale_gradient, bias_gradient = embeddings.new_zeros(5)
    tile = max(1, tile_elements // max(1, len(candidates)))
    for start in range(0, len(embeddings), tile):
        part = slice(start, start + tile)
        target = positive[part, None]
        scaled = embeddings[part] * inverse_temperature
        logits = torch.addmm(parameters.logit_bias, scaled, candidates.T)  # [r, C]
        similarity += (logits.gather(1, target) - parameters.logit_bias).sum() / inverse_temperature
        logits.scatter_(1, self_index[part, None], float("-inf"))
        if texts is not None:
            shared = (texts[0][part, None, :] == texts[1][None]).any(dim=2)
            logits.masked_fill_(shared.scatter_(1, target, False), float("-inf"))
        tile_loss, logit_gradient = loss(logits, target)
        total += tile_loss
        correct += (logits.argmax(dim=1, keepdim=True) == target).sum()
        logit_gradient.mul_(weight)
        bias_gradient += logit_gradient.sum()
        gradient[part] = logit_gradient @ candidates * inverse_temperature
        scale_gradient += (embeddings[part] * gradient[part]).sum()  # Σ_ij ∂/∂logits_ij · s(z_i, z_j) / τ
        candidate_gradient.addmm_(logit_gradient.T, scaled)
    parameter_gradients = LogitParameters(scale_gradient, bias_gradient)
    return ContrastiveOutput(total, correct, similarity, gradient, candidate_gradient, parameter_gradients)
