"""Early stopping: each new checkpoint is scored, and training ends when several in a row are not the best so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import torch.distributed as dist

from translit_scale.config import Config
from translit_scale.errors import UserError
from translit_scale.train.checkpointing.checkpoint import COMPLETE, checkpoint_name
from translit_scale.train.launching.meeting import keys_of_this_start
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.metrics import MetricLogger

LONGEST_EVALUATION = timedelta(hours=12)
"""How long the other ranks wait for the first one; if the first rank fails, its launcher ends them at once."""


class Scorer(Protocol):
    """Scores checkpoints. The caller of `train` provides it, because `train` must not import `evaluate`."""

    metric: str
    """Name of the score in metrics.jsonl, such as `validation/sr_b/mean`."""

    def score(self, checkpoint: Path) -> float:
        """The score of a checkpoint, computed once; higher is better."""

    def values(self) -> dict[int, float]:
        """The scores of all checkpoints so far, by their steps."""


@contextmanager
def test_set_errors(section: str, without: str) -> Iterator[None]:
    """Names the settings of a test set that cannot be read; a hint of its reader that names options is left out.

    Args:
        section: of the configuration.
        without: what `section=null` does.
    """
    try:
        yield
    except UserError as error:
        error.message = f"{section}: {error.message}"
        error.hint = "\n    ".join([
            *([error.hint] if error.hint and "--" not in error.hint else []),
            f"set {section}.data=DIR and {section}.languages to what the test set has,",
            f"or train without {without}: {section}=null",
        ])  # fmt: skip
        raise


class EarlyStopping:
    """Decides at every checkpoint whether training ends.

    The first rank scores the checkpoint on disk, and the others wait for its decision. So the score is that of
    `translit-scale select`, whatever the ranks, ZeRO stage and precision of training. Scores are kept in the run
    directory, so a resumed run decides like an uninterrupted one.
    """

    def __init__(
        self, config: Config, total_steps: int, rank: Rank, make_scorer: Callable[[Config], Scorer] | None
    ) -> None:
        """Every rank must call it.

        Raises:
            UserError: the scorer cannot be made.
        """
        self.run, self.total_steps, self.scorer = config.run, total_steps, None
        self.patience = config.selection.patience if config.selection else None
        if self.patience:
            assert make_scorer, "early stopping needs a scorer"
            if rank.is_first:
                with test_set_errors("selection", "early stopping"):
                    self.scorer = make_scorer(config)
            # Not a collective: nccl would time out, and for a group of gloo all hosts must find each other by name.
            # A client of its own, because other threads of torch cannot use theirs while it waits.
            client = dist.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]
            self.store = keys_of_this_start("early stopping", client)

    def due(self, step: int) -> bool:
        """Whether the checkpoint after `step` steps is scored; one written only because of a request to stop is not."""
        on_time = step % self.run.checkpoint_every == 0 or step == self.total_steps
        return self.patience is not None and step > 0 and on_time

    def ends(self, step: int, logger: MetricLogger | None) -> bool:
        """Whether training ends after `step` steps, whose checkpoint is complete. Every rank must call it.

        Raises:
            DataError: the checkpoint cannot be scored.
            RuntimeError: the first rank was lost, or has taken longer than `LONGEST_EVALUATION`; as torch's when a
                connection to a peer is closed.
        """
        if not self.due(step):
            return False
        if self.scorer:
            is_over = self._is_over(step, logger)
            self.store.set(str(step), "yes" if is_over else "no")
            return is_over
        try:
            self.store.wait([str(step)], LONGEST_EVALUATION)
            return self.store.get(str(step)) == b"yes"
        except dist.DistError as error:
            raise RuntimeError(f"Connection closed by the first rank, which was scoring step {step}") from error

    def _is_over(self, step: int, logger: MetricLogger | None) -> bool:
        assert self.scorer and self.patience
        checkpoint = self.run.path / "checkpoints" / checkpoint_name(step)
        if not (checkpoint / COMPLETE).is_file():  # the run was resumed from a checkpoint in another folder
            return False
        known, began = step in self.scorer.values(), time.monotonic()
        value = self.scorer.score(checkpoint)
        if logger and not known:
            logger.evaluated(step, self.scorer.metric, value, time.monotonic() - began)
        values = {earlier: v for earlier, v in self.scorer.values().items() if earlier <= step}
        best = min(values, key=lambda earlier: (-values[earlier], earlier))
        if sum(earlier > best for earlier in values) < self.patience:
            return False
        print(
            f"early stop after step {step}: {self.scorer.metric} was best at step {best} ({values[best]:.4f}) and not "
            f"better at {self.patience} checkpoints since; {self.run.path / 'best.json'} names it",
            flush=True,
        )
        return True
