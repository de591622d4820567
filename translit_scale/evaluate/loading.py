"""Loads models from a folder or the hub and checks them: no random weights, no empty tokenizer, no remote code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from translit_scale.corpus.tokenizer import load_tokenizer, looks_like_path
from translit_scale.errors import DataError
from translit_scale.silence import silence_transformers
from translit_scale.train.checkpointing.trained import run_of, trained_encoder


def load_model(path: str) -> PreTrainedModel:
    """The encoder of a folder, a hub id or a checkpoint of a run, without any head, in float32.

    Raises:
        DataError: there is no such model, weights of the encoder are missing, or the model has a decoder.
    """
    options: dict[str, Any] = {
        "trust_remote_code": False,
        "dtype": torch.float32,
        "output_loading_info": True,
    }
    folder = Path(path)
    if run := run_of(folder):
        return trained_encoder(run, folder)
    if not folder.is_dir() and looks_like_path(path):
        raise DataError(f"model folder not found: {path}", "expected a folder with config.json and model.safetensors")
    try:
        with silence_transformers():
            try:
                model, loaded = AutoModel.from_pretrained(path, add_pooling_layer=False, **options)
            except TypeError:  # this family has no option for a pooling layer
                model, loaded = AutoModel.from_pretrained(path, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if folder.is_dir():
            raise DataError(f"cannot load the model in {path}: {error}") from error
        raise DataError(
            f"{path} is not a folder, and it cannot be loaded as a hub id: {error}", "check the path or the network"
        ) from error
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise DataError(
            f"{path}: {len(missing)} weights of the encoder are not in the file, for example {missing[0]}",
            "they would be random; save the model with save_pretrained or `translit-scale export`",
        )
    if model.config.is_encoder_decoder:
        raise DataError(f"{path} is an encoder-decoder ({model.config.model_type})", "give an encoder")
    return model


def model_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder or hub id, or of the run that a checkpoint belongs to; raises as `load_tokenizer`."""
    run = run_of(Path(path))
    return load_tokenizer(str(run / "model") if run else path)


def check_fit(path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Checks that model and tokenizer fit.

    Raises:
        DataError: the tokenizer has ids without an embedding in the model, or only special tokens (transformers makes
            such a tokenizer if a model has no tokenizer files).
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise DataError(f"{path} has no tokenizer", "copy the files of its tokenizer to the model")
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    if len(tokenizer) > embeddings.num_embeddings:
        raise DataError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens, the model embeds {embeddings.num_embeddings}",
            "the tokenizer and the weights seem to be from different models",
        )


@torch.inference_mode()
def cut_layers(model: PreTrainedModel, layer: int, n_layers: int) -> None:
    """Removes the layers above `layer` if that leaves the hidden states up to it unchanged.

    Families with a final normalisation, or with one shared layer, keep all layers, which costs time.
    """
    ids = torch.arange(4, device=model.device).unsqueeze(0)

    def hidden_states() -> tuple[Tensor, ...]:
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states

    before = hidden_states()
    if len(before) != n_layers + 1:
        raise DataError(f"a model with {n_layers} layers returned {len(before)} hidden states")
    keep = max(layer, 1)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, module[:keep])
            after = hidden_states()
            if len(after) == keep + 1 and torch.equal(after[layer], before[layer]):
                return
            setattr(model.get_submodule(parent), attribute, module)


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> int:
    """The largest number of tokens that both the tokenizer and the position embeddings allow.

    RoBERTa's positions start after the padding index: 514 positions hold 512 tokens.
    """
    limits = [int(tokenizer.model_max_length)]  # 10^30 if it is not set
    if declared := getattr(model.config, "max_position_embeddings", None):
        limits.append(declared)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - unused)
    return min(limits)


def hash_weights(model: PreTrainedModel) -> str:
    """sha256 of names, shapes and values of all weights: independent of file format and sharding."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def special_template(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a sentence, usually one each."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    before = special.index(0) if 0 in special else 0
    behind = special[::-1].index(0) if 0 in special else 0
    return ids[:before], ids[len(ids) - behind :]
