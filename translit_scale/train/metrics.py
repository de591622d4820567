"""Training metrics: one record for the console, metrics.jsonl and TensorBoard, all with the same numbers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from translit_scale.progress import duration
from translit_scale.train.step import StepResult


class MetricLogger:
    """Writes a record every few steps; used by the first rank only.

    Args:
        directory: run directory; gets `metrics.jsonl` and `tb/`.
        start: first step of this process; records of later steps left by a killed process are removed.
    """

    def __init__(self, directory: Path, start: int, total_steps: int, every: int) -> None:
        self.path = directory / "metrics.jsonl"
        self.total_steps, self.every = total_steps, every
        self._drop_records_from(start)
        self.tensorboard = SummaryWriter(str(directory / "tb"), purge_step=start + 1)
        self.file = self.path.open("a", encoding="utf-8")
        self.window_started, self.pairs, self.tokens, self.steps, self.truncated = time.monotonic(), 0, 0, 0, 0
        self.live = sys.stderr.isatty()

    def _drop_records_from(self, start: int) -> None:
        """A killed process may have logged steps beyond its last checkpoint; they are taken again."""
        if self.path.exists():
            lines = [line for line in self.path.read_bytes().split(b"\n") if line and _step_of(line) <= start]
            self.path.write_bytes(b"".join(line + b"\n" for line in lines))

    def step(self, step: int, result: StepResult, lr: float, grad_norm: float) -> None:
        """Counts one optimizer step (`step` = steps taken so far) and logs every `every`-th one and the last."""
        self.pairs += result.pairs
        self.tokens += result.tokens
        self.truncated += result.truncated
        self.steps += 1
        if step % self.every and step != self.total_steps:
            return
        seconds = time.monotonic() - self.window_started
        record = {
            "step": step,
            **{f"train/loss/{name}": value for name, value in result.losses.items()},
            **{f"train/tcm/{name}": value for name, value in result.contrastive.items()},
            "train/lr": lr,
            "train/grad_norm": grad_norm,
            "train/truncated": self.truncated,
            "throughput/pairs_per_sec": self.pairs / seconds,
            "throughput/tokens_per_sec": self.tokens / seconds,
            "time/step": seconds / self.steps,
        }
        self._write(record)
        self._print(record, seconds / self.steps)
        self.window_started, self.pairs, self.tokens, self.steps = time.monotonic(), 0, 0, 0

    def _write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        for name, value in record.items():
            if name != "step":
                self.tensorboard.add_scalar(name, value, record["step"])

    def _print(self, record: dict[str, Any], seconds_per_step: float) -> None:
        step = record["step"]
        parts = " ".join(
            f"{name.rpartition('/')[2]} {value:.3f}"
            for name, value in record.items()
            if name.startswith("train/loss/") and not name.endswith("total")
        )
        top1 = f" top1 {record['train/tcm/top1']:.3f}" if "train/tcm/top1" in record else ""
        line = (
            f"step {step}/{self.total_steps} loss {record['train/loss/total']:.3f} ({parts}){top1} "
            f"lr {record['train/lr']:.2e} gn {record['train/grad_norm']:.2f} "
            f"{record['throughput/pairs_per_sec']:,.0f} pairs/s {record['throughput/tokens_per_sec']:,.0f} tok/s "
            f"eta {duration((self.total_steps - step) * seconds_per_step)}"
        )
        last = step == self.total_steps
        print(f"\r\x1b[2K{line}" if self.live else line, end="\n" if last or not self.live else "", flush=True)

    def close(self) -> None:
        """Flushes everything."""
        self.file.close()
        self.tensorboard.close()


def _step_of(line: bytes) -> float:
    """Step of a record; infinite for a line that was cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
