"""Checkpoints, which are either complete or absent: folders and records. saving.py writes, restoring.py reads tensors.

    checkpoints/step_002000/       state-00000.safetensors … (weights and moments, whole) and COMPLETE.json
    checkpoints/step_004000.tmp/   being written, or left by a run that was killed; removed at the next start
    checkpoints/latest             name of the newest complete one

Nothing random is stored: order, masks and dropout are functions of the seed and the step. A training resumes from a
checkpoint with any number of ranks and any ZeRO stage, and reading one runs no code. DeepSpeed's own checkpoints offer
neither, and DeepSpeed writes their `latest` before the other ranks have finished.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from translit_scale.batch.order import PairOrder, total_steps
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import Config, stored_config
from translit_scale.errors import ConfigError, DataError
from translit_scale.files import read_json
from translit_scale.progress import say
from translit_scale.schema import changed_settings

COMPLETE = "COMPLETE.json"
FORMAT = 2
NAME = re.compile(r"step_[0-9]{6,}")


@dataclass(frozen=True)
class CheckpointInfo:
    """The step, experiment and data of a checkpoint; stored in COMPLETE.json."""

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
    """Pairs of each language of the experiment, also of those that only a later mixture has."""
    visits: dict[str, int] | None = None
    """Pairs of each language that the steps have visited, repeated ones as often as they were; None in old records."""


@dataclass(frozen=True)
class EngineCounts:
    """Counts of the engine that a resumed training continues; stored in COMPLETE.json."""

    updates: int
    """AdamW updates made: steps minus skipped ones."""
    skipped: int
    """Steps whose update was skipped."""
    loss_scaler: dict[str, float]
    """fp16 only."""


def checkpoint_name(step: int) -> str:
    """Directory name of a checkpoint."""
    return f"step_{step:06d}"


def checkpoint_step(checkpoint: Path) -> int:
    """Step of a checkpoint by the name of its directory."""
    return int(checkpoint.name.removeprefix("step_"))


def complete_checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints under `directory`, oldest first."""
    named = sorted((path for path in directory.glob("step_*") if NAME.fullmatch(path.name)), key=checkpoint_step)
    return [path for path in named if (path / COMPLETE).is_file()]


def best_checkpoint(run: Path) -> str | None:
    """Name of the checkpoint in `best.json` of a run directory; None without that file.

    Raises:
        DataError: the file is damaged, or names no checkpoint.
    """
    path = run / "best.json"
    if not path.exists():
        return None
    value = read_json(path, "choice of the best checkpoint", hint := "remove it, and choose again")
    name = value.get("checkpoint") if isinstance(value, dict) else None
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DataError(f'{path}: expected {{"checkpoint": "step_002000", …}}, found {str(value)[:80]}', hint)
    return name


@contextmanager
def file_errors(message: str, hint: str) -> Iterator[None]:
    """Turns errors of safetensors and of the file system into a DataError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DataError(f"{message}: {str(error).partition(chr(10))[0]}", hint) from error


def remove_unfinished(directory: Path, pattern: str = "step_*.tmp") -> None:
    """Removes unfinished checkpoints of a killed run, or other leftovers; the first rank calls it before training."""
    for path in directory.glob(pattern):
        remove_if_possible(path)


def remove_if_possible(folder: Path) -> None:
    """Removes a folder, or says that it takes space: a network file system keeps files that another program reads."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        say(f"warning: {folder} takes space, because it cannot be removed yet: {error}", error=True)


def read_info(checkpoint: Path, check_files: bool = True) -> CheckpointInfo:
    """The record of a checkpoint, after checking that its files are complete.

    Args:
        check_files: a copy of a run may have the records of its checkpoints only.

    Raises:
        DataError: not a complete checkpoint, or a file is missing or has another size.
    """
    return read_record(checkpoint, check_files)[0]


def read_record(
    checkpoint: Path, check_files: bool = True
) -> tuple[CheckpointInfo, EngineCounts, dict[str, dict[str, Any]]]:
    """What COMPLETE.json says of a checkpoint, and the entries of its files.

    Raises:
        DataError: the checkpoint is incomplete or damaged, or of another format.
    """
    record = checkpoint / COMPLETE
    value = read_json(record, "checkpoint record", "this checkpoint was never completed: use another one")
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise DataError(f"{record}: not a checkpoint record of format {FORMAT}", remove_hint(checkpoint))
    try:
        files, counts = value.pop("files"), EngineCounts(**value.pop("counts"))
        sizes = {name: entry["bytes"] for name, entry in files.items()}
        info = CheckpointInfo(**value)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record} is damaged: {error}", remove_hint(checkpoint)) from None
    for name, size in sizes.items() if check_files else ():
        path = checkpoint / name
        actual = path.stat().st_size if path.is_file() else None
        if actual != size:
            raise DataError(
                f"checkpoint file {path}: expected {size:,} bytes, found "
                f"{'no file' if actual is None else f'{actual:,}'}",
                remove_hint(checkpoint),
            )
    return info, counts, files


def visits_of(info: CheckpointInfo) -> dict[str, int]:
    """Pairs of each language that the steps before a checkpoint have visited, repeated ones as often as they were.

    Raises:
        ConfigError: an old record, whose visits follow from its settings, has some that are not valid any more.
    """
    if info.visits is not None:
        return info.visits
    config = stored_config(info.science, f"record of step {info.step}")
    order, _ = PairOrder.of_experiment(config.data, config.train, info.pairs)
    return order.visits_before(BatchSizes.of(config.train).before(info.step))


def remove_hint(checkpoint: Path) -> str:
    return f"remove {checkpoint} to resume from the one before it"


def check_same_experiment(checkpoint: Path, expected: CheckpointInfo) -> int:
    """Compares a checkpoint with the run that wants to resume from it; returns its step.

    Raises:
        DataError: it is damaged or belongs to other settings or data; all differences are listed.
    """
    info = read_info(checkpoint)
    configs = (_stored_config(checkpoint, info), stored_config(expected.science, "this run"))
    sciences = [_science_in_steps(config, info.pairs) for config in configs]
    is_open = all(_has_open_end(info.step, science) for science in sciences)
    old, new = (_settings_until(info.step, science, is_open) for science in sciences)
    differences = [
        f"{name}: {before!r} in the checkpoint, {now!r} now"
        for name, before, now in [
            ("shards", info.shards, expected.shards),
            ("tokenizer", info.tokenizer, expected.tokenizer),
            *changed_settings(old, new),
        ]
        if before != now
    ]
    if differences:
        of_length = any(line.startswith("train.max_steps:") for line in differences)
        longer = f"\n    or train its model longer: {hint_for_longer(checkpoint.parent.parent)}" if of_length else ""
        raise DataError(
            "\n    ".join([f"{checkpoint} belongs to another experiment:", *differences]),
            f"go back to what the checkpoint says, or start a run of its own: run.name=NEW_NAME{longer}",
        )
    return info.step


def check_same_order(checkpoint: Path, expected: CheckpointInfo) -> None:
    """Compares the pairs that the steps before a checkpoint have visited with those of this version's stream.

    Args:
        expected: of the same step.

    Raises:
        DataError: they differ, so pairs would be left out or repeated.
    """
    visits, now = read_info(checkpoint, check_files=False).visits, expected.visits or {}
    for language, visited in (visits or {}).items():
        if visited != now.get(language, 0):
            raise DataError(
                f"{checkpoint} has visited {visited:,} pairs of {language} where the stream of this version has "
                f"{now.get(language, 0):,}: it was written by a version that orders the pairs otherwise",
                f"resume it with the version that wrote it ({checkpoint.parent.parent / 'environment.json'} names the "
                f"commit), or train its model further: {hint_for_longer(checkpoint.parent.parent)}",
            )


def _stored_config(checkpoint: Path, info: CheckpointInfo) -> Config:
    """The settings in the record of a checkpoint, with the defaults of those that are newer than the record."""
    try:
        return stored_config(info.science, str(checkpoint / COMPLETE))
    except ConfigError as error:
        raise DataError(
            f"{checkpoint} was written with settings that this version does not have or allow any more:\n"
            f"{error.message}",
            f"resume it with the version that wrote it ({checkpoint.parent.parent / 'environment.json'} names the "
            "commit), or start a run of its own: run.name=NEW_NAME",
        ) from None


def _science_in_steps(config: Config, pairs: dict[str, int]) -> dict[str, Any]:
    """`Config.science` with the number of steps in place of epochs: either may state it."""
    science = config.science()
    science["train"] |= {"max_steps": total_steps(config.train, sum(pairs.values())), "epochs": None}
    return science


def hint_for_longer(run: Path) -> str:
    """How to train the model of a run further, although its number of steps is part of its learning-rate schedule."""
    return f"translit-scale export --run {run}, then run.name=NEW_NAME model.pretrained={run / 'export'}"


def _settings_until(step: int, science: dict[str, Any], has_open_end: bool) -> dict[str, Any]:
    """The settings on which the first `step` steps depend: those without mixture changes after `step`, which may still
    be added or removed, and without the number of steps, if nothing has depended on it."""
    data, train = science["data"], science["train"]
    if has_open_end:
        train = {name: value for name, value in train.items() if name not in ("max_steps", "decay_steps")}
    changes = [change for change in data["mixture_schedule"] if change["from_step"] < step]
    return {**science, "data": {**data, "mixture_schedule": changes}, "train": train}


def _has_open_end(step: int, science: dict[str, Any]) -> bool:
    """Whether the learning rate is constant until `step`, and the order of the data knows no end."""
    data, train = science["data"], science["train"]
    if not train["decay_steps"] or step > train["max_steps"] - train["decay_steps"]:
        return False
    mixtures = [data["mixture"], *(change["mixture"] for change in data["mixture_schedule"])]
    return not any(mixture["max_repeats"] for mixture in mixtures)
