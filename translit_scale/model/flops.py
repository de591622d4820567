"""Floating-point operations that a step needs: exact, of real tokens; a multiply-add counts as two.

The matrix products of the forward pass are counted; the backward pass has two for each. Element-wise operations,
softmax, the optimizer, recomputation, the first pass of GradCache and padding (there is none) are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from translit_scale.batch.token_counts import TokenCounts

MODERNBERT = "modernbert"
"""`model_type` of the models whose blocks differ from BERT's."""


class Shape(NamedTuple):
    """The sizes of an encoder with its head."""

    hidden: int
    """d."""
    intermediate: int
    """f: what the last matrix of a feed-forward layer reads."""
    layers: int
    """L."""
    vocabulary: int
    """V."""
    is_modern: bool = False
    """ModernBERT's blocks: feed-forward layers with a gate, whose first matrix has 2f columns; norms before attention
    and feed-forward layers; no biases but that of the output embedding; rotary positions. Otherwise BERT's."""
    window: int | None = None
    """How far a token attends in local layers; None: there are none."""
    local: tuple[bool, ...] = ()
    """Of each layer, whether it is local."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From the contents of config.json of a model of a family in `families.py`.

        Raises:
            KeyError, ValueError, TypeError: a size is missing or no number.
        """
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
        hidden, intermediate, layers, vocabulary = (int(config[name]) for name in names)
        shape = cls(hidden, intermediate, layers, vocabulary)
        if config.get("model_type") != MODERNBERT:
            return shape
        every = int(config.get("global_attn_every_n_layers", 3))
        local = [kind == "sliding_attention" for kind in config.get("layer_types") or ()]
        local = local or [index % every > 0 for index in range(layers)]
        window = int(config.get("local_attention", 128)) // 2 if any(local) else None
        return shape._replace(is_modern=True, window=window, local=tuple(local))

    @property
    def layer_weights(self) -> int:
        """Numbers in the matrices of a layer."""
        return 4 * self.hidden**2 + self.feed_forward_weights

    @property
    def feed_forward_weights(self) -> int:
        """Numbers in the matrices of a feed-forward layer: two, or three with a gate."""
        return (3 if self.is_modern else 2) * self.hidden * self.intermediate

    @property
    def kept_feed_forward(self) -> int:
        """Numbers of a token that a feed-forward layer keeps for backward between its matrices: input and result of
        GELU; with a gate also the gate and the product."""
        return (4 if self.is_modern else 2) * self.intermediate


def training_flops(shape: Shape, counts: TokenCounts) -> int:
    """Forward and backward of one pass over packed sentences, with the head.

    Layers 1 … L−1 work on all tokens; of the last, keys and values do, everything else on masked tokens only.
    """
    d = shape.hidden
    attended = counts.masked_near if any(shape.local[-1:]) else counts.masked_attended
    on_masked = 2 * d * d + shape.feed_forward_weights
    last_layer = 2 * counts.tokens * 2 * d * d + 2 * counts.masked * on_masked + 4 * attended * d
    head = 2 * counts.masked * (d * d + d * shape.vocabulary)
    return 3 * (forward_flops(shape, counts, shape.layers - 1) + last_layer + head)


def forward_flops(shape: Shape, counts: TokenCounts, layers: int) -> int:
    """Forward pass of the first `layers` layers over all tokens."""
    local = sum(shape.local[:layers])
    attended = local * counts.near + (layers - local) * counts.attended
    return 2 * layers * counts.tokens * shape.layer_weights + 4 * attended * shape.hidden


def contrastive_flops(shape: Shape, pairs: int) -> int:
    """Similarities of 2B embeddings with each other and the two products of their gradient, over all ranks together."""
    return 3 * 2 * (2 * pairs) ** 2 * shape.hidden
