"""A whole training: steps, hours, checkpoints, preparation, and how all of it changes with the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import RunConfig
from translit_scale.plan.inputs import Corpus
from translit_scale.plan.machine import Machine
from translit_scale.plan.memory import count_parameters
from translit_scale.plan.step import Seconds, largest_micro_batch, step_memory, step_seconds
from translit_scale.plan.workload import Workload

CHECKPOINT_BYTES = 12
"""Of a parameter: weight and both moments in fp32 (`train/checkpointing/state.py`)."""
WRITERS = 16
"""Ranks that write a checkpoint at most."""
COPY_RATE, WRITE_RATE = 4.4e9, 0.25e9
"""Bytes/s at which a rank copies its part to host memory, while training waits, and writes files: one CPU rank with a
virtual disk (benchmarks/checkpoint.md: 1.08 and 19.06 s for 4.73 GB)."""
ROMANIZED = {"with spaces": 24_500, "without": 5_770}
"""Pairs that a core romanizes and packs in a second, cold (benchmarks/prepare.md: 40.8 µs for the languages of paper A,
173.4 µs for other scripts)."""
SELECTED = 125_000
"""Lines that a core reads, cleans, hashes and sorts in a second (benchmarks/prepare.md)."""
WITHOUT_SPACES = {"Thai", "Laoo", "Hani", "Mymr", "Tibt", "Khmr", "Jpan"}
"""Scripts whose text has no spaces between words."""
GOOD_EFFICIENCY = 0.7
"""A number of ranks scales if it takes at most 1 / 0.7 of the GPU time of one."""
MOST_RANKS = 1024


class Preparation(NamedTuple):
    """What `prepare` needs."""

    core_hours: float
    bytes: float
    """Of the shard set."""


def preparation(corpus: Corpus) -> Preparation:
    """Core-hours and disk of a corpus; languages without spaces take longer."""
    seconds = (corpus.lines or corpus.total) / SELECTED
    for language, pairs in corpus.pairs.items():
        kind = "without" if language.rpartition("_")[2] in WITHOUT_SPACES else "with spaces"
        seconds += pairs / ROMANIZED[kind]
    return Preparation(seconds / 3600, corpus.bytes)


class Checkpoints(NamedTuple):
    """Checkpoints of a training."""

    bytes: float
    """Of one."""
    number: int
    kept: int
    wait: float
    """Seconds that training waits for one."""
    write: float
    """Seconds until its files are written."""


def checkpoints(w: Workload, run: RunConfig, steps: int, step: float, ranks: int, copied: float) -> Checkpoints:
    """Size, number and time of the checkpoints.

    Args:
        step: mean seconds of one; copied: bytes/s at which a rank copies its part while training waits.
    """
    size = CHECKPOINT_BYTES * count_parameters(w.shape, w.positions).total
    writers = min(ranks, WRITERS)
    by_steps, by_time = steps // run.checkpoint_every, steps * step // (60 * run.checkpoint_minutes)
    number = int(max(by_steps, by_time)) + 1
    kept = min(run.kept_checkpoints(steps), number)
    return Checkpoints(size, number, kept, size / writers / copied, size / writers / WRITE_RATE)


@dataclass(frozen=True)
class Row:
    """The training on a number of ranks."""

    ranks: int
    workload: Workload
    """With the micro-batch of this row."""
    seconds: Seconds
    """Of a step with a full batch."""
    stages: list[tuple[int, Seconds]]
    """Number of steps of each size of batches, and the time of one of them."""
    fits: bool
    efficiency: float
    """Time of one rank over the time of all ranks together."""

    @property
    def hours(self) -> float:
        """Of all steps."""
        return sum(steps * seconds.total for steps, seconds in self.stages) / 3600

    @property
    def limit(self) -> str:
        """What takes most of the time."""
        s = self.seconds
        parts = {
            "computing": s.products + s.elementwise + s.embeddings,
            "micro-batch": s.per_micro_batch + s.update,
            "traffic": s.traffic,
            "imbalance": s.waiting,
            "reading": s.reading,
        }
        return max(parts, key=lambda name: parts[name])


def make_row(w: Workload, machine: Machine, ranks: int, steps: int, alone: float) -> Row:
    """The training on so many ranks, with the micro-batch of `w`.

    Args:
        alone: seconds of a step on one rank.
    """
    seconds = step_seconds(w, machine, ranks)
    stages = [
        (number, step_seconds(replace(w, sizes=BatchSizes(pairs)), machine, ranks))
        for pairs, number in w.sizes.stages(steps)
    ]
    fits = step_memory(w, machine, ranks).total <= machine.memory
    return Row(ranks, w, seconds, stages, fits, alone / (ranks * seconds.total))


def scaling(w: Workload, machine: Machine, steps: int) -> list[Row]:
    """Rows for 1, 2, 4 … 1 024 ranks, as far as the smallest batch has a pair for each.

    On GPUs each has the largest micro-batch that fits, because a smaller one costs time at any number of ranks; how
    much memory CPU ranks have is not known.
    """
    numbers = list(_powers(min(MOST_RANKS, w.sizes.smallest)))
    largest = {ranks: (machine.is_gpu and largest_micro_batch(w, machine, ranks)) or w for ranks in numbers}
    alone = step_seconds(largest[1], machine, 1).total
    return [make_row(largest[ranks], machine, ranks, steps, alone) for ranks in numbers]


def _powers(most: int) -> Iterator[int]:
    ranks = 1
    while ranks <= most:
        yield ranks
        ranks *= 2


def last_good(rows: Sequence[Row]) -> Row:
    """The row with most ranks of which it and all before it are efficient; the first always is."""
    return list(takewhile(lambda row: row.efficiency >= GOOD_EFFICIENCY, rows))[-1]
