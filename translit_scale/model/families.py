"""Encoder families: everything in which they differ, such as the names of their modules and settings in transformers.

The rest of the project calls a model through `Family` only. A further family is a class here and its entry in
`FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig

from translit_scale.batch.segments import Segments


class Bert:
    """BERT: post-norm blocks and learned absolute positions that count from 0."""

    def first_position(self, config: PretrainedConfig) -> int:
        """Position id of the first token of a sentence."""
        return 0

    def max_length(self, config: PretrainedConfig) -> int:
        """The longest sequence that has a position for each token, special tokens included."""
        return int(config.max_position_embeddings) - self.first_position(config)

    def set_dropout(self, config: Any, dropout: float) -> None:
        """Sets the dropout of hidden states and attention."""
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout

    def intermediate_size(self, config: Any) -> int:
        """Width f of the feed-forward layer."""
        return int(config.intermediate_size)

    def embed(self, body: Any, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Input of the first layer, [1, T, d], from flat ids and positions [T]."""
        embedded: torch.Tensor = body.embeddings(input_ids=input_ids[None], position_ids=position_ids[None])
        return embedded

    def layers(self, body: Any) -> Sequence[nn.Module]:
        """The Transformer blocks, from the first to the last."""
        blocks: Sequence[nn.Module] = body.encoder.layer
        return blocks

    def layer(self, layer: Any, hidden: torch.Tensor, segments: Segments) -> torch.Tensor:
        """Output [1, T, d] of a block for its input [1, T, d]; attention stays inside the segments."""
        output: torch.Tensor = layer(hidden, attention_mask=None, segments=segments)
        return output

    def layer_at(self, layer: Any, hidden: torch.Tensor, segments: Segments, index: torch.Tensor) -> torch.Tensor:
        """A block's output [N, d] for some tokens only; what follows attention is not computed for the others.

        Args:
            hidden: [1, T, d] input of the block; index: [N] the tokens.
        """
        context, _ = layer.attention.self(hidden, attention_mask=None, segments=segments)
        context, hidden = (x[0].index_select(0, index) for x in (context, hidden))
        attended = layer.attention.output(context, hidden)
        output: torch.Tensor = layer.output(layer.intermediate(attended), attended)
        return output

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


Family = Bert
"""The interface of a family; a family inherits from BERT whatever it does in the same way."""
FAMILIES: dict[str, Family] = {"bert": Bert(), "roberta": Roberta(), "xlm-roberta": Roberta()}
"""By the `model_type` of the model's configuration."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model; KeyError for a `model_type` that is not in `FAMILIES`."""
    return FAMILIES[config.model_type]
