"""All test sets that a data folder has, as one run: retrieval and transfer, and by name what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.evaluate.results import EmbeddingSettings, ModelName
from translit_scale.evaluate.retrieval.run import run_retrieval
from translit_scale.evaluate.transfer.grid import Failure, GridSettings, plan_jobs, run_grid
from translit_scale.evaluate.transfer.job import Job, read_split
from translit_scale.evaluate.transfer.tables import transfer_tables
from translit_scale.languages import called_there, listed
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import TASKS, find_folder, languages
from translit_scale.testsets.retrieval import ENGLISH, RETRIEVAL_TASKS, find_set

ALL_TASKS = (*RETRIEVAL_TASKS, "sib200", "taxi1500", "ner", "pos")


@dataclass
class Battery:
    """What can be measured under a data folder."""

    texts: dict[str, list[ParallelText]] = field(default_factory=dict)
    """Of each retrieval task."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Messages about sets and languages that were asked for and are not there."""


def find_battery(
    models: Sequence[ModelName],
    data: Path,
    tasks: Sequence[str],
    sources: Sequence[str],
    codes: Sequence[str],
    settings: GridSettings,
    out: Path,
    limit: int | None = None,
) -> Battery:
    """Reads the parallel texts and plans the jobs of all tasks.

    Args:
        sources: queries of retrieval and training languages of transfer (`eng_Latn`, or `hin_Deva+urd_Arab`).
        codes: languages to test on; all that a set has if there are none.
        limit: only the first pairs of each parallel text.

    Raises:
        DataError: nothing of it is there, or what is there is wrong.
    """
    found = Battery()
    for name in dict.fromkeys(tasks):
        if name in RETRIEVAL_TASKS:
            _find_texts(found, name, data, sources, codes, limit)
        else:
            _find_jobs(found, models, name, data, sources, codes, settings, out)
    if not found.texts and not found.jobs:
        raise DataError("\n".join(["nothing to evaluate:", *found.missing]), "docs/test-sets.md has the layouts")
    return found


def run_battery(
    found: Battery,
    models: Sequence[ModelName],
    embedding: EmbeddingSettings,
    out: Path,
    workers: int,
    force: bool = False,
    seed: int = 0,
) -> tuple[str, list[Failure]]:
    """Measures everything, writes the results and `<out>/evaluation.txt`; returns that page and the failed jobs.

    Retrieval is computed anew each time; jobs of transfer that are done are not done again.
    """
    parts = [
        "\n".join(
            [run_retrieval(models, texts, embedding, task, out, seed, found.notes[task]), *_noted(found.notes[task])]
        )
        for task, texts in found.texts.items()
    ]
    failures = run_grid(found.jobs, workers, force) if found.jobs else []
    if found.jobs:
        parts.append(transfer_tables(found.jobs))
    if found.missing:
        parts.append("\n".join(["not there:", *found.missing]))
    page = "\n\n".join(parts)
    (out / "evaluation.txt").write_text(f"{page}\n", encoding="utf-8")
    return page, failures


def _noted(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def _find_texts(
    found: Battery, task: str, data: Path, sources: Sequence[str], codes: Sequence[str], limit: int | None
) -> None:
    """Every source with every language; of Tatoeba English only, the other pairs have next to nothing in common."""
    try:
        test_set = find_set(task, data)
    except DataError as error:
        found.missing.append(error.message)
        return
    queries = [ENGLISH] if task == "tatoeba" else list(dict.fromkeys(code for s in sources for code in s.split("+")))
    wanted = list(dict.fromkeys([*queries, *(codes or test_set.languages)]))
    there = [code for code in wanted if called_there(code, test_set.languages)]
    if lacking := [code for code in wanted if code not in there]:
        found.missing.append(f"{test_set.task.title}: no {listed(lacking)} in {test_set.folder}")
    pairs: list[tuple[str, str]] = []
    for query in (code for code in queries if code in there):
        pairs += [(query, code) for code in there if code != query and (code, query) not in pairs]
    if pairs:
        texts = [test_set.read(*pair) for pair in pairs]
        found.texts[task] = [text.first(limit) if limit else text for text in texts]
        found.notes[task] = test_set.notes(list(dict.fromkeys(code for pair in pairs for code in pair)))


def _find_jobs(
    found: Battery,
    models: Sequence[ModelName],
    name: str,
    data: Path,
    sources: Sequence[str],
    codes: Sequence[str],
    settings: GridSettings,
    out: Path,
) -> None:
    task = TASKS[name]
    try:
        folder = find_folder(data, task)
    except DataError as error:
        found.missing.append(str(error))
        return
    trainable = [source for source in sources if _has_training(found, name, folder, source)]
    present = languages(task, folder, "test")
    targets = [code for code in codes if called_there(code, present)]
    if lacking := [code for code in codes if code not in targets]:
        found.missing.append(f"{name}: no test data for {listed(lacking)} in {folder}")
    if trainable and (targets or (not codes and present)):
        found.jobs += plan_jobs(models, task, folder, trainable, targets, settings, out)


def _has_training(found: Battery, name: str, folder: Path, source: str) -> bool:
    """Whether a source has training and dev sets; says which file is missing otherwise."""
    for code in source.split("+"):
        for split in ("train", "dev"):
            if not called_there(code, languages(TASKS[name], folder, split)):
                try:
                    read_split(name, folder, code, split)
                except DataError as error:
                    found.missing.append(f"{name}: {error.message}")
                return False
    return True
