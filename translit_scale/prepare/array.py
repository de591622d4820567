"""Partitions the work of `prepare` over the tasks of a job array.

The resulting shard set does not depend on the partition: each file is the same whichever task makes it. An uneven
partition only costs time.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from translit_scale.errors import ConfigError


class Partition(NamedTuple):
    """The shards of a language whose number is `part` modulo `parts`, and the selection that they come from."""

    language: str
    part: int
    parts: int


class ArrayTaskResult(NamedTuple):
    """What one task of a job array did."""

    languages: int
    shards: int
    pairs: int
    """In its shards."""
    existing: int
    """Shards that had been made before."""

    def __str__(self) -> str:
        if not self.shards:
            return "nothing to do, there are fewer shards than tasks"
        existing = f" ({self.existing:,} of them existed before)" if self.existing else ""
        return f"{self.shards:,} shards{existing} of {self.languages:,} languages, {self.pairs:,} pairs"


def partition(input_bytes: Mapping[str, int], num_tasks: int) -> list[list[Partition]]:
    """The partitions of each task; depends on nothing but the arguments.

    A language with more input than the mean of a task is divided into parts of at most the mean. Then, from the largest
    to the smallest, each part goes to the task that has the least input so far.
    """
    total = max(sum(input_bytes.values()), 1)
    sized = []
    for language, size in sorted(input_bytes.items()):
        parts = max(ceil(size * num_tasks / total), 1)
        sized += [(size / parts, Partition(language, part, parts)) for part in range(parts)]
    assigned: list[list[Partition]] = [[] for _ in range(num_tasks)]
    loads = [0.0] * num_tasks
    for load, part_of_language in sorted(sized, key=lambda item: (-item[0], item[1])):
        least = loads.index(min(loads))
        loads[least] += load
        assigned[least].append(part_of_language)
    return assigned


def array_task(task_id: str, num_tasks: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """The number of a task and the number of tasks, from the command line and SLURM's variables.

    SLURM tells how many tasks the present array has. When only some tasks are submitted again (`--array=3,7`), that is
    not the number of tasks of the first submission. So its count is used only if the task numbers are 0 to count - 1;
    otherwise `num_tasks` must be given.

    Args:
        task_id: a number, or `slurm` for the number of this task of the job array.
        num_tasks: None for the size of the job array.

    Raises:
        ConfigError: a number is missing, is no number, or does not fit.
    """
    if task_id == "slurm":
        task_id = _slurm(environment, "SLURM_ARRAY_TASK_ID")
        if num_tasks is None:
            first, last, count = (
                int(_slurm(environment, f"SLURM_ARRAY_TASK_{name}")) for name in ("MIN", "MAX", "COUNT")
            )
            if (first, last) != (0, count - 1):
                raise ConfigError(
                    f"this job array has {count} tasks between {first} and {last}, a whole one is --array=0-N",
                    "give the number of tasks of the first submission: --num-tasks N",
                )
            num_tasks = count
    if num_tasks is None:
        raise ConfigError("--task-id needs --num-tasks", "give the number of tasks: --num-tasks N")
    if not task_id.isdecimal() or int(task_id) >= num_tasks:
        raise ConfigError(f"--task-id {task_id}: expected 0 to {num_tasks - 1}, with --num-tasks {num_tasks}")
    return int(task_id), num_tasks


def _slurm(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise ConfigError(f"--task-id slurm: {name} is not set: this is no task of a job array", "sbatch --array=0-N")
    return value
