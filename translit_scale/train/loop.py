"""How a training goes, from the first line to the last:

    train            resumes or starts a run, and does the following:
      make_plan        settings, shards, tokenizer and hardware, the same on every rank (cheap; finds wrong settings)
      build_training   data stream, model and DeepSpeed engine, from scratch or from a checkpoint
      run_steps        for each step: plan the batch, accumulate its gradient, update, log, save a checkpoint

The plan and the training are made in `setup.py`. What a step computes is in `step.py`, the update in `engine.py`, which
pairs form a batch in `batch/`, the losses in `objectives/`, checkpoints in `checkpointing/`, launching in `launching/`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from translit_scale.config import Config, RunConfig
from translit_scale.deepspeed_json import read_ds_json
from translit_scale.locks import lock_folder
from translit_scale.progress import say
from translit_scale.train.checkpointing.checkpoint import (
    check_same_experiment,
    check_same_order,
    checkpoint_name,
    complete_checkpoints,
    hint_for_longer,
)
from translit_scale.train.checkpointing.restoring import CheckpointState, choose_checkpoint
from translit_scale.train.checkpointing.saving import CheckpointWriter
from translit_scale.train.early_stopping import EarlyStopping, Scorer, test_set_errors
from translit_scale.train.engine import (
    Update,
    explain_torch_errors,
    learning_rate,
    set_learning_rate,
    take_step,
)
from translit_scale.train.launching.agreement import check_agreement, check_shared, software
from translit_scale.train.launching.environment import join_world
from translit_scale.train.launching.failure import end_at_once, end_process, reason_of, watched
from translit_scale.train.launching.preemption import Interrupted, Preempted, StopRequest
from translit_scale.train.launching.probes import check_locks
from translit_scale.train.launching.rank_log import LOG, open_rank_log
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.launching.starts import record_start
from translit_scale.train.launching.watch import WAITS, Watch
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.micro_batch import halve_when_memory_ends
from translit_scale.train.monitor import check_test_set
from translit_scale.train.run_directory import (
    banner,
    metric_logger,
    prepare_run_directory,
    run_directory_errors,
    start_facts,
)
from translit_scale.train.setup import Plan, Training, build_training, make_plan
from translit_scale.train.skipped_steps import SkippedSteps
from translit_scale.train.step import StepResult


def train(
    config: Config,
    ds_config: Path,
    resume: str,
    rank: Rank,
    make_scorer: Callable[[Config], Scorer] | None = None,
) -> None:
    """Trains to the last step, or reports that nothing is left to train. Every rank must call it.

    Args:
        resume: `auto` (newest complete checkpoint, if any), `none`, or the path of a checkpoint.
        make_scorer: makes the scorer of checkpoints, for experiments with `selection`; called on the first rank.

    Raises:
        UserError: settings, data and checkpoint contradict each other, ranks differ in them, hosts do not share the run
            directory, the disk is full, or the loss is not finite.
    """
    watch = Watch(config.run, join_world(), end_process)
    watched[:] = [watch] if rank.world_size > 1 else []
    try:
        _train(config, ds_config, resume, rank, make_scorer, watch)
    except Exception as error:
        watch.status.end("stopped" if isinstance(error, Preempted) else "failed", *reason_of(error))
        raise
    watch.close()


def _train(
    config: Config,
    ds_config: Path,
    resume: str,
    rank: Rank,
    make_scorer: Callable[[Config], Scorer] | None,
    watch: Watch,
) -> None:
    settings = {**config.model_dump(mode="json"), "--ds_config": read_ds_json(ds_config), "--resume": resume}
    check_agreement({**settings, "version": software()})
    plan = make_plan(config, ds_config, rank)
    found = {"shards": plan.shards.fingerprint, "tokenizer": plan.tokenizer_fingerprint}
    check_agreement({**found, "precision": plan.hardware.precision})
    run = config.run.path
    with ExitStack() as lock:
        if rank.is_first:
            with run_directory_errors(run):
                lock.enter_context(lock_folder(run, "wait for its end, or choose another run.name"))
        check_shared(run, rank.is_first)
        plan.findings.append(check_locks(run, rank))
        if rank.is_first:
            watch.status.begin(run, list(dict.fromkeys(machine.host for machine in plan.machines)))
        checkpoint, start = find_start(plan, resume)
        if start >= plan.total_steps:
            if rank.is_first:
                watch.status.finish(start)
                say(nothing_to_train(plan.config.run, checkpoint, start, plan.total_steps))
            return
        open_rank_log(run / "logs", rank.rank, rank.world_size, plan.machines[rank.rank].device)
        watch.at(start, "starting")  # so that STATUS.json does not say any more how an earlier job has ended
        if rank.is_first:
            with run_directory_errors(run):
                record_start(run, start, start_facts(plan))
        if config.monitor and rank.is_first:
            with test_set_errors("monitor", "monitoring"):
                check_test_set(config.monitor)
        stopping = EarlyStopping(config, plan.total_steps, rank, make_scorer)
        saved = CheckpointState(checkpoint) if checkpoint else None
        training = build_training(plan, saved, partial(watch.at, start))
        if rank.is_first:
            prepare_run_directory(training)
            say(banner(training, checkpoint, start))
        collect_garbage()
        metrics = metric_logger(training, start) if rank.is_first else nullcontext()
        halving = halve_when_memory_ends(plan.hardware, run)
        with (
            explain_torch_errors(plan.hardware), halving, metrics as logger,
            CheckpointWriter(config.run, rank) as checkpoints,
        ):  # fmt: skip
            run_steps(training, start, checkpoints, stopping, logger, watch)
        LOG.info("step %d: done", watch.own.step)
        watch.at(watch.own.step, "nothing")
        watch.status.end("finished")
        if rank.is_first:
            say(f"done: {run} (checkpoint {complete_checkpoints(run / 'checkpoints')[-1].name})")


def find_start(plan: Plan, resume: str) -> tuple[Path | None, int]:
    """The checkpoint to resume from, if any, and its step. Every rank must call it.

    Raises:
        UserError: the run has checkpoints that must not be overwritten, or the checkpoint is damaged or belongs to
            another experiment or order of pairs.
    """
    checkpoint = choose_checkpoint(plan.config.run.path, resume, plan.rank)
    if checkpoint is None:
        return None, 0
    step = check_same_experiment(checkpoint, plan.info(0))
    check_same_order(checkpoint, plan.info(step))
    return checkpoint, step


def nothing_to_train(run: RunConfig, checkpoint: Path | None, step: int, total_steps: int) -> str:
    """What to do with a run that has taken all its steps."""
    return (
        f"nothing to train: {checkpoint} is step {step} of {total_steps}\n"
        f"  → export the model:   translit-scale export --run {run.path}\n"
        f"    or train anew:      run.name={run.name}-2\n"
        f"    or train it longer: {hint_for_longer(run.path)}"
    )


def collect_garbage() -> None:
    """Turns the garbage collector on (see `run_rank`), for what steps make: searching all imported modules takes half a
    second, for which the other ranks would wait.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def run_steps(
    training: Training,
    start: int,
    checkpoints: CheckpointWriter,
    stopping: EarlyStopping,
    logger: MetricLogger | None,
    watch: Watch,
) -> None:
    """Takes optimizer steps start … total_steps − 1, or fewer with early stopping; logs and writes checkpoints.

    Raises:
        Preempted: a rank was asked to stop; a checkpoint is written.
    """
    stop = stop_request(training)
    engine, run, total, rank = training.engine, training.config.run, training.total_steps, training.rank
    if stopping.ends(start, logger):
        return
    max_skipped, report_to = training.config.train.max_skipped_steps, run.path if rank.is_first else None
    skipped = SkippedSteps(max_skipped, engine.fp16_enabled(), report_to)
    for t, batch in enumerate(training.prefetcher.batches(start, total), start):
        watch.at(t, WAITS)
        steps, is_last = t + 1, t + 1 == total
        checkpoints.check()
        set_learning_rate(engine, learning_rate(t, total, training.config.train))
        result = training.step.accumulate(t, batch, {"stop": bool(stop), "save": checkpoints.is_due()})
        update = take_step(engine, training.config.train.max_grad_norm)
        skipped.count(t, result, update, training.stream)
        if logger:
            metrics = update_metrics(training, result, update, skipped)
            logger.step(steps, result, metrics, training.prefetcher.wait_seconds)
        ends = is_last or result.requests["stop"]
        if steps % run.checkpoint_every == 0 or result.requests["save"] or ends:
            watch.at(steps, "writing a checkpoint")
            began = time.monotonic()
            checkpoints.save(engine, training.info(steps))
            if ends or stopping.due(steps):
                checkpoints.finish()
            if logger:
                logger.wrote_checkpoint(time.monotonic() - began)
        if ends and not is_last:
            raise (Interrupted if stop.signal == signal.SIGINT else Preempted)(
                f"asked to stop: checkpoint {run.path / 'checkpoints' / checkpoint_name(steps)} is written",
                "the same command resumes from it",
            )
        if stopping.due(steps):
            watch.at(steps, "measuring the checkpoint")
        if stopping.ends(steps, logger):
            return
        watch.at(steps, "reading its batch")


def stop_request(training: Training) -> StopRequest:
    """From now on signals ask for a checkpoint; what the user is told about Ctrl-C is said by the first rank."""
    rank, run = training.rank, training.config.run.path

    def interrupted() -> None:
        if rank.is_first:
            text = "\nCtrl-C: a checkpoint is written after this step; a second Ctrl-C ends without it\n"
            os.write(sys.stderr.fileno(), text.encode())

    def end() -> None:
        complete = complete_checkpoints(run / "checkpoints") if rank.is_first else []
        resumes = f"the same command resumes from {complete[-1]}" if complete else "no checkpoint was written yet"
        end_at_once(f"interrupted: {resumes}", rank.rank)

    return StopRequest(interrupted, end)


def update_metrics(training: Training, result: StepResult, update: Update, skipped: SkippedSteps) -> dict[str, Any]:
    """Learning rate, gradient norm and the like of an update, by metric name."""
    engine = training.engine
    growing = {"train/batch_pairs": result.pairs} if training.config.train.batch_warmup_steps else {}
    scale = {"train_optimizer/loss_scale": engine.optimizer.loss_scale} if engine.fp16_enabled() else {}
    return {
        "train/lr": update.lr,
        **growing,
        "train_optimizer/grad_norm": update.grad_norm,
        "train_optimizer/skipped_steps": skipped.total,
        **scale,
    }
