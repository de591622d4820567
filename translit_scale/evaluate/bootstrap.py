"""Bootstrap intervals of accuracies: percentile intervals at 95 %, with seeded resamples of the test items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 2**21
"""Weights drawn at once (16 MiB)."""


@dataclass(frozen=True)
class Estimate:
    """A mean with the 2.5 % and 97.5 % percentiles of its bootstrap distribution."""

    value: float
    low: float
    high: float


def accuracy(hit: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Share of hits with its percentile bootstrap interval over sentences.

    The number of hits in n draws with replacement from n hits and misses is Binomial(n, share of hits),
    so the resamples are drawn from it directly.
    """
    n, share = len(hit), float(hit.mean())
    resampled = np.random.default_rng(seed).binomial(n, share, size=resamples) / n
    return percentile_interval(share, resampled)


def mean_accuracy(
    directions: Sequence[tuple[Sequence[str], NDArray[Any]]], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Unweighted mean of the accuracies of several directions, with its percentile bootstrap interval.

    A verse that is hard in one language is hard in others: items are resampled by their ids, each in all directions it
    occurs in together.

    Args:
        directions: for each the ids of its items, and their hits (or any values between 0 and 1).
    """
    number: dict[str, int] = {}
    for ids, _ in directions:
        for key in ids:
            number.setdefault(key, len(number))
    hit, present = np.zeros((2, len(number), len(directions)))
    for column, (ids, values) in enumerate(directions):
        rows = [number[key] for key in ids]
        hit[rows, column], present[rows, column] = values, 1
    value = float((hit.sum(axis=0) / present.sum(axis=0)).mean())
    generator, resampled = np.random.default_rng(seed), np.empty(resamples)
    block = max(1, _BLOCK // len(number))
    for start in range(0, resamples, block):
        end = min(start + block, resamples)
        weights = generator.multinomial(len(number), np.full(len(number), 1 / len(number)), size=end - start)
        items = weights @ present
        shares = np.divide(weights @ hit, items, out=np.full(items.shape, np.nan), where=items > 0)
        resampled[start:end] = np.nanmean(shares, axis=1)
    return percentile_interval(value, resampled)


def paired_difference(
    hits_a: NDArray[np.bool_], hits_b: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Accuracy of b minus accuracy of a on the same items, with its paired percentile bootstrap interval.

    Items are resampled together with both their outcomes. Each item adds -1, 0 or +1, so the counts of the
    three in one resample are a multinomial draw. The difference is significant at the 5 % level when the
    interval does not contain 0.
    """
    if hits_a.shape != hits_b.shape:
        raise ValueError(f"both models must answer the same items: {len(hits_a)} and {len(hits_b)}")
    n = len(hits_a)
    gained, lost = int((hits_b & ~hits_a).sum()), int((hits_a & ~hits_b).sum())
    shares = np.array([gained, lost, n - gained - lost]) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    return percentile_interval((gained - lost) / n, (draws[:, 0] - draws[:, 1]) / n)


def percentile_interval(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """A value with the percentiles of its resamples."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
