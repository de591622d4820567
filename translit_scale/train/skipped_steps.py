"""Skips and counts steps whose loss or gradient is not a finite number; too many in a row end the training."""

from __future__ import annotations

from pathlib import Path

from translit_scale.batch.stream import BatchStream
from translit_scale.errors import NumericError
from translit_scale.files import write_json
from translit_scale.train.engine import LOWER_LR_HINT, Update
from translit_scale.train.step import StepResult


class SkippedSteps:
    """Counts skipped updates. All ranks see the same numbers, so all stop at the same step.

    Args:
        most_in_a_row: largest number of skipped steps in a row that does not end the training.
        overflow_is_normal: fp16 finds its loss scale by overflowing; DeepSpeed raises an error at scale 1.
        run: directory in which the last bad batch is described; None: this rank does not describe it.
    """

    def __init__(self, most_in_a_row: int, overflow_is_normal: bool, run: Path | None) -> None:
        self.most_in_a_row, self.overflow_is_normal, self.run = most_in_a_row, overflow_is_normal, run
        self.total = self.in_a_row = 0

    def count(self, t: int, result: StepResult, update: Update, stream: BatchStream) -> None:
        """Counts step t.

        Raises:
            NumericError: too many in a row, or an update was made although the loss is not finite, so the weights may
                be spoilt. `nonfinite_step_….json` describes the batch.
        """
        if update.applied and result.is_finite:
            self.in_a_row = 0
            return
        self.total += not update.applied
        self.in_a_row += 1
        if not update.applied and (self.overflow_is_normal or self.in_a_row <= self.most_in_a_row):
            return
        what = "gradient" if result.is_finite else "loss"
        shown = ", ".join(f"{name} {value:.4g}" for name, value in result.losses.items())
        often = f", {self.in_a_row} times in a row" if self.in_a_row > 1 else ""
        where = ""
        if self.run:
            path = self.run / f"nonfinite_step_{t:06d}.json"
            write_json(path, self._description(t, result, update, stream))
            where = f"; the batch is described in {path}"
        raise NumericError(f"step {t}: the {what} is not finite ({shown}){often}{where}", LOWER_LR_HINT)

    def _description(self, t: int, result: StepResult, update: Update, stream: BatchStream) -> dict[str, object]:
        keys = stream.batch(t)
        pairs: dict[str, list[int]] = {}
        for language, row in zip(keys.language.tolist(), keys.row.tolist(), strict=True):
            pairs.setdefault(stream.order.languages[language], []).append(row)
        return {
            "step": t,
            "losses": {name: str(value) for name, value in result.losses.items()},
            "grad_norm": str(float(update.grad_norm)),
            "rows": {language: sorted(rows) for language, rows in sorted(pairs.items())},
            "blocks": sorted({f"{language} block {block}" for language, block in stream.reader.blocks(keys)}),
        }
