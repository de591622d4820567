"""Runs any Hugging Face encoder on sentences of unequal length; without padding for the families that we train."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from translit_scale.batch.segments import Segments
from translit_scale.model.attention import ATTENTION
from translit_scale.model.families import FAMILIES, Context, family_of


def pack_attention(model: PreTrainedModel) -> None:
    """Makes `flat_states` run the model without padding if its family supports that; other models are unchanged.

    The model can then no longer be called on padded batches.
    """
    if model.config.model_type in FAMILIES and not getattr(model.config, "is_decoder", False):
        model.config._attn_implementation = ATTENTION


def flat_states(
    model: PreTrainedModel, sentences: Sequence[Sequence[int]], layer: int
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Hidden states of all tokens, sentence after sentence; sentences do not influence each other.

    Args:
        sentences: token ids with special tokens.
        layer: index into `hidden_states`.

    Returns:
        [T, d] states, and [S+1] bounds: the states of sentence s are bounds[s] … bounds[s+1] − 1.
    """
    ids, lengths, bounds = _flat(sentences)
    if not len(ids):
        return torch.zeros(0, model.config.hidden_size, device=model.device), bounds
    if model.config._attn_implementation != ATTENTION:
        return _padded(model, ids, lengths, layer), bounds
    hidden, _ = _packed(model, ids, lengths, layer)
    return hidden[0], bounds


def last_states(
    model: PreTrainedModel, sentences: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
) -> torch.Tensor:
    """The last hidden states of the model, for some tokens of each sentence.

    Args:
        sentences: token ids with special tokens, at least one token in all.
        places: positions of these tokens in each sentence.

    Returns:
        [N, d], sentence after sentence.
    """
    ids, lengths, bounds = _flat(sentences)
    indices = [start + np.array(positions, np.int64) for start, positions in zip(bounds[:-1], places, strict=True)]
    index = torch.from_numpy(np.concatenate(indices)).to(model.device)
    if model.config._attn_implementation != ATTENTION:
        return _padded(model, ids, lengths, None).index_select(0, index)
    family = family_of(model.config)
    layers = family.layers(model)
    hidden, context = _packed(model, ids, lengths, len(layers) - 1)
    return family.last(model, family.layer_at(layers[-1], hidden, context, index))


def _flat(sentences: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All ids in one array, the lengths of the sentences that are not empty, and the bounds [S+1] of all sentences."""
    lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.fromiter(chain.from_iterable(sentences), np.int64, int(bounds[-1]))
    return ids, lengths[lengths > 0], bounds


def _packed(
    model: PreTrainedModel, ids: NDArray[np.int64], lengths: NDArray[np.int64], depth: int
) -> tuple[torch.Tensor, Context]:
    """[1, T, d] after embeddings and `depth` layers, called as in training: attention stays inside each sentence."""
    ends = np.cumsum(lengths)
    family = family_of(model.config)
    positions = np.arange(len(ids)) - np.repeat(ends - lengths, lengths) + family.first_position(model.config)
    segments = Segments.from_lengths(lengths).to(model.device)
    input_ids, position_ids = (torch.from_numpy(x).to(model.device) for x in (ids, positions))
    hidden, layers = family.embed(model, input_ids, position_ids), family.layers(model)
    context = family.context(model, hidden, position_ids, segments)
    for layer in layers[:depth]:
        hidden = family.layer(layer, hidden, context)
    return family.last(model, hidden) if depth == len(layers) else hidden, context


def _padded(
    model: PreTrainedModel, ids: NDArray[np.int64], lengths: NDArray[np.int64], layer: int | None
) -> torch.Tensor:
    """Calls the model on a padded batch and leaves out the states of padding."""
    real = np.arange(lengths.max()) < lengths[:, None]  # [S, L]
    padded = np.full(real.shape, model.config.pad_token_id or 0)
    padded[real] = ids
    attended = torch.from_numpy(real).to(model.device)
    outputs = model(
        input_ids=torch.from_numpy(padded).to(model.device),
        attention_mask=attended.long(),
        output_hidden_states=layer is not None,
    )
    states: torch.Tensor = outputs.last_hidden_state if layer is None else outputs.hidden_states[layer]
    return states[attended]
