"""The training loop: set up, then plan, accumulate, update, log, checkpoint until the last step."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerFast

from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.stream import BatchStream
from translit_scale.config import Config
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import encode_batch, load_tokenizer, save_tokenizer, tokenizer_fingerprint
from translit_scale.errors import ConfigError, DataError
from translit_scale.files import write_bytes, write_json
from translit_scale.model.encoder import PairEncoder, build_model, resolve_layer
from translit_scale.train.checkpoint import (
    CheckpointInfo,
    complete_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from translit_scale.train.engine import Hardware, learning_rate, resolve_hardware, start_engine
from translit_scale.train.launch import Rank
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.step import TrainStep

PACKAGES = ("translit-scale", "torch", "deepspeed", "transformers", "tokenizers", "numpy")
"""Recorded with their versions in environment.json."""
UNKNOWN_SAMPLE = 500
"""Sentences of each language the tokenizer is tried on before training."""


@dataclass
class Training:
    """Everything a run needs, built the same way on every rank."""

    config: Config
    rank: Rank
    hardware: Hardware
    shards: ShardSet
    tokenizer: PreTrainedTokenizerFast
    stream: BatchStream
    engine: Any
    step: TrainStep
    total_steps: int

    def info(self, step: int) -> CheckpointInfo:
        """What a checkpoint after `step` steps belongs to."""
        return CheckpointInfo(
            step=step,
            world_size=self.rank.world_size,
            zero_stage=self.hardware.zero_stage,
            science=self.config.model_dump(mode="json", exclude={"run"}),
            shards=self.shards.fingerprint,
            tokenizer=tokenizer_fingerprint(self.tokenizer),
            pairs=self.stream.order.pairs,
        )


def build_training(config: Config, ds_config: Path, rank: Rank) -> Training:
    """Opens the shards, the tokenizer and the model and wraps them for training.

    Raises:
        ConfigError, DataError: settings that contradict each other or do not fit the data.
    """
    hardware = resolve_hardware(ds_config, config, rank)
    shards = ShardSet.open(config.data.shards)
    order = PairOrder(
        {language: shards.rows(language) for language in chosen_languages(config, shards)},
        config.data.mixture,
        config.data.alpha,
        config.train.seed,
    )
    tokenizer = load_tokenizer(config.model.tokenizer or str(config.model.pretrained))
    check_tokenizer(config, shards, tokenizer, order.languages)
    torch.manual_seed(config.train.seed)
    special = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    model = build_model(config.model, len(tokenizer), *special)
    tcm = config.objectives.tcm
    pool_layer = resolve_layer(tcm.layer, model.config.num_hidden_layers) if tcm.weight else None
    vocabulary = Vocabulary(
        tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id, len(tokenizer), special[0] + 1
    )
    packer = Packer(
        config.objectives.masking,
        vocabulary,
        config.model.max_length,
        with_tlm=config.objectives.tlm_weight > 0,
        split_tlm=tcm.weight > 0 and hardware.deal.micro_batches > 1,
    )
    stream = BatchStream(shards, tokenizer, order, hardware.deal, rank.rank, packer, config.objectives.second)
    engine = start_engine(PairEncoder(model, pool_layer), hardware, config)
    step = TrainStep(engine, config.objectives, hardware.deal, rank, config.train.seed)
    total = config.train.max_steps or math.ceil(config.train.epochs * order.total / config.train.batch_pairs)
    return Training(config, rank, hardware, shards, tokenizer, stream, engine, step, total)


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
    """Refuses a tokenizer that does not know a language's script.

    Raises:
        DataError: with the language and the share of unknown tokens.
    """
    for language in languages:
        sentences = list(shards.read_block(language, 0).orig[:UNKNOWN_SAMPLE])
        ids = [token for sentence in encode_batch(tokenizer, sentences) for token in sentence]
        share = ids.count(tokenizer.unk_token_id) / max(1, len(ids))
        if share > config.data.max_unknown_share:
            raise DataError(
                f"the tokenizer does not fit the shards: {share:.0%} of the tokens of {language} in "
                f"{config.data.shards} are unknown to it (data.max_unknown_share = {config.data.max_unknown_share})",
                f"train one on these shards: translit-scale tokenizer --shards {config.data.shards} --out DIR",
            )


def train(config: Config, ds_config: Path, resume: str, rank: Rank) -> Path:
    """Trains to the last step; returns the run directory.

    Args:
        resume: `auto` (newest complete checkpoint, if any), `none`, or the path of a checkpoint.
    """
    run = config.run.path
    training = build_training(config, ds_config, rank)
    start = restore(training, resume)
    if rank.is_first:
        write_run_files(training, run)
        print(banner(training, start), flush=True)
    dist.barrier()
    logger = MetricLogger(run, start, training.total_steps, config.run.log_every) if rank.is_first else None
    for t in range(start, training.total_steps):
        lr = learning_rate(t, training.total_steps, config.train)
        for group in training.engine.optimizer.param_groups:
            group["lr"] = lr
        result = training.step.accumulate(t, training.stream.step(t))
        take_step(training.engine)
        if logger:
            logger.step(t + 1, result, lr, float(training.engine.get_global_grad_norm() or 0.0))
        if (t + 1) % config.run.checkpoint_every == 0 or t + 1 == training.total_steps:
            save_checkpoint(
                training.engine, run / "checkpoints", training.info(t + 1), config.run.keep_checkpoints, rank
            )
    if logger:
        logger.close()
        print(f"done: {run} (checkpoint {complete_checkpoints(run / 'checkpoints')[-1].name})", flush=True)
    return run


def take_step(engine: Any) -> None:
    """The optimizer's update; the engine must count exactly one step."""
    before = engine.global_steps
    engine.step()
    assert engine.global_steps == before + 1, "DeepSpeed took no optimizer step: its accumulation must be 1"


def restore(training: Training, resume: str) -> int:
    """Loads a checkpoint where one is wanted; returns the next step.

    Raises:
        ConfigError: `none` although the run has checkpoints; DataError: the checkpoint does not fit.
    """
    directory = training.config.run.path / "checkpoints"
    existing = complete_checkpoints(directory)
    if resume == "none" and existing:
        raise ConfigError(
            f"{directory} already has checkpoints, and --resume none would overwrite them",
            f"choose another name: run.name={training.config.run.name}-2",
        )
    if resume not in ("auto", "none"):
        return load_checkpoint(training.engine, Path(resume), training.info(0))
    return load_checkpoint(training.engine, existing[-1], training.info(0)) if existing else 0


def write_run_files(training: Training, run: Path) -> None:
    """What is needed to repeat the run or use its checkpoints: settings, versions, fingerprints, model/ but weights."""
    write_bytes(run / "config.yaml", training.config.to_yaml().encode())
    write_json(run / "ds_config.json", training.hardware.ds_config)
    training.engine.module.lm.config.save_pretrained(run / "model")
    save_tokenizer(training.tokenizer, run / "model")
    write_json(
        run / "environment.json",
        {
            "packages": {name: version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if training.rank.device.type == "cuda" else "cpu",
            "precision": training.hardware.precision,
            "world_size": training.rank.world_size,
            "shards": training.shards.fingerprint,
            "tokenizer": tokenizer_fingerprint(training.tokenizer),
        },
    )  # fmt: skip


def banner(training: Training, start: int) -> str:
    """What is about to happen, in the user's terms."""
    config, deal, objectives = training.config, training.hardware.deal, training.config.objectives
    order, device = training.stream.order, training.rank.device
    parameters = sum(p.numel() for p in training.step.engine.module.parameters())
    names = ["mlm_orig", "mlm_latn" if objectives.second == "transliteration" else "mlm_latn (copy of orig)"]
    if objectives.tcm.weight:
        layer = training.engine.module.pool_layer
        names.append(
            f"{objectives.tcm.weight:g}·tcm (layer {layer}, {objectives.tcm.similarity}, "
            f"τ {objectives.tcm.temperature:g}, {2 * deal.batch_pairs - 2:,} negatives a row)"
        )
    if objectives.tlm_weight:
        names.append(f"{objectives.tlm_weight:g}·tlm")
    where = f"{deal.world_size} CPU ranks (no GPU found)" if device.type == "cpu" else f"{deal.world_size} GPUs"
    lines = [
        f"run {config.run.path}: {parameters:,} parameters, {order.total:,} pairs of {', '.join(order.languages)}",
        f"  batch {deal.batch_pairs} pairs = {deal.world_size} ranks × {deal.micro_batches} micro-batches of at most "
        f"{deal.micro_pairs}; {where}, {training.hardware.precision}, ZeRO-{training.hardware.zero_stage}",
        f"  loss = {' + '.join(names)}",
        f"  steps {start} → {training.total_steps} "
        f"({math.ceil(order.total / deal.batch_pairs)} an epoch), checkpoint every {config.run.checkpoint_every}; "
        f"tensorboard --logdir {config.run.path / 'tb'}",
        *(f"  note: {note}" for note in training.hardware.notes),
    ]
    if start:
        lines.append(f"  resumed from {config.run.path / 'checkpoints'} at step {start}")
    return "\n".join(lines)
