"""Floating-point operations that a step needs: exact, of real tokens; a multiply-add counts as two.

The matrix products of the forward pass are counted; the backward pass has two for each. Element-wise operations,
softmax, the optimizer, recomputation, the first pass of GradCache and padding (there is none) are not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from translit_scale.batch.token_counts import TokenCounts

if TYPE_CHECKING:  # the cost model uses this file without torch
    from transformers import PretrainedConfig


class Shape(NamedTuple):
    """The sizes of an encoder with its head."""

    hidden: int
    """d."""
    intermediate: int
    """f."""
    layers: int
    """L."""
    vocabulary: int
    """V."""

    @classmethod
    def of(cls, model: PretrainedConfig) -> Shape:
        """The sizes of a model of a family in `families.py`."""
        from translit_scale.model.families import family_of

        intermediate = family_of(model).intermediate_size(model)
        return cls(model.hidden_size, intermediate, model.num_hidden_layers, model.vocab_size)


def training_flops(shape: Shape, counts: TokenCounts) -> int:
    """Forward and backward of one pass over packed sentences, with the head.

    Layers 1 … L−1 work on all tokens; of the last, keys and values do, everything else on masked tokens only.
    """
    d, f = shape.hidden, shape.intermediate
    last_layer = (
        2 * counts.tokens * 2 * d * d + 2 * counts.masked * (2 * d * d + 2 * d * f) + 4 * counts.masked_attended * d
    )
    head = 2 * counts.masked * (d * d + d * shape.vocabulary)
    return 3 * ((shape.layers - 1) * layer_flops(shape, counts) + last_layer + head)


def layer_flops(shape: Shape, counts: TokenCounts) -> int:
    """Forward pass of one layer over all tokens."""
    d, f = shape.hidden, shape.intermediate
    return 2 * counts.tokens * (4 * d * d + 2 * d * f) + 4 * counts.attended * d


def contrastive_flops(shape: Shape, pairs: int) -> int:
    """Similarities of 2B embeddings with each other and the two products of their gradient, over all ranks together."""
    return 3 * 2 * (2 * pairs) ** 2 * shape.hidden
