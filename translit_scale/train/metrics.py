"""Training metrics: one record for the console, metrics.jsonl and TensorBoard, all with the same numbers."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any

from translit_scale.files import write_bytes
from translit_scale.progress import duration, fit, say
from translit_scale.train.checkpointing.checkpoint import file_errors
from translit_scale.train.launching.environment import join_world
from translit_scale.train.meter import Meter, MeterContext, memory
from translit_scale.train.monitor import Measurement, Monitor
from translit_scale.train.step import StepResult
from translit_scale.train.tensorboard import RunDescription, TensorBoardFile

TRUNCATED = "train/truncated"
"""Sentences cut since the start of the training."""


class MetricLogger:
    """Writes a record every few steps; used by the first rank only, as a context manager.

    Losses are those of the recorded step; losses by language and rates cover all steps since the last record. Rates
    include reading and logging. They exclude the time that training waits for checkpoints, which is a metric of its
    own, and the first step of a process, which sets up memory and communication, unless that step has its own record.

    A new metric needs no change here. Add it to `StepResult.metrics` if the step computes it (to
    `EmbeddingGradients.sums` if the contrastive loss does), to `loop.update_metrics` if it describes the update, to
    `Meter.rates` if it is a rate.

    Args:
        directory: run directory; gets `metrics.jsonl` and `tb/`.
        context: what rates and languages refer to.
        start: steps taken before; records of later steps, left by a killed process, are removed.
        description: what TensorBoard shows beside the curves.
        make_monitor: called when the records of later steps are removed; makes what measures checkpoints.

    Raises:
        DataError: the files cannot be written (here, or in `step`).
    """

    def __init__(
        self,
        directory: Path,
        context: MeterContext,
        start: int,
        total_steps: int,
        every: int,
        description: RunDescription | None = None,
        make_monitor: Callable[[], Monitor] | None = None,
    ) -> None:
        self.path, self.context = directory / "metrics.jsonl", context
        self.first, self.total_steps, self.every = start + 1, total_steps, every
        with file_errors(f"cannot write metrics to {directory}", "choose another run.dir"):
            self.truncated = self._drop_records_after(start)
            self.tensorboard = TensorBoardFile(
                directory / "tb", self.first, description or RunDescription(), context.many_languages
            )
            self.file = self.path.open("a", encoding="utf-8")
        self.monitor = make_monitor() if make_monitor else None
        self.last_step = start
        self.checkpoint_seconds: float | None = None
        self.live = sys.stdout.isatty() and join_world().launcher != "mpirun"  # whose ranks always have a terminal
        self.line_is_open = False
        self.meter = Meter(context, time.monotonic(), waited=0.0)

    def _drop_records_after(self, start: int) -> int:
        """Drops what a killed process has logged beyond its last checkpoint, because these steps are repeated.

        Returns:
            Sentences cut so far, according to the last record.
        """
        if not self.path.exists():
            return 0
        lines = [line for line in self.path.read_bytes().split(b"\n") if line and _step_of(line) <= start]
        write_bytes(self.path, b"".join(line + b"\n" for line in lines))
        records = map(json.loads, reversed(lines))  # parsed from the end, until one of a step is found
        return next((int(record[TRUNCATED]) for record in records if TRUNCATED in record), 0)

    def step(self, step: int, result: StepResult, update: dict[str, Any], waited: float) -> None:
        """Counts one optimizer step and logs every `every`-th one and the last.

        Args:
            step: steps taken so far, this one included.
            update: metrics of the update, by name; read only for a record, because that waits for the device.
            waited: seconds that this rank has waited for batches so far.
        """
        self.truncated += result.truncated
        self.last_step = step
        self.meter.add(result)
        if self.monitor:
            self._monitored(self.monitor.look(step))
        if step % self.every and step != self.total_steps:
            if step == self.first:
                self.meter.restart(time.monotonic(), waited)
            return
        record = {
            "step": step,
            **{f"train/loss{'' if name == 'total' else f'_{name}'}": value for name, value in result.losses.items()},
            **result.metrics,
            **{name: float(value) for name, value in update.items()},
            TRUNCATED: self.truncated,
            **self.meter.rates(time.monotonic(), waited),
            **memory(),
            **self.meter.losses_by_language(),
        }
        if self.checkpoint_seconds is not None:
            record["train_speed/checkpoint_seconds"] = self.checkpoint_seconds
        if self.monitor:
            record["train_speed/monitor_seconds"], self.monitor.seconds = self.monitor.seconds, 0.0
        self._write(record)
        self._print(record)
        self.checkpoint_seconds = None
        self.meter = Meter(self.context, time.monotonic(), waited)

    def wrote_checkpoint(self, seconds: float) -> None:
        """Excludes the seconds that training waited for a checkpoint from the rates, and records them."""
        self.meter.started += seconds
        self.checkpoint_seconds = seconds

    def evaluated(self, step: int, name: str, value: float, seconds: float) -> None:
        """Records the score of the checkpoint after `step` steps; its time is excluded from the rates."""
        self.meter.started += seconds
        self._write({"step": step, name: value, "train_speed/evaluation_seconds": seconds})
        say(f"{chr(10) if self.line_is_open else ''}step {step}/{self.total_steps} {name} {value:.4f}")
        self.line_is_open = False

    def _monitored(self, measurements: Sequence[Measurement]) -> None:
        """Records what was measured of earlier checkpoints, at their steps."""
        for item in measurements:
            self._write({"step": item.step, **item.numbers})
            self.tensorboard.add_pictures(item.step, item.pictures)
            text = f"checkpoint {item.step}: similarities and retrieval are measured"
            say(f"{chr(10) if self.line_is_open else ''}{text}")
            self.line_is_open = False

    def _write(self, record: dict[str, Any]) -> None:
        numbers = {name: value if math.isfinite(value) else None for name, value in record.items()}
        with self._file_errors():
            self.file.write(json.dumps(numbers) + "\n")
            self.file.flush()
            self.tensorboard.add(record["step"], {name: value for name, value in numbers.items() if name != "step"})

    def _file_errors(self) -> AbstractContextManager[None]:
        hint = "make room and run the same command again"
        return file_errors(f"cannot write {self.path} or its TensorBoard file", hint)

    def _print(self, record: dict[str, Any]) -> None:
        """Prints a line; on a terminal it replaces the one before and is never wider than the terminal."""
        step = record["step"]
        line = fit(self._parts(record), shutil.get_terminal_size().columns - 1 if self.live else 10_000)
        self.line_is_open = self.live and step != self.total_steps
        say(f"\r\x1b[2K{line}" if self.live else line, end="" if self.line_is_open else "\n")

    def _parts(self, record: dict[str, Any]) -> list[tuple[int, str]]:
        """The parts of the line; on a narrow terminal the lowest ranks are kept."""
        step = record["step"]
        losses = " ".join(
            f"{name.removeprefix('train/loss_')} {value:.3f}"
            for name, value in record.items()
            if name.startswith("train/loss_")
        )
        parts = [
            (0, f"step {step}/{self.total_steps}"),
            (1, f"loss {record['train/loss']:.3f}"),
            (4, f"({losses})"),
            *([(5, f"top1 {record['train_tcm/top1']:.3f}")] if "train_tcm/top1" in record else []),
            (6, f"lr {record['train/lr']:.2e}"),
            (9, f"gn {record['train_optimizer/grad_norm']:.2f}"),
            (3, f"{record['train_speed/pairs_per_sec']:,.0f} pairs/s"),
            (7, f"{record['train_speed/tokens_per_sec']:,.0f} tok/s"),
            *([(8, f"mfu {record['train_speed/mfu']:.1%}")] if "train_speed/mfu" in record else []),
        ]
        if step != self.first or step == self.total_steps:  # the first step takes the longest
            # Later batches of a batch-size warm-up are larger: a step counts as its pairs.
            sizes = self.context.sizes
            left = (sizes.before(self.total_steps) - sizes.before(step)) / sizes.at(step - 1)
            parts.append((2, f"eta {duration(left * record['train_speed/step_seconds'])}"))
        return parts

    def __enter__(self) -> MetricLogger:
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends monitoring, closes the files, and ends the live line, so that an error message begins on a new one.

        Raises:
            DataError: the files cannot be written; not in place of another error, which is the reason of the end.
        """
        if self.line_is_open:
            say("")
            self.line_is_open = False
        try:
            if self.monitor and exception[0] is None:
                self._monitored(self.monitor.finish(self.last_step))
            elif self.monitor:
                self.monitor.stop()
        finally:
            ignored = suppress(OSError) if sys.exception() else self._file_errors()
            with ignored, closing(self.tensorboard), self.file:
                pass


def _step_of(line: bytes) -> float:
    """Step of a record; infinite for a line that was cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
