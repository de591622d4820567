"""Checkpoints that are complete or not there: written aside by all ranks, then published by a rename.

    checkpoints/step_002000/       DeepSpeed's files (weights, optimizer shard of each rank) and COMPLETE.json
    checkpoints/step_004000.tmp/   left by a run that was killed while writing; removed at the next start
    checkpoints/latest             name of the newest complete one

Nothing random is stored: order, masks and dropout are functions of the seed and the step. DeepSpeed's own `latest`
is not used, because it is written before the other ranks have finished.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from translit_scale.errors import DataError
from translit_scale.files import read_json, sync, write_bytes, write_json
from translit_scale.quiet import quiet_prints
from translit_scale.schema import changed_settings
from translit_scale.train.launch import Rank, choose_accelerator

COMPLETE = "COMPLETE.json"
FORMAT = 1
NAME = re.compile(r"step_([0-9]{6,})")


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


def complete_checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints under `directory`, oldest first."""
    found = [(int(match[1]), path) for path in directory.glob("step_*") if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found) if (path / COMPLETE).is_file()]


def save_checkpoint(engine: Any, directory: Path, info: CheckpointInfo, keep: int, rank: Rank) -> None:
    """Writes a checkpoint of all ranks and publishes it; older ones beyond `keep` are removed afterwards.

    Every rank must call it. A rank that cannot write its part raises on its own: nothing is published before all
    ranks have written theirs, so the previous checkpoint stays the newest.

    Raises:
        DataError: this rank could not write (full disk, no permission).
    """
    final = directory / checkpoint_name(info.step)
    temporary = directory / f"{final.name}.tmp"
    hint = "is the disk full? make room and run the same command again: it goes on from the previous checkpoint"
    try:
        with _file_errors(f"could not write the checkpoint {final}", hint):
            if rank.is_first:
                directory.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)
            dist.barrier()
            engine.save_checkpoint(str(directory), tag=temporary.name, save_latest=False)
            dist.barrier()
            if rank.is_first:
                _publish(temporary, final, info)
                for old in complete_checkpoints(directory)[:-keep]:
                    shutil.rmtree(old)
    except DataError:
        shutil.rmtree(temporary, ignore_errors=True)  # gives the space back
        raise


@contextmanager
def _file_errors(message: str, hint: str) -> Iterator[None]:
    """Turns what torch and the system raise about files into a DataError."""
    try:
        yield
    except (OSError, EOFError, KeyError, pickle.UnpicklingError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        if isinstance(error, RuntimeError) and "inline_container" not in text and "PytorchStream" not in text:
            raise  # not a full disk or a damaged file, which torch reports as RuntimeError, but a collective
        raise DataError(f"{message}: {text}", hint) from error


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


def remove_unfinished(directory: Path) -> None:
    """Removes what a killed run has left half-written; the first rank calls it before training."""
    for path in directory.glob("step_*.tmp"):
        shutil.rmtree(path)


def read_info(checkpoint: Path) -> CheckpointInfo:
    """COMPLETE.json of a checkpoint, after checking that its files are there in full.

    Raises:
        DataError: not a complete checkpoint, or a file is missing or has another size.
    """
    record = checkpoint / COMPLETE
    value = read_json(record, "checkpoint record", "this checkpoint was never completed: use another one")
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise DataError(f"{record}: not a checkpoint record of format {FORMAT}", _without(checkpoint))
    try:
        files, info = value.pop("files"), CheckpointInfo(**value)
    except (KeyError, TypeError) as error:
        raise DataError(f"{record} is damaged: {error}", _without(checkpoint)) from None
    for name, size in files.items():
        path = checkpoint / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            raise DataError(
                f"checkpoint file {path}: expected {size:,} bytes, found "
                f"{'no file' if found is None else f'{found:,}'}",
                _without(checkpoint),
            )
    return info


def _without(checkpoint: Path) -> str:
    return f"remove {checkpoint} to go on from the one before it"


def check_same_experiment(checkpoint: Path, expected: CheckpointInfo) -> int:
    """Compares a checkpoint with the run that wants to go on from it; returns its step.

    Raises:
        DataError: it is damaged or belongs to other settings, data or another number of ranks; all are listed.
    """
    info = read_info(checkpoint)
    differences = [
        f"{name}: {old!r} in the checkpoint, {new!r} now"
        for name, old, new in [
            ("number of ranks", info.world_size, expected.world_size),
            ("ZeRO stage", info.zero_stage, expected.zero_stage),
            ("shards", info.shards, expected.shards),
            ("tokenizer", info.tokenizer, expected.tokenizer),
            *changed_settings(_until(info.step, info.science), _until(info.step, expected.science)),
        ]
        if old != new
    ]
    if differences:
        raise DataError(
            "\n    ".join([f"{checkpoint} belongs to another experiment:", *differences]),
            "go back to what the checkpoint says, or start a run of its own: run.name=NEW_NAME",
        )
    return info.step


def _until(step: int, science: dict[str, Any]) -> dict[str, Any]:
    """The settings without changes of the mixture that lie ahead of a step: these may still be made or dropped."""
    data = science["data"]
    return {**science, "data": {**data, "changes": [c for c in data["changes"] if c["from_step"] < step]}}


def load_checkpoint(engine: Any, checkpoint: Path) -> None:
    """Restores weights and optimizer. Every rank must call it, on the checkpoint of an equal experiment.

    Loading runs pickled code: only for checkpoints of your own.

    Raises:
        DataError: a file is damaged.
    """
    with _file_errors(f"{checkpoint} is damaged", _without(checkpoint)):
        path, _ = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
        if path is None:  # DeepSpeed only logs it, and would train from new weights
            raise FileNotFoundError("DeepSpeed finds no weights in it")


def consolidated_weights(checkpoint: Path, prefix: str = "lm.") -> dict[str, torch.Tensor]:
    """fp32 weights of a checkpoint, gathered from all ranks' shards, under the names of the Hugging Face model.

    Loading runs pickled code: only for checkpoints of your own.

    Raises:
        DataError: the checkpoint is incomplete or damaged.
    """
    choose_accelerator()
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    read_info(checkpoint)
    with quiet_prints(), _file_errors(f"{checkpoint} is damaged", _without(checkpoint)):
        state = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.parent), tag=checkpoint.name)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
