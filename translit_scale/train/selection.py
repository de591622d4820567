"""Early stopping: each checkpoint is measured when it is written, and training ends when none is better for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import torch.distributed as dist

from translit_scale.config import Config
from translit_scale.train.checkpoint import COMPLETE, checkpoint_name
from translit_scale.train.launch import Rank
from translit_scale.train.metrics import MetricLogger

LONGEST_EVALUATION = timedelta(hours=12)
"""Ranks wait so long for the first one; a first one that fails is noticed by its launcher at once."""


class Judge(Protocol):
    """Measures checkpoints; training is given one, because it must not know how (`evaluate/retrieval` does)."""

    metric: str
    """Name of the measure in metrics.jsonl, `eval/sr_b/mean`."""

    def judge(self, checkpoint: Path) -> float:
        """The measure of a checkpoint, measured once; higher is better."""

    def values(self) -> dict[int, float]:
        """The measures of all checkpoints so far, by their steps."""


class EarlyStopping:
    """Asks, at every checkpoint, whether training is over.

    The first rank measures what is on disk, the others wait for its word: the value is that of `translit-scale select`,
    whatever the ranks, the ZeRO stage and the precision of training. What was measured stays in the run directory, so
    a resumed run decides as an uninterrupted one.
    """

    def __init__(
        self, config: Config, total_steps: int, rank: Rank, make_judge: Callable[[Config], Judge] | None
    ) -> None:
        """Every rank must call it.

        Raises:
            UserError: the judge cannot be made.
        """
        self.run, self.total_steps, self.judge = config.run, total_steps, None
        self.patience = config.selection.patience if config.selection else None
        if self.patience:
            assert make_judge, "early stopping needs a judge"
            self.judge = make_judge(config) if rank.is_first else None
            self.group = dist.new_group(backend="gloo", timeout=LONGEST_EVALUATION)  # nccl's would time out

    def due(self, step: int) -> bool:
        """Whether the checkpoint after `step` steps is measured: not those that a request to stop has caused."""
        on_time = step % self.run.checkpoint_every == 0 or step == self.total_steps
        return self.patience is not None and step > 0 and on_time

    def ends(self, step: int, logger: MetricLogger | None) -> bool:
        """Whether training ends after `step` steps, whose checkpoint is complete. Every rank must call it.

        Raises:
            DataError: the checkpoint cannot be measured.
        """
        if not self.due(step):
            return False
        over = [self._is_over(step, logger) if self.judge else False]
        dist.broadcast_object_list(over, group=self.group)
        return over[0]

    def _is_over(self, step: int, logger: MetricLogger | None) -> bool:
        assert self.judge and self.patience
        checkpoint = self.run.path / "checkpoints" / checkpoint_name(step)
        if not (checkpoint / COMPLETE).is_file():  # a run that began with a checkpoint of another folder
            return False
        known, began = step in self.judge.values(), time.monotonic()
        value = self.judge.judge(checkpoint)
        if logger and not known:
            logger.evaluated(step, self.judge.metric, value, time.monotonic() - began)
        values = {earlier: v for earlier, v in self.judge.values().items() if earlier <= step}
        best = min(values, key=lambda earlier: (-values[earlier], earlier))
        if sum(earlier > best for earlier in values) < self.patience:
            return False
        print(
            f"early stop after step {step}: {self.judge.metric} was best at step {best} ({values[best]:.4f}) and not "
            f"better at {self.patience} checkpoints since; {self.run.path / 'best.json'} names it",
            flush=True,
        )
        return True
