"""Counts of tokens that determine the operations of a pass; without torch, for the cost model."""

from __future__ import annotations

from typing import NamedTuple

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

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64], masked: npt.NDArray[np.int64]) -> TokenCounts:
        """Args: lengths: [S] tokens of each segment; masked: [S] predicted tokens of each."""
        sums = lengths, lengths**2, masked, lengths * masked
        return cls(*(int(values.sum()) for values in sums))
