"""Many jobs of zero-shot transfer in several processes: what is done is not done again, no job is skipped unsaid."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import ConfigError, DataError, UserError
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.results import ModelName
from translit_scale.evaluate.transfer.finetune import Precision
from translit_scale.evaluate.transfer.job import Job, describe_job, read_split, run_job
from translit_scale.files import read_json
from translit_scale.languages import matching_codes
from translit_scale.progress import Advance, Progress
from translit_scale.schema import changed_settings
from translit_scale.testsets.hyperparameters import SEEDS
from translit_scale.testsets.task import TransferTask


@dataclass(frozen=True)
class GridSettings:
    """What all jobs of a grid have in common."""

    preset: str = "paper_b"
    seeds: int | None = None
    """How many, counted from the preset's first; the preset's if not given."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that differ from the preset's."""
    precision: Precision = "fp32"
    device: str = "auto"
    threads: int = 1
    """Of each job. Sums are rounded in another order with another number, so it does not follow from the number of
    processes."""


@dataclass(frozen=True)
class Failure:
    """A job that ended with an error."""

    job: str
    message: str
    exit_code: int


def plan_jobs(
    models: Sequence[ModelName],
    task: TransferTask,
    folder: Path,
    sources: Sequence[str],
    targets: Sequence[str],
    settings: GridSettings,
    out: Path,
) -> list[Job]:
    """The jobs of one task: a source for every model, and of each as many as there are seeds.

    Args:
        folder: of the task's files.
        sources: `eng_Latn`, or `hin_Deva+urd_Arab` for one training set of both.
        targets: codes; all languages with a test set if there are none.

    Raises:
        ConfigError: a source stands there twice.
    """
    seeds = SEEDS[settings.preset]
    first, count = seeds[0], settings.seeds or len(seeds)
    job_targets = _targets(task, folder, sources, targets)
    jobs = [
        Job(
            model,
            task.name,
            folder,
            tuple(source.split("+")),
            job_targets,
            seed,
            settings.preset,
            replace(task.hyperparameters, **settings.changes),
            out,
            settings.precision,
            settings.device,
            settings.threads,
        )
        for model in models
        for source in sources
        for seed in range(first, first + count)
    ]
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise ConfigError("two sources are the same", f"give each once: {', '.join(sources)}")
    return jobs


def _targets(task: TransferTask, folder: Path, sources: Sequence[str], targets: Sequence[str]) -> tuple[str, ...]:
    """The languages to test on; one that is also a source has the source's code, whatever the folder calls it."""
    present = task.languages(folder, "test")

    def there(code: str) -> str:
        found = matching_codes(code, present)
        return found[0] if len(found) == 1 else code

    asked = {there(code): code for source in sources for code in source.split("+")}
    return tuple(dict.fromkeys(asked.get(there(code), code) for code in targets or present))


def run_grid(jobs: Sequence[Job], workers: int, force: bool = False) -> list[Failure]:
    """Does the jobs whose result is not there; a job that fails is reported at once, the others go on.

    All texts are read, and all finished results compared with what they would be made of, before anything is trained.

    Args:
        workers: processes. With more than one, a calling script needs the usual `__main__` guard.
        force: do jobs again whose result was made of something else.

    Raises:
        DataError: a model, a training set or a test set is missing or wrong, or a result was made of something else
            and `force` is not given; or a process was killed.
    """
    done = set(_done(jobs, force))
    missing = [job for job in jobs if job not in done]
    if done:
        print(f"done before: {len(done)} of {len(jobs)} jobs", file=sys.stderr)
    if not missing:
        return []
    with Progress("transfer", len(jobs), "jobs", done=len(done)) as progress:
        ended = run_tasks(_run_reported, missing, workers, progress.advance)
    return [failure for failure in ended if failure is not None]


def raise_failures(failures: Sequence[Failure], jobs: int) -> None:
    """Ends the command if jobs have failed.

    Raises:
        DataError: with the names of the jobs and the exit code of the first failure.
    """
    if failures:
        error = DataError(
            f"{len(failures)} of {jobs} jobs failed: {', '.join(failure.job for failure in failures)}",
            "their messages stand above; the same command does them again, and only them",
        )
        error.exit_code = failures[0].exit_code
        raise error


def _run_reported(job: Job, advance: Advance) -> Failure | None:
    """A job whose errors end nothing but itself."""
    try:
        run_job(job, advance)
        return None
    except UserError as error:
        failure = Failure(job.name, str(error), error.exit_code)
    except Exception:
        failure = Failure(job.name, traceback.format_exc(), 1)
    print(f"error: {failure.job}: {failure.message}", file=sys.stderr, flush=True)
    advance(1)
    return failure


def _done(jobs: Sequence[Job], force: bool) -> Iterator[Job]:
    """The jobs whose result is there and would be the same."""
    for model in dict.fromkeys(job.model for job in jobs):
        encoder = Encoder.load(model.path, device="cpu", layer=1.0)
        for job in (job for job in jobs if job.model == model):
            wanted = _identity(describe_job(job, encoder) | {"scores": {"test": _tests(job)}})
            if job.result.exists() and job.items.exists() and _is_same(job, wanted, force):
                yield job


def _tests(job: Job) -> list[dict[str, str]]:
    return [
        {"language": data.language, "text_sha256": data.fingerprint}
        for target in job.targets
        for data in [read_split(job.task_name, job.folder, target, "test")]
    ]


def _is_same(job: Job, wanted: dict[str, Any], force: bool) -> bool:
    """Whether a finished job's result was made of what it would be made of now."""
    try:
        found = _identity(read_json(job.result, "result"))
    except (DataError, KeyError, TypeError, AttributeError):
        if force:
            return False
        raise DataError(f"{job.result} is no result of this command", "--force does the job again") from None
    changes = changed_settings(found, wanted)
    if changes and not force:
        shown = ", ".join(f"{name} {_short(old)}, now {_short(new)}" for name, old, new in changes[:3])
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise DataError(
            f"{job.result} was made with other settings, weights or texts: {shown}{more}",
            "--force does such jobs again; another --out or label keeps both",
        )
    return not changes


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made of; not where model and texts lay or how they were called."""
    return {
        "schema": record["schema"],
        "model": {name: record["model"][name] for name in ("weights_sha256", "tokenizer_sha256")},
        "settings": record["settings"],
        "data": {
            name: {one["language"]: one["text_sha256"] for one in parts} for name, parts in record["data"].items()
        },
        "test": {score["language"]: score["text_sha256"] for score in record["scores"]["test"]},
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
