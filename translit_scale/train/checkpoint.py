"""Checkpoints that are complete or not there: written aside, checked on all ranks, then published by a rename.

    checkpoints/step_002000/   DeepSpeed's files (weights, optimizer shard of each rank) and COMPLETE.json
    checkpoints/latest         name of the newest complete one

Nothing random is stored: order, masks and dropout are functions of the seed and the step. DeepSpeed's own `latest`
is not used, because it is written before the other ranks have finished.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from translit_scale.errors import DataError
from translit_scale.files import read_json, sync, write_bytes, write_json
from translit_scale.train.launch import Rank

COMPLETE = "COMPLETE.json"
FORMAT = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint belongs to; stored in COMPLETE.json."""

    step: int
    """Optimizer steps taken = the next t: the whole state of data order, masks and dropout."""
    world_size: int
    zero_stage: int
    science: dict[str, Any]
    """Resolved settings that decide the weights."""
    shards: str
    """Fingerprint of the shard set."""
    tokenizer: str
    """Fingerprint of the tokenizer."""
    pairs: dict[str, int]
    """Pairs of each language trained on."""


def checkpoint_name(step: int) -> str:
    """Directory name of a checkpoint."""
    return f"step_{step:06d}"


def save_checkpoint(engine: Any, directory: Path, info: CheckpointInfo, keep: int, rank: Rank) -> None:
    """Writes a checkpoint of all ranks and publishes it; older ones beyond `keep` are removed afterwards.

    Every rank must call it.

    Raises:
        DataError: a rank could not write its part (full disk); the previous checkpoint stays the newest one.
    """
    final = directory / checkpoint_name(info.step)
    temporary = directory / f"{final.name}.tmp"
    if rank.is_first:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
    dist.barrier()
    problem = ""
    try:
        engine.save_checkpoint(str(directory), tag=temporary.name, save_latest=False)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        problem = str(error).splitlines()[0]
    _all_must_agree(problem, temporary, rank)
    if rank.is_first:
        _publish(temporary, final, info)
        _prune(directory, keep)
    dist.barrier()


def _all_must_agree(problem: str, temporary: Path, rank: Rank) -> None:
    """Raises on every rank when any rank failed."""
    problems: list[str | None] = [None] * rank.world_size
    dist.all_gather_object(problems, problem)
    failed = [f"rank {r}: {text}" for r, text in enumerate(problems) if text]
    if failed:
        if rank.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(
            f"could not write the checkpoint {temporary.with_suffix('')}: {'; '.join(failed)}",
            "free disk space and run the same command again: it goes on from the previous checkpoint",
        )


def _publish(temporary: Path, final: Path, info: CheckpointInfo) -> None:
    files = {str(p.relative_to(temporary)): p.stat().st_size for p in sorted(temporary.rglob("*")) if p.is_file()}
    for name in files:
        sync(temporary / name)
    write_json(temporary / COMPLETE, {"format": FORMAT, **asdict(info), "files": files})
    if final.exists():  # a run that was set back by hand writes the same step again
        shutil.rmtree(final)
    temporary.replace(final)
    sync(final.parent)
    write_bytes(final.parent / "latest", f"{final.name}\n".encode())


def _prune(directory: Path, keep: int) -> None:
    for old in complete_checkpoints(directory)[:-keep]:
        shutil.rmtree(old)


def complete_checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints under `directory`, oldest first."""
    return sorted(path.parent for path in directory.glob(f"step_*/{COMPLETE}") if path.parent.suffix != ".tmp")


def read_info(checkpoint: Path) -> CheckpointInfo:
    """COMPLETE.json of a checkpoint, after checking that its files are there in full.

    Raises:
        DataError: not a complete checkpoint, or a file is missing or has another size.
    """
    value = read_json(
        checkpoint / COMPLETE, "checkpoint record", "this checkpoint was never completed: use another one"
    )
    if value.pop("format", None) != FORMAT:
        raise DataError(f"{checkpoint / COMPLETE}: unknown checkpoint format", "it was written by another version")
    for name, size in value.pop("files").items():
        path = checkpoint / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            raise DataError(
                f"checkpoint file {path}: expected {size} bytes, found {'no file' if found is None else found}",
                f"remove {checkpoint} to go on from the one before it",
            )
    return CheckpointInfo(**value)


def load_checkpoint(engine: Any, checkpoint: Path, expected: CheckpointInfo) -> int:
    """Restores weights and optimizer; returns the step to go on with. Every rank must call it.

    Raises:
        DataError: the checkpoint is damaged or belongs to other settings, data or another number of ranks.
    """
    info = read_info(checkpoint)
    differences = [
        f"{name}: checkpoint {old!r}, now {new!r}"
        for name, old, new in [
            ("number of ranks", info.world_size, expected.world_size),
            ("ZeRO stage", info.zero_stage, expected.zero_stage),
            ("shards", info.shards, expected.shards),
            ("tokenizer", info.tokenizer, expected.tokenizer),
            *_changed_settings(info.science, expected.science),
        ]
        if old != new
    ]
    if differences:
        raise DataError(
            f"{checkpoint} belongs to another experiment: " + "; ".join(differences),
            "go back to its settings, or start a new run with run.name=NEW_NAME",
        )
    path, _ = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
    if path is None:
        raise DataError(
            f"DeepSpeed could not load {checkpoint}", f"remove {checkpoint} to go on from the one before it"
        )
    return info.step


def _changed_settings(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted names of settings that differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for key in keys for d in _changed_settings(old.get(key), new.get(key), f"{name}.{key}".strip("."))]
    return [(name, old, new)] if old != new else []


def consolidated_weights(checkpoint: Path, prefix: str = "lm.") -> dict[str, torch.Tensor]:
    """fp32 weights of a checkpoint, gathered from all ranks' shards, under the names of the Hugging Face model.

    Loading runs pickled code: only for checkpoints of your own.
    """
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    read_info(checkpoint)
    state = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
