"""Exports a checkpoint of a training run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from translit_scale.config import Config, load_config, resolve_layer
from translit_scale.corpus.manifest import Manifest, read_manifest
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.errors import DataError
from translit_scale.evaluate.embedding import ALIGNMENT_DEPTH
from translit_scale.export.card import CardInput, model_card
from translit_scale.export.folder import export_folder
from translit_scale.export.licences import check_licence
from translit_scale.export.results import read_scores
from translit_scale.train.checkpointing.checkpoint import CheckpointInfo, read_info
from translit_scale.train.checkpointing.trained import find_checkpoint, trained_model


def export_run(
    run: Path,
    step: int | Literal["best"] | None,
    out: Path,
    licence: str | None = None,
    results: Path | None = None,
    force: bool = False,
) -> int:
    """Exports a checkpoint of a training run; returns its step.

    Args:
        step: step of the checkpoint; `best` means the one named in best.json, None the newest complete one.
        licence: for the card, an identifier of the hub.
        results: folder with results of `evaluate` for the card.

    Raises:
        DataError: the run or checkpoint does not exist, or `results` has none of this checkpoint.
        ConfigError: the hub does not know the licence, or `out` must not be replaced, see `export_folder`.
    """
    licence = check_licence(licence) if licence is not None else None
    checkpoint = find_checkpoint(run, step)
    config, info = load_config([run / "config.yaml"]), read_info(checkpoint)
    model = trained_model(run, checkpoint)
    layer = alignment_layer(config, model.config.num_hidden_layers)
    scores = read_scores(results, model, config.model.pretrained) if results else []
    card = model_card(CardInput(model, config, info, layer, licence, training_manifest(config, info), scores))
    export_folder(model, load_tokenizer(str(run / "model")), out, card, layer, force)
    return info.step


def training_manifest(config: Config, info: CheckpointInfo) -> Manifest | None:
    """The manifest of the shards of a checkpoint; None, with a note, if they are no longer there or have changed."""
    try:
        manifest, fingerprint = read_manifest(config.data.shards)
        problem = "has changed since training" if fingerprint != info.shards else ""
    except DataError as error:
        manifest, problem = None, f"cannot be read ({error.message})"
    if problem:
        print(f"note: {config.data.shards} {problem}: the card lacks sources and romanizer", file=sys.stderr)
        return None
    return manifest


def alignment_layer(config: Config, num_layers: int) -> int:
    """Index into hidden_states of the layer that sentence embeddings are made from: that of the contrastive objective,
    and without one the layer that `evaluate` takes by default."""
    tcm = config.objectives.tcm
    return resolve_layer(tcm.layer if tcm.weight else ALIGNMENT_DEPTH, num_layers)
