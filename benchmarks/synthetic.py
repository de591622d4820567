"""Makes engines and batches without shards: random weights, random tokens, lengths from a given distribution."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from translit_scale.batch.layout import split_into_micro_batches
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.stream import RankBatch
from translit_scale.config import Config, MaskingConfig, load_config, resolve_layer
from translit_scale.corpus.encode import Ragged
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.flops import Shape
from translit_scale.model.norms import use_low_precision_norms
from translit_scale.plan.workload import MEAN_TOKENS, SIGMA
from translit_scale.train.launching.ranks import Rank

MAX_LENGTH = 512
POOL_LAYER = 0.667
"""Depth of the layer whose output is pooled."""
Lengths = Callable[[np.random.Generator, int], np.ndarray]
"""Draws [2, n] tokens of n sentences and their transliterations, without special tokens."""


def log_normal_lengths(rng: np.random.Generator, pairs: int) -> np.ndarray:
    """Draws lengths with the means MEAN_TOKENS; both sides of a pair are longer or shorter together."""
    factor = np.exp(rng.normal(-SIGMA * SIGMA / 2, SIGMA, pairs))
    return np.clip(np.rint(np.outer(MEAN_TOKENS, factor)) - 2, 1, MAX_LENGTH - 2).astype(np.int64)


def make_config(shape: Shape, batch_pairs: int, dropout: float = 0.0, **train: Any) -> Config:
    """All four losses on an encoder of this shape, pooled at two thirds of its depth; shards and tokenizer do not exist
    and are not used."""
    settings = {
        "data.shards": "none", "model.tokenizer": "none", "model.hidden_size": shape.hidden,
        "model.num_layers": shape.layers, "model.num_heads": max(1, shape.hidden // 64),
        "model.intermediate_size": shape.intermediate, "model.max_length": MAX_LENGTH, "model.dropout": dropout,
        "objectives.tcm.weight": 1, "objectives.tcm.layer": POOL_LAYER, "objectives.tlm.weight": 1,
        "train.batch_pairs": batch_pairs, "train.max_steps": 1, "run.name": "benchmark",
    } | {f"train.{name}": value for name, value in train.items()}  # fmt: skip
    return load_config([], [f"{name}={value}" for name, value in settings.items()])


def make_step(config: Config, vocabulary: int, zero: dict[str, Any], micro_batch_pairs: int, rank: Rank) -> Any:
    """The `TrainStep` that training uses, on its engine."""
    from translit_scale.train.engine import resolve_hardware, start_engine
    from translit_scale.train.step import TrainStep

    torch.manual_seed(0)
    model = build_model(config.model, vocabulary, 1, 0, 2)
    pool_layer = resolve_layer(config.objectives.tcm.layer, config.model.num_layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ds.json"
        path.write_text(json.dumps({"train_micro_batch_size_per_gpu": micro_batch_pairs, "zero_optimization": zero}))
        hardware = resolve_hardware(path, config, rank)
    if config.train.low_precision_layernorm:
        use_low_precision_norms(model)
    encoder = PairEncoder(model, pool_layer, config.train.gradient_checkpointing)
    if config.train.compile:
        encoder.compile_layers()
    return TrainStep(start_engine(encoder, hardware, config), config.objectives, rank, config.train.seed, languages=1)


def make_batch(
    config: Config, vocabulary: int, micro_batch_pairs: int, world_size: int, lengths: Lengths = log_normal_lengths
) -> RankBatch:
    """One rank's part of an effective batch, split into micro-batches as in training; the same on all ranks."""
    rng = np.random.default_rng(0)
    pairs = config.train.batch_pairs // world_size
    micro_batches = math.ceil(pairs / micro_batch_pairs)
    sides = [Ragged(rng.integers(5, vocabulary, int(n.sum())), n) for n in lengths(rng, pairs)]
    keys = rng.integers(0, 2**63, pairs, dtype=np.uint64)
    ids = Vocabulary(bos_id=0, eos_id=2, mask_id=4, size=vocabulary, first_position=2)
    packer = Packer(MaskingConfig(), ids, MAX_LENGTH, with_tlm=True, split_tlm=micro_batches > 1)
    parts = split_into_micro_batches(sides[0].lengths + sides[1].lengths, micro_batches)
    language = np.zeros(pairs, np.int64)
    micro = [packer.micro_batch(sides[0].take(part), sides[1].take(part), keys[part], language[part]) for part in parts]
    return RankBatch(micro, [pairs] * world_size, None, 0)
