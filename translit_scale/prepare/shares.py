"""How the work of `prepare` is dealt to the tasks of a job array.

The result does not depend on it: whoever does a part of the work leaves the same file. A bad split costs time only.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from translit_scale.errors import ConfigError


class Piece(NamedTuple):
    """Some shards of a language: those whose number is `part` modulo `parts`, and the selection they come from."""

    language: str
    part: int
    parts: int


def shares(input_bytes: Mapping[str, int], num_tasks: int) -> list[list[Piece]]:
    """The pieces of each task; depends on nothing but the arguments.

    A language with more input than a task's mean is cut into pieces of at most that; then the largest piece left goes
    to the task with the least input, the first of several.
    """
    total = max(sum(input_bytes.values()), 1)
    pieces = []
    for language, size in sorted(input_bytes.items()):
        parts = max(ceil(size * num_tasks / total), 1)
        pieces += [(size / parts, Piece(language, part, parts)) for part in range(parts)]
    dealt: list[list[Piece]] = [[] for _ in range(num_tasks)]
    loads = [0.0] * num_tasks
    for load, piece in sorted(pieces, key=lambda item: (-item[0], item[1])):
        least = loads.index(min(loads))
        loads[least] += load
        dealt[least].append(piece)
    return dealt


def task_of(task_id: str, num_tasks: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """The number of a task and of how many, from what the command line says.

    SLURM says of how many tasks an array is at present, not how many there were when a part of it is submitted
    again (`--array=3,7`), and never how the first submission was numbered. So its count is believed
    only if the numbers in use are 0 to count - 1; otherwise it has to be said.

    Args:
        task_id: a number, or `slurm` for that of the job array.
        num_tasks: None for that of the job array.

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
                    "say of how many tasks this is one, as at first: --num-tasks N",
                )
            num_tasks = count
    if num_tasks is None:
        raise ConfigError("--task-id needs --num-tasks", "of how many tasks is it one?")
    if not task_id.isdecimal() or int(task_id) >= num_tasks:
        raise ConfigError(f"--task-id {task_id}: expected 0 to {num_tasks - 1}, with --num-tasks {num_tasks}")
    return int(task_id), num_tasks


def _slurm(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise ConfigError(f"--task-id slurm: {name} is not set: this is no task of a job array", "sbatch --array=0-N")
    return value
