"""The four similarities of paper A (section 5.1), of matched pairs against random pairs.

For a sentence s, its translation t and their romanizations r_s and r_t: translation sim(s, t), transliteration
sim(s, r_s), transliteration-translation sim(r_s, t) and transliteration-transliteration
sim(r_s, r_t), all cosine. A high similarity of matched pairs says little by itself, because random pairs
may be as similar; the gap between the two is what retrieval needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from translit_scale.evaluate.retrieval.metrics import normalise

SIMILARITIES = {
    "translation": ("s", "t"),
    "transliteration": ("s", "r_s"),
    "transliteration_translation": ("r_s", "t"),
    "transliteration_transliteration": ("r_s", "r_t"),
}
"""Which two texts each similarity compares; s is in the source language, t in the target language."""


Pairs = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Per similarity the cosines [n] of matched pairs and of random pairs."""


@dataclass(frozen=True)
class Contrast:
    """Matched against random pairs; `_se` are standard errors of the means over pairs."""

    matched: float
    matched_se: float
    random: float
    random_se: float
    gap: float
    gap_se: float
    matched_higher: float
    """Share of sentences whose matched pair is more similar than their random pair."""


def derangement(n: int, seed: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 that leaves no number in its place, uniform among those.

    Permutations are drawn until one fits (e = 2.72 draws on average).

    Raises:
        ValueError: n < 2, where there is none.
    """
    if n < 2:
        raise ValueError("random pairs need at least two sentences")
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def paired_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of row i of `a` with row i of `b`: [n, d], [n, d] -> [n]."""
    return np.einsum("nd,nd->n", normalise(a), normalise(b), dtype=np.float64)


def four_similarities(vectors: Mapping[str, NDArray[np.float32]], order: NDArray[np.int64]) -> Pairs:
    """All four similarities, of matched and of random pairs.

    Args:
        vectors: `s`, `t`, `r_s`, `r_t`, each [n, d].
        order: the derangement; the random partner of the first text's row i is the second's row order[i].
    """
    return {
        name: (
            paired_cosine(vectors[first], vectors[second]),
            paired_cosine(vectors[first], vectors[second][order]),
        )
        for name, (first, second) in SIMILARITIES.items()
    }


def contrast(matched: NDArray[np.float64], random: NDArray[np.float64]) -> Contrast:
    """Means, their gap and standard errors (of the gap: from the differences within a sentence)."""

    def mean(values: NDArray[np.float64]) -> tuple[float, float]:
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    return Contrast(*mean(matched), *mean(random), *mean(matched - random), float((matched > random).mean()))
