"""Runs every test set found in a data folder, retrieval and transfer, and lists the missing ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.evaluate.results import EmbeddingSettings, ModelName
from translit_scale.evaluate.retrieval.run import run_retrieval
from translit_scale.evaluate.transfer.grid import Failure, GridSettings, plan_jobs, run_grid
from translit_scale.evaluate.transfer.job import TransferJob, read_split
from translit_scale.evaluate.transfer.tables import transfer_tables
from translit_scale.languages import listed, matching_codes
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import TASKS
from translit_scale.testsets.task import RetrievalTask, TransferTask


@dataclass
class Suite:
    """What can be measured under a data folder."""

    texts: dict[str, list[ParallelText]] = field(default_factory=dict)
    """By retrieval task."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """By retrieval task."""
    jobs: list[TransferJob] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Messages about test sets and languages that were asked for and are missing."""


def find_suite(
    models: Sequence[ModelName],
    data: Path,
    tasks: Sequence[str],
    sources: Sequence[str],
    codes: Sequence[str],
    settings: GridSettings,
    out: Path,
    limit: int | None = None,
) -> Suite:
    """Reads the parallel texts and plans the jobs of all tasks.

    Args:
        sources: queries of retrieval and training languages of transfer (`eng_Latn`, or `hin_Deva+urd_Arab`).
        codes: languages to test on; if empty, all that a test set has.
        limit: only the first pairs of each parallel text.

    Raises:
        DataError: nothing can be measured, or a file is wrong.
    """
    suite = Suite()
    for task in (TASKS[name] for name in dict.fromkeys(tasks)):
        if isinstance(task, RetrievalTask):
            _find_texts(suite, task, data, sources, codes, limit)
        else:
            _find_jobs(suite, task, data, sources, codes, partial(plan_jobs, models, settings=settings, out=out))
    if not suite.texts and not suite.jobs:
        raise DataError("\n".join(["nothing to evaluate:", *suite.missing]), "docs/test-sets.md has the layouts")
    return suite


def run_suite(
    suite: Suite,
    models: Sequence[ModelName],
    embedding: EmbeddingSettings,
    out: Path,
    workers: int,
    force: bool = False,
    seed: int = 0,
) -> tuple[str, list[Failure]]:
    """Measures everything, writes the results and `<out>/evaluation.txt`; returns that page and the failed jobs.

    Retrieval is always computed anew; finished transfer jobs are reused.
    """
    parts = []
    for task, texts in suite.texts.items():
        table = run_retrieval(models, texts, embedding, task, out, seed, suite.notes[task])
        parts.append("\n".join([table, *(f"note: {note}" for note in suite.notes[task])]))
    failures = run_grid(suite.jobs, workers, force) if suite.jobs else []
    if suite.jobs:
        parts.append(transfer_tables(suite.jobs))
    if suite.missing:
        parts.append("\n".join(["not there:", *suite.missing]))
    page = "\n\n".join(parts)
    (out / "evaluation.txt").write_text(f"{page}\n", encoding="utf-8")
    return page, failures


def _find_texts(
    suite: Suite, task: RetrievalTask, data: Path, sources: Sequence[str], codes: Sequence[str], limit: int | None
) -> None:
    """Pairs every query language with every other language."""
    try:
        test_set = task.find_set(data)
    except DataError as error:
        suite.missing.append(error.message)
        return
    present = test_set.folder.languages()
    source_codes = [code for source in sources for code in source.split("+")]
    queries = [task.query_language] if task.query_language else list(dict.fromkeys(source_codes))
    requested = list(dict.fromkeys([*queries, *(codes or present)]))
    available = [code for code in requested if matching_codes(code, present)]
    if lacking := [code for code in requested if code not in available]:
        suite.missing.append(f"{task.title}: no {listed(lacking)} in {test_set.folder.path}")
    pairs: list[tuple[str, str]] = []
    for query in (code for code in queries if code in available):
        pairs += [(query, code) for code in available if code != query and (code, query) not in pairs]
    if pairs:
        suite.texts[task.name] = [test_set.read(*pair).first(limit) for pair in pairs]
        suite.notes[task.name] = test_set.notes(list(dict.fromkeys(code for pair in pairs for code in pair)))


def _find_jobs(
    suite: Suite,
    task: TransferTask,
    data: Path,
    sources: Sequence[str],
    codes: Sequence[str],
    plan: Callable[..., list[TransferJob]],
) -> None:
    try:
        folder = task.find(data).path
    except DataError as error:
        suite.missing.append(error.message)
        return
    trainable = [source for source in sources if _can_train(suite, task, folder, source)]
    present = task.languages(folder, "test")
    targets = [code for code in codes if matching_codes(code, present)]
    if lacking := [code for code in codes if code not in targets]:
        suite.missing.append(f"{task.name}: no test data for {listed(lacking)} in {folder}")
    if trainable and (targets or (not codes and present)):
        suite.jobs += plan(task, folder, trainable, targets)


def _can_train(suite: Suite, task: TransferTask, folder: Path, source: str) -> bool:
    """Whether a source has training and dev sets; otherwise records which file is missing."""
    for code in source.split("+"):
        for split in ("train", "dev"):
            if not matching_codes(code, task.languages(folder, split)):
                try:
                    read_split(task.name, folder, code, split)
                except DataError as error:
                    suite.missing.append(f"{task.name}: {error.message}")
                return False
    return True
