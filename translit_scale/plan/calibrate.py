"""What a run measured, beside what the same formulas predict for it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from translit_scale.config import Config, load_config
from translit_scale.errors import DataError
from translit_scale.model.devices import DEVICES, device_of
from translit_scale.model.flops import Shape
from translit_scale.plan.inputs import read_shape
from translit_scale.plan.machine import Machine
from translit_scale.plan.step import computing_seconds, slowest_over_mean, step_memory, step_seconds
from translit_scale.plan.training import COPY_RATE, checkpoints
from translit_scale.plan.workload import PairTokens, Workload

CALIBRATED_UNCERTAINTY = 0.15
"""Of the time of computing after a calibration: between runs of other sizes (docs/planning.md)."""


class Comparison(NamedTuple):
    """A quantity of a run."""

    name: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the prediction, as a fraction of what was measured."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Run:
    """The files of a run directory."""

    folder: Path
    config: Config
    ranks: int
    device: str
    """In `DEVICES`, or `cpu`."""
    records: list[dict[str, Any]]
    """Of metrics.jsonl, with speeds."""

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads a run.

        Raises:
            DataError: a file is missing or damaged, the device is unknown, or no step has been recorded yet.
        """
        try:
            environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
            text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
            records = [json.loads(line) for line in text.split("\n")[:-1]]  # a killed run may leave part of a line
            name, ranks = environment["device"], int(environment["world_size"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} is no run that can be compared: {error!r}", "give a folder that `train` has written"
            ) from None
        config = load_config([folder / "config.yaml"])
        device = "cpu" if name == "cpu" else device_of(name)
        if device is None:
            raise DataError(f"{folder} ran on {name}, whose data sheet is not in model/devices.py", "add it there")
        warmup = config.train.batch_warmup_steps or 0  # smaller batches, whose steps are not those of the cost model
        timed = [{"step": 0}, *(r for r in records if "train_speed/step_seconds" in r)]
        # A record is about the steps since the one before it.
        records = [r for before, r in pairwise(timed) if before["step"] >= warmup]
        if not records:
            after = f" that begins after train.batch_warmup_steps={warmup}" if warmup else ""
            raise DataError(
                f"{folder / 'metrics.jsonl'} has no record of steps{after}",
                f"train at least {warmup + (2 if warmup else 1) * config.run.log_every} steps",
            )
        return cls(folder, config, ranks, device, records)

    def median(self, name: str) -> float | None:
        """Of a metric over the records; the first record is left out where there are more, because caches fill up."""
        values = [float(record[name]) for record in self.records if record.get(name) is not None]
        return median(values[1:] or values) if values else None

    def workload(self, tokens: PairTokens) -> Workload:
        """The workload of the run, with so many tokens in a pair."""
        shape, positions = self.shape
        languages = sum(name.startswith("train_loss_by_language/") for name in self.records[-1])
        ds_config = self.folder / "ds_config.json"
        return Workload.of(self.config, ds_config, DEVICES.get(self.device), shape, positions, languages, tokens)

    @property
    def shape(self) -> tuple[Shape, int]:
        """Of the model, and rows of its position embedding."""
        return read_shape(self.folder / "model" / "config.json")

    @property
    def steps(self) -> int:
        """Of the last record."""
        return int(self.records[-1]["step"])

    @property
    def own_config(self) -> Config:
        """The experiment with the tokenizer that the run has kept."""
        model = self.config.model.model_copy(update={"tokenizer": str(self.folder / "model")})
        return self.config.model_copy(update={"model": model})

    @property
    def tokens(self) -> float:
        """Tokens of a pair."""
        return self._required("train_speed/tokens_per_sec") / self._required("train_speed/pairs_per_sec")

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self._required("train_speed/step_seconds")

    @property
    def peak(self) -> float:
        """Bytes: of tensors on the GPU, or of the process on CPU; the largest."""
        name = "host" if self.device == "cpu" else "device"
        return 1e9 * max(float(record.get(f"train_memory/{name}_peak_gb") or 0) for record in self.records)

    def _required(self, name: str) -> float:
        value = self.median(name)
        if value is None:
            raise DataError(f"{self.folder / 'metrics.jsonl'} has no {name}")
        return value


def scaled(tokens: PairTokens, measured: float) -> PairTokens:
    """The same distribution of lengths with another mean number of tokens a pair.

    Pairs of tokens within a window grow with the square of the length where sentences are shorter than the window, and
    with the length where they are much longer. The exponent in between is exact for a small change of equal lengths:
    in sentences of n tokens a window of w has the part 2x − x² of all pairs, x = w / n, and they grow with 2 / (2 − x).
    """
    factor = measured / tokens.tokens

    def rescaled(part: tuple[float, ...]) -> tuple[float, ...]:
        length, attended, masked, masked_attended, near, masked_near = part
        local = factor ** (2 / (1 + max(0, 1 - near / max(1, attended)) ** 0.5))
        return (
            length * factor, attended * factor**2, masked * factor, masked_attended * factor**2,
            near * local, masked_near * local,
        )  # fmt: skip

    return tokens._replace(sentences=rescaled(tokens.sentences), joined=rescaled(tokens.joined))


def compare(run: Run, tokens: PairTokens, machine: Machine) -> list[Comparison]:
    """Predictions for a run, from `tokens` and `machine` as they were before anything was measured."""
    w = run.workload(tokens)
    measured_tokens = run.workload(scaled(tokens, run.tokens))
    step = step_seconds(w, machine, run.ranks).total
    found = [
        Comparison("tokens per pair", "", tokens.tokens, run.tokens),
        Comparison("step", "s", step, run.step),
        Comparison("step, measured tokens", "s", step_seconds(measured_tokens, machine, run.ranks).total, run.step),
        Comparison("peak memory", "GB", step_memory(w, machine, run.ranks).total / 1e9, run.peak / 1e9),
    ]
    slowest, wait = run.median("train_speed/slowest_over_mean"), run.median("train_speed/checkpoint_seconds")
    if slowest:
        predicted = slowest_over_mean(w.batch_pairs / run.ranks, run.ranks)
        found.append(Comparison("slowest rank over mean", "", predicted, slowest))
    if wait:
        waits = checkpoints(w, run.config.run, run.steps, run.step, run.ranks, COPY_RATE).wait
        found.append(Comparison("wait for a checkpoint", "s", waits, wait))
    return found


def copy_rate(run: Run, tokens: PairTokens) -> float:
    """Bytes/s at which a rank of the run copied its part of a checkpoint, or the assumed rate."""
    wait = run.median("train_speed/checkpoint_seconds")
    one = checkpoints(run.workload(tokens), run.config.run, 1, run.step, run.ranks, copied=1.0)
    return one.wait / wait if wait else COPY_RATE


def calibrated(run: Run, tokens: PairTokens, of_run: Machine, machine: Machine) -> Machine:
    """A machine like that of the run, with the time of computing that it needed, apart from traffic, reading and
    imbalance, and with the memory that the formulas do not explain: on CPU Python and its libraries.

    Args:
        tokens, of_run: as predicted before the run was read.
    """
    w = run.workload(scaled(tokens, run.tokens))
    predicted = step_seconds(w, of_run, run.ranks)
    computing = sum(computing_seconds(w, of_run, run.ranks))
    rest = predicted.traffic + predicted.reading
    share = 1 + predicted.waiting / computing
    factor = max(0.01, (run.step - rest) / (computing * share))
    unexplained = run.peak - step_memory(w, of_run, run.ranks).total
    return replace(
        machine,
        slowness=factor,
        process=max(0.0, of_run.process + unexplained),
        uncertainty=CALIBRATED_UNCERTAINTY,
        calibrated_by=f"{run.folder}",
    )
