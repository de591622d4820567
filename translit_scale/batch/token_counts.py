"""Counts of tokens that determine the operations of a pass; without torch, for the cost model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class TokenCounts(NamedTuple):
    """Counts that determine the floating-point operations of a pass over packed sentences (`model/flops.py`)."""

    tokens: int
    """T: number of tokens, special tokens included."""
    attended: int
    """Σ length² over the segments: pairs of tokens that attend to each other."""
    masked: int
    """M: number of predicted tokens."""
    masked_attended: int
    """Σ masked · length over the segments: pairs of a predicted token and a token that it attends to."""
    near: int
    """Of `attended`, the pairs whose tokens are near enough for a layer that attends to a window only."""
    masked_near: int
    """Of `masked_attended`, the same, if any token of a segment is as likely to be predicted as any other."""

    @classmethod
    def of(
        cls, lengths: npt.NDArray[np.int64], masked: npt.NDArray[np.int64], window: int | None = None
    ) -> TokenCounts:
        """Counts of segments.

        Args:
            lengths, masked: [S] tokens of each segment, and predicted ones; window: see `near_pairs`.
        """
        near = near_pairs(lengths, window)
        sums = lengths, lengths**2, masked, lengths * masked, near, masked * near / lengths
        return cls(*(round(values.sum()) for values in sums))


def near_pairs(lengths: npt.NDArray[Any], window: int | None) -> npt.NDArray[Any]:
    """[S] pairs of tokens of each segment that are at most `window` apart; None: all pairs."""
    reach = lengths - 1 if window is None else np.minimum(lengths - 1, window)
    return lengths * (2 * reach + 1) - reach * (reach + 1)
