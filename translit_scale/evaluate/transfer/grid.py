"""Runs transfer jobs in parallel; finished jobs are reused, failures are reported."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import ConfigError, DataError, UserError
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.models import ModelName
from translit_scale.evaluate.results import refuse_change, result_inputs
from translit_scale.evaluate.transfer.job import GridSettings, TransferJob, describe_job, run_job
from translit_scale.files import read_json
from translit_scale.progress import Advance, Progress
from translit_scale.schema import changed_settings
from translit_scale.testsets.hyperparameters import SEEDS
from translit_scale.testsets.layouts import TaskFolder
from translit_scale.testsets.task import TransferTask


@dataclass(frozen=True)
class Failure:
    """A job that ended with an error."""

    job: str
    exit_code: int


def plan_jobs(
    models: Sequence[ModelName],
    task: TransferTask,
    folder: TaskFolder,
    sources: Sequence[str],
    targets: Sequence[str],
    settings: GridSettings,
    out: Path,
) -> list[TransferJob]:
    """The jobs of one task: one for every model, source and seed.

    Args:
        folder: with the task's files.
        sources: `eng_Latn`, or `hin_Deva+urd_Arab` for one training set of both.
        targets: codes; if empty, all languages with a test set.

    Raises:
        ConfigError: a source occurs twice.
    """
    seeds = SEEDS[settings.preset]
    first, count = seeds[0], settings.seeds or len(seeds)
    job_targets = _targets(folder, sources, targets)
    jobs = [
        TransferJob(
            model, task.name, folder.path, tuple(source.split("+")), job_targets, seed, settings, out, folder.aliases
        )
        for model in models
        for source in sources
        for seed in range(first, first + count)
    ]
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise ConfigError("two sources are the same", f"give each once: {', '.join(sources)}")
    return jobs


def _targets(folder: TaskFolder, sources: Sequence[str], targets: Sequence[str]) -> tuple[str, ...]:
    """The languages to test on; one that is also a source gets the source's code, whatever the folder calls it."""

    def files(code: str) -> tuple[Path, ...] | str:
        try:
            return folder.find(code).paths
        except DataError:
            return code  # reading it reports the error

    source_code = {files(code): code for source in sources for code in source.split("+")}
    return tuple(dict.fromkeys(source_code.get(files(code), code) for code in targets or folder.languages()))


def run_grid(jobs: Sequence[TransferJob], workers: int, force: bool = False) -> list[Failure]:
    """Runs the jobs that have no result yet; a job that fails is reported at once, and the others continue.

    Before training begins, all texts are read and all finished results are compared with the present settings, weights
    and texts.

    Args:
        workers: processes. With more than one, a calling script needs the usual `__main__` guard.
        force: runs jobs again whose result was made with other settings, weights or texts.

    Raises:
        DataError: a model, a training set or a test set is missing or wrong; a result was made with other settings,
            weights or texts and `force` is not given; or a process was killed.
    """
    return run_jobs(jobs, remaining_jobs(jobs, force), workers)


def remaining_jobs(jobs: Sequence[TransferJob], force: bool = False) -> list[TransferJob]:
    """The jobs that have no result made with the present settings, weights and texts; arguments as in `run_grid`.

    Raises:
        DataError: as `run_grid`.
    """
    finished = {job.name for job in _finished(jobs, force)}
    return [job for job in jobs if job.name not in finished]


def run_jobs(jobs: Sequence[TransferJob], remaining: Sequence[TransferJob], workers: int) -> list[Failure]:
    """Runs the remaining ones of some jobs."""
    finished = len(jobs) - len(remaining)
    if finished:
        print(f"finished before: {finished} of {len(jobs)} jobs", file=sys.stderr)
    if not remaining:
        return []
    with Progress("transfer", len(jobs), "jobs", done=finished) as progress:
        outcomes = run_tasks(_run_reported, remaining, workers, progress.advance)
    return [failure for failure in outcomes if failure is not None]


def raise_failures(failures: Sequence[Failure], jobs: int) -> None:
    """Ends the command if jobs have failed.

    Raises:
        DataError: with the names of the jobs and the exit code of the first failure.
    """
    if failures:
        error = DataError(
            f"{len(failures)} of {jobs} jobs failed: {', '.join(failure.job for failure in failures)}",
            "their messages are printed above; the same command runs only these jobs again",
        )
        error.exit_code = failures[0].exit_code
        raise error


def _run_reported(job: TransferJob, advance: Advance) -> Failure | None:
    """Runs a job; an error ends this job only."""
    try:
        run_job(job, advance)
        return None
    except UserError as error:
        message, exit_code = str(error), error.exit_code
    except Exception:
        message, exit_code = traceback.format_exc(), 1
    print(f"error: {job}: {message}", file=sys.stderr, flush=True)
    advance(1)
    return Failure(job.name, exit_code)


def _finished(jobs: Sequence[TransferJob], force: bool) -> Iterator[TransferJob]:
    """The jobs that have a result made with the present settings, weights and texts."""
    for model in dict.fromkeys(job.model for job in jobs):
        encoder = Encoder.load(model.path, device="cpu", layer=1.0)
        for job in (job for job in jobs if job.model == model):
            tests = [job.read(target, "test") for target in job.targets]
            scores = [{"hf_subset": test.language, "text_sha256": test.fingerprint} for test in tests]
            present = _inputs(describe_job(job, encoder) | {"scores": {"test": scores}})
            if job.result.exists() and job.items.exists() and _is_current(job, present, force):
                yield job


def _is_current(job: TransferJob, present: dict[str, Any], force: bool) -> bool:
    """Whether a job's result was made with the present settings, weights and texts."""
    try:
        recorded = _inputs(read_json(job.result, "result"))
    except (DataError, KeyError, TypeError, AttributeError):
        if force:
            return False
        raise DataError(f"{job.result} is not a result of this command", "--force runs the job again") from None
    changes = changed_settings(recorded, present)
    if not force:
        refuse_change(job.result, changes)
    return not changes


def _inputs(record: Mapping[str, Any]) -> dict[str, Any]:
    """`result_inputs`, with the texts of training."""
    data = {split: {part["language"]: part["text_sha256"] for part in parts} for split, parts in record["data"].items()}
    return result_inputs(record) | {"data": data}
