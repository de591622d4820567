"""Makes a shard set from a recipe and text files: `prepare`, or `prepare_array_task` on many hosts before it.

The tasks (`translit_scale.prepare.tasks`) run in worker processes and leave their results as files under `.work`. After
a kill, only the tasks without a result run again. The set does not depend on the number of tasks, workers or kills.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from translit_scale.corpus.manifest import Manifest
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import DataError
from translit_scale.languages import listed
from translit_scale.prepare.array import ArrayTaskResult, partition
from translit_scale.prepare.locking import lock_shard_set
from translit_scale.prepare.preparation import Preparation
from translit_scale.prepare.publish import check_not_empty, finished_tasks, publish
from translit_scale.prepare.recipe import load_recipe
from translit_scale.prepare.sources import Problems, recipe_files
from translit_scale.prepare.tasks import InputError, Selection, SelectTask, ShardTask, run_select, run_shard
from translit_scale.progress import Advance, Progress


def prepare(
    recipe_path: Path, data_dir: Path, out_dir: Path, workers: int, force: bool = False, finalize: bool = False
) -> Manifest:
    """Makes the shard set of a recipe in `out_dir`, or resumes a run that was killed.

    An existing set is left alone if it was made from the same recipe, inputs and versions.

    Args:
        data_dir: the paths of the recipe are relative to it.
        workers: number of processes. With more than one, a calling script needs the usual `__main__` guard.
        force: replaces a finished set that was made from something else.
        finalize: only publishes what the tasks of a job array have made.

    Raises:
        ConfigError: the recipe is wrong.
        DataError: an input is missing or unusable, nothing is left of a language, the disk is full, another run has
            locked `out_dir`, it holds another finished set and `force` is not given, or with `finalize` tasks are not
            done.
    """
    recipe = load_recipe(recipe_path)
    files = recipe_files(recipe, data_dir)
    with lock_shard_set(out_dir, "finalize" if finalize else "prepare", exclusive=True) as run_dir:
        preparation = Preparation(recipe, data_dir, out_dir, run_dir, workers, files)
        manifest = preparation.existing_set(force)
        if manifest is None and finalize:
            manifest = publish(preparation, finished_tasks(preparation))
        elif manifest is None:
            finished = [(selection, preparation.shard_tasks(selection)) for selection in _select(preparation)]
            _make_shards(preparation, [task for _, tasks in finished for task in tasks])
            manifest = publish(preparation, finished)
        shutil.rmtree(preparation.work_dir)
    return manifest


def prepare_array_task(
    recipe_path: Path,
    data_dir: Path,
    out_dir: Path,
    workers: int,
    task_id: int,
    num_tasks: int,
    force: bool = False,
) -> ArrayTaskResult | None:
    """Does the part of task `task_id` (0 <= `task_id` < `num_tasks`) of a shard set, and publishes nothing.

    Other tasks may run on the same set at the same time, on other hosts and with another `num_tasks`. Args and errors
    are those of `prepare`.

    Returns:
        None if the set is finished and up to date.
    """
    recipe = load_recipe(recipe_path)
    files = recipe_files(recipe, data_dir)
    with lock_shard_set(out_dir, f"task {task_id} of {num_tasks}", exclusive=False) as run_dir:
        sizes = {
            language: sum((data_dir / name).stat().st_size for name, _ in of_language)
            for language, of_language in files.languages.items()
        }
        partitions = partition(sizes, num_tasks)[task_id]
        languages = sorted({of_task.language for of_task in partitions})
        print(f"task {task_id} of {num_tasks}: {listed(languages) or 'no languages'}", file=sys.stderr)
        own_files = files._replace(languages={language: files.languages[language] for language in languages})
        preparation = Preparation(recipe, data_dir, out_dir, run_dir, workers, own_files)
        if preparation.existing_set(force, is_whole=False) is not None:
            return None
        tasks = [
            task
            for selection in _select(preparation)
            for task in preparation.shard_tasks(selection)
            if any(task.language == language and task.number % parts == part for language, part, parts in partitions)
        ]
        existing = _make_shards(preparation, tasks)
        pairs = sum(task.result().counts.get("rows", 0) for task in tasks)
    return ArrayTaskResult(len(languages), len(tasks), pairs, existing)


def _select(preparation: Preparation) -> list[Selection]:
    """Runs the selections that are missing, from the largest to the smallest.

    Raises:
        DataError: the text of some languages is damaged or empty. The selections of the others are kept.
    """
    tasks = preparation.select_tasks()
    missing = [task for task in tasks if not task.target.exists()]
    if missing:
        missing.sort(key=lambda task: -task.input_bytes)
        with Progress("select", sum(task.input_bytes for task in missing), "bytes") as progress:
            errors = run_tasks(_try_select, missing, preparation.workers, progress.advance)
        problems = Problems("the text", [error for error in errors if error is not None])
        problems.raise_all()
    selections = [task.result() for task in tasks]
    check_not_empty(preparation, selections)
    return selections


def _try_select(task: SelectTask, advance: Advance) -> InputError | None:
    """Makes a selection; an error of its text is returned, so that the other languages are still selected."""
    try:
        run_select(task, advance)
    except InputError as error:
        return error
    return None


def _make_shards(preparation: Preparation, tasks: Sequence[ShardTask]) -> int:
    """Makes the shards that are missing; returns the number of those that existed."""
    missing = [task for task in tasks if not task.is_done(preparation.out_dir)]
    if missing:
        _check_space(preparation, missing)
        total = sum(task.part.rows for task in tasks)
        done = total - sum(task.part.rows for task in missing)
        with Progress("romanize", total, "sentences", done=done) as progress:
            run_tasks(run_shard, missing, preparation.workers, progress.advance)
    return len(tasks) - len(missing)


def _check_space(preparation: Preparation, missing: Sequence[ShardTask]) -> None:
    """Fails early if the disk will be too small, supposing that transliterations are as long as originals."""
    needed = 2 * sum(task.part.bytes for task in missing)
    free = shutil.disk_usage(preparation.out_dir).free
    if needed > free:
        raise DataError(
            f"{preparation.out_dir} needs about {needed / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB free",
            "free some space, or use --out on another disk; finished parts are kept",
        )
