"""`prepare`: from a recipe and text files to a finished shard set.

The tasks of `translit_scale.prepare.tasks` run in worker processes and leave files under `.work`; a run
that was killed goes on with the tasks whose files are missing. `prepare` does all of them and publishes the set;
`prepare_share` does those of one task of a job array, and `finalize` publishes what all of them have done. The
number of tasks, workers and interruptions leaves no trace.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from translit_scale.corpus.manifest import Manifest
from translit_scale.corpus.summary import Share
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import DataError
from translit_scale.prepare.job import Job
from translit_scale.prepare.occupancy import at_work
from translit_scale.prepare.publish import check_not_empty, listed, publish
from translit_scale.prepare.recipe import input_files, load_recipe
from translit_scale.prepare.shares import shares
from translit_scale.prepare.tasks import Selection, ShardTask, run_select, run_shard
from translit_scale.progress import Progress


def prepare(recipe_path: Path, data_dir: Path, out_dir: Path, workers: int, force: bool = False) -> Manifest:
    """Makes the shard set of a recipe in `out_dir`, or goes on where a killed run has stopped.

    A set that is already there is left alone if it was made from the same recipe, inputs and versions.

    Args:
        data_dir: what the paths of the recipe are relative to.
        workers: processes. With more than one, a calling script needs the usual `__main__` guard.
        force: replace a finished set that was made from something else.

    Raises:
        ConfigError: the recipe is wrong.
        DataError: an input is missing or unusable, nothing is left of a language, the disk is full,
            another run is at work in `out_dir`, or it holds another finished set and `force` is not given.
    """
    recipe = load_recipe(recipe_path)
    with at_work(out_dir, "prepare", alone=True) as run_dir:
        job = Job.load(recipe, data_dir, out_dir, run_dir, workers, input_files(recipe, data_dir))
        manifest = job.finished(force)
        if manifest is None:
            tasks = [task for selection in _select(job) for task in job.shard_tasks(selection)]
            _make_shards(job, tasks)
            manifest = publish(job)
        shutil.rmtree(job.work_dir)
    return manifest


def finalize(recipe_path: Path, data_dir: Path, out_dir: Path, workers: int, force: bool = False) -> Manifest:
    """Publishes the set of which all tasks are done; if it is published already it is left alone.

    Args and errors are those of `prepare`; besides,

    Raises:
        DataError: tasks are not done; the message says how many of which languages.
    """
    recipe = load_recipe(recipe_path)
    with at_work(out_dir, "finalize", alone=True) as run_dir:
        job = Job.load(recipe, data_dir, out_dir, run_dir, workers, input_files(recipe, data_dir))
        manifest = job.finished(force) or publish(job)
        shutil.rmtree(job.work_dir)
    return manifest


def prepare_share(
    recipe_path: Path,
    data_dir: Path,
    out_dir: Path,
    workers: int,
    task_id: int,
    num_tasks: int,
    force: bool = False,
) -> Share | None:
    """Does the part of task `task_id` (0 <= `task_id` < `num_tasks`) of a shard set, without publishing anything.

    Other tasks may be at work on the same set, on other hosts and with another `num_tasks`.

    Args and errors are those of `prepare`.

    Returns:
        None if the set is finished and up to date.
    """
    recipe = load_recipe(recipe_path)
    with at_work(out_dir, f"task {task_id} of {num_tasks}", alone=False) as run_dir:
        names = input_files(recipe, data_dir)
        sizes = {
            language: sum((data_dir / name).stat().st_size for name, _ in files) for language, files in names.items()
        }
        pieces = shares(sizes, num_tasks)[task_id]
        own = {language: names[language] for language in sorted({piece.language for piece in pieces})}
        print(f"task {task_id} of {num_tasks}: {listed(list(own)) or 'no languages'}", file=sys.stderr)
        job = Job.load(recipe, data_dir, out_dir, run_dir, workers, own)
        if job.finished(force, whole=False) is not None:
            return None
        tasks = [
            task
            for selection in _select(job)
            for task in job.shard_tasks(selection)
            if any(task.language == code and task.number % parts == part for code, part, parts in pieces)
        ]
        found = _make_shards(job, tasks)
        rows = sum(task.result().counts.get("rows", 0) for task in tasks)
    return Share(len(own), len(tasks), rows, found)


def _select(job: Job) -> list[Selection]:
    """Runs the selections that are missing, the largest first.

    Raises:
        DataError: nothing is left of a language.
    """
    tasks = job.select_tasks()
    missing = [task for task in tasks if not task.target.exists()]
    if missing:
        missing.sort(key=lambda task: -task.input_bytes)
        with Progress("select", sum(task.input_bytes for task in missing), "bytes") as progress:
            run_tasks(run_select, missing, job.workers, progress.advance)
    selections = [task.result() for task in tasks]
    check_not_empty(job, selections)
    return selections


def _make_shards(job: Job, tasks: Sequence[ShardTask]) -> int:
    """Makes the shards that are missing; says how many were not."""
    missing = [task for task in tasks if not task.is_done(job.out_dir)]
    if missing:
        _check_space(job, missing)
        total = sum(task.part.rows for task in tasks)
        done = total - sum(task.part.rows for task in missing)
        with Progress("romanize", total, "sentences", done=done) as progress:
            run_tasks(run_shard, missing, job.workers, progress.advance)
    return len(tasks) - len(missing)


def _check_space(job: Job, missing: Sequence[ShardTask]) -> None:
    """Stops early when the disk will be too small, taking a transliteration to be as long as its original."""
    needed = 2 * sum(task.part.bytes for task in missing)
    free = shutil.disk_usage(job.out_dir).free
    if needed > free:
        raise DataError(
            f"{job.out_dir} needs about {needed / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB free",
            "free some space, or use --out on another disk; finished parts are kept",
        )
