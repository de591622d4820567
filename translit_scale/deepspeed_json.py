"""The DeepSpeed JSON: ZeRO stage, micro-batch and precision, read and checked without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from translit_scale.config import Precision
from translit_scale.errors import ConfigError

MICRO = "train_micro_batch_size_per_gpu"
AUTO = "auto"
CPU_PAIRS = 32
"""Of a micro-batch on a CPU with `"auto"`: it does not depend on the memory that happens to be free, and larger ones
are not faster there."""
BLOCKS: dict[str, Precision] = {
    "fp16": "fp16", "bf16": "bf16", "bfloat16": "bf16", "torch_autocast": "bf16_autocast"
}  # fmt: skip
"""Blocks of a DeepSpeed JSON that switch a precision on."""
LOW_MASTERS = ("_master_weights_and_grads", "_optimizer_states")
"""Options that would give the optimizer 16-bit weights or states."""


def read_ds_json(path: Path) -> dict[str, Any]:
    """Reads a DeepSpeed configuration file.

    Raises:
        ConfigError: missing, or not a JSON object with objects for ZeRO and precision.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = ", ".join(str(p) for p in sorted(path.parent.glob("*.json")))
        raise ConfigError(f"DeepSpeed configuration not found: {path}", f"there are: {near}" if near else "") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read the DeepSpeed configuration: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object")
    if not isinstance(zero := value.get("zero_optimization", {}), dict):
        raise ConfigError(
            f"{path}: zero_optimization must be an object, found {zero!r}",
            "translit-scale configs zero2 prints one",
        )
    check_blocks(value, path)
    return value


def micro_batch_pairs(ds_json: dict[str, Any], path: Path, on_cpu: bool) -> int | None:
    """Pairs of a micro-batch; None for `"auto"` on a GPU: as many as fit.

    Raises:
        ConfigError: it is missing or not a positive number.
    """
    micro = ds_json.get(MICRO)
    if micro == AUTO:
        return CPU_PAIRS if on_cpu else None
    if not isinstance(micro, int) or isinstance(micro, bool) or micro < 1:
        raise ConfigError(
            f'{path}: {MICRO} must be a number of pairs or "auto", found {micro!r}',
            "it is how many pairs one device can hold at once; the number of micro-batches follows from it",
        )
    return micro


def zero_stage(ds_json: dict[str, Any], path: Path) -> int:
    """Stage of ZeRO; 0 where the JSON has none.

    Raises:
        ConfigError: there is no such stage.
    """
    stage: int = ds_json.get("zero_optimization", {}).get("stage", 0)
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"{path}: zero_optimization.stage is {stage!r}; there are 0, 1, 2 and 3")
    return stage


def choose_precision(
    requested: str, ds_json: dict[str, Any], on_cpu: bool, has_bf16: bool
) -> tuple[Precision, list[str]]:
    """The precision of the training, and notes for the user about it.

    Args:
        requested: `train.precision` of the experiment.
        ds_json: the DeepSpeed JSON; `"enabled": "auto"` leaves the decision to the experiment.
        on_cpu: the training runs on CPU ranks; has_bf16: its GPUs have bf16.

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
    if on_cpu:
        if precision == "fp16":
            return "fp32", ["fp16 does not run on CPU: running fp32"]
        return ("fp32" if precision == "auto" else precision), []  # type: ignore[return-value]
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
