"""One optimizer step whose update depends on the pairs, the weights and the seed, and on nothing else.

Not on the number of ranks W, of micro-batches K, or on which rank holds which pair: every loss is a mean over the
whole effective batch, and the contrastive negatives are the whole effective batch (docs/concepts.md).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from translit_scale.batch.pack import STREAMS, MicroBatch
from translit_scale.batch.stream import RankBatch
from translit_scale.config import ObjectivesConfig
from translit_scale.errors import NumericError
from translit_scale.objectives.contrastive import contrastive_terms
from translit_scale.objectives.gather import all_gather_rows
from translit_scale.train.engine import CALMER, one_reduction
from translit_scale.train.launch import Rank

ROW_DRIFT = 1e-2
"""Largest difference of a row between embedding pass and training pass, relative to the largest row entry.

Zero in fp32 on CPU; kernels of other shapes may round differently elsewhere. Above it dropout was not replayed."""


@dataclass(frozen=True)
class StepResult:
    """Means over the effective batch, equal on all ranks."""

    losses: dict[str, float]
    """Unweighted loss of each objective, and the weighted `total`."""
    contrastive: dict[str, float]
    """`top1`: share of rows whose positive is the nearest of all; `positive_similarity`; `identical`: share of pairs
    whose two sides are the same tokens; empty where the objective is off."""
    tokens: int
    slowest: float
    """Tokens of the rank that has most, over the mean of all ranks."""
    pairs: int
    truncated: int


@dataclass
class _Contrast:
    """The contrastive loss of this rank's rows and its gradient with respect to them."""

    gradients: list[torch.Tensor]
    """Per micro-batch [2P, d] fp32: ∂ weight·loss / ∂ rows."""
    rows: list[torch.Tensor]
    """Per micro-batch [2P, d]: the rows the gradients belong to."""
    sums: torch.Tensor
    """[3]: loss, hits, positive similarity, summed over this rank's rows."""


class TrainStep:
    """Computes the gradient of an effective batch on the engine (the caller then takes the optimizer's step).

    Args:
        engine: DeepSpeed engine over a `PairEncoder`, ZeRO stage 1, 2 or 3, its own accumulation set to 1.
    """

    def __init__(self, engine: Any, objectives: ObjectivesConfig, rank: Rank, seed: int) -> None:
        self.engine, self.objectives, self.rank, self.seed = engine, objectives, rank, seed
        self.stream_weights = torch.tensor([1.0, 1.0, objectives.tlm_weight], device=rank.device)

    def accumulate(self, t: int, batch: RankBatch) -> StepResult:
        """Leaves the gradient of step t's effective batch in the engine.

        Raises:
            NumericError: the loss is not finite, or the two passes over the rows disagree (on all ranks alike).
        """
        micro = [m.to(self.rank.device) for m in batch.micro]
        counts = self._global_counts(batch)
        masked = counts[:3].clamp(min=1).float()
        rows_per_rank = [2 * pairs for pairs in batch.pairs_per_rank]
        contrast = None
        if self.objectives.tcm.weight and len(micro) > 1:
            contrast = self._embedding_pass(t, micro, rows_per_rank)
        sums = torch.zeros(3, device=self.rank.device)
        drift = torch.zeros((), device=self.rank.device)
        with one_reduction(self.engine):
            for k, part in enumerate(micro):
                self._seed_dropout(t, k)
                passed = self.engine(part, self.stream_weights / masked)
                loss = passed.loss
                if self.objectives.tcm.weight:
                    contrast = contrast or self._contrast([passed.rows.detach()], rows_per_rank)
                    loss = loss + (passed.rows * contrast.gradients[k]).sum()
                    drift = torch.maximum(drift, _relative_change(passed.rows.detach(), contrast.rows[k]))
                # The engine averages over ranks; our losses are already divided by counts of the whole batch.
                self.engine.backward(loss * self.rank.world_size, scale_wrt_gas=False)
                sums += passed.loss_sums
        return self._result(t, batch, sums, counts, contrast, drift)

    def _global_counts(self, batch: RankBatch) -> torch.Tensor:
        """[6] over all ranks: masked tokens of each stream, tokens, identical pairs, truncated sentences."""
        per_micro = [[*m.masked, m.tokens, m.identical] for m in batch.micro]
        counts = torch.tensor([*map(sum, zip(*per_micro, strict=True)), batch.truncated], device=self.rank.device)
        dist.all_reduce(counts)
        return counts

    def _embedding_pass(self, t: int, micro: list[MicroBatch], rows_per_rank: list[int]) -> _Contrast:
        """Rows of all micro-batches without a graph, then the loss over them (the cached-gradient method)."""
        rows = []
        with torch.no_grad():
            for k, part in enumerate(micro):
                self._seed_dropout(t, k)
                rows.append(self.engine(part, embed_only=True))
        return self._contrast(rows, rows_per_rank)

    def _contrast(self, rows: list[torch.Tensor], rows_per_rank: list[int]) -> _Contrast:
        """Contrasts this rank's rows with the rows of the whole effective batch.

        Args:
            rows: per micro-batch [2P, d], orig rows then latn rows.
            rows_per_rank: [W] their number on every rank.
        """
        own_rows = torch.cat(rows).requires_grad_()
        columns = all_gather_rows(own_rows, rows_per_rank)
        own = sum(rows_per_rank[: self.rank.rank]) + torch.arange(len(own_rows), device=own_rows.device)
        positive = own + torch.cat([_to_partner(len(r), own_rows.device) for r in rows])
        tcm = self.objectives.tcm
        terms = contrastive_terms(own_rows, columns, own, positive, tcm.temperature, tcm.similarity)
        loss = tcm.weight * terms.loss_sum / sum(rows_per_rank)
        (gradient,) = torch.autograd.grad(loss, own_rows)
        sums = torch.stack([terms.loss_sum.detach(), terms.hits.float(), terms.positive_sum])
        return _Contrast(list(gradient.split([len(r) for r in rows])), rows, sums)

    def _seed_dropout(self, t: int, micro: int) -> None:
        """Makes dropout a function of (seed, step, rank, micro-batch), so that a pass can be repeated."""
        key = repr((self.seed, "dropout", t, self.rank.rank, micro)).encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1)

    def _result(
        self,
        t: int,
        batch: RankBatch,
        sums: torch.Tensor,
        counts: torch.Tensor,
        contrast: _Contrast | None,
        drift: torch.Tensor,
    ) -> StepResult:
        """Reduces this rank's sums over all ranks; the step's only wait for the device."""
        local = torch.cat([sums, contrast.sums if contrast else sums.new_zeros(3)]).double()
        dist.all_reduce(local)
        own_tokens = torch.full_like(drift, float(sum(m.tokens for m in batch.micro)))
        largest = torch.stack([drift, own_tokens]).double()
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        worst_drift, most_tokens = largest.tolist()
        masked = counts[:3].tolist()
        tokens, identical, truncated = counts[3:].tolist()
        loss_sums, (tcm_sum, hits, similarity) = local[:3].tolist(), local[3:].tolist()
        losses = {name: s / max(1, n) for name, s, n in zip(STREAMS, loss_sums, masked, strict=True)}
        if not self.objectives.tlm_weight:
            del losses["tlm"]
        rows, pairs = 2 * batch.pairs, batch.pairs
        contrastive = {}
        if contrast:
            losses["tcm"] = tcm_sum / rows
            contrastive = {
                "top1": hits / rows, "positive_similarity": similarity / rows, "identical": identical / pairs,
            }  # fmt: skip
        weights = {"tcm": self.objectives.tcm.weight, "tlm": self.objectives.tlm_weight}
        losses["total"] = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        self._check(t, losses, worst_drift)
        slowest = most_tokens * self.rank.world_size / tokens
        return StepResult(losses, contrastive, tokens, slowest, pairs, truncated)

    def _check(self, t: int, losses: dict[str, float], drift: float) -> None:
        if not all(map(math.isfinite, losses.values())):
            shown = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise NumericError(f"step {t}: the loss is not finite ({shown})", CALMER)
        if not drift <= ROW_DRIFT:
            raise NumericError(
                f"step {t}: rows of the training pass differ from the embedding pass by {drift:.2g} of their size, so "
                "the contrastive gradient would be wrong",
                "this is a defect, not a setting: report it with config.yaml and environment.json of the run",
            )


def _to_partner(rows: int, device: torch.device) -> torch.Tensor:
    """[2P] offset from each row of a micro-batch to its positive: +P for orig rows, −P for latn rows."""
    half = torch.full((rows // 2,), rows // 2, device=device)
    return torch.cat([half, -half])


def _relative_change(rows: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Largest absolute difference over the largest absolute entry."""
    return (rows - before).abs().max() / before.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
