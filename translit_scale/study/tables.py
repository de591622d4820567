"""Tables of a study: retrieval of every variant, and differences of variants over the seeds that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.analyze.similarity import SIMILARITIES, formula
from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import Estimate, percentile_interval, resample_seeds, resampled_sums
from translit_scale.evaluate.results import difference, percent
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.files import read_json
from translit_scale.report.results import ResultFile, Results
from translit_scale.study.settings import Scale, Study
from translit_scale.study.steps import Run, runs_of
from translit_scale.testsets.task import TOP_K
from translit_scale.text_table import markdown_table

K = TOP_K[-1]
"""Retrieval counts as right if the translation is among so many sentences."""


@dataclass(frozen=True)
class Outcome:
    """One run and one direction of retrieval."""

    ids: NDArray[np.str_]
    """[n] the queries."""
    hit: NDArray[np.bool_]
    """[n] whether the translation was among the first `K`."""


Outcomes = Mapping[tuple[str, int], Outcome]
"""Variant and seed → its outcome in one direction of one task."""


def study_tables(study: Study, scale: Scale, folder: Path) -> str:
    """All tables of the corpora that have results, in Markdown.

    Args:
        folder: of the study; its results and analyses have a folder for each corpus.

    Raises:
        DataError: a result cannot be read, or two runs were tested on different sentences.
    """
    parts = [f"# {study.title}", f"{scale.about[0].upper()}{scale.about[1:]}."]
    runs = runs_of(study, scale)
    for corpus in dict.fromkeys(run.corpus for run in runs):
        results, analysis = folder / "results" / corpus, folder / "analysis" / corpus
        if not results.is_dir():
            continue
        found = _outcomes(Results(results), [run for run in runs if run.corpus == corpus])
        for task in dict.fromkeys(task for task, _ in found):
            directions = {direction: outcomes for (other, direction), outcomes in found.items() if other == task}
            parts += [f"## {corpus}, {task}", _scores(directions, list(scale.seeds)), _differences(directions, study)]
        labels = [run.label for run in runs if run.corpus == corpus]
        for kind, table in (("similarity", _similarities), ("words", _words)):
            files = {path.parent.name: None for path in sorted(analysis.rglob(f"*.{kind}.json"))}
            for task in files:
                parts += [f"## {corpus}, {kind}: {task}", table(_records(analysis / task, kind, labels))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _outcomes(results: Results, runs: Sequence[Run]) -> dict[tuple[str, str], dict[tuple[str, int], Outcome]]:
    """Task and direction → outcomes of all runs that have been measured."""
    found: dict[tuple[str, str], dict[tuple[str, int], Outcome]] = {}
    for task in dict.fromkeys(task for task, _ in results.retrieval):
        for run in runs:
            result = results.retrieval.get((task, run.label))
            for test in result.tests if result else []:
                direction = f"{test['query']} → {test['candidates']}"
                outcome = _outcome(result, f"{test['query']}->{test['candidates']}") if result else None
                if outcome:
                    found.setdefault((task, direction), {})[run.variant, run.seed] = outcome
    return found


def _outcome(result: ResultFile, name: str) -> Outcome | None:
    arrays = result.arrays or {}
    if f"rank:{name}" not in arrays:
        return None
    return Outcome(arrays[f"ids:{name}"], hits(arrays[f"rank:{name}"], K))


def _scores(directions: Mapping[str, Outcomes], variants: Sequence[str]) -> str:
    """A row for each variant: the mean over seeds, with an interval over seeds and sentences."""
    rows = []
    for variant in variants:
        cells, seeds = [], 0
        for outcomes in directions.values():
            some = [outcome for (name, _), outcome in outcomes.items() if name == variant]
            seeds = max(seeds, len(some))
            cells.append(percent(over_seeds(_same_items(some), [one.hit for one in some])) if some else "–")
        if seeds:
            rows.append([variant, str(seeds), *cells])
    chance = [f"{100 * K / len(next(iter(outcomes.values())).ids):.1f}" for outcomes in directions.values()]
    heads = [f"top-{K} %, {direction}" for direction in directions]
    return markdown_table(["", "seeds", *heads], [*rows, ["chance", "", *chance]])


def _differences(directions: Mapping[str, Outcomes], study: Study) -> str:
    """A row for each comparison of the study: paired differences, their mean over seeds, and those of single seeds."""
    rows = []
    for first, second in study.comparisons:
        cells, seeds = [], 0
        for outcomes in directions.values():
            common = [seed for name, seed in outcomes if name == first and (second, seed) in outcomes]
            pairs = [(outcomes[first, seed], outcomes[second, seed]) for seed in common]
            changes = [b.hit.astype(np.int64) - a.hit for a, b in pairs]
            seeds = max(seeds, len(common))
            if not pairs:
                cells.append("–")
                continue
            estimate = over_seeds(_same_items([one for pair in pairs for one in pair]), changes)
            single = ", ".join(f"{100 * change.mean():+.1f}" for change in changes)
            cells.append(difference(estimate) + (f" ({single})" if len(changes) > 1 else ""))
        if seeds:
            rows.append([f"{second} − {first}", str(seeds), *cells])
    return markdown_table(["difference", "seeds", *directions], rows) if rows else ""


def _records(folder: Path, kind: str, labels: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Label → scores of an analysis, in the order of the labels."""
    paths = {label: folder / f"{label}.{kind}.json" for label in labels}
    return {label: read_json(path, "analysis")["scores"]["test"] for label, path in paths.items() if path.is_file()}


def _similarities(records: Mapping[str, list[dict[str, Any]]]) -> str:
    """Mean cosine of matched pairs and, in %, how well it separates them from random ones (50 is chance)."""
    rows = []
    for number, test in enumerate(next(iter(records.values()))):
        for name in SIMILARITIES:
            found = [tests[number][name] for tests in records.values()]
            cells = [f"{one['matched']:.2f} / {100 * one['separability']:.0f}" for one in found]
            rows.append([f"{formula(name)}, s = {test['s']}", *cells])
    return markdown_table(["mean / AUC %", *records], rows)


def _words(records: Mapping[str, list[dict[str, Any]]]) -> str:
    """F1 in % of the words of a sentence and of its transliteration that choose each other."""
    languages = [test["hf_subset"] for test in next(iter(records.values()))]
    rows = []
    for label, tests in records.items():
        scores = [(test["all"]["f1"], *test["all"]["ci95"]["f1"]) for test in tests]
        rows.append([label, *(percent(Estimate(*score)) for score in scores)])
    chance = [f"{100 * test['all']['chance']['f1']:.1f}" for test in next(iter(records.values()))]
    return markdown_table(["F1 of words, %", *languages], [*rows, ["chance", *chance]])


def _same_items(outcomes: Sequence[Outcome]) -> int:
    """The number of items.

    Raises:
        DataError: they are not the same in all outcomes.
    """
    if any(not np.array_equal(outcome.ids, outcomes[0].ids) for outcome in outcomes):
        raise DataError("the runs of a study were tested on different sentences", "evaluate all of them again")
    return len(outcomes[0].ids)


def over_seeds(n: int, values: Sequence[NDArray[np.generic]]) -> Estimate:
    """The mean over seeds and items, with a 95 % percentile interval whose resamples draw seeds and items.

    With one seed it covers the choice of items only; with a few, the choice of seeds as well, though coarsely.

    Args:
        values: for each seed [n] hits, or differences of hits, of the same items.
    """
    columns = np.stack([np.asarray(value, dtype=np.float64) for value in values], axis=1)
    return percentile_interval(float(columns.mean()), resample_seeds(resampled_sums(columns) / n))
