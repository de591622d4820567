"""Tables of a study: retrieval of every variant, and differences of variants over the seeds that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.analyze.similarity import SIMILARITIES, formula
from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import Estimate, percentile_interval, resample_seeds, resampled_sums
from translit_scale.evaluate.results import difference, percent
from translit_scale.files import read_json
from translit_scale.report.averages_page import FEWEST
from translit_scale.report.results import Results, Value
from translit_scale.study.curves import training_table
from translit_scale.study.manifest import runs_of
from translit_scale.study.outcomes import Outcome, Outcomes, outcomes
from translit_scale.study.settings import Scale, Study
from translit_scale.text_table import markdown_table


def study_tables(study: Study, scale: Scale, folder: Path) -> str:
    """All tables of the corpora that have results, in Markdown.

    Args:
        folder: of the study; its results and analyses have a folder for each corpus.

    Raises:
        DataError: a result cannot be read, or two runs were tested on different sentences.
    """
    parts = [f"# {study.title}", f"{scale.about[0].upper()}{scale.about[1:]}."]
    all_runs = runs_of(study, scale)
    for corpus in dict.fromkeys(run.corpus for run in all_runs):
        runs = [run for run in all_runs if run.corpus == corpus]
        if trainings := training_table(folder, runs):
            parts += [f"## {corpus}, trainings", trainings]
        results, analysis = folder / "results" / corpus, folder / "analysis" / corpus
        if not any(results.rglob("*.json")):
            continue
        found = Results(results)
        for task in dict.fromkeys(task for task, _ in found.retrieval):
            columns = outcomes(found, task, runs, scale.top)
            if columns:
                parts += [f"## {corpus}, {task}", _scores(columns, scale), _differences(columns, study)]
        labels = [run.label for run in runs]
        if found.transfer:
            parts += [f"## {corpus}, transfer", _transfer(found, labels)]
        for kind, table in (("similarity", _similarities), ("words", _words)):
            files = {path.parent.name: None for path in sorted(analysis.rglob(f"*.{kind}.json"))}
            for task in files:
                parts += [f"## {corpus}, {kind}: {task}", table(_records(analysis / task, kind, labels))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(columns: Mapping[str, Outcomes], scale: Scale) -> str:
    """A row for each variant: the mean over seeds, with an interval over seeds and items."""
    rows = []
    for variant in scale.seeds:
        cells, seeds = [], 0
        for column in columns.values():
            some = [outcome for (name, _), outcome in column.items() if name == variant]
            seeds = max(seeds, len(some))
            cells.append(percent(over_seeds(_of_same_items(some))) if some else "–")
        if seeds:
            rows.append([variant, str(seeds), *cells])
    chance = [f"{100 * next(iter(column.values())).chance:.1f}" for column in columns.values()]
    heads = [f"top-{scale.top} %, {column}" for column in columns]
    return markdown_table(["", "seeds", *heads], [*rows, ["chance", "", *chance]])


def _differences(columns: Mapping[str, Outcomes], study: Study) -> str:
    """A row for each comparison of the study: paired differences, their mean over seeds, and those of single seeds."""
    rows = []
    for first, second in study.comparisons:
        cells, seeds = [], 0
        for column in columns.values():
            common = [seed for name, seed in column if name == first and (second, seed) in column]
            seeds = max(seeds, len(common))
            if not common:
                cells.append("–")
                continue
            scores = _of_same_items([column[name, seed] for name in (first, second) for seed in common])
            changes = [after - before for before, after in zip(scores, scores[len(common) :], strict=False)]
            single = ", ".join(f"{100 * change.mean():+.1f}" for change in changes)
            cells.append(_change(changes) + (f" ({single})" if len(changes) > 1 else ""))
        if seeds:
            rows.append([f"{second} − {first}", str(seeds), *cells])
    return markdown_table(["difference", "seeds", *columns], rows) if rows else ""


def _change(changes: Sequence[NDArray[np.float64]]) -> str:
    """The mean of differences with its interval, which is marked if 0 is outside and the items are not too few."""
    estimate = over_seeds(changes)
    return difference(estimate) if len(changes[0]) >= FEWEST else percent(estimate, "+")


def _transfer(results: Results, labels: Sequence[str]) -> str:
    """Zero-shot transfer: for each task and source the mean of the main score over the other languages."""
    columns = {
        (task, source): sorted({test["language"] for file in files.values() for test in file.tests} - {source})
        for (task, _, source), files in results.transfer.items()
    }
    rows = []
    for label in labels:
        values = [
            results.value(label, task, "", source, targets, "strict") if targets else None
            for (task, source), targets in columns.items()
        ]
        if any(values):
            rows.append([label, *(_cell(value) for value in values)])
    heads = [f"{task}, {source} → {', '.join(targets) if len(targets) == 1 else f'{len(targets)} others'}"
             for (task, source), targets in columns.items()]  # fmt: skip
    return markdown_table(["%", *heads], rows) if rows else ""


def _cell(value: Value | None) -> str:
    if value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{100 * value.value:.1f}"
    return percent(Estimate(value.value, value.low, value.high))


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


def _of_same_items(outcomes: Sequence[Outcome]) -> list[NDArray[np.float64]]:
    """Their scores, one array [n] for each.

    Raises:
        DataError: the items are not the same in all outcomes.
    """
    if any(not np.array_equal(outcome.items, outcomes[0].items) for outcome in outcomes):
        raise DataError("the runs of a study were tested on different sentences", "evaluate all of them again")
    return [outcome.scores for outcome in outcomes]


def over_seeds(values: Sequence[NDArray[np.float64]]) -> Estimate:
    """The mean over seeds and items, with a 95 % percentile interval whose resamples draw seeds and items.

    With one seed it covers the choice of items only; with a few, the choice of seeds as well, though coarsely.

    Args:
        values: for each seed [n] scores, or differences of scores, of the same items.
    """
    columns = np.stack(values, axis=1)
    return percentile_interval(float(columns.mean()), resample_seeds(resampled_sums(columns) / len(columns)))
