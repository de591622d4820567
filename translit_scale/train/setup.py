"""What a training consists of: the plan of an experiment on its data and machines, and the engine and stream for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerFast

from translit_scale.batch.order import PairOrder, check_mixtures
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.prefetch import Prefetcher
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.stream import BatchStream
from translit_scale.config import Config, resolve_layer
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import boundary_ids, load_tokenizer, tokenizer_fingerprint
from translit_scale.errors import ConfigError
from translit_scale.languages import listed
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.families import family_of
from translit_scale.model.flops import Shape
from translit_scale.model.norms import use_low_precision_norms
from translit_scale.train.checkpointing.checkpoint import (
    CheckpointInfo,
)
from translit_scale.train.checkpointing.restoring import CheckpointState, load_checkpoint
from translit_scale.train.checkpointing.state import load_weights
from translit_scale.train.engine import (
    Hardware,
    resolve_hardware,
    start_engine,
)
from translit_scale.train.launching.machines import Finding, Machine, gather_machines
from translit_scale.train.launching.probes import examine
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.micro_batch import choose_micro_batch
from translit_scale.train.preflight import (
    DamagedBlock,
    TokenizerCheck,
    check_tokenizer,
    find_damaged_blocks,
    open_shards,
)
from translit_scale.train.step import TrainStep


@dataclass
class Plan:
    """What is trained, on which data, with which hardware; the same on every rank."""

    config: Config
    rank: Rank
    hardware: Hardware
    shards: ShardSet
    order: PairOrder
    tokenizer: PreTrainedTokenizerFast
    tokenizer_fingerprint: str
    tokenizer_check: TokenizerCheck
    total_steps: int
    machines: list[Machine]
    """What each rank knows of its host and device."""
    findings: list[Finding]
    """Results of the checks of the machines."""

    def info(self, step: int) -> CheckpointInfo:
        """The record of a checkpoint after `step` steps."""
        science = self.config.science()
        science["train"]["precision"] = self.hardware.precision
        return CheckpointInfo(
            step=step,
            world_size=self.rank.world_size,
            zero_stage=self.hardware.zero_stage,
            science=science,
            shards=self.shards.fingerprint,
            tokenizer=self.tokenizer_fingerprint,
            pairs=self.order.pairs,
            visits=self.order.visits_before(BatchSizes.of(self.config.train).before(step)),
        )


def make_plan(config: Config, ds_config: Path, rank: Rank) -> Plan:
    """Opens shards and tokenizer and combines the experiment with the hardware. Every rank must call it.

    Mistakes in settings and data are found here, before the model is built.

    Raises:
        ConfigError, DataError: the settings contradict each other or do not fit the data or the machines.
    """
    machines = gather_machines(rank, config.run.path)
    findings = examine(machines, rank)
    hardware, data, train = resolve_hardware(ds_config, config, rank), config.data, config.train
    shards = open_shards(data)
    languages = chosen_languages(config, shards)
    rows = {language: shards.rows(language) for language in languages}
    check_mixtures(data, train, rows)
    order, total_steps = PairOrder.of_experiment(data, train, rows)
    tokenizer = load_tokenizer(config.model.tokenizer or str(config.model.pretrained))
    settings = config.objectives.pair_with, data.max_unknown_fraction, data.transliterations
    check = [check_tokenizer(shards, tokenizer, order.languages, *settings) if rank.is_first else None]
    dist.broadcast_object_list(check)
    assert check[0] is not None
    hardware = choose_micro_batch(hardware, config, shards, len(tokenizer), machines, rank)
    return Plan(
        config, rank, hardware, shards, order, tokenizer, tokenizer_fingerprint(tokenizer), check[0], total_steps,
        machines, findings,
    )  # fmt: skip


def chosen_languages(config: Config, shards: ShardSet) -> Sequence[str]:
    """Languages of the shards that the experiment trains on.

    Raises:
        ConfigError: the experiment names a language that the shards do not have.
    """
    chosen = config.data.languages or shards.languages
    missing = sorted(set(chosen) - set(shards.languages))
    if missing:
        raise ConfigError(
            f"data.languages: {', '.join(missing)} not in {config.data.shards}", f"it has {listed(shards.languages)}"
        )
    return chosen


@dataclass
class Training(Plan):
    """A plan with its model in the engine and its stream of batches."""

    damaged_blocks: list[DamagedBlock]
    """Blocks that training leaves out."""
    stream: BatchStream
    prefetcher: Prefetcher
    engine: Any
    step: TrainStep


def build_training(
    plan: Plan, saved: CheckpointState | None = None, at: Callable[[str], object] = lambda doing: None
) -> Training:
    """Finds damaged blocks, builds or loads the model and wraps it for training. Every rank must call it.

    Args:
        saved: the checkpoint to resume from.
        at: is told what this rank does whenever it makes progress; reading all blocks may take an hour.

    Raises:
        ConfigError: the model cannot be loaded or does not fit tokenizer and settings.
        DataError: the checkpoint or too many blocks are damaged.
    """
    config, tokenizer, languages = plan.config, plan.tokenizer, chosen_languages(plan.config, plan.shards)
    fraction = config.data.max_damaged_fraction
    damaged = find_damaged_blocks(plan.shards, languages, fraction, plan.rank, lambda: at("checking the blocks"))
    at("building the model")
    torch.manual_seed(config.train.seed)
    pad, (bos, eos) = tokenizer.pad_token_id, boundary_ids(tokenizer)
    assert bos is not None and eos is not None, "load_tokenizer has checked it"
    model = build_model(config.model, len(tokenizer), pad, bos, eos)
    if config.train.low_precision_layernorm:
        use_low_precision_norms(model)
    tcm = config.objectives.tcm
    layers = model.config.num_hidden_layers
    pool_layer = resolve_layer(tcm.layer, layers, "objectives.tcm.layer") if tcm.weight else None
    first_position = family_of(model.config).first_position(model.config)
    window = Shape.of(model.config.to_dict()).window
    vocabulary = Vocabulary(bos, eos, tokenizer.mask_token_id, len(tokenizer), first_position, window)
    stream = make_stream(plan, vocabulary, damaged)
    encoder = PairEncoder(model, pool_layer, config.train.gradient_checkpointing, tcm)
    if saved:
        at("reading the checkpoint")
        saved.verify(plan.rank.rank, plan.rank.world_size)
        load_weights(encoder, saved.read)
    if config.train.compile:
        encoder.compile_layers()
    engine = start_engine(encoder, plan.hardware, config)
    if saved:
        load_checkpoint(engine, saved)
    step = TrainStep(engine, config.objectives, plan.rank, config.train.seed, len(plan.order.languages))
    prefetcher = Prefetcher(stream, config.data.workers, config.data.prefetch)
    return Training(
        **vars(plan), damaged_blocks=damaged, stream=stream, prefetcher=prefetcher, engine=engine, step=step
    )


def make_stream(plan: Plan, vocabulary: Vocabulary, damaged: Sequence[DamagedBlock] = ()) -> BatchStream:
    """The stream that reads, tokenizes, masks and packs this rank's part of each batch.

    Args:
        damaged: blocks that it leaves out.
    """
    objectives = plan.config.objectives
    packer = Packer(
        objectives.masking,
        vocabulary,
        plan.config.model.max_length,
        with_tlm=objectives.tlm.weight > 0,
        split_tlm=objectives.tcm.weight > 0 and not objectives.in_micro_batches,
        identical=objectives.identical,
    )
    left_out = {(block.language, block.block) for block in damaged}
    return BatchStream(
        plan.order,
        PairReader(plan.shards, plan.order.languages, left_out, plan.config.data.transliterations),
        TextEncoder(plan.tokenizer, plan.tokenizer_check.use_sentencepiece),
        packer,
        BatchSizes.of(plan.config.train),
        plan.hardware.layout,
        plan.rank.rank,
        plan.tokenizer_check.token_rates,
        objectives.pair_with,
        equal_split=objectives.in_micro_batches,
        ignore_diacritics=objectives.identical_up_to == "diacritics",
    )
