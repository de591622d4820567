"""Resolves the numeric precision of a run from the experiment, the DeepSpeed JSON and the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from translit_scale.config import Precision
from translit_scale.deepspeed_json import choose_precision
from translit_scale.errors import ConfigError
from translit_scale.model.devices import is_ampere


def resolve_precision(requested: str, ds_json: dict[str, Any], device: torch.device) -> tuple[Precision, list[str]]:
    """`choose_precision` for the device of this process."""
    on_cpu = device.type == "cpu"
    return choose_precision(requested, ds_json, on_cpu, has_bf16=not on_cpu and is_ampere(device))


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
