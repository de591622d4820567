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
from transformers import PreTrainedTokenizerFast

from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import Vocabulary
from translit_scale.batch.stream import BatchStream
from translit_scale.config import Config
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import encode_batch, load_tokenizer, tokenizer_fingerprint
from translit_scale.errors import ConfigError, DataError
from translit_scale.model.encoder import PairEncoder, build_model, resolve_layer
from translit_scale.train.checkpoint import CheckpointInfo
from translit_scale.train.engine import Hardware, resolve_hardware, start_engine
from translit_scale.train.launch import Rank
from translit_scale.train.step import TrainStep

UNKNOWN_SAMPLE = 500
"""Sentences of each language the tokenizer is tried on before training."""


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
    total_steps: int

    def info(self, step: int) -> CheckpointInfo:
        """What a checkpoint after `step` steps belongs to."""
        science = self.config.model_dump(mode="json", exclude={"run"})
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
    engine: Any
    step: TrainStep


def make_plan(config: Config, ds_config: Path, rank: Rank) -> Plan:
    """Opens shards and tokenizer and joins the experiment with the hardware.

    Raises:
        ConfigError, DataError: settings that contradict each other or do not fit the data.
    """
    hardware = resolve_hardware(ds_config, config, rank)
    shards = ShardSet.open(config.data.shards)
    rows = {language: shards.block_rows(language) for language in chosen_languages(config, shards)}
    order = PairOrder(rows, config.data.mixture, config.data.alpha, config.train.seed)
    if config.train.batch_pairs > order.total:
        raise ConfigError(
            f"train.batch_pairs is {config.train.batch_pairs:,}, but {config.data.shards} has {order.total:,} pairs of "
            f"{', '.join(order.languages)}: a pair would be its own negative",
            f"set train.batch_pairs to {order.total:,} or less, or train on more pairs",
        )
    tokenizer = load_tokenizer(config.model.tokenizer or str(config.model.pretrained))
    if rank.is_first:
        check_tokenizer(config, shards, tokenizer, order.languages)
    total = config.train.max_steps or math.ceil(config.train.epochs * order.total / config.train.batch_pairs)
    return Plan(config, rank, hardware, shards, order, tokenizer, tokenizer_fingerprint(tokenizer), total)


def build_training(plan: Plan) -> Training:
    """Builds or loads the model and wraps it for training. Every rank must call it.

    Raises:
        ConfigError: the model cannot be loaded or does not fit tokenizer and settings.
    """
    config, tokenizer, deal = plan.config, plan.tokenizer, plan.hardware.deal
    torch.manual_seed(config.train.seed)
    pad, bos, eos = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    model = build_model(config.model, len(tokenizer), pad, bos, eos)
    tcm = config.objectives.tcm
    pool_layer = resolve_layer(tcm.layer, model.config.num_hidden_layers) if tcm.weight else None
    stream = BatchStream(
        plan.shards,
        tokenizer,
        Vocabulary(bos, eos, tokenizer.mask_token_id, len(tokenizer), first_position=pad + 1),
        plan.order,
        deal,
        plan.rank.rank,
        config.objectives,
        config.model.max_length,
        split_tlm=tcm.weight > 0 and deal.micro_batches > 1,
    )
    engine = start_engine(PairEncoder(model, pool_layer), plan.hardware, config)
    step = TrainStep(engine, config.objectives, deal, plan.rank, config.train.seed)
    return Training(**vars(plan), stream=stream, engine=engine, step=step)


def chosen_languages(config: Config, shards: ShardSet) -> Sequence[str]:
    """Languages of the shards that the experiment trains on.

    Raises:
        ConfigError: it names one that the shards do not have.
    """
    chosen = config.data.languages or shards.languages
    missing = sorted(set(chosen) - set(shards.languages))
    if missing:
        raise ConfigError(
            f"data.languages: {', '.join(missing)} not in {config.data.shards}", f"it has {', '.join(shards.languages)}"
        )
    return chosen


def check_tokenizer(
    config: Config, shards: ShardSet, tokenizer: PreTrainedTokenizerFast, languages: Sequence[str]
) -> None:
    """Refuses a tokenizer that does not know a language's script, or not the Latin of its transliterations.

    Raises:
        DataError: with the language and the share of unknown tokens.
    """
    for language in languages:
        block = shards.read_block(language, 0)
        sides = {"sentences": block.orig}
        if config.objectives.second == "transliteration":
            sides["transliterations"] = block.latn
        for side, column in sides.items():
            ids = [token for sentence in encode_batch(tokenizer, column[:UNKNOWN_SAMPLE]) for token in sentence]
            share = ids.count(tokenizer.unk_token_id) / max(1, len(ids))
            if share > config.data.max_unknown_share:
                raise DataError(
                    f"the tokenizer does not fit the shards: {share:.0%} of the tokens of the {side} of {language} in "
                    f"{config.data.shards} are unknown to it, allowed are {config.data.max_unknown_share:.0%} "
                    "(data.max_unknown_share)",
                    f"train one on these shards: translit-scale tokenizer --shards {config.data.shards} --out DIR",
                )
