"""The gradient of one optimizer step, which depends on the pairs, the weights and the seed only.

It does not depend on the number of ranks W or of micro-batches K, nor on which rank holds which pair: every loss is a
mean over the whole effective batch, and the contrastive negatives are the whole effective batch (docs/concepts.md).

Several micro-batches are compared with GradCache (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup"): a first pass without a graph gives the embeddings of all micro-batches, the loss over them
gives the gradient of each embedding, and a second pass, micro-batch by micro-batch, propagates these gradients through
the encoder together with the losses of masked language modelling.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.nn.functional as F

from translit_scale.batch.pack import STREAMS, TLM, MicroBatch, stream_names
from translit_scale.batch.stream import RankBatch
from translit_scale.batch.token_counts import TokenCounts
from translit_scale.config import ObjectivesConfig
from translit_scale.errors import NumericError
from translit_scale.model.encoder import EncoderOutput
from translit_scale.objectives.masked_lm import group_sums
from translit_scale.train.contrastive import EmbeddingGradients, contrastive_loss_over_ranks
from translit_scale.train.engine import reduce_gradients_once
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.reduction import all_reduce_named

MAX_EMBEDDING_DRIFT = 5e-2
"""Largest difference of an embedding between both passes of GradCache, relative to the largest entry of all.

The difference is zero on a CPU; elsewhere kernels for other shapes may round differently, and compiled layers are
another program where gradients are needed. Rounding alone makes less: all of bf16 against fp32 0.008, compiled against
eager bf16 0.004 (12 layers of width 768). A larger one means that dropout was not replayed, which makes 0.37 to 0.52
with p = 0.1."""


@dataclass(frozen=True)
class StepResult:
    """Means over the effective batch, equal on all ranks."""

    losses: dict[str, float]
    """Unweighted loss of each objective, and the weighted `total`."""
    language_losses: npt.NDArray[np.float64]
    """[L, 2] for each language: sum of the cross-entropies of masked tokens of orig and latn, and their number."""
    token_counts: TokenCounts
    padded_tokens: int
    """Tokens and padding that grouped attention works on."""
    slowest: float
    """Tokens of the rank that has the most, divided by the mean over ranks."""
    pairs: int
    contrasted: int
    """Pairs that have embeddings (`objectives.identical`)."""
    truncated: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Further metrics by their names in TensorBoard. `train_tcm/…` are means over the embeddings: `top1` is the
    fraction whose positive is the nearest candidate, `positive_similarity` and `negative_similarity` are the mean
    similarities to the positive and to other sentences; `identical` is the fraction of pairs whose sides are equal."""
    requests: dict[str, bool] = field(default_factory=dict)
    """What any rank has asked for, such as `stop`."""

    @property
    def tokens(self) -> int:
        """All tokens, special ones included."""
        return self.token_counts.tokens

    @property
    def is_finite(self) -> bool:
        """Whether all losses are finite numbers."""
        return all(map(math.isfinite, self.losses.values()))


class TrainStep:
    """Computes the gradient of an effective batch on the engine (the caller then takes the optimizer's step).

    Args:
        engine: DeepSpeed engine over a `PairEncoder`, with its own accumulation set to 1.
        languages: L, the number of languages.
    """

    def __init__(
        self,
        engine: Any,
        objectives: ObjectivesConfig,
        rank: Rank,
        seed: int,
        languages: int,
    ) -> None:
        self.engine, self.objectives, self.rank, self.seed = engine, objectives, rank, seed
        self.languages = languages
        self.stream_weights = torch.tensor([1.0, 1.0, objectives.tlm.weight], device=rank.device)

    def accumulate(self, t: int, batch: RankBatch, requests: Mapping[str, bool] | None = None) -> StepResult:
        """Leaves the gradient of step t's effective batch in the engine.

        Args:
            requests: what this rank asks for; all ranks learn what any of them asks for. The names must be the same on
                every rank.

        Raises:
            NumericError: the embeddings of both passes of GradCache differ (on all ranks alike).
        """
        micro = [m.to(self.rank.device) for m in batch.micro]
        counts = self._global_counts(batch)
        pairs = batch.pairs_per_rank if self.objectives.identical == "keep" else counts["contrasted"].tolist()
        cached = self._cache_gradients(t, micro, batch, pairs) if self._uses_gradcache(batch) else None
        sums = _Sums(self.languages, self.rank.device)
        with reduce_gradients_once(self.engine):
            for k, part in enumerate(micro):
                self._seed_dropout(t, k)
                output = self.engine(part, self._token_weights(counts["masked"], part, len(micro)))
                loss = output.loss
                if self.objectives.tcm.weight:
                    gradients = cached or self._contrast([output], [part], batch, pairs, k)
                    index = k if cached else 0
                    loss = loss + (output.embeddings * gradients.gradients[index]).sum()
                    if index == 0:
                        sums.add_contrastive(gradients.sums)
                        for value, gradient in zip(output.parameters, gradients.parameters, strict=True):
                            loss = loss + value * gradient
                    sums.compare_embeddings(output.embeddings.detach(), gradients.embeddings[index])
                # The engine averages over ranks; our losses are already divided by counts of the whole batch.
                self.engine.backward(loss * self.rank.world_size, scale_wrt_gas=False)
                sums.add_tokens(output.token_losses, part)
        return self._result(t, batch, sums, counts, requests or {})

    def _uses_gradcache(self, batch: RankBatch) -> bool:
        """Whether the embeddings of all micro-batches are needed before the backward pass of the first one."""
        return bool(self.objectives.tcm.weight and len(batch.micro) > 1 and not self.objectives.in_micro_batches)

    def _token_weights(self, masked: torch.Tensor, part: MicroBatch, micro_batches: int) -> torch.Tensor:
        """[3] factor of the cross-entropy of each stream: its weight / its masked tokens [3] in the whole batch.

        The papers' code takes the mean over each micro-batch of each rank, and then the mean of these means.
        """
        if self.objectives.parity is None:
            return self.stream_weights / masked.clamp(min=1)
        in_part = torch.tensor(part.masked, device=self.rank.device).clamp(min=1)
        return self.stream_weights / in_part / (micro_batches * self.rank.world_size)

    def _global_counts(self, batch: RankBatch) -> dict[str, torch.Tensor]:
        """Integer sums over all ranks: `masked` tokens [3] of each stream, `tokens` [6] as in `TokenCounts`, `padded`
        tokens, `identical` pairs, pairs of each rank that are `contrasted` [W], `truncated` sentences, and the masked
        tokens of orig and latn of each of the `languages` [L]."""
        languages = torch.zeros(self.languages, dtype=torch.int64)
        for part in (part for m in batch.micro for part in m.parts):
            languages += torch.bincount(part.mask_language[part.mask_stream != TLM], minlength=self.languages)
        counts = {
            "masked": torch.tensor([m.masked for m in batch.micro]).sum(dim=0),
            "tokens": torch.tensor([m.token_counts for m in batch.micro]).sum(dim=0),
            "padded": torch.tensor(sum(m.padded_tokens for m in batch.micro)),
            "identical": torch.tensor(sum(m.identical for m in batch.micro)),
            "contrasted": F.one_hot(torch.tensor(self.rank.rank), self.rank.world_size)
            * sum(m.contrasted for m in batch.micro),
            "truncated": torch.tensor(batch.truncated),
            "languages": languages,
        }
        return all_reduce_named(counts, self.rank.device)

    def _cache_gradients(
        self, t: int, micro: list[MicroBatch], batch: RankBatch, pairs: list[int]
    ) -> EmbeddingGradients:
        """First pass of GradCache: embeddings of all micro-batches without a graph, then the gradients of the loss."""
        outputs = []
        with torch.no_grad():
            for k, part in enumerate(micro):
                self._seed_dropout(t, k)
                outputs.append(self.engine(part))
        return self._contrast(outputs, micro, batch, pairs)

    def _contrast(
        self,
        outputs: Sequence[EncoderOutput],
        micro: list[MicroBatch],
        batch: RankBatch,
        pairs: list[int],
        k: int | None = None,
    ) -> EmbeddingGradients:
        """Compares embeddings with those of the whole effective batch, or of all ranks' k-th micro-batches.

        Args:
            pairs: [W] pairs of each rank that have embeddings.
        """
        objectives = self.objectives
        weight = objectives.tcm.weight
        if k is not None and batch.pairs_per_micro_batch:
            pairs, weight = batch.pairs_per_micro_batch[k], weight / len(batch.micro)
        if objectives.parity:  # half the mean; its gradient is divided by W in the average over ranks
            weight *= 0.5 / self.rank.world_size
        if objectives.parity == "translico":  # each rank compares its own embeddings only
            pairs = [micro[0].pairs]
        parameters = outputs[0].parameters
        return contrastive_loss_over_ranks(
            [output.embeddings.detach() for output in outputs if output.embeddings is not None],
            [m.text_hashes for m in micro],
            [2 * n for n in pairs],
            type(parameters)(*(value.detach() for value in parameters)),
            weight / max(1, 2 * sum(pairs)),
            objectives.tcm,
            self.rank,
        )

    def _seed_dropout(self, t: int, micro: int) -> None:
        """Makes dropout a function of (seed, step, rank, micro-batch), so that the second pass repeats the first."""
        key = repr((self.seed, "dropout", t, self.rank.rank, micro)).encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1)

    def _result(
        self, t: int, batch: RankBatch, sums: _Sums, reduced: dict[str, torch.Tensor], requests: Mapping[str, bool]
    ) -> StepResult:
        """Reduces this rank's sums over all ranks; only here does the step wait for the device."""
        device = self.rank.device
        largest = {
            "drift": sums.drift,
            "tokens": torch.tensor(float(sum(m.tokens for m in batch.micro)), device=device),
            **{f"request {name}": torch.tensor(float(asked), device=device) for name, asked in requests.items()},
        }
        most = all_reduce_named(largest, device, dist.ReduceOp.MAX, to_host=True)
        _check_replay(t, most["drift"].item())
        doubles = {name: value.double() for name, value in sums.by_name().items()}
        sum_of = all_reduce_named(doubles, device, to_host=True)
        counts = {name: value.cpu() for name, value in reduced.items()}
        masked = counts["masked"].clamp(min=1)
        losses = dict(zip(stream_names(self.objectives), (sum_of["streams"] / masked).tolist(), strict=True))
        if not self.objectives.tlm.weight:
            del losses["tlm"]
        metrics = {}
        if self.objectives.tcm.weight:
            embeddings = max(1, 2 * int(counts["contrasted"].sum()))
            means = {name: sum_of[f"tcm/{name}"].item() / embeddings for name in sums.contrastive}
            losses["tcm"] = means.pop("loss")
            means["identical"] = counts["identical"].item() / batch.pairs
            metrics = {f"train_tcm/{name}": mean for name, mean in means.items()}
        weights = {"tcm": self.objectives.tcm.weight, "tlm": self.objectives.tlm.weight}
        losses["total"] = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        token_counts = TokenCounts(*counts["tokens"].tolist())
        return StepResult(
            losses=losses,
            language_losses=torch.stack([sum_of["languages"], counts["languages"].double()], dim=1).numpy(),
            token_counts=token_counts,
            padded_tokens=int(counts["padded"]),
            slowest=most["tokens"].item() * self.rank.world_size / token_counts.tokens,
            pairs=batch.pairs,
            contrasted=sum(counts["contrasted"].tolist()),
            truncated=int(counts["truncated"]),
            metrics=metrics,
            requests={name: bool(most[f"request {name}"]) for name in requests},
        )


class _Sums:
    """Sums of a rank over its micro-batches, kept on the device; adding to them does not wait for it."""

    def __init__(self, languages: int, device: torch.device) -> None:
        self.streams = torch.zeros(len(STREAMS), device=device)
        self.languages = torch.zeros(languages, device=device)
        self.contrastive: dict[str, torch.Tensor] = {}
        self.drift = torch.zeros((), device=device)
        """Largest difference of an embedding between the two passes, relative to the largest entry."""

    def add_tokens(self, losses: torch.Tensor, micro: MicroBatch) -> None:
        """Adds the cross-entropies [M] of a micro-batch to those of its streams and languages."""
        stream = torch.cat([part.mask_stream for part in micro.parts])
        language = torch.cat([part.mask_language for part in micro.parts])
        self.streams += group_sums(losses, stream, len(STREAMS))
        self.languages += group_sums(losses * (stream != TLM), language, len(self.languages))

    def add_contrastive(self, sums: dict[str, torch.Tensor]) -> None:
        """Adds the sums of a contrastive loss, by name."""
        self.contrastive = {name: value + self.contrastive.get(name, 0.0) for name, value in sums.items()}

    def compare_embeddings(self, embeddings: torch.Tensor, cached: torch.Tensor) -> None:
        """Compares embeddings of the second pass with those of the first, from which the loss was computed."""
        if not len(cached):
            return
        largest = cached.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        self.drift = torch.maximum(self.drift, (embeddings - cached).abs().max() / largest)

    def by_name(self) -> dict[str, torch.Tensor]:
        """Everything that is to be summed over ranks."""
        contrastive = {f"tcm/{name}": value for name, value in self.contrastive.items()}
        return {"streams": self.streams, "languages": self.languages, **contrastive}


def _check_replay(t: int, drift: float) -> None:
    if drift > MAX_EMBEDDING_DRIFT:  # false for nan: then the loss is not finite either, which is reported elsewhere
        raise NumericError(
            f"step {t}: embeddings of the second pass differ from those of the first by {drift:.2g} of their size, so "
            "the contrastive gradient would be wrong",
            "this is a defect, not a setting: report it with config.yaml and environment.json of the run",
        )
