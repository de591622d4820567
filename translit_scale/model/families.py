"""Encoder families: everything in which they differ, such as the names of their modules and settings in transformers.

The rest of the project calls a model through `Family` only. A further family is a class here and its entry in
`FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig

from translit_scale.batch.segments import Segments
from translit_scale.model.flops import MODERNBERT


class Context(NamedTuple):
    """What every layer of a pass gets besides its input."""

    segments: Segments
    rotary: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None
    """Kind of attention → cosines and sines [1, T, D] of rotary positions; None for learned positions."""


class Bert:
    """BERT: post-norm blocks and learned absolute positions that count from 0."""

    has_pooler = True
    """Whether the encoder alone has a pooling layer, which must be left out to be loaded from ours."""
    has_last_norm = False
    """Whether the last hidden state is normalised, unlike those before it."""

    def first_position(self, config: PretrainedConfig) -> int:
        """Position id of the first token of a sentence."""
        return 0

    def max_length(self, config: PretrainedConfig) -> int:
        """The longest sequence that has a position for each token, special tokens included."""
        return int(config.max_position_embeddings) - self.first_position(config)

    def set_dropout(self, config: Any, dropout: float) -> None:
        """Sets the dropout of hidden states and attention."""
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout

    def embed(self, body: Any, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Input of the first layer, [1, T, d], from flat ids and positions [T]."""
        embedded: torch.Tensor = body.embeddings(input_ids=input_ids[None], position_ids=position_ids[None])
        return embedded

    def context(self, body: Any, hidden: torch.Tensor, position_ids: torch.Tensor, segments: Segments) -> Context:
        """What the layers of a pass need, from the input of the first one [1, T, d] and flat positions [T]."""
        return Context(segments)

    def layers(self, body: Any) -> Sequence[nn.Module]:
        """The Transformer blocks, from the first to the last."""
        blocks: Sequence[nn.Module] = body.encoder.layer
        return blocks

    def layer(self, layer: Any, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """Output [1, T, d] of a block for its input [1, T, d]; attention stays inside the segments."""
        output: torch.Tensor = layer(hidden, attention_mask=None, segments=context.segments)
        return output

    def layer_at(self, layer: Any, hidden: torch.Tensor, context: Context, index: torch.Tensor) -> torch.Tensor:
        """A block's output [N, d] for some tokens only; what follows attention is not computed for the others.

        Args:
            hidden: [1, T, d] input of the block; index: [N] the tokens.
        """
        mixed, _ = layer.attention.self(hidden, attention_mask=None, segments=context.segments)
        mixed, hidden = (x[0].index_select(0, index) for x in (mixed, hidden))
        attended = layer.attention.output(mixed, hidden)
        output: torch.Tensor = layer.output(layer.intermediate(attended), attended)
        return output

    def last(self, body: Any, hidden: torch.Tensor) -> torch.Tensor:
        """The last hidden states [..., d], from the output of the last block."""
        return hidden

    def head(self, lm: Any, masked: torch.Tensor) -> tuple[torch.Tensor, nn.Linear]:
        """What the output embedding is applied to, [M, d], and the output embedding, for last states [M, d]."""
        predictions = lm.cls.predictions
        return predictions.transform(masked), predictions.decoder

    def second_names(self, lm: Any) -> dict[str, torch.Tensor]:
        """Weights that must also be saved under a second name, because releases of transformers look for it."""
        return {}


class Roberta(Bert):
    """RoBERTa and XLM-R (Glot500 too): BERT's blocks, positions from padding_idx + 1, and another head."""

    def first_position(self, config: PretrainedConfig) -> int:
        """Position id of the first token of a sentence."""
        return int(config.pad_token_id) + 1

    def head(self, lm: Any, masked: torch.Tensor) -> tuple[torch.Tensor, nn.Linear]:
        """What the output embedding is applied to, [M, d], and the output embedding, for last states [M, d]."""
        head = lm.lm_head
        return head.layer_norm(F.gelu(head.dense(masked))), head.decoder

    def second_names(self, lm: Any) -> dict[str, torch.Tensor]:
        """Weights that must also be saved under a second name, because releases of transformers look for it.

        Without it, transformers 4.46 sets the bias of the head to zero and says nothing.
        """
        return {"lm_head.decoder.bias": lm.lm_head.bias.detach().clone()}


class ModernBert(Bert):
    """ModernBERT (mmBERT too): pre-norm blocks, rotary positions, gated feed-forward layers, and attention that in most
    layers reaches a window of tokens only."""

    has_pooler = False
    has_last_norm = True

    def max_length(self, config: PretrainedConfig) -> int:
        """The longest sequence of its pretraining, special tokens included."""
        return int(config.max_position_embeddings)

    def set_dropout(self, config: Any, dropout: float) -> None:
        """Sets the dropout of embeddings, attention and feed-forward layers."""
        config.embedding_dropout = config.attention_dropout = config.mlp_dropout = dropout

    def embed(self, body: Any, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Input of the first layer, [1, T, d], from flat ids [T]; positions come in with attention."""
        embedded: torch.Tensor = body.embeddings(input_ids=input_ids[None])
        return embedded

    def context(self, body: Any, hidden: torch.Tensor, position_ids: torch.Tensor, segments: Segments) -> Context:
        """With the rotary positions of both kinds of attention."""
        kinds = set(body.config.layer_types)
        return Context(segments, {kind: body.rotary_emb(hidden, position_ids[None], kind) for kind in kinds})

    def layers(self, body: Any) -> Sequence[nn.Module]:
        """The Transformer blocks, from the first to the last."""
        blocks: Sequence[nn.Module] = body.layers
        return blocks

    def layer(self, layer: Any, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """Output [1, T, d] of a block for its input [1, T, d]; attention stays inside the segments."""
        output: torch.Tensor = layer(hidden, attention_mask=None, **_of_kind(layer, context))
        return output

    def layer_at(self, layer: Any, hidden: torch.Tensor, context: Context, index: torch.Tensor) -> torch.Tensor:
        """A block's output [N, d] for some tokens only; its feed-forward layer is not computed for the others.

        Args:
            hidden: [1, T, d] input of the block; index: [N] the tokens.
        """
        attended, _ = layer.attn(layer.attn_norm(hidden), attention_mask=None, **_of_kind(layer, context))
        chosen = (hidden + attended)[0].index_select(0, index)
        output: torch.Tensor = chosen + layer.mlp(layer.mlp_norm(chosen))
        return output

    def last(self, body: Any, hidden: torch.Tensor) -> torch.Tensor:
        """The last hidden states [..., d], from the output of the last block."""
        normed: torch.Tensor = body.final_norm(hidden)
        return normed

    def head(self, lm: Any, masked: torch.Tensor) -> tuple[torch.Tensor, nn.Linear]:
        """What the output embedding is applied to, [M, d], and the output embedding, for last states [M, d]."""
        return lm.head(masked), lm.decoder


def _of_kind(layer: Any, context: Context) -> dict[str, Any]:
    """Arguments of a ModernBERT layer, whose attention is over a window or over the whole sentence."""
    assert context.rotary is not None
    return {"segments": context.segments, "position_embeddings": context.rotary[layer.attention_type]}


Family = Bert
"""The interface of a family; a family inherits from BERT whatever it does in the same way."""
FAMILIES: dict[str, Family] = {
    "bert": Bert(), "roberta": Roberta(), "xlm-roberta": Roberta(), MODERNBERT: ModernBert()
}  # fmt: skip
"""By the `model_type` of the model's configuration."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model; KeyError for a `model_type` that is not in `FAMILIES`."""
    return FAMILIES[config.model_type]
