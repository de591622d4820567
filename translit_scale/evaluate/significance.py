"""Whether one model differs from another on the same items, in one language and in many languages at once.

A p-value is that of the shifted bootstrap (Berg-Kirkpatrick, Burkett & Klein 2012, algorithm 1, here with two sides):
the share of resampled differences that lie at least as far from the observed one as the observed one lies from 0. Among
hundreds of languages some differ by chance; the procedure of Benjamini & Hochberg (1995) limits their share among those
that are called different.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from translit_scale.evaluate.bootstrap import Estimate, percentile_interval

FALSE_DISCOVERIES = 0.05
"""Expected share of languages without a difference among those that are called better or worse."""
_FEW = 10
"""Resamples below which their share is no precise p-value."""
_BLOCK = 2**21
"""Complex numbers transformed at once (32 MiB)."""


@dataclass(frozen=True)
class Comparison:
    """A difference with its paired 95 % bootstrap interval, and the p-value of no difference."""

    estimate: Estimate
    p: float


def compare_hits(gained: NDArray[np.int64], lost: NDArray[np.int64], items: NDArray[np.int64]) -> list[Comparison]:
    """Differences of accuracies on the same items, one for each language, from exact bootstrap distributions.

    `paired_difference` draws resamples of what this computes: an item contributes +1, 0 or -1, so the resampled sum is
    that of n independent draws, and its distribution is the n-th power of theirs under a Fourier transform.

    Args:
        gained: [languages] items that only the second model has right.
        lost: [languages] items that only the first model has right.
        items: [languages] all items, n.
    """
    compared: list[Comparison | None] = [None] * len(items)
    for n in np.unique(items):
        (rows,) = np.nonzero(items == n)
        step = max(1, _BLOCK // (2 * int(n) + 1))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            for row, comparison in zip(some, _compare(gained[some], lost[some], int(n)), strict=True):
                compared[row] = comparison
    return [comparison for comparison in compared if comparison is not None]


def _compare(gained: NDArray[np.int64], lost: NDArray[np.int64], n: int) -> list[Comparison]:
    """`compare_hits` for languages with the same number of items."""
    cumulative = np.cumsum(_distribution(gained, lost, n), axis=1)
    lows, highs = ((cumulative >= share - 1e-12).argmax(axis=1) - n for share in (0.025, 0.975))
    found = []
    for row, sum_ in enumerate((gained - lost).tolist()):
        far = abs(sum_)
        # Sums up to sum_ - far, and from sum_ + far on: at the index n is the sum 0.
        below = cumulative[row, sum_ - far + n] if sum_ - far >= -n else 0.0
        above = 1 - cumulative[row, sum_ + far + n - 1] if sum_ + far <= n else 0.0
        estimate = Estimate(sum_ / n, int(lows[row]) / n, int(highs[row]) / n)
        found.append(Comparison(estimate, min(max(float(below + above), 1e-12), 1.0) if far else 1.0))
    return found


def _distribution(gained: NDArray[np.int64], lost: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Probabilities of the sums -n … n: [languages, 2n + 1]."""
    root = np.exp(-2j * np.pi * np.arange(2 * n + 1) / (2 * n + 1))
    up, down = gained[:, None] / n, lost[:, None] / n
    of_one = up * root + down * root.conj() + (1 - up - down)
    return np.roll(np.fft.ifft(of_one**n, axis=1).real, n, axis=1).clip(0)


def compare_draws(value: float, draws: NDArray[np.float64]) -> Comparison:
    """A difference and its bootstrap resamples.

    If fewer than ten resamples lie as far away as 0, their share is too coarse for many comparisons, and the tail of
    the normal distribution with their standard deviation is used instead, but never more than the share allows.

    Args:
        value: the observed difference.
        draws: [resamples] differences.
    """
    far = int((np.abs(draws - value) >= abs(value) - 1e-12).sum())
    p = (far + 1) / (len(draws) + 1)
    if far < _FEW:
        deviation = float(np.sqrt(np.mean((draws - value) ** 2)))
        p = min((_FEW + 1) / (len(draws) + 1), math.erfc(abs(value) / deviation / math.sqrt(2))) if deviation else p
    return Comparison(percentile_interval(value, draws), p)


def false_discovery_rates(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p-values of several comparisons, adjusted by Benjamini and Hochberg's procedure.

    If those up to 0.05 are called different, at most 5 % of them are expected to have no difference, as long as the
    comparisons are independent or positively dependent.
    """
    order = np.argsort(p)[::-1]  # from the largest: each is at most as large as the one before
    adjusted = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    result = np.empty(len(p))
    result[order] = np.minimum(adjusted, 1)
    return result
