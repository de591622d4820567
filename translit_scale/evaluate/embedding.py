"""Sentence embeddings from any Hugging Face encoder: the mean of one layer's hidden states.

The papers use the mean over `hidden_states[8]` of a model with 12 layers; `hidden_states[0]` is the output of the
embedding layer. The layer is given as an index or as a fraction of the depth, so that smaller models can be compared at
the same relative depth. Layers above it are not computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from translit_scale.config import resolve_layer
from translit_scale.corpus.tokenizer import encode_batch, tokenizer_fingerprint
from translit_scale.errors import ConfigError
from translit_scale.evaluate.loading import (
    check_fit,
    cut_layers,
    hash_weights,
    load_model,
    longest_input,
    model_tokenizer,
    special_template,
)
from translit_scale.evaluate.packed import flat_states, pack_attention
from translit_scale.model.encoder import mean_pool
from translit_scale.progress import Advance

ALIGNMENT_DEPTH = 2 / 3
"""The papers' layer 8 of 12."""
BATCH_TOKENS = 8192


class Embeddings(NamedTuple):
    """Embeddings of n sentences, in their order."""

    vectors: NDArray[np.float32]
    """[n, d]."""
    too_long: NDArray[np.bool_]
    """[n] whether the sentence was cut at the model's maximum."""
    empty: NDArray[np.bool_]
    """[n] whether the tokenizer leaves nothing of the sentence."""

    @property
    def truncated(self) -> int:
        """Sentences longer than the model's maximum."""
        return int(self.too_long.sum())

    @property
    def no_tokens(self) -> int:
        """Sentences of which the tokenizer leaves nothing."""
        return int(self.empty.sum())

    def take(self, indices: Sequence[int]) -> Embeddings:
        """The sentences at some indices, in that order."""
        return Embeddings(self.vectors[indices], self.too_long[indices], self.empty[indices])


@dataclass
class Encoder:
    """A model in evaluation mode, its tokenizer, and the layer whose hidden states are averaged."""

    path: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    layer: int
    n_layers: int
    max_length: int
    """Tokens of a sentence including special ones."""
    prefix: list[int]
    suffix: list[int]
    """Special tokens that the tokenizer puts around a sentence."""
    weights_sha256: str
    """Over names, shapes and float32 values of all weights of the encoder, without any head."""
    tokenizer_sha256: str

    @classmethod
    def load(cls, path_or_id: str | Path, device: str = "auto", layer: int | float | None = None) -> Encoder:
        """Loads a folder, hub id or checkpoint in float32, without running its code (`HF_HUB_OFFLINE=1` is honoured).

        Args:
            device: "auto" (a GPU if there is one), "cpu" or "cuda".
            layer: index into `hidden_states`, or a fraction of the depth in (0, 1]; 2/3 when not given.

        Raises:
            DataError: no such model, no tokenizer in the folder, weights missing, or the two do not fit.
            ConfigError: the layer is out of range, or there is no such device.
        """
        pick_device(device)  # raises before a large model is read
        name = str(path_or_id)
        return cls.of(name, load_model(name), model_tokenizer(name), device, layer)

    @classmethod
    def of(
        cls,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        device: str = "auto",
        layer: int | float | None = None,
    ) -> Encoder:
        """Wraps a model in memory that has no head and is in float32; arguments and errors as `load`."""
        torch_device = pick_device(device)
        check_fit(name, model, tokenizer)
        prefix, suffix = special_template(tokenizer)
        weights = hash_weights(model)
        nn.Module.to(model, torch_device).eval()
        n_layers = int(model.config.num_hidden_layers)
        index = 0 if layer == 0 else resolve_layer(ALIGNMENT_DEPTH if layer is None else layer, n_layers)
        cut_layers(model, index, n_layers)
        pack_attention(model)
        return cls(
            path=name,
            model=model,
            tokenizer=tokenizer,
            layer=index,
            n_layers=n_layers,
            max_length=longest_input(model, tokenizer),
            prefix=prefix,
            suffix=suffix,
            weights_sha256=weights,
            tokenizer_sha256=tokenizer_fingerprint(tokenizer),
        )

    def embed(
        self,
        sentences: Sequence[str],
        include_special: bool = True,
        batch_tokens: int = BATCH_TOKENS,
        advance: Advance = lambda amount: None,
    ) -> Embeddings:
        """Mean-pooled hidden states of the layer, [n, d] float32.

        They do not depend on `batch_tokens` or on the order of the sentences, up to rounding; equal sentences are
        encoded once and get equal embeddings. A sentence that tokenizes to nothing gets the mean of its special tokens,
        or the zero vector if they are excluded.

        Args:
            include_special: averages over `<s>` and `</s>` too, as the papers' public evaluation code does (training
                does not). Only the tokens put around the sentence count as special; `<unk>` never does.
            batch_tokens: tokens in one forward pass, counted as if padded (at least one sentence).
            advance: called with numbers of finished sentences, n in total.
        """
        distinct = list(dict.fromkeys(sentences))
        tokens = encode_batch(self.tokenizer, distinct)
        n_special = len(self.prefix) + len(self.suffix)
        limit = self.max_length - n_special
        vectors = np.empty((len(distinct), self.model.config.hidden_size), dtype=np.float32)
        advance(len(sentences) - len(distinct))
        for batch in batches_by_length([min(len(t), limit) + n_special for t in tokens], batch_tokens):
            vectors[batch] = self._pool([tokens[index][:limit] for index in batch], include_special)
            advance(len(batch))
        index_of = {sentence: index for index, sentence in enumerate(distinct)}
        order = [index_of[sentence] for sentence in sentences]
        return Embeddings(
            vectors[order],
            too_long=np.array([len(tokens[index]) > limit for index in order], dtype=np.bool_),
            empty=np.array([not tokens[index] for index in order], dtype=np.bool_),
        )

    @torch.inference_mode()
    def _pool(self, batch: list[list[int]], include_special: bool) -> NDArray[np.float32]:
        """Token ids without special tokens -> [sentences, d]."""
        hidden, bounds = flat_states(self.model, [[*self.prefix, *body, *self.suffix] for body in batch], self.layer)
        lengths = np.diff(bounds)
        sentence = np.repeat(np.arange(len(batch)), lengths)
        position = np.arange(len(sentence)) - np.repeat(bounds[:-1], lengths)
        in_text = (position >= len(self.prefix)) & (position < np.repeat(lengths - len(self.suffix), lengths))
        pooled = np.flatnonzero(in_text | include_special)
        index, rows = (torch.from_numpy(values).to(hidden.device) for values in (pooled, sentence[pooled]))
        return mean_pool(hidden, index, rows, len(batch)).cpu().numpy()


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, each at most `batch_tokens` with padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pick_device(device: str) -> torch.device:
    """`auto` is a GPU if there is one, else the CPU.

    Raises:
        ConfigError: `cuda` without a GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: no GPU is visible to torch", "use --device cpu or auto")
    return torch.device(device)
