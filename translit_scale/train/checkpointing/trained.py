"""The model of a checkpoint, for evaluation and export."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from translit_scale.train.checkpointing.checkpoint import consolidated_weights
from translit_scale.train.checkpointing.state import load_weights


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
