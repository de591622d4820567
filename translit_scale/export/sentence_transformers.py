"""Files that make sentence-transformers compute our sentence embeddings from an exported folder.

The program reads the same weights. It is told to build only the layers up to the pooled one, whose output is then the
last hidden state, and to average over all tokens of a sentence, special ones included, as `evaluate` does. ModernBERT
normalises its last hidden state: there one layer more is built, and a module chooses the state before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PretrainedConfig

from translit_scale.files import write_json
from translit_scale.model.families import family_of

POOLING, CHOICE = "Pooling", "WeightedLayerPooling"
"""Modules of sentence-transformers: the mean over tokens, and a weighted mean over layers."""


def write_modules(folder: Path, config: PretrainedConfig, layer: int) -> None:
    """Writes small files beside the weights; sentence-transformers 3 and later read them.

    Args:
        layer: index into hidden_states of the layer that is pooled, 1 … num_hidden_layers.
    """
    family = family_of(config)
    chooses = family.has_last_norm and layer < config.num_hidden_layers
    built = layer + chooses
    settings: dict[str, Any] = {"num_hidden_layers": built}
    if getattr(config, "layer_types", None):
        settings["layer_types"] = config.layer_types[:built]
    if chooses:
        settings["output_hidden_states"] = True
    kinds = ["Transformer", *([CHOICE] if chooses else []), POOLING]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(zip(paths, kinds, strict=True))
        ],
        "config_sentence_transformers.json": {"similarity_fn_name": "cosine"},
        "sentence_bert_config.json": {
            "max_seq_length": family.max_length(config),
            "do_lower_case": False,
            "config_args": settings,
            "model_args": {"add_pooling_layer": False} if family.has_pooler else {},
        },
        f"{paths[-1]}/config.json": {
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    if chooses:
        files[f"{paths[1]}/config.json"] = {
            "word_embedding_dimension": config.hidden_size, "layer_start": layer, "num_hidden_layers": built,
        }  # fmt: skip
    for name, content in files.items():
        write_json(folder / name, content)
    if chooses:
        save_file({"layer_weights": torch.tensor([1.0, 0.0])}, folder / paths[1] / "model.safetensors")
