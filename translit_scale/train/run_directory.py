"""The files and the banner with which a run begins: settings, versions, tokenizer, metrics."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import stream_names
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import RunConfig
from translit_scale.corpus.tokenizer import save_tokenizer
from translit_scale.files import write_bytes, write_json
from translit_scale.model.attention import has_kernel
from translit_scale.model.devices import peak_flops
from translit_scale.model.families import family_of
from translit_scale.model.flops import Shape
from translit_scale.train.checkpointing.checkpoint import file_errors, remove_unfinished
from translit_scale.train.checkpointing.state import checkpoint_bytes, parameter_count
from translit_scale.train.launching.agreement import PACKAGES
from translit_scale.train.launching.environment import join_world
from translit_scale.train.launching.machines import commit_of_code, describe_hosts, describe_job
from translit_scale.train.meter import MeterContext
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.monitor import Monitor
from translit_scale.train.preflight import write_damaged_blocks
from translit_scale.train.setup import Plan, Training
from translit_scale.train.tensorboard import RunDescription, make_charts

MOST_SHOWN = 4
"""Languages in the banner: of more the two largest and the smallest, which fit a line of 80 columns."""


def metric_logger(training: Training, start: int) -> MetricLogger:
    """The metric logger of a training that has taken `start` steps."""
    model, device = training.engine.module.lm.config, training.rank.device
    dtype = torch.float32 if training.hardware.precision == "fp32" else torch.bfloat16
    head_size = model.hidden_size // model.num_attention_heads
    context = MeterContext(
        training.order.languages,
        Shape.of(model.to_dict()),
        training.rank.world_size,
        peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None,
        has_kernel(device, dtype, head_size),
        BatchSizes.of(training.config.train),
    )
    run, described = training.config.run, description(training, context.many_languages)
    monitor = partial(Monitor, training.config) if training.config.monitor else None
    return MetricLogger(run.path, context, start, training.total_steps, run.log_every, described, monitor)


def description(plan: Plan, many_languages: bool) -> RunDescription:
    """What TensorBoard shows of a run beside its curves: settings that decide the weights, all settings, and charts."""
    config, hardware, science = plan.config, plan.hardware, plan.info(0).science
    settings = science | {
        "train": {name: value for name, value in science["train"].items() if name not in ("max_steps", "epochs")},
        "total_steps": plan.total_steps,
    }
    sections = {
        "Experiment": _verbatim(config.to_yaml()),
        "Mixture of languages": mixture_table(plan.order, [step for step, _ in config.data.mixtures]),
        "DeepSpeed": _verbatim(json.dumps(hardware.ds_config, indent=2)),
        "Environment": _verbatim(json.dumps(environment(plan), indent=2)),
    }
    configuration = "\n\n".join(f"### {title}\n\n{text}" for title, text in sections.items())
    charts = make_charts(
        many_languages, config.objectives.tcm.weight > 0, config.selection is not None, config.monitor is not None
    )
    return RunDescription(settings, configuration, charts)


def _verbatim(text: str) -> str:
    """A Markdown block that shows the text as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def prepare_run_directory(training: Training) -> None:
    """Writes what repeating the run or using its checkpoints needs: settings, versions, fingerprints, model/.

    Raises:
        DataError: the run directory cannot be written to.
    """
    run = training.config.run.path
    with run_directory_errors(run):
        remove_unfinished(run / "checkpoints")
        write_bytes(run / "config.yaml", training.config.to_yaml().encode())
        write_json(run / "ds_config.json", training.hardware.ds_config)
        write_json(run / "environment.json", environment(training))
        model = training.engine.module.lm.config
        model.save_pretrained(run / "model")
        save_tokenizer(training.tokenizer, run / "model", family_of(model).max_length(model))
        if training.config.data.max_damaged_fraction:
            write_damaged_blocks(run / "damaged.json", training.damaged_blocks)


def run_directory_errors(run: Path) -> AbstractContextManager[None]:
    """Turns errors of the system about the run directory into a DataError."""
    return file_errors(f"cannot write to the run directory {run}", "choose another one: run.dir=DIR")


def environment(plan: Plan) -> dict[str, object]:
    """Versions and fingerprints that a run depends on, and where this job runs."""
    return {
        "packages": {name: version(name) for name in ("translit-scale", *PACKAGES)},
        "python": platform.python_version(),
        "commit": commit_of_code(),
        "device": torch.cuda.get_device_name() if plan.rank.device.type == "cuda" else "cpu",
        "precision": plan.hardware.precision,
        "world_size": plan.rank.world_size,
        "shards": plan.shards.fingerprint,
        "tokenizer": plan.tokenizer_fingerprint,
        "encoded_by": "sentencepiece" if plan.tokenizer_check.use_sentencepiece else "tokenizers",
        "job": describe_job(join_world()),
        "hosts": describe_hosts(plan.machines),
        "variables": plan.machines[0].variables,
        "findings": {finding.check: finding.found for finding in plan.findings},
    }


def start_facts(plan: Plan) -> dict[str, object]:
    """What of the environment may differ from one start of a run to the next."""
    record = environment(plan)
    return {name: record[name] for name in ("world_size", "device", "hosts", "variables", "commit")}


def banner(training: Training, checkpoint: Path | None, start: int) -> str:
    """Tells the user what is about to happen: data, batch, devices, loss, steps."""
    config, hardware, order, layout = training.config, training.hardware, training.order, training.hardware.layout
    sizes = BatchSizes.of(config.train)
    on_cpu = training.rank.device.type == "cpu"
    where = counted(layout.world_size, "CPU rank" if on_cpu else "GPU") + (" (no GPU found)" if on_cpu else "")
    pairs_at_once = layout.batch_pairs / layout.world_size / layout.micro_batches
    lines = [
        f"run {config.run.path}: {parameter_count(training.engine):,} parameters, {order.total:,} pairs",
        f"  {mixture_line(order, sizes.before(start))}",
        f"  batch {layout.batch_pairs} pairs = {counted(layout.world_size, 'rank')} × "
        f"{counted(layout.micro_batches, 'micro-batch')} of about {math.ceil(pairs_at_once)}; {where}, "
        f"{hardware.precision}, ZeRO-{hardware.zero_stage}",
        *([warmup_line(sizes, layout)] if sizes.first else []),
        f"  loss = {' + '.join(loss_terms(training))}",
        f"  steps {start} → {training.total_steps} ({math.ceil(order.total / layout.batch_pairs)} an epoch"
        f"{' of full batches' if sizes.first else ''}), "
        f"tensorboard --logdir {config.run.dir}",
        f"  {checkpoint_plan(config.run, training.total_steps, checkpoint_bytes(training.engine))}",
        *(f"  note: {note}" for note in hardware.notes),
        *(f"  note: {f.check}: {f.found}\n    → {f.advice}" for f in training.findings if f.level == "warning"),
        *([_left_out(training)] if training.damaged_blocks else []),
        *([f"  resumed from {checkpoint}"] if checkpoint else []),
    ]
    return "\n".join(lines)


def warmup_line(sizes: BatchSizes, layout: BatchLayout) -> str:
    """How batches grow to the full layout."""
    first = replace(layout, batch_pairs=sizes.smallest)
    return (
        f"  batch-size warm-up: from {sizes.smallest} pairs = {counted(layout.world_size, 'rank')} × "
        f"{counted(first.micro_batches, 'micro-batch')}, by multiples of it, to {sizes.full} from step "
        f"{sizes.warmup_steps} on"
    )


def mixture_line(order: PairOrder, position: int) -> str:
    """The fractions of the languages at a position of the stream, largest first."""
    of_each: list[float] = order.phase_at(position).proportions.tolist()
    fractions = sorted(zip(of_each, order.languages, strict=True), key=lambda pair: (-pair[0], pair[1]))
    shown = fractions if len(fractions) <= MOST_SHOWN else [*fractions[:2], fractions[-1]]
    parts = [f"{language} {percent(fraction)}" for fraction, language in shown]
    if shown is not fractions:
        parts.insert(-1, f"… ({len(fractions) - len(shown)} more)")
    return f"mixture: {', '.join(parts)}"


def mixture_table(order: PairOrder, steps: Sequence[int]) -> str:
    """Markdown table of the pairs of each language, and of its fraction of the stream from each change on.

    Args:
        steps: first step of each mixture.
    """
    head = ["language", "pairs", *(f"mixture from step {step:,}" for step in steps)]
    columns = [map(percent, phase.proportions.tolist()) for phase in order.phases]
    rows = zip(order.languages, (f"{n:,}" for n in order.pairs.values()), *columns, strict=True)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def percent(fraction: float) -> str:
    """`0.1234` → `12.3 %`; three digits however small, because a language of 500 can have less than 0.1 %."""
    return f"{float(f'{100 * fraction:.3g}'):g} %"


def checkpoint_plan(run: RunConfig, total_steps: int, size: int) -> str:
    """When checkpoints are written, and the disk space of those that are kept and the one being written.

    Args:
        size: bytes of a checkpoint.
    """
    kept = run.kept_checkpoints(total_steps)
    when = f"checkpoint every {run.checkpoint_every:,} steps or {run.checkpoint_minutes:g} minutes"
    return f"{when}: {size / 1e9:.3g} GB each, at most {kept} ({kept * size / 1e9:.3g} GB)"


def _left_out(training: Training) -> str:
    rows = sum(block.rows for block in training.damaged_blocks)
    blocks = counted(len(training.damaged_blocks), "damaged block")
    return f"  left out: {rows:,} pairs in {blocks}, see {training.config.run.path / 'damaged.json'}"


def loss_terms(training: Training) -> list[str]:
    """The terms of the loss with their weights and settings."""
    objectives = training.config.objectives
    terms = list(stream_names(objectives)[:2])
    if objectives.tcm.weight:
        tcm, layer, sizes = objectives.tcm, training.engine.module.pool_layer, BatchSizes.of(training.config.train)
        fewest = f"{2 * sizes.smallest - 2:,} to " if sizes.first else ""
        terms.append(
            f"{tcm.weight:g}·tcm ({tcm.loss}, layer {layer}, {tcm.similarity}, τ {tcm.temperature:g}, "
            f"{fewest}{2 * sizes.full - 2:,} negatives each)"
        )
    if objectives.tlm.weight:
        terms.append(f"{objectives.tlm.weight:g}·tlm")
    return terms


def counted(number: int, thing: str) -> str:
    """`1 rank`, `2 ranks`, `2 micro-batches`."""
    return f"{number} {thing}" + ("" if number == 1 else "es" if thing.endswith("ch") else "s")
