"""The training loop: set up, then plan, accumulate, update, log, checkpoint until the last step."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

import torch
import torch.distributed as dist

from translit_scale.config import Config
from translit_scale.corpus.tokenizer import save_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.files import write_bytes, write_json
from translit_scale.languages import listed
from translit_scale.locks import only_user
from translit_scale.model.attention import has_kernel
from translit_scale.model.devices import peak_flops
from translit_scale.model.flops import Shape
from translit_scale.train.build import Plan, Training, build_training, make_plan
from translit_scale.train.checkpoint import (
    CheckpointState,
    check_same_experiment,
    checkpoint_name,
    complete_checkpoints,
    remove_unfinished,
)
from translit_scale.train.engine import learning_rate, set_learning_rate, take_step
from translit_scale.train.launch import Rank
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.numerics import SkippedSteps
from translit_scale.train.preemption import Preempted
from translit_scale.train.rates import Measured
from translit_scale.train.saving import CheckpointWriter
from translit_scale.train.survey import write_ledger

PACKAGES = ("translit-scale", "torch", "deepspeed", "transformers", "tokenizers", "sentencepiece", "numpy")
"""Recorded with their versions in environment.json."""


def train(config: Config, ds_config: Path, resume: str, rank: Rank) -> None:
    """Trains to the last step, or says that there is nothing left to train. Every rank must call it.

    Args:
        resume: `auto` (newest complete checkpoint, if any), `none`, or the path of a checkpoint.

    Raises:
        UserError: settings, data or checkpoint do not fit, the disk is full, or the loss is not finite.
    """
    plan = make_plan(config, ds_config, rank)
    with ExitStack() as held:
        if rank.is_first:
            with _run_directory_errors(config.run.path):
                held.enter_context(only_user(config.run.path, "wait for its end, or choose another run.name"))
        train_alone(plan, resume)


def train_alone(plan: Plan, resume: str) -> None:
    """`train` once nobody else trains in the run directory."""
    config, rank, run = plan.config, plan.rank, plan.config.run.path
    checkpoint = choose_checkpoint(run, resume)
    start = check_same_experiment(checkpoint, plan.info(0)) if checkpoint else 0
    if start >= plan.total_steps:
        if rank.is_first:
            print(
                f"nothing to train: {checkpoint} is step {start} of {plan.total_steps}\n"
                f"  → translit-scale export --run {run}, or train anew: run.name={config.run.name}-2"
            )
        return
    training = build_training(plan, CheckpointState(checkpoint) if checkpoint else None)
    if rank.is_first:
        prepare_run_directory(training)
        print(banner(training, checkpoint, start), flush=True)
    logging = metric_logger(training, start) if rank.is_first else nullcontext()
    with logging as logger, CheckpointWriter(config.run, rank) as checkpoints:
        try:
            run_steps(training, start, checkpoints, logger)
        except RuntimeError as error:
            if mendable := explained(error, plan):
                raise mendable from error
            raise
    if rank.is_first:
        print(f"done: {run} (checkpoint {complete_checkpoints(run / 'checkpoints')[-1].name})", flush=True)


def explained(error: RuntimeError, plan: Plan) -> ConfigError | None:
    """An error of torch as one that the user can mend, if it is."""
    if isinstance(error, torch.OutOfMemoryError):
        return ConfigError(
            f"out of GPU memory with micro-batches of {plan.hardware.deal.micro_pairs} pairs: {error}",
            f"lower train_micro_batch_size_per_gpu in {plan.hardware.path}: the update stays the same, and the same "
            "command goes on from the last checkpoint",
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ConfigError(
            f"train.compile: torch.compile failed: {str(error).strip().partition(chr(10))[0]}",
            "it needs a C++ compiler (on GPUs a C compiler and triton); or set train.compile=false",
        )
    return None


def choose_checkpoint(run: Path, resume: str) -> Path | None:
    """The checkpoint to go on from, if any; what the first rank sees decides for all.

    Raises:
        ConfigError: `none` although the run has checkpoints.
    """
    existing = complete_checkpoints(run / "checkpoints")
    if resume == "none" and existing:
        raise ConfigError(
            f"{run} already has the checkpoint {existing[-1].name}, and --resume none would overwrite it",
            "go on from it with --resume auto, or choose another run.name",
        )
    if resume not in ("auto", "none"):
        return Path(resume)
    newest = [existing[-1] if existing else None]
    dist.broadcast_object_list(newest)
    return newest[0]


def run_steps(training: Training, start: int, checkpoints: CheckpointWriter, logger: MetricLogger | None) -> None:
    """Optimizer steps start … total_steps − 1, with their records and checkpoints.

    Raises:
        Preempted: some rank was asked to stop; a checkpoint is written.
    """
    engine, run, total, rank = training.engine, training.config.run, training.total_steps, training.rank
    fp16 = engine.fp16_enabled()
    skipped = SkippedSteps(training.config.train.max_skipped_steps, fp16, run.path if rank.is_first else None)
    for t, batch in enumerate(training.prefetcher.batches(start, total), start):
        checkpoints.check()
        set_learning_rate(engine, learning_rate(t, total, training.config.train))
        result = training.step.accumulate(t, batch)
        update = take_step(engine)
        skipped.count(t, result, update, training.stream)
        if logger:
            made_with = {
                "train/lr": update.lr,
                "train/grad_norm": update.grad_norm,
                "train/skipped_steps": skipped.total,
            }
            if fp16:
                made_with["train/loss_scale"] = engine.optimizer.loss_scale
            logger.step(t + 1, result, made_with, training.prefetcher.waited)
        if (t + 1) % run.checkpoint_every == 0 or t + 1 == total or result.stop:
            began = time.monotonic()
            checkpoints.save(engine, training.info(t + 1))
            if t + 1 == total or result.stop:
                checkpoints.finish()
            if logger:
                logger.wrote_checkpoint(time.monotonic() - began)
        if result.stop and t + 1 < total:
            raise Preempted(
                f"asked to stop: checkpoint {run.path / 'checkpoints' / checkpoint_name(t + 1)} is written",
                "the same command goes on from it",
            )


def metric_logger(training: Training, start: int) -> MetricLogger:
    """The logger of a training, and what its metrics are measured with."""
    model, device = training.engine.module.lm.config, training.rank.device
    dtype = torch.float32 if training.hardware.precision == "fp32" else torch.bfloat16
    head_size = model.hidden_size // model.num_attention_heads
    measured = Measured(
        training.order.languages,
        Shape.of(model),
        training.rank.world_size,
        peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None,
        has_kernel(device, dtype, head_size),
    )
    run = training.config.run
    return MetricLogger(run.path, measured, start, training.total_steps, run.log_every)


def prepare_run_directory(training: Training) -> None:
    """Writes what is needed to repeat the run or use its checkpoints: settings, versions, fingerprints, model/.

    Raises:
        DataError: the run directory cannot be written to.
    """
    run = training.config.run.path
    with _run_directory_errors(run):
        remove_unfinished(run / "checkpoints")
        write_bytes(run / "config.yaml", training.config.to_yaml().encode())
        write_json(run / "ds_config.json", training.hardware.ds_config)
        write_json(run / "environment.json", environment(training))
        training.engine.module.lm.config.save_pretrained(run / "model")
        save_tokenizer(training.tokenizer, run / "model")
        if training.config.data.max_damaged_share:
            write_ledger(run / "damaged.json", training.damage)


@contextmanager
def _run_directory_errors(run: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to the run directory {run}: {error}", "choose another one: run.dir=DIR"
        ) from error


def environment(plan: Plan) -> dict[str, object]:
    """Versions and fingerprints that a run depends on."""
    return {
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if plan.rank.device.type == "cuda" else "cpu",
        "precision": plan.hardware.precision,
        "world_size": plan.rank.world_size,
        "shards": plan.shards.fingerprint,
        "tokenizer": plan.tokenizer_fingerprint,
        "encoded_by": "sentencepiece" if plan.fit.fast else "tokenizers",
    }


def banner(training: Training, checkpoint: Path | None, start: int) -> str:
    """What is about to happen, in the user's terms."""
    config, hardware, order, deal = training.config, training.hardware, training.order, training.hardware.deal
    parameters = sum(getattr(p, "ds_numel", p.numel()) for p in training.engine.module.parameters())
    on_cpu = training.rank.device.type == "cpu"
    where = counted(deal.world_size, "CPU rank" if on_cpu else "GPU") + (" (no GPU found)" if on_cpu else "")
    lines = [
        f"run {config.run.path}: {parameters:,} parameters, {order.total:,} pairs of {listed(order.languages)}",
        f"  batch {deal.batch_pairs} pairs = {counted(deal.world_size, 'rank')} × "
        f"{counted(deal.micro_batches, 'micro-batch')} of about {deal.micro_pairs}; {where}, {hardware.precision}, "
        f"ZeRO-{hardware.zero_stage}",
        f"  loss = {' + '.join(loss_terms(training))}",
        f"  steps {start} → {training.total_steps} ({math.ceil(order.total / deal.batch_pairs)} an epoch), checkpoint "
        f"every {config.run.checkpoint_every}; tensorboard --logdir {config.run.path / 'tb'}",
        *(f"  note: {note}" for note in hardware.notes),
        *([_left_out(training)] if training.damage else []),
        *([f"  resumed from {checkpoint}"] if checkpoint else []),
    ]
    return "\n".join(lines)


def _left_out(training: Training) -> str:
    rows = sum(damage.rows for damage in training.damage)
    blocks = counted(len(training.damage), "damaged block")
    return f"  left out: {rows:,} pairs in {blocks}, see {training.config.run.path / 'damaged.json'}"


def loss_terms(training: Training) -> list[str]:
    """The terms of the loss with their weights and settings."""
    objectives, deal = training.config.objectives, training.hardware.deal
    names = ["mlm_orig", "mlm_latn" if objectives.second == "transliteration" else "mlm_latn (copy of orig)"]
    if objectives.tcm.weight:
        names.append(
            f"{objectives.tcm.weight:g}·tcm (layer {training.engine.module.pool_layer}, {objectives.tcm.similarity}, "
            f"τ {objectives.tcm.temperature:g}, {2 * deal.batch_pairs - 2:,} negatives a row)"
        )
    if objectives.tlm_weight:
        names.append(f"{objectives.tlm_weight:g}·tlm")
    return names


def counted(number: int, thing: str) -> str:
    """`1 rank`, `2 ranks`, `2 micro-batches`."""
    return f"{number} {thing}" + ("" if number == 1 else "es" if thing.endswith("ch") else "s")
