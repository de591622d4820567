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
from translit_scale.model.encoder import Passed
from translit_scale.train.contrast import RowGradients, contrast_over_ranks
from translit_scale.train.engine import one_reduction
from translit_scale.train.launch import Rank
from translit_scale.train.preemption import StopRequest

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
    stop: bool = False
    """Whether some rank has been asked to stop."""

    @property
    def is_finite(self) -> bool:
        """Whether all losses are finite numbers."""
        return all(map(math.isfinite, self.losses.values()))


class TrainStep:
    """Computes the gradient of an effective batch on the engine (the caller then takes the optimizer's step).

    Args:
        engine: DeepSpeed engine over a `PairEncoder`, its own accumulation set to 1.
        stop: true once this rank is asked to stop; told to all ranks with each step.
    """

    def __init__(
        self, engine: Any, objectives: ObjectivesConfig, rank: Rank, seed: int, stop: StopRequest | None = None
    ) -> None:
        self.engine, self.objectives, self.rank, self.seed, self.stop = engine, objectives, rank, seed, stop
        self.stream_weights = torch.tensor([1.0, 1.0, objectives.tlm_weight], device=rank.device)

    def accumulate(self, t: int, batch: RankBatch) -> StepResult:
        """Leaves the gradient of step t's effective batch in the engine.

        Raises:
            NumericError: the two passes over the rows disagree (on all ranks alike).
        """
        micro = [m.to(self.rank.device) for m in batch.micro]
        counts = self._global_counts(batch)
        cached = self._embedding_pass(t, micro, batch) if self._contrasts_all_at_once(batch) else None
        sums, contrastive = torch.zeros(3, device=self.rank.device), torch.zeros(3, device=self.rank.device)
        drift = torch.zeros((), device=self.rank.device)
        with one_reduction(self.engine):
            for k, part in enumerate(micro):
                self._seed_dropout(t, k)
                passed = self.engine(part, self._token_weights(counts, part, len(micro)))
                loss, own = passed.loss, k if cached else 0
                if self.objectives.tcm.weight:
                    found = cached or self._contrast([passed], [part], batch, k)
                    loss = loss + (passed.rows * found.gradients[own]).sum()
                    if own == 0:
                        loss = loss + passed.log_inverse_temperature * found.log_inverse_temperature
                        contrastive += found.sums
                    drift = torch.maximum(drift, _relative_change(passed.rows.detach(), found.rows[own]))
                # The engine averages over ranks; our losses are already divided by counts of the whole batch.
                self.engine.backward(loss * self.rank.world_size, scale_wrt_gas=False)
                sums += passed.loss_sums
        return self._result(t, batch, torch.cat([sums, contrastive]), counts, drift)

    def _contrasts_all_at_once(self, batch: RankBatch) -> bool:
        """Whether rows of several micro-batches are each other's negatives, so that all must be known beforehand."""
        return bool(self.objectives.tcm.weight and len(batch.micro) > 1 and not self.objectives.in_micro_batches)

    def _token_weights(self, counts: torch.Tensor, part: MicroBatch, micro_batches: int) -> torch.Tensor:
        """[3] what the cross-entropy of each stream is multiplied by: 1 / its masked tokens in the whole batch.

        The papers' code takes the mean of each micro-batch of each rank, and the mean of these.
        """
        if self.objectives.parity is None:
            return self.stream_weights / counts[:3].clamp(min=1)
        own = torch.tensor(part.masked, device=self.rank.device).clamp(min=1)
        return self.stream_weights / own / (micro_batches * self.rank.world_size)

    def _global_counts(self, batch: RankBatch) -> torch.Tensor:
        """[6] over all ranks: masked tokens of each stream, tokens, identical pairs, truncated sentences."""
        per_micro = [[*m.masked, m.tokens, m.identical] for m in batch.micro]
        counts = torch.tensor([*map(sum, zip(*per_micro, strict=True)), batch.truncated], device=self.rank.device)
        dist.all_reduce(counts)
        return counts

    def _embedding_pass(self, t: int, micro: list[MicroBatch], batch: RankBatch) -> RowGradients:
        """Rows of all micro-batches without a graph, then the loss over them (the cached-gradient method)."""
        passed = []
        with torch.no_grad():
            for k, part in enumerate(micro):
                self._seed_dropout(t, k)
                passed.append(self.engine(part))
        return self._contrast(passed, micro, batch)

    def _contrast(
        self, passed: list[Passed], micro: list[MicroBatch], batch: RankBatch, k: int | None = None
    ) -> RowGradients:
        """Contrasts rows with the rows of the whole effective batch, or with those of all ranks' k-th micro-batches."""
        objectives, pairs = self.objectives, batch.pairs_per_rank
        scale = objectives.tcm.weight
        if k is not None and batch.pairs_per_micro_batch:
            pairs, scale = batch.pairs_per_micro_batch[k], scale / len(batch.micro)
        if objectives.parity:  # half the mean, and through the average over ranks a W-th of its gradient
            scale *= 0.5 / self.rank.world_size
        if objectives.parity == "translico":  # every rank for itself
            pairs = [micro[0].pairs]
        rows = [p.rows.detach() for p in passed if p.rows is not None]
        return contrast_over_ranks(
            rows,
            [m.texts for m in micro],
            [2 * n for n in pairs],
            passed[0].log_inverse_temperature.detach(),
            scale / (2 * sum(pairs)),
            objectives.tcm,
            self.rank,
        )

    def _seed_dropout(self, t: int, micro: int) -> None:
        """Makes dropout a function of (seed, step, rank, micro-batch), so that a pass can be repeated."""
        key = repr((self.seed, "dropout", t, self.rank.rank, micro)).encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1)

    def _result(
        self, t: int, batch: RankBatch, sums: torch.Tensor, counts: torch.Tensor, drift: torch.Tensor
    ) -> StepResult:
        """Reduces this rank's sums over all ranks; the step's only wait for the device.

        Args:
            sums: [6] cross-entropy of the streams, then contrastive loss, hits and positive similarity.
        """
        local = sums.double()
        dist.all_reduce(local)
        own_tokens = torch.full_like(drift, float(sum(m.tokens for m in batch.micro)))
        largest = torch.stack([drift, own_tokens, torch.full_like(drift, float(bool(self.stop)))]).double()
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        worst_drift, most_tokens, stop = largest.tolist()
        masked = counts[:3].tolist()
        tokens, identical, truncated = counts[3:].tolist()
        loss_sums, (tcm_sum, hits, similarity) = local[:3].tolist(), local[3:].tolist()
        losses = {name: s / max(1, n) for name, s, n in zip(STREAMS, loss_sums, masked, strict=True)}
        if not self.objectives.tlm_weight:
            del losses["tlm"]
        contrastive = {}
        if self.objectives.tcm.weight:
            rows = 2 * batch.pairs
            losses["tcm"] = tcm_sum / rows
            contrastive = {
                "top1": hits / rows, "positive_similarity": similarity / rows, "identical": identical / batch.pairs,
            }  # fmt: skip
        weights = {"tcm": self.objectives.tcm.weight, "tlm": self.objectives.tlm_weight}
        losses["total"] = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        _check_replay(t, worst_drift)
        slowest = most_tokens * self.rank.world_size / tokens
        return StepResult(losses, contrastive, tokens, slowest, batch.pairs, truncated, bool(stop))


def _check_replay(t: int, drift: float) -> None:
    if drift > ROW_DRIFT:  # not when it is nan: then the loss is no finite number either
        raise NumericError(
            f"step {t}: rows of the training pass differ from the embedding pass by {drift:.2g} of their size, so "
            "the contrastive gradient would be wrong",
            "this is a defect, not a setting: report it with config.yaml and environment.json of the run",
        )


def _relative_change(rows: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Largest absolute difference over the largest absolute entry."""
    return (rows - before).abs().max() / before.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
