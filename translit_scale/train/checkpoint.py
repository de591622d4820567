"""Checkpoints that are complete or not there: written aside by all ranks, then published by a rename.

    checkpoints/step_002000/       state-00000.safetensors … (weights and moments, whole) and COMPLETE.json
    checkpoints/step_004000.tmp/   left by a run that was killed while writing; removed at the next start
    checkpoints/latest             name of the newest complete one

Nothing random is stored: order, masks and dropout are functions of the seed and the step. A checkpoint can be gone on
from with any number of ranks and any ZeRO stage, and reading one runs no code. DeepSpeed's own checkpoints can neither,
and their `latest` is written before the other ranks have finished.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from translit_scale.errors import DataError
from translit_scale.files import read_json, sha256_file, sync, write_bytes, write_json
from translit_scale.schema import changed_settings
from translit_scale.train import state
from translit_scale.train.launch import Rank

COMPLETE = "COMPLETE.json"
FORMAT = 2
NAME = re.compile(r"step_([0-9]{6,})")
MOST_WRITERS = 16
"""Ranks that write a file each; with more, files would become many rather than small."""


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


@dataclass(frozen=True)
class EngineCounts:
    """Numbers of the engine that go on; stored in COMPLETE.json."""

    updates: int
    """AdamW updates made: steps less skipped ones."""
    skipped: int
    """Steps whose update was skipped."""
    loss_scaler: dict[str, float]
    """fp16 only."""


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
        DataError: this rank could not write (full disk, no permission), or the disk is too small.
    """
    final = directory / checkpoint_name(info.step)
    temporary = directory / f"{final.name}.tmp"
    hint = "is the disk full? make room and run the same command again: it goes on from the previous checkpoint"
    try:
        with _file_errors(f"could not write the checkpoint {final}", hint):
            if rank.is_first:
                directory.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)
                _check_space(engine, directory)
                temporary.mkdir()
            dist.barrier()
            files = _write_state(engine, temporary, rank)
            if rank.is_first:
                counts = EngineCounts(state.adam_updates(engine), engine.skipped_steps, state.loss_scaler_state(engine))
                _publish(temporary, final, info, counts, files)
                for old in complete_checkpoints(directory)[:-keep]:
                    shutil.rmtree(old)
    except DataError:
        shutil.rmtree(temporary, ignore_errors=True)  # gives the space back
        raise


def _check_space(engine: Any, directory: Path) -> None:
    needed = 12 * sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DataError(
            f"a checkpoint needs {needed / 1e9:.2f} GB, and the disk of {directory} has {free / 1e9:.2f} GB free",
            "make room, or set run.dir to another disk; the previous checkpoint is intact",
        )


def _write_state(engine: Any, directory: Path, rank: Rank) -> dict[str, dict[str, Any]]:
    """Gathers the state; each of the first ranks writes the parameters that fall to it.

    Returns:
        On the first rank: bytes and sha256 of every file by its name.
    """
    writers = min(rank.world_size, MOST_WRITERS)
    writer = {name: number % writers for number, (name, _) in enumerate(state.trained_parameters(engine))}
    own: dict[str, torch.Tensor] = {}
    for kind, name, tensor in state.gathered(engine):
        if writer[name] == rank.rank:
            own[f"{kind}/{name}"] = tensor.to("cpu", torch.float32, copy=True).contiguous()
    written: dict[str, dict[str, Any]] = {}
    if own:
        path = directory / f"state-{rank.rank:05d}.safetensors"
        save_file(own, path)
        sync(path)
        written[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    of_rank: list[dict[str, dict[str, Any]]] = [{} for _ in range(rank.world_size)]
    dist.all_gather_object(of_rank, written)
    return {name: entry for part in of_rank for name, entry in sorted(part.items())}


@contextmanager
def _file_errors(message: str, hint: str) -> Iterator[None]:
    """Turns what safetensors and the system raise about files into a DataError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DataError(f"{message}: {str(error).partition(chr(10))[0]}", hint) from error


def _publish(
    temporary: Path, final: Path, info: CheckpointInfo, counts: EngineCounts, files: dict[str, dict[str, Any]]
) -> None:
    record = {"format": FORMAT, **asdict(info), "counts": asdict(counts), "files": files}
    write_json(temporary / COMPLETE, record)
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
    """What a checkpoint belongs to, after checking that its files are there in full.

    Raises:
        DataError: not a complete checkpoint, or a file is missing or has another size.
    """
    return _read_record(checkpoint)[0]


def _read_record(checkpoint: Path) -> tuple[CheckpointInfo, EngineCounts, dict[str, dict[str, Any]]]:
    record = checkpoint / COMPLETE
    value = read_json(record, "checkpoint record", "this checkpoint was never completed: use another one")
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise DataError(f"{record}: not a checkpoint record of format {FORMAT}", _without(checkpoint))
    try:
        files, counts = value.pop("files"), EngineCounts(**value.pop("counts"))
        sizes = {name: entry["bytes"] for name, entry in files.items()}
        info = CheckpointInfo(**value)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record} is damaged: {error}", _without(checkpoint)) from None
    for name, size in sizes.items():
        path = checkpoint / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            raise DataError(
                f"checkpoint file {path}: expected {size:,} bytes, found "
                f"{'no file' if found is None else f'{found:,}'}",
                _without(checkpoint),
            )
    return info, counts, files


def _without(checkpoint: Path) -> str:
    return f"remove {checkpoint} to go on from the one before it"


def check_same_experiment(checkpoint: Path, expected: CheckpointInfo) -> int:
    """Compares a checkpoint with the run that wants to go on from it; returns its step.

    Raises:
        DataError: it is damaged or belongs to other settings or data; all differences are listed.
    """
    info = read_info(checkpoint)
    differences = [
        f"{name}: {old!r} in the checkpoint, {new!r} now"
        for name, old, new in [
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


class CheckpointState:
    """The tensors of a checkpoint, read one at a time."""

    def __init__(self, checkpoint: Path) -> None:
        """Opens the files.

        Raises:
            DataError: the checkpoint is incomplete or damaged.
        """
        self.checkpoint = checkpoint
        self.info, self.counts, self._sha256 = _read_record(checkpoint)
        self._file: dict[str, Any] = {}
        with self._errors():
            for name in self._sha256:
                opened = safe_open(checkpoint / name, framework="pt")
                self._file.update(dict.fromkeys(opened.keys(), opened))

    def verify(self, part: int = 0, parts: int = 1) -> None:
        """Compares every `parts`-th file with its sha256.

        Raises:
            DataError: a file is damaged.
        """
        for name, entry in sorted(self._sha256.items())[part::parts]:
            if sha256_file(self.checkpoint / name) != entry["sha256"]:
                raise DataError(f"checkpoint file {self.checkpoint / name} is damaged", _without(self.checkpoint))

    def read(self, kind: str, name: str) -> torch.Tensor:
        """The whole tensor of a parameter: `weights`, `exp_avg` or `exp_avg_sq`.

        Raises:
            DataError: it is not there.
        """
        key = f"{kind}/{name}"
        if key not in self._file:
            raise DataError(f"{self.checkpoint} has no {key}: it is of another model", _without(self.checkpoint))
        with self._errors():
            tensor: torch.Tensor = self._file[key].get_tensor(key)
        return tensor

    def names(self, kind: str) -> list[str]:
        """Names of all parameters."""
        return [key.partition("/")[2] for key in self._file if key.startswith(f"{kind}/")]

    def _errors(self) -> Any:
        return _file_errors(f"{self.checkpoint} is damaged", _without(self.checkpoint))


def load_checkpoint(engine: Any, saved: CheckpointState) -> None:
    """Restores optimizer, fp32 weights and counts. Every rank must call it; the module has the weights already.

    Raises:
        DataError: a file is damaged.
    """
    state.restore(engine, saved.read, saved.counts.updates)
    state.restore_loss_scaler(engine, saved.counts.loss_scaler)
    engine.global_steps, engine.skipped_steps = saved.info.step, saved.counts.skipped


def consolidated_weights(checkpoint: Path, prefix: str = "lm.") -> dict[str, torch.Tensor]:
    """fp32 weights of a checkpoint under the names of the Hugging Face model.

    Raises:
        DataError: the checkpoint is incomplete or damaged.
    """
    saved = CheckpointState(checkpoint)
    saved.verify()
    names = [name for name in saved.names(state.WEIGHTS) if name.startswith(prefix)]
    return {name.removeprefix(prefix): saved.read(state.WEIGHTS, name) for name in names}
