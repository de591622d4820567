"""The floor of a step's operations, against a count one token at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.batch.token_counts import TokenCounts
from translit_scale.model.flops import Shape, contrastive_flops, training_flops


def one_by_one(shape: Shape, segments: list[tuple[int, int]]) -> int:
    """Multiply-adds of every token and every pair of tokens, times two, times three for forward and backward."""
    d, f = shape.hidden, shape.intermediate
    total = 0
    for layer in range(1, shape.layers + 1):
        for length, masked in segments:
            for token in range(length):
                needed = layer < shape.layers or token < masked  # which tokens are masked does not matter
                total += 2 * d * d  # key and value
                if needed:
                    total += 2 * d * d  # query and output
                    total += 2 * d * f
                    total += 2 * length * d  # scores and weighted sum
    for _, masked in segments:
        total += masked * (d * d + d * shape.vocabulary)
    return 6 * total


@given(st.lists(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=6))
def test_training_flops_are_those_of_every_token(segments: list[tuple[int, int]]) -> None:
    shape = Shape(hidden=8, intermediate=20, layers=3, vocabulary=50)
    lengths, masked = np.array(segments).T
    assert training_flops(shape, TokenCounts.of(lengths, masked)) == one_by_one(shape, segments)


def test_contrastive_flops() -> None:
    assert contrastive_flops(Shape(8, 20, 3, 50), pairs=4) == 3 * 2 * 8 * 8 * 8
