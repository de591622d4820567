"""From an experiment to a training: first the plan (data, batch, hardware), which is cheap, then model and engine.

Everything a user can get wrong in settings, data or the choice of a checkpoint is found while planning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerFast

from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.prefetch import Prefetcher
from translit_scale.batch.reader import PairReader
from translit_scale.batch.stream import BatchStream
from translit_scale.config import Config
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer, tokenizer_fingerprint
from translit_scale.errors import ConfigError
from translit_scale.languages import listed
from translit_scale.model.encoder import PairEncoder, build_model, first_position, resolve_layer
from translit_scale.train.checkpoint import CheckpointInfo, CheckpointState, load_checkpoint
from translit_scale.train.engine import Hardware, resolve_hardware, start_engine
from translit_scale.train.launch import Rank
from translit_scale.train.preemption import StopRequest
from translit_scale.train.state import load_weights
from translit_scale.train.step import TrainStep
from translit_scale.train.survey import Damage, Fit, find_damage, fit_tokenizer


@dataclass
class Plan:
    """What will be trained, on which data, with which hardware; the same on every rank."""

    config: Config
    rank: Rank
    hardware: Hardware
    shards: ShardSet
    order: PairOrder
    tokenizer: PreTrainedTokenizerFast
    tokenizer_fingerprint: str
    fit: Fit
    damage: list[Damage]
    """Blocks that are left out."""
    total_steps: int

    def info(self, step: int) -> CheckpointInfo:
        """What a checkpoint after `step` steps belongs to."""
        science = self.config.model_dump(
            mode="json",
            exclude={"run": True, "selection": True, "data": {"workers", "prefetch", "max_damaged_fraction"}},
        )
        science["train"]["precision"] = self.hardware.precision
        return CheckpointInfo(
            step=step,
            world_size=self.rank.world_size,
            zero_stage=self.hardware.zero_stage,
            science=science,
            shards=self.shards.fingerprint,
            tokenizer=self.tokenizer_fingerprint,
            pairs=self.order.pairs,
        )


@dataclass
class Training(Plan):
    """A plan with its model on the engine."""

    stream: BatchStream
    prefetcher: Prefetcher
    engine: Any
    step: TrainStep


def make_plan(config: Config, ds_config: Path, rank: Rank) -> Plan:
    """Opens shards and tokenizer and joins the experiment with the hardware.

    Raises:
        ConfigError, DataError: settings that contradict each other or do not fit the data.
    """
    hardware, data, train = resolve_hardware(ds_config, config, rank), config.data, config.train
    shards = ShardSet.open(data.shards, check_files=not data.max_damaged_fraction)
    languages = chosen_languages(config, shards)
    damage = find_damage(shards, languages, data.max_damaged_fraction, rank) if data.max_damaged_fraction else []
    rows = {language: shards.rows(language) for language in languages}
    pairs = sum(rows.values())
    if train.batch_pairs > pairs:
        raise ConfigError(
            f"train.batch_pairs is {train.batch_pairs:,}, but {data.shards} has {pairs:,} pairs of "
            f"{listed(languages)}: a pair would be its own negative",
            f"set train.batch_pairs to {pairs:,} or less, or train on more pairs",
        )
    total = train.max_steps or math.ceil(train.epochs * pairs / train.batch_pairs)
    changes = [(change.from_step * train.batch_pairs, change.mixture) for change in data.mixture_schedule]
    order = PairOrder(rows, data.mixture, changes, train.seed, total * train.batch_pairs)
    tokenizer = load_tokenizer(config.model.tokenizer or str(config.model.pretrained))
    fit = [
        fit_tokenizer(shards, tokenizer, order.languages, config.objectives.pair_with, data.max_unknown_fraction)
        if rank.is_first
        else None
    ]
    dist.broadcast_object_list(fit)
    assert fit[0] is not None
    fingerprint = tokenizer_fingerprint(tokenizer)
    return Plan(config, rank, hardware, shards, order, tokenizer, fingerprint, fit[0], damage, total)


def build_training(plan: Plan, saved: CheckpointState | None = None) -> Training:
    """Builds or loads the model and wraps it for training. Every rank must call it.

    Args:
        saved: the checkpoint to go on from.

    Raises:
        ConfigError: the model cannot be loaded or does not fit tokenizer and settings.
        DataError: the checkpoint is damaged.
    """
    config, tokenizer, deal = plan.config, plan.tokenizer, plan.hardware.deal
    torch.manual_seed(config.train.seed)
    pad, bos, eos = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    model = build_model(config.model, len(tokenizer), pad, bos, eos)
    tcm = config.objectives.tcm
    pool_layer = resolve_layer(tcm.layer, model.config.num_hidden_layers) if tcm.weight else None
    packer = Packer(
        config.objectives.masking,
        Vocabulary(bos, eos, tokenizer.mask_token_id, len(tokenizer), first_position(model.config)),
        config.model.max_length,
        with_tlm=config.objectives.tlm.weight > 0,
        split_tlm=tcm.weight > 0 and deal.micro_batches > 1 and not config.objectives.in_micro_batches,
    )
    stream = BatchStream(
        plan.order,
        PairReader(plan.shards, plan.order.languages, {(one.language, one.block) for one in plan.damage}),
        TextEncoder(tokenizer, plan.fit.fast),
        packer,
        deal,
        plan.rank.rank,
        plan.fit.token_rates,
        config.objectives.pair_with,
        in_order=config.objectives.in_micro_batches,
    )
    encoder = PairEncoder(
        model, pool_layer, config.train.gradient_checkpointing, tcm.temperature, tcm.learn_temperature
    )
    if saved:
        saved.verify(plan.rank.rank, plan.rank.world_size)
        load_weights(encoder, saved.read)
    if config.train.compile:
        encoder.compile_layers()
    engine = start_engine(encoder, plan.hardware, config)
    if saved:
        load_checkpoint(engine, saved)
    step = TrainStep(engine, config.objectives, plan.rank, config.train.seed, len(plan.order.languages), StopRequest())
    prefetcher = Prefetcher(stream, config.data.workers, config.data.prefetch)
    return Training(**vars(plan), stream=stream, prefetcher=prefetcher, engine=engine, step=step)


def chosen_languages(config: Config, shards: ShardSet) -> Sequence[str]:
    """Languages of the shards that the experiment trains on.

    Raises:
        ConfigError: it names one that the shards do not have.
    """
    chosen = config.data.languages or shards.languages
    missing = sorted(set(chosen) - set(shards.languages))
    if missing:
        raise ConfigError(
            f"data.languages: {', '.join(missing)} not in {config.data.shards}", f"it has {listed(shards.languages)}"
        )
    return chosen
