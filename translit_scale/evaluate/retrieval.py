"""Sentence retrieval as numbers: ranks, top-k accuracy, and how certain they are.

Pure functions of embeddings and hits. A direction is always named query -> candidates: `ranks(a, b)` takes
the sentences of `a` as queries and looks for their translations among all sentences of `b` (paper A,
section 4.5; similarity is cosine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP_K = (1, 5, 10)
RESAMPLES = 10_000
BLOCK_SCORES = 2**24
"""Scores held at once (64 MiB of float32)."""


@dataclass(frozen=True)
class Estimate:
    """A mean with the 2.5 % and 97.5 % percentiles of its bootstrap distribution."""

    value: float
    low: float
    high: float


def normalise(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1 ([n, d] -> [n, d]); a zero row stays zero, so its cosine with anything is 0."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.where(norms > 0, norms, 1), dtype=np.float32)


def ranks(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], candidate_texts: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Rank of the right candidate for each query: [n, d], [n, d] -> [n], best is 1.

    Row i of `candidates` is the translation of row i of `queries`. The rank is 1 + the number of other
    candidates that score at least as high, where candidates with the same text as the right one do not
    count. So a repeated sentence is not an error of the model, and ties between different sentences count
    against it: an encoder that maps everything to one point gets rank n, not rank 1.
    """
    n = len(queries)
    if candidates.shape != queries.shape:
        raise ValueError(f"queries {queries.shape} and candidates {candidates.shape} must have one shape")
    # Equal rows get one column of the product: BLAS may round equal rows differently at the edges of its tiles.
    distinct, column = np.unique(candidates, axis=0, return_inverse=True)
    column = column.reshape(n)
    text = _numbered(candidate_texts) if candidate_texts is not None else np.arange(n)
    unit_queries, unit_distinct = normalise(queries), normalise(distinct)
    result = np.empty(n, dtype=np.int64)
    block = max(1, BLOCK_SCORES // n)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        scores = (unit_queries[rows] @ unit_distinct.T)[:, column]
        gold = scores[np.arange(len(scores)), np.arange(n)[rows]]
        rivals = (scores >= gold[:, None]) & (text[None, :] != text[rows, None])
        result[rows] = 1 + rivals.sum(axis=1)
    return result


def _numbered(texts: Sequence[str]) -> NDArray[np.int64]:
    """Equal texts get equal numbers."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)


def hits(rank: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the right candidate is among the best k, for each query."""
    return rank <= k


def accuracy(hit: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Share of hits with its percentile bootstrap interval over sentences.

    The number of hits in n draws with replacement from n hits and misses is Binomial(n, share of hits),
    so the resamples are drawn from it directly.
    """
    n, share = len(hit), float(hit.mean())
    resampled = np.random.default_rng(seed).binomial(n, share, size=resamples) / n
    return estimate(share, resampled)


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
    block = max(1, BLOCK_SCORES // 8 // len(number))
    for start in range(0, resamples, block):
        end = min(start + block, resamples)
        weights = generator.multinomial(len(number), np.full(len(number), 1 / len(number)), size=end - start)
        items = weights @ present
        shares = np.divide(weights @ hit, items, out=np.full(items.shape, np.nan), where=items > 0)
        resampled[start:end] = np.nanmean(shares, axis=1)
    return estimate(value, resampled)


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
    return estimate((gained - lost) / n, (draws[:, 0] - draws[:, 1]) / n)


def estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """A value with the percentiles of its resamples."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
