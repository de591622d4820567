"""Bootstrap intervals of accuracies: percentile intervals at 95 %, with seeded resamples of the test items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 2**21
"""Weights drawn at once (16 MiB)."""


@dataclass(frozen=True)
class Estimate:
    """A value with the 2.5 % and 97.5 % percentiles of its bootstrap distribution."""

    value: float
    low: float
    high: float


def accuracy(hit: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Fraction of hits with its percentile bootstrap interval over sentences.

    The number of hits in n draws with replacement from n hits and misses is Binomial(n, fraction of hits), so resamples
    are drawn from it directly.
    """
    n, fraction = len(hit), float(hit.mean())
    resampled = np.random.default_rng(seed).binomial(n, fraction, size=resamples) / n
    return percentile_interval(fraction, resampled)


def mean_accuracy(
    directions: Sequence[tuple[Sequence[str], NDArray[Any]]], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Unweighted mean of the accuracies of several directions, with its percentile bootstrap interval.

    Args:
        directions: as for `mean_draws`.
    """
    return percentile_interval(*mean_draws(directions, seed, resamples))


def mean_draws(
    directions: Sequence[tuple[Sequence[str], NDArray[Any]]], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, NDArray[np.float64]]:
    """Unweighted mean of the accuracies of several directions, and its bootstrap resamples [resamples].

    Items are resampled by id, together in all directions that have them: a verse that is hard in one language is hard
    in others.

    Args:
        directions: for each the ids of its items, and their hits (or any values, such as differences of hits).
    """
    index_of = number_ids(ids for ids, _ in directions)
    n_items = len(index_of)
    hit, present = np.zeros((2, n_items, len(directions)))
    for column, (ids, values) in enumerate(directions):
        items = [index_of[key] for key in ids]
        hit[items, column], present[items, column] = values, 1
    value = float((hit.sum(axis=0) / present.sum(axis=0)).mean())
    generator, resampled = np.random.default_rng(seed), np.empty(resamples)
    block = max(1, _BLOCK // n_items)
    for start in range(0, resamples, block):
        end = min(start + block, resamples)
        weights = generator.multinomial(n_items, np.full(n_items, 1 / n_items), size=end - start)
        counts = weights @ present
        accuracies = np.divide(weights @ hit, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        resampled[start:end] = np.nanmean(accuracies, axis=1)
    return value, resampled


def paired_difference(
    hits_a: NDArray[np.bool_], hits_b: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Accuracy of b minus accuracy of a on the same items, with its paired percentile bootstrap interval.

    Items are resampled together with both outcomes. Each item contributes -1, 0 or +1, so the counts of the three in a
    resample are a multinomial draw. The difference is significant at the 5 % level if the interval does not contain 0.
    """
    if hits_a.shape != hits_b.shape:
        raise ValueError(f"both models must answer the same items: {len(hits_a)} and {len(hits_b)}")
    n = len(hits_a)
    gained, lost = int((hits_b & ~hits_a).sum()), int((hits_a & ~hits_b).sum())
    fractions = np.array([gained, lost, n - gained - lost]) / n
    draws = np.random.default_rng(seed).multinomial(n, fractions, size=resamples)
    return percentile_interval((gained - lost) / n, (draws[:, 0] - draws[:, 1]) / n)


def mean_over_languages(values: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES) -> list[Estimate]:
    """The mean of each column with its percentile bootstrap interval, whose resamples draw rows with replacement.

    Args:
        values: [languages, measures]; every measure is resampled with the same languages.
    """
    n = len(values)
    chosen = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    resampled = values[chosen].mean(axis=1)
    return [
        percentile_interval(float(mean), drawn) for mean, drawn in zip(values.mean(axis=0), resampled.T, strict=True)
    ]


def resampled_sums(counts: NDArray[Any], seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Sums of the rows of bootstrap resamples: [n, c] counts of n items → [resamples, c].

    A resample draws n rows with replacement, so ratios of its columns are those of a resample of items.
    """
    n = len(counts)
    generator, sums = np.random.default_rng(seed), np.empty((resamples, counts.shape[1]))
    block = max(1, _BLOCK // n)
    for start in range(0, resamples, block):
        end = min(start + block, resamples)
        sums[start:end] = generator.multinomial(n, np.full(n, 1 / n), size=end - start) @ counts
    return sums


def percentile_interval(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """A value with the 2.5 % and 97.5 % percentiles of its resamples."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def two_level(draws: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Mean over seeds and languages, with a percentile interval that resamples seeds and then items.

    Args:
        draws: [resamples, seeds, languages] bootstrap distribution over items of every score.
    """
    return percentile_interval(float(draws.mean()), resample_seeds(draws.mean(axis=2), seed))


def resample_seeds(draws: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Means over as many seeds as there are, drawn with replacement: [resamples, seeds] → [resamples]."""
    resamples, seeds = draws.shape
    chosen = np.random.default_rng(seed).integers(0, seeds, size=(resamples, seeds))
    return np.asarray(np.take_along_axis(draws, chosen, axis=1).mean(axis=1))


def number_ids(groups: Iterable[Iterable[str]]) -> dict[str, int]:
    """Numbers the different strings of all groups from 0, in the order in which they first occur."""
    return {key: index for index, key in enumerate(dict.fromkeys(key for ids in groups for key in ids))}
