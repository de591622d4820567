"""Finds checkpoints of a run and loads their models, for evaluation and export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from translit_scale.errors import DataError
from translit_scale.train.checkpointing.checkpoint import (
    COMPLETE,
    best_checkpoint,
    checkpoint_name,
    complete_checkpoints,
)
from translit_scale.train.checkpointing.restoring import consolidated_weights
from translit_scale.train.checkpointing.state import load_weights


def find_checkpoint(run: Path, step: int | Literal["best"] | None) -> Path:
    """Folder of the checkpoint of `step`, of the best one, or of the newest complete one (None).

    Raises:
        DataError: it does not exist; the message lists the complete ones.
    """
    checkpoints = complete_checkpoints(run / "checkpoints")
    if step is None and checkpoints:
        return checkpoints[-1]
    name = best_checkpoint(run) if step == "best" else checkpoint_name(step or 0)
    if name is None and run.is_dir():
        raise DataError(f"{run} has no best.json", "choose a checkpoint: translit-scale select")
    checkpoint = run / "checkpoints" / (name or "")
    if checkpoint in checkpoints:
        return checkpoint
    if not run.is_dir():
        raise DataError(f"run folder not found: {run}", "training writes to runs/NAME, with run.name as NAME")
    available = ", ".join(path.name for path in checkpoints)
    raise DataError(
        f"{run} has no complete checkpoint{'' if step is None else f' {name}'}",
        f"there are: {available}" if available else "training writes the first one after run.checkpoint_every steps",
    )


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a complete checkpoint belongs to; None if the path is not one."""
    is_checkpoint = checkpoint.parent.name == "checkpoints" and (checkpoint / COMPLETE).is_file()
    return checkpoint.parent.parent if is_checkpoint else None


def trained_model(run: Path, checkpoint: Path) -> PreTrainedModel:
    """The masked language model of a run with the fp32 weights of a checkpoint. Leaves torch's random state unchanged.

    Raises:
        DataError: the checkpoint is incomplete or damaged.
    """
    with torch.random.fork_rng(devices=[]):  # a new model draws random weights, which the checkpoint's then replace
        model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(run / "model"))
    weights = consolidated_weights(checkpoint)
    load_weights(model, lambda _, name: weights[name])
    return model


def trained_encoder(run: Path, checkpoint: Path) -> PreTrainedModel:
    """The model of `trained_model` without its head.

    Raises:
        DataError: as `trained_model`.
    """
    encoder = trained_model(run, checkpoint).base_model
    assert isinstance(encoder, PreTrainedModel)
    return encoder
