"""The four similarities of paper A (section 5.1) for matched and for random pairs.

For a sentence s, its translation t and their romanizations r_s and r_t these are the cosines sim(s, t) (translation),
sim(s, r_s) (transliteration), sim(r_s, t) (transliteration-translation) and sim(r_s, r_t)
(transliteration-transliteration). A high similarity of matched pairs alone says little, because random pairs may be as
similar; retrieval needs the gap between them. The gap depends on the scale of a model's similarities, separability (the
area under the ROC curve) only on their order.
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
"""The two texts that each similarity compares; s is in the source language, t in the target language."""


def formula(name: str) -> str:
    """`sim(s, t)` for `translation`."""
    return f"sim({', '.join(SIMILARITIES[name])})"


Pairs = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Per similarity the cosines [n] of matched pairs and of random pairs."""


@dataclass(frozen=True)
class SimilarityGap:
    """Mean similarities of matched and random pairs, their gap and separability.

    `_se` are standard errors over sentences.
    """

    matched: float
    matched_se: float
    random: float
    random_se: float
    gap: float
    gap_se: float
    separability: float
    """Probability that a matched pair is more similar than a random pair of the same text; 0.5 is chance."""
    separability_se: float


def derangement(n: int, seed: int) -> NDArray[np.int64]:
    """A uniformly drawn permutation of 0..n-1 without fixed points: [n].

    Permutations are drawn until one has no fixed point (e = 2.72 draws on average).

    Raises:
        ValueError: n < 2; there is no such permutation.
    """
    if n < 2:
        raise ValueError("random pairs need at least two sentences")
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def paired_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of vector i of `a` with vector i of `b`: [n, d], [n, d] -> [n]."""
    return np.einsum("nd,nd->n", normalise(a), normalise(b), dtype=np.float64)


def four_similarities(vectors: Mapping[str, NDArray[np.float32]], order: NDArray[np.int64]) -> Pairs:
    """All four similarities, of matched and of random pairs.

    Args:
        vectors: `s`, `t`, `r_s`, `r_t`, each [n, d].
        order: the derangement; sentence i of the first text is paired at random with sentence order[i] of the second.
    """
    return {
        name: (
            paired_cosine(vectors[first], vectors[second]),
            paired_cosine(vectors[first], vectors[second][order]),
        )
        for name, (first, second) in SIMILARITIES.items()
    }


def separability(matched: NDArray[np.float64], random: NDArray[np.float64]) -> tuple[float, float]:
    """The probability that a matched pair is more similar than a random pair: [n], [n] -> value and standard error.

    Every matched pair is compared with every random pair, and ties count half, so this is the area under the ROC curve.
    Its standard error regards the matched and the random pair of a sentence as one cluster (Obuchowski 1997).
    """
    above = _fraction_below(random, matched)
    below = 1 - _fraction_below(matched, random)
    return float(above.mean()), float((above + below).std(ddof=1) / np.sqrt(len(matched)))


def _fraction_below(values: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each limit the fraction of the values below it, where equal ones count half: [n], [m] -> [m]."""
    ordered = np.sort(values)
    smaller, not_larger = (np.searchsorted(ordered, limits, side) for side in ("left", "right"))
    return (smaller + not_larger) / (2 * len(values))


def similarity_gap(matched: NDArray[np.float64], random: NDArray[np.float64]) -> SimilarityGap:
    """Means, gap, separability and standard errors; that of the gap is over the differences within a sentence."""

    def mean(values: NDArray[np.float64]) -> tuple[float, float]:
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    return SimilarityGap(*mean(matched), *mean(random), *mean(matched - random), *separability(matched, random))
