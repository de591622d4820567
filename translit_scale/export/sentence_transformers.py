"""Files that make sentence-transformers compute our sentence embeddings from an exported folder.

The program reads the same weights. It is told to build only the layers up to the pooled one, whose output is then the
last hidden state (of the families that we train; a family with a normalisation after its last layer would need more),
and to average over all tokens of a sentence, special ones included, as `evaluate` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from translit_scale.files import write_json
from translit_scale.model.families import family_of

POOLING = "1_Pooling"


def write_modules(folder: Path, config: PretrainedConfig, layer: int) -> None:
    """Writes four small JSON files beside the weights; sentence-transformers 3 and later read them.

    Args:
        layer: index into hidden_states of the layer that is pooled, 1 … num_hidden_layers.
    """
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
        "config_sentence_transformers.json": {"similarity_fn_name": "cosine"},
        "sentence_bert_config.json": {
            "max_seq_length": family_of(config).max_length(config),
            "do_lower_case": False,
            "config_args": {"num_hidden_layers": layer},
            "model_args": {"add_pooling_layer": False},
        },
        f"{POOLING}/config.json": {
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    for name, content in files.items():
        write_json(folder / name, content)
