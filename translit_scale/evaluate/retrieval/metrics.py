"""Ranks of translations by cosine (paper A, section 4.5), as pure functions of embeddings.

A direction is always named query -> candidates: `ranks(a, b)` takes the sentences of `a` as queries and looks for their
translations among all sentences of `b`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK_SCORES = 2**24
"""Scores held at once (64 MiB of float32)."""


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
