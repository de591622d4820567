"""Chooses the checkpoint to resume from, and reads the tensors of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open

from translit_scale.errors import ConfigError, DataError
from translit_scale.files import sha256_file
from translit_scale.train.checkpointing import state
from translit_scale.train.checkpointing.checkpoint import complete_checkpoints, file_errors, read_record, remove_hint
from translit_scale.train.launching.ranks import Rank


def choose_checkpoint(run: Path, resume: str, rank: Rank) -> Path | None:
    """The checkpoint to resume from, if any. Every rank must call it.

    Only the first rank looks for checkpoints. Other nodes must not: once a node has asked a network file system for a
    folder that does not exist, it caches the answer for up to a minute and would not see the folder when it is made.

    Args:
        resume: `auto`, `none` or the path of a checkpoint.

    Raises:
        ConfigError: `none` although the run has checkpoints.
    """
    if resume not in ("auto", "none"):
        return Path(resume)
    existing = complete_checkpoints(run / "checkpoints") if rank.is_first else []
    newest = [existing[-1] if existing else None]
    dist.broadcast_object_list(newest)
    if resume == "none" and newest[0]:
        raise ConfigError(
            f"{run} already has the checkpoint {newest[0].name}, and --resume none would overwrite it",
            "resume from it with --resume auto, or choose another run.name",
        )
    return newest[0]


class CheckpointState:
    """The tensors of a checkpoint, read one at a time."""

    def __init__(self, checkpoint: Path) -> None:
        """Opens the files.

        Raises:
            DataError: the checkpoint is incomplete or damaged.
        """
        self.checkpoint = checkpoint
        self.info, self.counts, self._sha256 = read_record(checkpoint)
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
                raise DataError(f"checkpoint file {self.checkpoint / name} is damaged", remove_hint(self.checkpoint))

    def read(self, kind: str, name: str) -> torch.Tensor:
        """The whole tensor of a parameter: `weights`, `exp_avg` or `exp_avg_sq`.

        Raises:
            DataError: the checkpoint does not have it.
        """
        key = f"{kind}/{name}"
        if key not in self._file:
            raise DataError(f"{self.checkpoint} has no {key}: it is of another model", remove_hint(self.checkpoint))
        with self._errors():
            tensor: torch.Tensor = self._file[key].get_tensor(key)
        return tensor

    def names(self, kind: str) -> list[str]:
        """Names of all parameters."""
        return [key.partition("/")[2] for key in self._file if key.startswith(f"{kind}/")]

    def _errors(self) -> Any:
        return file_errors(f"{self.checkpoint} is damaged", remove_hint(self.checkpoint))


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
