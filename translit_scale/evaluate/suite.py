"""Runs every test set found in a data folder, retrieval and transfer, and lists the missing ones.

One language or set never ends the others: what is missing or ambiguous, and what cannot be read, is listed at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.evaluate.models import EmbeddingSettings, ModelName
from translit_scale.evaluate.page import FAILED_JOBS, NOT_MEASURED
from translit_scale.evaluate.retrieval.run import run_retrieval
from translit_scale.evaluate.transfer.grid import Failure, plan_jobs, remaining_jobs, run_jobs
from translit_scale.evaluate.transfer.job import GridSettings, TransferJob, read_split
from translit_scale.evaluate.transfer.tables import transfer_tables
from translit_scale.languages import listed
from translit_scale.progress import Progress
from translit_scale.testsets.layouts import Aliases, LanguageError, TaskFolder
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import TASKS
from translit_scale.testsets.task import ParallelSet, RetrievalTask, TransferTask


@dataclass
class Suite:
    """What can be measured under a data folder, with some sources and languages."""

    sources: Sequence[str]
    """Queries of retrieval and training languages of transfer (`eng_Latn`, or `hin_Deva+urd_Arab`)."""
    codes: Sequence[str]
    """Languages to test on; if empty, all that a test set has."""
    texts: dict[str, tuple[list[ParallelText], list[str]]] = field(default_factory=dict)
    """By retrieval task, with notes for readers of the numbers."""
    jobs: list[TransferJob] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Messages about test sets and languages that are missing or ambiguous."""
    choices: list[str] = field(default_factory=list)
    """Options that would settle what is ambiguous."""
    ignored: list[str] = field(default_factory=list)
    """Files that belong to no language."""
    failed: list[DataError] = field(default_factory=list)
    """Errors of files that are there and cannot be read, and of sets that could not be measured."""

    def add_texts(self, test_set: ParallelSet, limit: int | None) -> None:
        """Pairs every query language with every other language."""
        task, folder = test_set.task, test_set.folder
        source_codes = [code for source in self.sources for code in source.split("+")]
        queries = [task.query_language] if task.query_language else list(dict.fromkeys(source_codes))
        available = self._available(task.name, folder, [*queries, *(self.codes or folder.languages())], "test")
        pairs: list[tuple[str, str]] = []
        for query in (code for code in queries if code in available):
            pairs += [(query, code) for code in available if code != query and (code, query) not in pairs]
        with Progress(f"reading {task.name}", len(pairs), "pairs") as progress:
            texts, errors = test_set.read_pairs(pairs, limit, progress.advance)
        self._add_failed(errors)
        if texts:
            read = dict.fromkeys(code for text in texts for code in (text.source_language, text.target_language))
            self.texts[task.name] = texts, test_set.notes(list(read))

    def add_jobs(
        self, task: TransferTask, folder: TaskFolder, models: Sequence[ModelName], settings: GridSettings, out: Path
    ) -> None:
        """Plans the jobs of the sources that have training and dev sets."""
        sources = [source for source in self.sources if self._can_train(task, folder, source)]
        present = self._available(task.name, folder, self.codes or folder.languages(), "test")
        targets = []
        with Progress(f"reading {task.name}", len(present), "languages") as progress:
            for code in present:
                if self._is_readable(task, folder, code, "test"):
                    targets.append(code)
                progress.advance(1)
        if sources and targets:
            self.jobs += plan_jobs(models, task, folder, sources, targets, settings, out)

    def _can_train(self, task: TransferTask, folder: TaskFolder, source: str) -> bool:
        """Whether the languages of a source have training and dev sets that can be read."""
        for split in ("train", "dev"):
            codes = source.split("+")
            if self._available(task.name, folder, codes, split) != list(dict.fromkeys(codes)):
                return False
            if not all(self._is_readable(task, folder, code, split) for code in codes):
                return False
        return True

    def _available(self, task: str, folder: TaskFolder, codes: Sequence[str], split: str) -> list[str]:
        """The languages that a set has; records what is missing or ambiguous, and which files are of no language."""
        present, errors = folder.find_all(codes, split)
        absent: list[str] = []
        for error in errors:
            if isinstance(error, LanguageError) and not error.candidates and split == "test":
                absent.append(error.language)
                continue
            self._add_missing(f"{task}: {error}")
            if isinstance(error, LanguageError) and error.is_same:
                self.choices.append(error.option)
        if absent:
            example = folder.expected(absent[0], split)
            self._add_missing(f"{task}: no {split} data for {listed(absent)} in {folder.path}: there is no {example}")
        self.ignored += [message for message in folder.skipped(split) if message not in self.ignored]
        return present

    def _add_missing(self, message: str) -> None:
        if message not in self.missing:
            self.missing.append(message)

    def _is_readable(self, task: TransferTask, folder: TaskFolder, code: str, split: str) -> bool:
        try:
            read_split(task.name, folder.path, code, split, folder.aliases)
        except DataError as error:
            self._add_failed([error])
            return False
        return True

    def _add_failed(self, errors: Sequence[DataError]) -> None:
        """Records errors; a file that several tasks read has one."""
        self.failed += [error for error in errors if str(error) not in map(str, self.failed)]


def find_suite(
    models: Sequence[ModelName],
    data: Path,
    tasks: Sequence[str],
    sources: Sequence[str],
    codes: Sequence[str],
    settings: GridSettings,
    out: Path,
    limits: Mapping[str, int] | None = None,
    aliases: Aliases = (),
) -> Suite:
    """Reads the parallel texts and plans the jobs of all tasks; sources and codes are those of `Suite`.

    Args:
        limits: task → only the first pairs of each of its parallel texts.
        aliases: the sets' own names for languages.

    Raises:
        DataError: nothing can be measured.
    """
    suite = Suite(sources, codes)
    for task in (TASKS[name] for name in dict.fromkeys(tasks)):
        try:
            folder = task.find(data, aliases)
        except DataError as error:
            suite.missing.append(str(error) if "archive" in error.hint else error.message)
            continue
        if isinstance(task, RetrievalTask):
            suite.add_texts(ParallelSet(task, folder), (limits or {}).get(task.name))
        else:
            suite.add_jobs(task, folder, models, settings, out)
    if not suite.texts and not suite.jobs:
        errors = [str(error) for error in suite.failed]
        raise DataError(
            "\n".join(["nothing to evaluate:", *suite.missing, *errors]), "the layouts: translit-scale docs test-sets"
        )
    return suite


def run_suite(
    suite: Suite,
    models: Sequence[ModelName],
    embedding: EmbeddingSettings,
    out: Path,
    workers: int,
    force: bool,
) -> tuple[str, list[Failure]]:
    """Measures everything, writes the results and `<out>/evaluation.txt`; returns that page and the failed jobs.

    Retrieval is always computed anew; finished transfer jobs are reused. The error of a set is added to `suite.failed`.
    """
    parts = []
    for task, (texts, notes) in suite.texts.items():
        try:
            table = run_retrieval(models, texts, embedding, task, out, notes=notes, force=force)
        except DataError as error:
            suite.failed.append(error)
            continue
        parts.append("\n".join([table, *(f"note: {note}" for note in notes)]))
    jobs, failures = _run_transfer(suite, workers, force)
    if jobs:
        parts.append(transfer_tables(jobs))
    if suite.missing or suite.ignored:
        parts.append("\n".join(["not there:", *suite.missing, *suite.ignored]))
    if suite.failed:
        parts.append("\n".join([NOT_MEASURED, *map(str, suite.failed)]))
    if failures:
        parts.append("\n".join([FAILED_JOBS, *(failure.job for failure in failures)]))
    page = "\n\n".join(parts)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.txt").write_text(f"{page}\n", encoding="utf-8")
    return page, failures


def _run_transfer(suite: Suite, workers: int, force: bool) -> tuple[list[TransferJob], list[Failure]]:
    """Runs the jobs of all tasks together, without those of tasks whose earlier results may not be replaced."""
    kept: list[TransferJob] = []
    remaining: list[TransferJob] = []
    for name in dict.fromkeys(job.task_name for job in suite.jobs):
        jobs = [job for job in suite.jobs if job.task_name == name]
        try:
            remaining += remaining_jobs(jobs, force)
        except DataError as error:
            suite.failed.append(error)
            continue
        kept += jobs
    return kept, run_jobs(kept, remaining, workers)
