"""The DeepSpeed engine: its JSON file, checked against the experiment, and AdamW with its learning-rate schedule."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import Config, Precision, TrainConfig
from translit_scale.deepspeed_json import AUTO, BLOCKS, MICRO, micro_batch_pairs, read_ds_json, zero_stage
from translit_scale.errors import ConfigError, NumericError
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.precision import check_stage, precision_block, resolve_precision

NO_COMPILER = "TORCHDYNAMO_DISABLE"
"""Variable with which torch.compile does nothing."""
LOWER_LR_HINT = "lower train.lr or raise train.warmup_steps; the last checkpoint is intact"
"""Hint of every NumericError in training."""


@dataclass(frozen=True)
class Hardware:
    """The DeepSpeed JSON, checked and completed."""

    path: Path
    """The JSON file."""
    ds_config: dict[str, Any]
    """The configuration handed to DeepSpeed."""
    layout: BatchLayout
    micro_batch_is_open: bool
    """The JSON says `"auto"`: `micro_batch.py` chooses, and until then the layout has one micro-batch."""
    precision: Precision
    zero_stage: int
    notes: tuple[str, ...]
    """Decisions to tell the user, such as a fallback from a precision that this device does not have."""


def resolve_hardware(path: Path, config: Config, rank: Rank) -> Hardware:
    """Reads a DeepSpeed JSON and combines it with the experiment.

    The experiment decides the effective batch, optimizer, schedule and clipping; the JSON decides ZeRO, micro-batch,
    precision and offload. A value that both give must be the same in both.

    Raises:
        ConfigError: the file is missing or malformed, or contradicts the experiment (both values are printed).
    """
    ds_json = read_ds_json(path)
    given = micro_batch_pairs(ds_json, path, on_cpu=rank.device.type == "cpu")
    if ds_json[MICRO] == AUTO and config.objectives.in_micro_batches:
        raise ConfigError(
            f'{path} says {MICRO} = "{AUTO}", but the losses of this experiment depend on which pairs share a '
            "micro-batch (objectives.parity, or objectives.tcm.scope=micro_batch)",
            "use a JSON with a number: --ds_config paper_a has 8 pairs, paper_b 16",
        )
    all_pairs = -(-config.train.batch_pairs // rank.world_size)
    layout = BatchLayout.of(BatchSizes.of(config.train), rank.world_size, given or all_pairs)
    _check_agreement(ds_json, path, config.train, layout)
    stage = zero_stage(ds_json, path)
    precision, notes = resolve_precision(config.train.precision, ds_json, rank.device)
    check_stage(precision, stage, ds_json, path)
    notes += _for_one_gpu(precision, ds_json, rank)
    ds_config = {key: value for key, value in ds_json.items() if key not in BLOCKS}
    ds_config |= {
        **_batch_sizes(layout),
        # The step runs its own micro-batches and reduces gradients once; the engine sees one backward pass a step.
        "gradient_accumulation_steps": 1,
        # At stage 0 `take_step` clips, with the norm that it needs anyway: DeepSpeed would take it of each parameter.
        "gradient_clipping": config.train.max_grad_norm if stage else 0.0,
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": sys.maxsize,
    }
    ds_config |= precision_block(precision, ds_json)
    return Hardware(path, ds_config, layout, given is None, precision, stage, tuple(notes))


def _for_one_gpu(precision: Precision, ds_json: dict[str, Any], rank: Rank) -> list[str]:
    """The advice to leave ZeRO out where it has nothing to divide or to offload."""
    zero = ds_json.get("zero_optimization", {})
    offloads = {"offload_optimizer", "offload_param"} & zero.keys()
    has_nothing_to_divide = rank.world_size == 1 and zero.get("stage") and not offloads
    if rank.device.type == "cpu" or not has_nothing_to_divide or precision not in ("fp32", "bf16_autocast"):
        return []
    return ["on a single GPU --ds_config zero0 is faster and takes less memory, see `translit-scale docs launching`"]


def _batch_sizes(layout: BatchLayout) -> dict[str, int]:
    """What DeepSpeed is told of the batch."""
    return {"train_batch_size": layout.micro_batch_pairs * layout.world_size, MICRO: layout.micro_batch_pairs}


def with_micro_batch(hardware: Hardware, sizes: BatchSizes, pairs: int, note: str) -> Hardware:
    """The same with micro-batches of so many pairs, and a note of why.

    Raises:
        ConfigError: batches of these sizes cannot be divided into them.
    """
    layout = BatchLayout.of(sizes, hardware.layout.world_size, pairs)
    ds_config = hardware.ds_config | _batch_sizes(layout)
    return replace(hardware, layout=layout, ds_config=ds_config, notes=(*hardware.notes, note))


def _check_agreement(ds_json: dict[str, Any], path: Path, train: TrainConfig, layout: BatchLayout) -> None:
    """Raises ConfigError where the JSON differs from the experiment."""
    from_experiment = {
        "train_batch_size": (train.batch_pairs, "train.batch_pairs"),
        "gradient_accumulation_steps": (layout.micro_batches, "micro-batches that follow from train.batch_pairs"),
        "gradient_clipping": (train.max_grad_norm, "train.max_grad_norm"),
    }
    for key, (expected, setting) in from_experiment.items():
        if ds_json.get(key, "auto") not in ("auto", expected):
            raise ConfigError(
                f"{path} says {key} = {ds_json[key]}, the experiment says {expected} ({setting}; "
                f"{layout.batch_pairs} pairs on {layout.world_size} ranks × {layout.micro_batch_pairs} pairs)",
                f"remove {key} from the JSON: the experiment decides it",
            )
    for key in ("optimizer", "scheduler"):
        if key in ds_json:
            raise ConfigError(
                f"{path} has a block {key!r}, but optimizer and schedule belong to the experiment (train.lr, …)",
                f"remove {key!r} from the JSON",
            )


def start_engine(model: nn.Module, hardware: Hardware, config: Config) -> Any:
    """Wraps the model for training. Every rank must call it with the same weights.

    Raises:
        ConfigError: DeepSpeed refuses its configuration.
    """
    import deepspeed

    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.train.weight_decay),
        lr=config.train.lr,
        betas=config.train.betas,
        eps=config.train.eps,
        fused=True,  # one pass over all states, also on the host, where offloaded states are updated
    )
    compiler = nullcontext() if config.train.compile else without_compiler()
    try:
        with compiler:
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=hardware.ds_config)
    except (ValueError, AssertionError, NotImplementedError) as error:  # pydantic's error is a ValueError
        raise ConfigError(
            f"DeepSpeed refuses {hardware.path}: {error}",
            "start from what `translit-scale configs zero2` prints",
        ) from error
    return engine


@contextmanager
def without_compiler() -> Iterator[None]:
    """Leaves torch's compiler out, which takes seconds to import: DeepSpeed would load it for optimizers of its own
    that are not used here.
    """
    before = os.environ.get(NO_COMPILER)
    os.environ[NO_COMPILER] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[NO_COMPILER]
        else:
            os.environ[NO_COMPILER] = before


@contextmanager
def explain_torch_errors(hardware: Hardware) -> Iterator[None]:
    """Turns errors of torch that the user can fix into a ConfigError: out of GPU memory, a failed compilation."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise ConfigError(
                f"out of GPU memory with micro-batches of {hardware.layout.micro_batch_pairs} pairs: {error}",
                f"lower train_micro_batch_size_per_gpu in {hardware.path}: the update stays the same, and the same "
                "command resumes from the last checkpoint, if there is one",
            ) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise ConfigError(
                f"train.compile: torch.compile failed: {str(error).strip().partition(chr(10))[0]}",
                "it needs a C++ compiler (on GPUs a C compiler and triton); or set train.compile=false",
            ) from error
        raise


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with weight decay (matrices) and without it (biases, LayerNorm), as in Hugging Face's trainer."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate(step: int, total_steps: int, train: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then linear to zero at `total_steps`.

    With `decay_steps` it is constant between warm-up and decay, and the decay is 1 − √progress, the best of those that
    Hägele et al. compare (2024, arXiv:2405.18392, section 3).
    """
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    if train.decay_steps:
        progress = (step - (total_steps - train.decay_steps)) / train.decay_steps
        return train.lr * (1 - math.sqrt(min(1.0, max(0.0, progress))))
    return train.lr * max(0.0, (total_steps - step) / max(1, total_steps - train.warmup_steps))


def set_learning_rate(engine: Any, lr: float) -> None:
    """Sets the learning rate of the next update."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr


@contextmanager
def reduce_gradients_once(engine: Any) -> Iterator[None]:
    """Reduces gradients over ranks once, at the end of the block, after several backward passes."""
    if engine.zero_optimization_stage() > 0:
        with engine.coalesce_grad_reduction():
            yield
        return
    engine.set_gradient_accumulation_boundary(False)
    yield
    engine.set_gradient_accumulation_boundary(True)
    if dist.get_world_size() > 1:  # otherwise DeepSpeed would copy all gradients into a bucket and back
        engine.allreduce_gradients()


@dataclass(frozen=True)
class Update:
    """The result of an optimizer step."""

    applied: bool
    """False: the gradient was not finite, and weights and moments are as before."""
    lr: float
    grad_norm: float | torch.Tensor
    """Global norm before clipping."""


@contextmanager
def loss_scale_raised_afterwards(engine: Any) -> Iterator[None]:
    """Divides the gradient by the loss scale that it was multiplied with: the scale is raised after the step only.

    By itself DeepSpeed raises the scale before the update every `loss_scale_window` steps, so this update uses half the
    gradient. Lowering the scale needs no delay, because an overflow skips the update.
    """
    optimizer = engine.optimizer
    update_scale = optimizer._update_scale

    def lower_only(has_overflow: bool = False) -> None:
        if has_overflow:
            update_scale(True)

    optimizer._update_scale = lower_only
    try:
        yield
    finally:
        del optimizer._update_scale  # uncovers the method of the class
    if engine.was_step_applied():
        update_scale(False)


def take_step(engine: Any, max_grad_norm: float) -> Update:
    """Takes an optimizer step with the gradients in the engine, which must count exactly one step.

    Args:
        max_grad_norm: the engine's own from ZeRO stage 1 on; 0 for no limit.

    If the gradient is not finite, the update is skipped on all ranks; with fp16 this is part of loss scaling.

    Raises:
        NumericError: fp16 overflows at every loss scale.
    """
    t, lr = engine.global_steps, engine.optimizer.param_groups[0]["lr"]
    norm = None
    if engine.zero_optimization_stage() == 0:  # DeepSpeed does not check the norm here
        parameters = [p for p in engine.module.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            engine.zero_grad()
            engine.global_steps, engine.skipped_steps = t + 1, engine.skipped_steps + 1
            return Update(False, lr, norm)
        if max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    try:
        with loss_scale_raised_afterwards(engine) if engine.fp16_enabled() else nullcontext():
            engine.step()
    except Exception as error:
        if "loss scale" not in str(error):
            raise
        raise NumericError(
            f"step {t}: the gradient overflows fp16 at any loss scale ({error})", LOWER_LR_HINT
        ) from error
    assert engine.global_steps == t + 1, "DeepSpeed took no optimizer step: its accumulation must be 1"
    return Update(engine.was_step_applied(), lr, engine.get_global_grad_norm() if norm is None else norm)
