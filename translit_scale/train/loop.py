"""The training loop: set up, then plan, accumulate, update, log, checkpoint until the last step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from translit_scale.config import Config
from translit_scale.errors import ConfigError
from translit_scale.locks import only_user
from translit_scale.train.build import Plan, Training, build_training, make_plan
from translit_scale.train.checkpoint import (
    CheckpointState,
    check_same_experiment,
    checkpoint_name,
    complete_checkpoints,
)
from translit_scale.train.engine import Update, learning_rate, set_learning_rate, take_step
from translit_scale.train.launch import Rank
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.numerics import SkippedSteps
from translit_scale.train.preemption import Preempted
from translit_scale.train.run_directory import banner, metric_logger, prepare_run_directory, run_directory_errors
from translit_scale.train.saving import CheckpointWriter
from translit_scale.train.selection import EarlyStopping, Judge


def train(
    config: Config,
    ds_config: Path,
    resume: str,
    rank: Rank,
    make_judge: Callable[[Config], Judge] | None = None,
) -> None:
    """Trains to the last step, or says that there is nothing left to train. Every rank must call it.

    Args:
        resume: `auto` (newest complete checkpoint, if any), `none`, or the path of a checkpoint.
        make_judge: what measures checkpoints, for experiments with `selection`; called on the first rank.

    Raises:
        UserError: settings, data or checkpoint do not fit, the disk is full, or the loss is not finite.
    """
    plan = make_plan(config, ds_config, rank)
    with ExitStack() as held:
        if rank.is_first:
            with run_directory_errors(config.run.path):
                held.enter_context(only_user(config.run.path, "wait for its end, or choose another run.name"))
        train_alone(plan, resume, make_judge)


def train_alone(plan: Plan, resume: str, make_judge: Callable[[Config], Judge] | None = None) -> None:
    """`train` once nobody else trains in the run directory."""
    config, rank, run = plan.config, plan.rank, plan.config.run.path
    checkpoint = choose_checkpoint(run, resume, rank)
    start = check_same_experiment(checkpoint, plan.info(0)) if checkpoint else 0
    if start >= plan.total_steps:
        if rank.is_first:
            print(
                f"nothing to train: {checkpoint} is step {start} of {plan.total_steps}\n"
                f"  → translit-scale export --run {run}, or train anew: run.name={config.run.name}-2"
            )
        return
    stopping = EarlyStopping(config, plan.total_steps, rank, make_judge)
    training = build_training(plan, CheckpointState(checkpoint) if checkpoint else None)
    if rank.is_first:
        prepare_run_directory(training)
        print(banner(training, checkpoint, start), flush=True)
    logging = metric_logger(training, start) if rank.is_first else nullcontext()
    with logging as logger, CheckpointWriter(config.run, rank) as checkpoints:
        try:
            run_steps(training, start, checkpoints, stopping, logger)
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


def choose_checkpoint(run: Path, resume: str, rank: Rank) -> Path | None:
    """The checkpoint to go on from, if any. Every rank must call it.

    Only the first rank looks, and not just for agreement: a node that has asked a network file system for a folder
    remembers for up to a minute that there is none, and would not find the one that the first rank then makes.

    Raises:
        ConfigError: `none` although the run has checkpoints.
    """
    if resume not in ("auto", "none"):
        return Path(resume)
    existing = complete_checkpoints(run / "checkpoints") if rank.is_first else []
    newest = [existing[-1] if existing else None]
    dist.broadcast_object_list(newest)
    if resume == "none" and newest[0]:
        raise ConfigError(
            f"{run} already has the checkpoint {newest[0].name}, and --resume none would overwrite it",
            "go on from it with --resume auto, or choose another run.name",
        )
    return newest[0]


def run_steps(
    training: Training,
    start: int,
    checkpoints: CheckpointWriter,
    stopping: EarlyStopping,
    logger: MetricLogger | None,
) -> None:
    """Optimizer steps start … total_steps − 1, or until early stopping, with their records and checkpoints.

    Raises:
        Preempted: some rank was asked to stop; a checkpoint is written.
    """
    engine, run, total, rank = training.engine, training.config.run, training.total_steps, training.rank
    if stopping.ends(start, logger):
        return
    most, records = training.config.train.max_skipped_steps, run.path if rank.is_first else None
    skipped = SkippedSteps(most, engine.fp16_enabled(), records)
    for t, batch in enumerate(training.prefetcher.batches(start, total), start):
        checkpoints.check()
        set_learning_rate(engine, learning_rate(t, total, training.config.train))
        result = training.step.accumulate(t, batch)
        update = take_step(engine)
        skipped.count(t, result, update, training.stream)
        if logger:
            logger.step(t + 1, result, update_metrics(engine, update, skipped), training.prefetcher.waited)
        if (t + 1) % run.checkpoint_every == 0 or t + 1 == total or result.stop:
            began = time.monotonic()
            checkpoints.save(engine, training.info(t + 1))
            if t + 1 == total or result.stop or stopping.due(t + 1):
                checkpoints.finish()
            if logger:
                logger.wrote_checkpoint(time.monotonic() - began)
        if result.stop and t + 1 < total:
            raise Preempted(
                f"asked to stop: checkpoint {run.path / 'checkpoints' / checkpoint_name(t + 1)} is written",
                "the same command goes on from it",
            )
        if stopping.ends(t + 1, logger):
            return


def update_metrics(engine: Any, update: Update, skipped: SkippedSteps) -> dict[str, Any]:
    """What an update was made with, by metric name."""
    scale = {"train/loss_scale": engine.optimizer.loss_scale} if engine.fp16_enabled() else {}
    return {
        "train/lr": update.lr,
        "train/grad_norm": update.grad_norm,
        "train/skipped_steps": skipped.total,
        **scale,
    }
