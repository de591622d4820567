"""The state of a training as whole tensors, gathered from the ranks' partitions and distributed to them again.

It consists of the weights and both Adam moments of each parameter in fp32, under the parameter's name. Because the
tensors are whole, any number of ranks at any ZeRO stage can resume from a checkpoint; because they are the numbers that
the optimizer works with, a training resumes bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

WEIGHTS, MOMENTS = "weights", ("exp_avg", "exp_avg_sq")
"""The tensors saved for each parameter; the moments have AdamW's names."""


def trained_parameters(engine: Any) -> list[tuple[str, nn.Parameter]]:
    """Trained parameters by name, in the same order for any number of ranks; a tied parameter has its first name."""
    return [(name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad]


def parameter_count(engine: Any) -> int:
    """Number of parameters, of all ranks together."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in engine.module.parameters())


def checkpoint_bytes(engine: Any) -> int:
    """Size of a checkpoint: weights and moments in fp32."""
    return 4 * (1 + len(MOMENTS)) * parameter_count(engine)


def tensor_sizes(engine: Any) -> dict[str, int]:
    """`kind/name` → number of elements of each tensor that `gathered` yields."""
    return {
        f"{kind}/{name}": getattr(parameter, "ds_numel", parameter.numel())
        for name, parameter in trained_parameters(engine)
        for kind in (WEIGHTS, *MOMENTS)
    }


def gathered(engine: Any) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Yields (kind, name of the parameter, whole fp32 tensor). Every rank must iterate to the end."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    _make_moments(engine)
    for name, parameter in trained_parameters(engine):
        if engine.zero_optimization_stage() == 0:
            moments = engine.optimizer.state[parameter]
            yield WEIGHTS, name, parameter.detach()
            yield from ((kind, name, moments[kind]) for kind in MOMENTS)
            continue
        yield WEIGHTS, name, safe_get_full_fp32_param(parameter)
        yield from ((kind, name, safe_get_full_optimizer_state(parameter, kind)) for kind in MOMENTS)


def load_weights(module: nn.Module, read: Callable[[str, str], torch.Tensor]) -> None:
    """Copies whole weights into a module that no engine has partitioned yet.

    Args:
        read: kind and name → whole tensor.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(read(WEIGHTS, name))


def restore(engine: Any, read: Callable[[str, str], torch.Tensor], updates: int) -> None:
    """Copies fp32 weights and moments into an engine whose module has these weights already (`load_weights`).

    Args:
        updates: AdamW updates made so far, skipped ones not counted: its bias correction depends on it.
    """
    stage, adam = engine.zero_optimization_stage(), _adam(engine)
    adam.state.clear()
    _make_moments(engine, updates)
    for name, parameter in trained_parameters(engine):
        for kind in MOMENTS:
            _set(adam, parameter, kind, read(kind, name), stage)
        if stage:
            _set(adam, parameter, WEIGHTS, read(WEIGHTS, name), stage)


def _set(adam: torch.optim.Optimizer, parameter: Any, kind: str, whole: torch.Tensor, stage: int) -> None:
    """Copies a whole tensor, or this rank's part of it, into the optimizer's state."""
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    if stage == 0:
        adam.state[parameter][kind].copy_(whole)
        return
    value = whole.to(parameter.device)
    if stage == 3:  # the setter of whole tensors fails if a parameter does not divide into equal parts
        size = parameter.ds_tensor.ds_numel
        start = size * dist.get_rank()
        part = value.flatten()[start : start + size]
        value = F.pad(part, (0, size - len(part)))
        if kind == WEIGHTS:
            safe_set_local_fp32_param(parameter, value)
        else:
            safe_set_local_optimizer_state(parameter, value, kind)
    elif kind == WEIGHTS:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, kind)


def _adam(engine: Any) -> torch.optim.Optimizer:
    """AdamW, which DeepSpeed's own optimizers (ZeRO 1 to 3) wrap."""
    stage_0 = engine.zero_optimization_stage() == 0
    adam: torch.optim.Optimizer = engine.optimizer if stage_0 else engine.optimizer.optimizer
    return adam


def _make_moments(engine: Any, updates: int = 0) -> None:
    """Creates AdamW's moments for parameters that have none yet.

    AdamW creates them at its first update, which fp16 may skip many times until it has found its loss scale.
    """
    stage, adam = engine.zero_optimization_stage(), _adam(engine)
    if stage == 3:
        owned = list(engine.optimizer.fp32_partitioned_groups_flat)
    else:
        owned = [parameter for group in adam.param_groups for parameter in group["params"]]
    for parameter in owned:  # DeepSpeed's partitions are parameters of AdamW
        if not adam.state[parameter]:
            moments = {kind: torch.zeros_like(parameter, requires_grad=False) for kind in MOMENTS}
            step = torch.tensor(float(updates), device=parameter.device)  # where fused AdamW counts
            adam.state[parameter] = {"step": step, **moments}
    if stage in (1, 2):
        # DeepSpeed links parameters with their moments once, after the step of the first parameter group, when the
        # other groups have no moments yet.
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def adam_updates(engine: Any) -> int:
    """Updates that AdamW has made."""
    return max((int(state["step"]) for state in _adam(engine).state.values() if "step" in state), default=0)


def loss_scaler_state(engine: Any) -> dict[str, float]:
    """State of fp16's dynamic loss scaler; empty for other precisions."""
    scaler = getattr(engine.optimizer, "loss_scaler", None) if engine.fp16_enabled() else None
    return {k: v for k, v in vars(scaler).items() if isinstance(v, (int, float))} if scaler else {}


def restore_loss_scaler(engine: Any, numbers: dict[str, float]) -> None:
    """Restores what `loss_scaler_state` returned."""
    for name, value in numbers.items():
        setattr(engine.optimizer.loss_scaler, name, value)
