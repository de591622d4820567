"""Floating-point operations that a step cannot do without: exact, of real tokens, a multiply-add counted as two.

Counted are matrix products of the forward pass; the backward pass has two for each. Not counted: element-wise
operations, softmax, the optimizer, what recomputation or the embedding pass repeat, and padding (there is none).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


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


def training_flops(shape: Shape, lengths: npt.NDArray[np.int64], masked: npt.NDArray[np.int64]) -> int:
    """Forward and backward of one pass over packed sentences, with the head.

    Layers 1 … L−1 work on all tokens; of the last, keys and values do, everything else on masked tokens only.

    Args:
        lengths: [S] tokens of each segment, special ones included; masked: [S] predicted tokens of each.
    """
    d, f = shape.hidden, shape.intermediate
    tokens, rows, partial = int(lengths.sum()), int(masked.sum()), int((lengths * masked).sum())
    last_layer = 2 * tokens * 2 * d * d + 2 * rows * (2 * d * d + 2 * d * f) + 4 * partial * d
    head = 2 * rows * (d * d + d * shape.vocabulary)
    return 3 * ((shape.layers - 1) * layer_flops(shape, lengths) + last_layer + head)


def layer_flops(shape: Shape, lengths: npt.NDArray[np.int64]) -> int:
    """Forward pass of one layer over all tokens of segments with these [S] lengths."""
    d, f = shape.hidden, shape.intermediate
    return 2 * int(lengths.sum()) * (4 * d * d + 2 * d * f) + 4 * int((lengths**2).sum()) * d


def contrastive_flops(shape: Shape, pairs: int) -> int:
    """Similarities of 2B rows with 2B columns and the two products of their gradient, once for all ranks together."""
    return 3 * 2 * (2 * pairs) ** 2 * shape.hidden
