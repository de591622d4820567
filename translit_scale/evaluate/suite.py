"""Runs every test set found in a data folder, retrieval and transfer, and lists the missing ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.evaluate.results import EmbeddingSettings, ModelName
from translit_scale.evaluate.retrieval.run import run_retrieval
from translit_scale.evaluate.transfer.grid import Failure, plan_jobs, run_grid
from translit_scale.evaluate.transfer.job import GridSettings, TransferJob, read_split
from translit_scale.evaluate.transfer.tables import transfer_tables
from translit_scale.languages import listed, matching_codes
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
    """Messages about test sets and languages that were asked for and are missing."""

    def add_texts(self, test_set: ParallelSet, limit: int | None) -> None:
        """Pairs every query language with every other language."""
        task, present = test_set.task, test_set.folder.languages()
        source_codes = [code for source in self.sources for code in source.split("+")]
        queries = [task.query_language] if task.query_language else list(dict.fromkeys(source_codes))
        requested = list(dict.fromkeys([*queries, *(self.codes or present)]))
        available = [code for code in requested if matching_codes(code, present)]
        if lacking := [code for code in requested if code not in available]:
            self.missing.append(f"{task.title}: no {listed(lacking)} in {test_set.folder.path}")
        pairs: list[tuple[str, str]] = []
        for query in (code for code in queries if code in available):
            pairs += [(query, code) for code in available if code != query and (code, query) not in pairs]
        if pairs:
            notes = test_set.notes(list(dict.fromkeys(code for pair in pairs for code in pair)))
            self.texts[task.name] = [test_set.read(*pair).first(limit) for pair in pairs], notes

    def add_jobs(
        self, task: TransferTask, folder: Path, models: Sequence[ModelName], settings: GridSettings, out: Path
    ) -> None:
        """Plans the jobs of the sources that have training and dev sets."""
        trainable = [source for source in self.sources if self._can_train(task, folder, source)]
        present = task.languages(folder, "test")
        targets = [code for code in self.codes if matching_codes(code, present)]
        if lacking := [code for code in self.codes if code not in targets]:
            self.missing.append(f"{task.name}: no test data for {listed(lacking)} in {folder}")
        if trainable and (targets or (not self.codes and present)):
            self.jobs += plan_jobs(models, task, folder, trainable, targets, settings, out)

    def _can_train(self, task: TransferTask, folder: Path, source: str) -> bool:
        """Whether a source has training and dev sets; otherwise records which file is missing."""
        for code in source.split("+"):
            for split in ("train", "dev"):
                if not matching_codes(code, task.languages(folder, split)):
                    try:
                        read_split(task.name, folder, code, split)
                    except DataError as error:
                        self.missing.append(f"{task.name}: {error.message}")
                    return False
        return True


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
    """Reads the parallel texts and plans the jobs of all tasks; sources and codes are those of `Suite`.

    Args:
        limit: only the first pairs of each parallel text.

    Raises:
        DataError: nothing can be measured, or a file is wrong.
    """
    suite = Suite(sources, codes)
    for task in (TASKS[name] for name in dict.fromkeys(tasks)):
        try:
            folder = task.find(data)
        except DataError as error:
            suite.missing.append(error.message)
            continue
        if isinstance(task, RetrievalTask):
            suite.add_texts(ParallelSet(task, folder), limit)
        else:
            suite.add_jobs(task, folder.path, models, settings, out)
    if not suite.texts and not suite.jobs:
        raise DataError("\n".join(["nothing to evaluate:", *suite.missing]), "docs/test-sets.md has the layouts")
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

    Retrieval is always computed anew; finished transfer jobs are reused.
    """
    parts = []
    for task, (texts, notes) in suite.texts.items():
        table = run_retrieval(models, texts, embedding, task, out, notes=notes)
        parts.append("\n".join([table, *(f"note: {note}" for note in notes)]))
    failures = run_grid(suite.jobs, workers, force) if suite.jobs else []
    if suite.jobs:
        parts.append(transfer_tables(suite.jobs))
    if suite.missing:
        parts.append("\n".join(["not there:", *suite.missing]))
    page = "\n\n".join(parts)
    (out / "evaluation.txt").write_text(f"{page}\n", encoding="utf-8")
    return page, failures
