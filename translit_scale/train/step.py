"""One optimizer step whose update depends on the pairs, the weights and the seed, and on nothing else.

Not on the number of ranks W, of micro-batches K, or on which rank holds which pair: every loss is a mean over the
whole effective batch, and the contrastive negatives are the whole effective batch (docs/concepts.md).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from translit_scale.batch.pack import STREAMS, TLM, MicroBatch
from translit_scale.batch.segments import Work
from translit_scale.batch.stream import RankBatch
from translit_scale.config import ObjectivesConfig
from translit_scale.errors import NumericError
from translit_scale.model.encoder import Passed
from translit_scale.objectives.masked_lm import group_sums
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
    """`top1`: share of rows whose positive is the nearest of all; `positive_similarity`, and `negative_similarity` to
    rows of other sentences; `identical`: share of pairs whose two sides are the same tokens; empty where the objective
    is off."""
    language_losses: npt.NDArray[np.float64]
    """[L, 2] cross-entropy of the masked tokens of orig and latn, and how many, of each language (sums)."""
    work: Work
    slots: int
    """Tokens and padding that grouped attention works on."""
    slowest: float
    """Tokens of the rank that has most, over the mean of all ranks."""
    pairs: int
    truncated: int
    stop: bool = False
    """Whether some rank has been asked to stop."""

    @property
    def tokens(self) -> int:
        """All tokens, special ones included."""
        return self.work.tokens

    @property
    def is_finite(self) -> bool:
        """Whether all losses are finite numbers."""
        return all(map(math.isfinite, self.losses.values()))


class TrainStep:
    """Computes the gradient of an effective batch on the engine (the caller then takes the optimizer's step).

    Args:
        engine: DeepSpeed engine over a `PairEncoder`, its own accumulation set to 1.
        languages: L, how many languages the batches number.
        stop: true once this rank is asked to stop; told to all ranks with each step.
    """

    def __init__(
        self,
        engine: Any,
        objectives: ObjectivesConfig,
        rank: Rank,
        seed: int,
        languages: int,
        stop: StopRequest | None = None,
    ) -> None:
        self.engine, self.objectives, self.rank, self.seed = engine, objectives, rank, seed
        self.languages, self.stop = languages, stop
        self.stream_weights = torch.tensor([1.0, 1.0, objectives.tlm.weight], device=rank.device)

    def accumulate(self, t: int, batch: RankBatch) -> StepResult:
        """Leaves the gradient of step t's effective batch in the engine.

        Raises:
            NumericError: the two passes over the rows disagree (on all ranks alike).
        """
        micro = [m.to(self.rank.device) for m in batch.micro]
        counts = self._global_counts(batch)
        cached = self._embedding_pass(t, micro, batch) if self._contrasts_all_at_once(batch) else None
        sums = _Sums(self.languages, self.rank.device)
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
                        sums.contrastive += found.sums
                    sums.saw_rows(passed.rows.detach(), found.rows[own])
                # The engine averages over ranks; our losses are already divided by counts of the whole batch.
                self.engine.backward(loss * self.rank.world_size, scale_wrt_gas=False)
                sums.saw_tokens(passed.token_losses, part)
        return self._result(t, batch, sums, counts)

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
        """[10 + L] over all ranks: masked tokens of each stream, work, slots, identical pairs, truncated sentences;
        then the masked tokens of orig and latn of each language."""
        per_micro = [[*m.masked, *m.work, m.slots, m.identical] for m in batch.micro]
        scalars = torch.tensor([*map(sum, zip(*per_micro, strict=True)), batch.truncated])
        languages = torch.zeros(self.languages, dtype=torch.int64)
        for part in (part for m in batch.micro for part in m.parts):
            languages += torch.bincount(part.mask_language[part.mask_stream != TLM], minlength=self.languages)
        counts = torch.cat([scalars, languages]).to(self.rank.device)
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

    def _result(self, t: int, batch: RankBatch, sums: _Sums, counts: torch.Tensor) -> StepResult:
        """Reduces this rank's sums over all ranks; the step's only wait for the device."""
        local = torch.cat([sums.streams, sums.contrastive, sums.languages]).double()
        dist.all_reduce(local)
        own_tokens = float(sum(m.tokens for m in batch.micro))
        largest = torch.tensor([0.0, own_tokens, float(bool(self.stop))], dtype=torch.float64)
        largest = largest.to(self.rank.device, non_blocking=True)
        largest[0] = sums.drift
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        worst_drift, most_tokens, stop = largest.tolist()
        _check_replay(t, worst_drift)
        masked, work, (slots, identical, truncated), of_language = np.split(counts.cpu().numpy(), [3, 7, 10])
        loss_sums, contrastive, language_sums = np.split(local.cpu().numpy(), [3, 7])
        losses = {name: float(value) for name, value in zip(STREAMS, loss_sums / np.maximum(1, masked), strict=True)}
        if not self.objectives.tlm.weight:
            del losses["tlm"]
        means = {}
        if self.objectives.tcm.weight:
            losses["tcm"], *rest = (contrastive / (2 * batch.pairs)).tolist()
            means = dict(zip(("top1", "positive_similarity", "negative_similarity"), rest, strict=True))
            means["identical"] = float(identical / batch.pairs)
        weights = {"tcm": self.objectives.tcm.weight, "tlm": self.objectives.tlm.weight}
        losses["total"] = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        return StepResult(
            losses,
            means,
            np.stack([language_sums, of_language], axis=1),
            Work(*work.tolist()),
            int(slots),
            most_tokens * self.rank.world_size / float(work[0]),
            batch.pairs,
            int(truncated),
            bool(stop),
        )


class _Sums:
    """What a rank adds up on its device while it goes through its micro-batches; nothing waits for it."""

    def __init__(self, languages: int, device: torch.device) -> None:
        self.streams = torch.zeros(len(STREAMS), device=device)
        self.contrastive = torch.zeros(4, device=device)
        self.languages = torch.zeros(languages, device=device)
        self.drift = torch.zeros((), device=device)
        """Largest change of a row between the passes, relative to the largest entry."""

    def saw_tokens(self, losses: torch.Tensor, micro: MicroBatch) -> None:
        """Adds the cross-entropies [M] of a micro-batch to its streams and languages."""
        stream = torch.cat([part.mask_stream for part in micro.parts])
        language = torch.cat([part.mask_language for part in micro.parts])
        self.streams += group_sums(losses, stream, len(STREAMS))
        self.languages += group_sums(losses * (stream != TLM), language, len(self.languages))

    def saw_rows(self, rows: torch.Tensor, before: torch.Tensor) -> None:
        """Compares rows of the training pass with those that were contrasted."""
        largest = before.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        self.drift = torch.maximum(self.drift, (rows - before).abs().max() / largest)


def _check_replay(t: int, drift: float) -> None:
    if drift > ROW_DRIFT:  # not when it is nan: then the loss is no finite number either
        raise NumericError(
            f"step {t}: rows of the training pass differ from the embedding pass by {drift:.2g} of their size, so "
            "the contrastive gradient would be wrong",
            "this is a defect, not a setting: report it with config.yaml and environment.json of the run",
        )
