"""Ranks of translations by cosine (paper A, section 4.5): pure functions of embeddings.

A direction is always named query -> candidates: `ranks(a, b)` takes the sentences of `a` as queries and looks for their
translations among all sentences of `b`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from translit_scale.evaluate.bootstrap import number_ids

BLOCK_SCORES = 2**24
"""Scores held at once (64 MiB of float32)."""


def normalise(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales vectors to length 1: [n, d] -> [n, d]. A zero vector stays zero, so its cosine with anything is 0."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.where(norms > 0, norms, 1), dtype=np.float32)


def ranks(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], candidate_texts: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Rank of the right candidate for each query: [n, d], [n, d] -> [n], best is 1.

    Candidate i is the translation of query i. The rank is 1 + the number of other candidates that score at least as
    high; candidates with the same text as the right one do not count. A repeated sentence is therefore not an error of
    the model, while ties between different sentences count against it: an encoder that maps everything to one point
    gets rank n, not rank 1.
    """
    n = len(queries)
    if candidates.shape != queries.shape:
        raise ValueError(f"queries {queries.shape} and candidates {candidates.shape} must have one shape")
    # Equal candidates share one column of the product: BLAS may round them differently at the edges of its tiles.
    distinct, column = np.unique(candidates, axis=0, return_inverse=True)
    column = column.reshape(n)
    text = np.arange(n)
    if candidate_texts is not None:
        index_of = number_ids([candidate_texts])
        text = np.array([index_of[text] for text in candidate_texts])
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


def hits(rank: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the right candidate is among the best k, for each query."""
    return rank <= k
