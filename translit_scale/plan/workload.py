"""What is trained and how it is divided: sizes that an experiment and a DeepSpeed JSON determine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.token_counts import TokenCounts, near_pairs
from translit_scale.config import Config, Precision, resolve_layer
from translit_scale.deepspeed_json import choose_precision, micro_batch_pairs, read_ds_json, zero_stage
from translit_scale.model.devices import Device
from translit_scale.model.flops import Shape

BUCKET, LIVE = 500_000_000, 1_000_000_000
"""DeepSpeed's defaults of `reduce_bucket_size`, and of `stage3_max_live_parameters` and `stage3_max_reuse_distance`, in
elements."""
MEAN_TOKENS = (37.4, 61.7)
"""Tokens of a sentence and of its transliteration, including special tokens: SIB-200 sentences with a vocabulary of
30 000 pieces; transliterations are shortened to the ratio assumed for Glot500's tokenizer."""
SIGMA = 0.6
"""Standard deviation of the logarithm of a pair's length, assumed to resemble text from the web."""

Lengths = npt.NDArray[np.float64]


def log_normal_lengths(means: tuple[float, float], number: int = 2000) -> Lengths:
    """[2, n] tokens of sentences and transliterations without special tokens, at equally likely quantiles.

    Both sides of a pair are longer or shorter together.

    Args:
        means: with special tokens.
    """
    normal = NormalDist(-SIGMA * SIGMA / 2, SIGMA)
    factor = np.exp([normal.inv_cdf((index + 0.5) / number) for index in range(number)])
    return np.maximum(np.outer(means, factor) - 2, 1)


class PairSample(NamedTuple):
    """Pairs that stand for all pairs of a batch."""

    lengths: Lengths
    """[2, n] tokens of sentences and transliterations, without special tokens."""
    weights: Lengths | None = None
    """[n] how much each pair counts; None: all count as much."""
    same: Lengths | float = 0.0
    """[n] probability that both sides are the same text; a number: that of every pair."""
    mixtures: Lengths | None = None
    """[P, n] such weights in each of P mixtures of languages, one after another; None: there is one."""

    @property
    def longest(self) -> PairSample:
        """The same pairs as the mixture with the longest ones draws them."""
        if self.mixtures is None:
            return self
        return self._replace(weights=max(self.mixtures, key=lambda weights: float(weights @ self.lengths.sum(axis=0))))


class PairTokens(NamedTuple):
    """Expected counts of one pair, as `TokenCounts` has them of a pass."""

    sentences: tuple[float, ...]
    """Of the sentence and its transliteration."""
    joined: tuple[float, ...]
    """Of the TLM sequence; zeros without it."""
    identical: float = 0.0
    """Fraction of pairs whose sides are the same text."""
    contrasted: float = 1.0
    """Fraction of pairs that take part in contrast and TLM (`objectives.identical`)."""

    @classmethod
    def of(cls, sample: PairSample, config: Config, window: int | None = None, keep: bool = False) -> PairTokens:
        """What the objectives of an experiment make of a pair.

        Args:
            window: of the encoder (`Shape`); keep: as if `objectives.identical` were `keep`.
        """
        longest, objectives = config.model.max_length, config.objectives
        masked, setting = objectives.masking.mlm_probability, "keep" if keep else objectives.identical
        orig, latn = np.minimum(sample.lengths, longest - 2)
        room = longest - 3
        kept = np.minimum(orig, np.maximum(room - latn, room - room // 2))
        both = kept + np.minimum(latn, room - kept)
        same = np.broadcast_to(sample.same, orig.shape)
        contrasted = np.ones_like(orig) if setting == "keep" else 1 - same
        of_latn = 1 - same if setting == "mlm_once" else np.ones_like(orig)
        sentences = _counts(orig, 2, masked, window) + of_latn * _counts(latn, 2, masked, window)
        joined = contrasted * _counts(both, 3, masked, window) * (objectives.tlm.weight > 0)

        def mean(values: Lengths) -> float:
            return float(np.average(values, weights=sample.weights))

        return cls(tuple(map(mean, sentences)), tuple(map(mean, joined)), mean(same), mean(contrasted))

    @property
    def tokens(self) -> float:
        """Tokens of a pair, TLM and special tokens included."""
        return self.sentences[0] + self.joined[0]

    @property
    def masked(self) -> float:
        """Predicted tokens of a pair."""
        return self.sentences[2] + self.joined[2]

    def counts(self, pairs: float) -> tuple[TokenCounts, TokenCounts]:
        """Counts of the sentences of so many pairs, and of their TLM sequences."""
        sentences, joined = (TokenCounts(*(round(pairs * x) for x in part)) for part in (self.sentences, self.joined))
        return sentences, joined


def _counts(text: Lengths, special: int, masked: float, window: int | None) -> Lengths:
    """[6, n] `TokenCounts` of sequences.

    Args:
        text: [n] tokens without the `special` ones; masked: fraction of the former that is predicted.
    """
    length, predicted = text + special, masked * text
    near = near_pairs(length, window)
    return np.stack([length, length**2, predicted, predicted * length, near, predicted * near / length])


@dataclass(frozen=True)
class Zero:
    """What the cost model uses of a DeepSpeed JSON."""

    stage: int
    micro_batch_pairs: int | None
    """None: the largest that fits (`"auto"`)."""
    bucket: int
    """`reduce_bucket_size`, elements."""
    to_owner: bool
    """Stages 1 and 2 reduce each part of the gradient to its owner only."""
    live: int
    """Elements that ZeRO-3 keeps from forward to backward at most."""
    optimizer_on_host: bool
    parameters_on_host: bool

    @classmethod
    def of(cls, ds_json: Mapping[str, Any], path: Path, on_cpu: bool) -> Zero:
        """From the contents of a JSON file.

        Raises:
            ConfigError: there is no such stage, or no micro-batch.
        """
        zero = ds_json.get("zero_optimization", {})
        limits = [zero.get(f"stage3_max_{name}", LIVE) for name in ("live_parameters", "reuse_distance")]
        return cls(
            stage=zero_stage(dict(ds_json), path),
            micro_batch_pairs=micro_batch_pairs(dict(ds_json), path, on_cpu),
            bucket=int(zero.get("reduce_bucket_size", BUCKET)),
            to_owner=zero.get("use_multi_rank_bucket_allreduce") is False,
            live=int(min(limits)),
            optimizer_on_host=_is_on_host(zero, "offload_optimizer"),
            parameters_on_host=_is_on_host(zero, "offload_param"),
        )


def _is_on_host(zero: Mapping[str, Any], name: str) -> bool:
    return (zero.get(name) or {}).get("device", "none") != "none"


@dataclass(frozen=True)
class Workload:
    """The training of an encoder: everything but the machines."""

    shape: Shape
    positions: int
    """Rows of the position embedding; 0 with rotary positions."""
    precision: Precision
    pool_layer: int | None
    """None without the contrastive loss."""
    tlm: bool
    in_micro_batches: bool
    """The losses depend on micro-batches, so there is no pass for embeddings alone."""
    dropout: bool
    gradient_checkpointing: bool
    low_precision_layernorm: bool
    compiled: bool
    sizes: BatchSizes
    languages: int
    workers: int
    """Processes of each rank that make its batches."""
    tokens: PairTokens
    zero: Zero
    longest: PairTokens | None = None
    """Of the mixture of languages with the longest pairs, which decides the memory; None: `tokens`."""

    @property
    def contrasted(self) -> int:
        """Pairs of the batch that have embeddings; one if there are none, because a loss of nothing takes no less."""
        return max(1, round(self.tokens.contrasted * self.batch_pairs))

    @classmethod
    def of(
        cls, config: Config, ds_config: Path, gpu: Device | None, shape: Shape, positions: int,
        languages: int, tokens: PairTokens, longest: PairTokens | None = None,
    ) -> Workload:  # fmt: skip
        """The workload of an experiment on a GPU, or on CPU ranks (None).

        Raises:
            ConfigError: the JSON is missing, malformed or contradicts the experiment.
        """
        ds_json = read_ds_json(ds_config)
        has_bf16 = gpu is not None and gpu.has_bf16
        precision, _ = choose_precision(config.train.precision, ds_json, on_cpu=gpu is None, has_bf16=has_bf16)
        tcm = config.objectives.tcm
        return cls(
            shape=shape,
            positions=positions,
            precision=precision,
            pool_layer=resolve_layer(tcm.layer, shape.layers, "objectives.tcm.layer") if tcm.weight else None,
            tlm=config.objectives.tlm.weight > 0,
            in_micro_batches=config.objectives.in_micro_batches,
            dropout=config.model.dropout > 0,
            gradient_checkpointing=config.train.gradient_checkpointing,
            low_precision_layernorm=config.train.low_precision_layernorm,
            compiled=config.train.compile,
            sizes=BatchSizes.of(config.train),
            languages=languages,
            workers=max(1, config.data.workers),
            tokens=tokens,
            zero=Zero.of(ds_json, ds_config, on_cpu=gpu is None),
            longest=longest,
        )

    @property
    def batch_pairs(self) -> int:
        """Of a full batch, of which memory, traffic and time of a step are those."""
        return self.sizes.full

    def layout(self, ranks: int) -> BatchLayout:
        """How so many ranks share a full batch.

        Raises:
            ConfigError: they cannot.
        """
        return BatchLayout.of(self.sizes, ranks, self.micro_batch_pairs(ranks))

    def micro_batch_pairs(self, ranks: int) -> int:
        """Of the JSON; if that says `"auto"`, all pairs of a rank."""
        return self.zero.micro_batch_pairs or -(-self.batch_pairs // ranks)

    def micro_batches(self, ranks: int) -> int:
        """K."""
        return -(-self.batch_pairs // (ranks * self.micro_batch_pairs(ranks)))

    def uses_gradcache(self, ranks: int) -> bool:
        """Whether a pass for embeddings alone comes first."""
        return self.pool_layer is not None and self.micro_batches(ranks) > 1 and not self.in_micro_batches
