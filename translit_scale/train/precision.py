"""Resolves the numeric precision of a run from the experiment, the DeepSpeed JSON and the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from translit_scale.config import Precision
from translit_scale.errors import ConfigError
from translit_scale.model.devices import is_ampere

BLOCKS: dict[str, Precision] = {
    "fp16": "fp16", "bf16": "bf16", "bfloat16": "bf16", "torch_autocast": "bf16_autocast"
}  # fmt: skip
"""Blocks of a DeepSpeed JSON that switch a precision on."""
LOW_MASTERS = ("_master_weights_and_grads", "_optimizer_states")
"""Options that would give the optimizer 16-bit weights or states."""


def resolve_precision(requested: str, ds_json: dict[str, Any], device: torch.device) -> tuple[Precision, list[str]]:
    """The precision of the training, and notes for the user about it.

    Args:
        requested: `train.precision` of the experiment.
        ds_json: the DeepSpeed JSON; `"enabled": "auto"` leaves the decision to the experiment.

    Raises:
        ConfigError: experiment and JSON request different precisions.
    """
    in_json = [precision for block, precision in BLOCKS.items() if ds_json.get(block, {}).get("enabled") is True]
    if len(in_json) > 1 or (in_json and requested not in ("auto", in_json[0])):
        raise ConfigError(
            f"contradicting precisions: JSON {' and '.join(in_json)}, experiment train.precision={requested}",
            "leave precision out of the JSON, or set train.precision=auto",
        )
    precision = in_json[0] if in_json else requested
    if device.type == "cpu":
        if precision == "fp16":
            return "fp32", ["fp16 does not run on CPU: running fp32"]
        return ("fp32" if precision == "auto" else precision), []  # type: ignore[return-value]
    has_bf16 = is_ampere(device)
    if precision == "auto":
        return ("bf16_autocast" if has_bf16 else "fp16"), []
    if precision.startswith("bf16") and not has_bf16:
        return "fp16", ["this GPU has no bf16: running fp16 with loss scaling"]
    return precision, []  # type: ignore[return-value]


def check_blocks(ds_json: dict[str, Any], path: Path) -> None:
    """Refuses a DeepSpeed JSON whose precision blocks are wrong.

    Raises:
        ConfigError: a block is malformed, or requests fp16 autocast or a 16-bit optimizer.
    """
    for name in BLOCKS:
        block = ds_json.get(name, {})
        if not isinstance(block, dict):
            raise ConfigError(
                f"{path}: {name} must be an object, found {block!r}", "translit-scale configs zero2 prints an example"
            )
        if block.get("enabled", False) not in (True, False, "auto"):
            raise ConfigError(f'{path}: {name}.enabled must be true, false or "auto", found {block["enabled"]!r}')
        for option, value in block.items():
            if value and option.endswith(LOW_MASTERS):
                raise ConfigError(
                    f"{path}: {name}.{option}: optimizer and checkpoints work with fp32 weights here", "remove it"
                )
    if ds_json.get("torch_autocast", {}).get("dtype", "bfloat16") != "bfloat16":
        raise ConfigError(
            f"{path}: torch_autocast.dtype is {ds_json['torch_autocast']['dtype']!r}; autocast is for bfloat16",
            'use "fp16": {"enabled": true} for fp16 with loss scaling',
        )


def check_stage(precision: Precision, stage: int, ds_json: dict[str, Any], path: Path) -> None:
    """Refuses combinations of precision and ZeRO stage that DeepSpeed accepts but computes wrongly.

    Raises:
        ConfigError: 16-bit parameters at stage 0, or fp32 accumulation of bf16 gradients at stage 1.
    """
    if stage == 0 and precision in ("fp16", "bf16"):  # DeepSpeed's wrapper takes a step of its own before the first one
        raise ConfigError(
            f"{path}: ZeRO stage 0 with {precision} begins with a wrong Adam step in DeepSpeed: its bias correction "
            "counts one step too many, and the first update is about 0.74 of what it should be",
            "stage 1 on a single GPU costs nothing over stage 0: use --ds_config zero1",
        )
    if stage == 1 and precision == "bf16" and ds_json.get("data_types", {}).get("grad_accum_dtype") == "fp32":
        raise ConfigError(
            f"{path}: bf16 at ZeRO stage 1 cannot accumulate gradients in fp32 with one reduction a step",
            "use stage 2, train.precision=bf16_autocast, or remove data_types.grad_accum_dtype",
        )


def precision_block(precision: Precision, ds_json: dict[str, Any]) -> dict[str, Any]:
    """The block of DeepSpeed's configuration that switches the precision on, with the options given for it."""
    if precision == "fp32":
        return {}
    name = "torch_autocast" if precision == "bf16_autocast" else precision
    dtype = {"dtype": "bfloat16"} if precision == "bf16_autocast" else {}
    return {name: {**ds_json.get(name, {}), "enabled": True, **dtype}}
