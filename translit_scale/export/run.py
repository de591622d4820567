"""Exports a checkpoint of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from translit_scale.config import Config, load_config
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.evaluate.embedding import ALIGNMENT_DEPTH
from translit_scale.export.card import model_card
from translit_scale.export.folder import export_folder
from translit_scale.model.encoder import resolve_layer
from translit_scale.train.checkpointing.checkpoint import (
    read_info,
)
from translit_scale.train.checkpointing.trained import find_checkpoint, trained_model


def export_run(
    run: Path, step: int | Literal["best"] | None, out: Path, licence: str | None = None, force: bool = False
) -> int:
    """Exports a checkpoint of a training run; returns its step.

    Args:
        step: step of the checkpoint; `best` means the one named in best.json, None the newest complete one.

    Raises:
        DataError: the run or checkpoint does not exist.
        ConfigError: `out` must not be replaced, see `export_folder`.
    """
    checkpoint = find_checkpoint(run, step)
    config, info = load_config([run / "config.yaml"]), read_info(checkpoint)
    model = trained_model(run, checkpoint)
    layer = alignment_layer(config, model.config.num_hidden_layers)
    card = model_card(model, config, info, layer, licence)
    export_folder(model, load_tokenizer(str(run / "model")), out, card, layer, force)
    return info.step


def alignment_layer(config: Config, num_layers: int) -> int:
    """Index into hidden_states of the layer that sentence embeddings are made from: that of the contrastive objective,
    and without one the layer that `evaluate` takes by default."""
    tcm = config.objectives.tcm
    return resolve_layer(tcm.layer if tcm.weight else ALIGNMENT_DEPTH, num_layers)
