"""The number of pairs of each batch: a function of settings and step number, so that ranks and restarts do not matter.

A batch-size warm-up begins with batches of `first` pairs. They grow to `full` pairs by multiples of `first`, and each
smaller size is used for the same number of steps, as in the training of ModernBERT (Warner et al. 2024,
arXiv:2412.13663, "batch size schedule"). With s = full / first and n warm-up steps, batch t < n has
first · (1 + ⌊t · (s − 1) / n⌋) pairs. Whatever number of ranks divides the first batch also divides all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from translit_scale.config import TrainConfig


@dataclass(frozen=True)
class BatchSizes:
    """The numbers of pairs of batches 0, 1, 2 …"""

    full: int
    """Pairs of each batch after the warm-up."""
    first: int | None = None
    """Pairs of the first batch, a divisor of `full`; None: there is no warm-up."""
    warmup_steps: int = 0
    """Number of batches that are smaller than `full`."""

    @classmethod
    def of(cls, train: TrainConfig) -> BatchSizes:
        """Those of an experiment."""
        return cls(train.batch_pairs, train.first_batch_pairs, train.batch_warmup_steps or 0)

    @property
    def smallest(self) -> int:
        """Pairs of the first batch; the others are multiples of it."""
        return self.first or self.full

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """[s] first step of each size: from step `_starts[j]` on, batches have at least (j + 1) · `smallest` pairs."""
        smaller = self.full // self.smallest - 1
        return -(-np.arange(smaller + 1) * self.warmup_steps // max(1, smaller))

    def at(self, t: int) -> int:
        """Pairs of batch t."""
        return self.smallest * int(np.searchsorted(self._starts, t, side="right"))

    def before(self, t: int) -> int:
        """Pairs of batches 0 … t − 1 together, which is the position of batch t in the stream of pairs."""
        return self.smallest * int(np.maximum(t - self._starts, 0).sum())

    def stages(self, steps: int) -> Iterator[tuple[int, int]]:
        """Number of pairs, and how many of the batches 0 … `steps` − 1 have it, in ascending order."""
        bounds = np.minimum([*self._starts, steps], steps).tolist()
        for number, (begin, end) in enumerate(pairwise(bounds), 1):
            if end > begin:
                yield number * self.smallest, end - begin

    def __str__(self) -> str:
        return f"{self.smallest:,} to {self.full:,}" if self.first else f"{self.full:,}"
