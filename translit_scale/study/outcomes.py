"""Retrieval of the runs of a study: one outcome for each run and column of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.report.results import ResultFile, Results
from translit_scale.study.steps import Run

MOST_COLUMNS = 6
"""More directions than these are averaged: a column then has the directions from or to one language."""


@dataclass(frozen=True)
class Outcome:
    """One run in one column: sentences of one direction, or languages whose directions are averaged."""

    items: NDArray[np.str_]
    """[n] ids of the sentences, or codes of the languages."""
    scores: NDArray[np.float64]
    """[n] of a sentence 1 if its translation is among the first k, else 0; of a language the mean over sentences."""
    chance: float
    """What a random order scores."""


Outcomes = Mapping[tuple[str, int], Outcome]
"""Variant and seed → its outcome in one column."""


def outcomes(results: Results, task: str, runs: Sequence[Run], k: int) -> dict[str, Outcomes]:
    """Column → outcomes of the runs that have been measured.

    Args:
        k: retrieval counts as right if the translation is among so many sentences.
    """
    columns: dict[str, dict[tuple[str, int], Outcome]] = {}
    for run in runs:
        result = results.retrieval.get((task, run.label))
        for column, outcome in _columns(result, k).items() if result else ():
            columns.setdefault(column, {})[run.variant, run.seed] = outcome
    return dict(columns)


def _columns(result: ResultFile, k: int) -> dict[str, Outcome]:
    if len(result.tests) <= MOST_COLUMNS:
        return {
            f"{test['query']} → {test['candidates']}": outcome
            for test in result.tests
            if (outcome := _of_sentences(result, f"{test['query']}->{test['candidates']}", k))
        }
    directions = {(test["query"], test["candidates"]): test for test in result.tests}
    targets = Counter(query for query, _ in directions)
    sources = [code for code, number in targets.items() if number > max(targets.values()) / 2]
    columns = {}
    for source in sources:
        others = {candidates: test for (query, candidates), test in directions.items() if query == source}
        columns[f"{source} → {len(others)} languages"] = _of_languages(others, k)
        if len(sources) < len(targets):
            others = {query: test for (query, candidates), test in directions.items() if candidates == source}
            columns[f"{len(others)} languages → {source}"] = _of_languages(others, k)
    return columns


def _of_sentences(result: ResultFile, name: str, k: int) -> Outcome | None:
    arrays = result.arrays or {}
    if f"rank:{name}" not in arrays:
        return None
    ids = arrays[f"ids:{name}"]
    return Outcome(ids, hits(arrays[f"rank:{name}"], k).astype(np.float64), min(1.0, k / len(ids)))


def _of_languages(tests: Mapping[str, Mapping[str, Any]], k: int) -> Outcome:
    languages = sorted(tests)
    return Outcome(
        np.array(languages),
        np.array([tests[language][f"top{k}"] for language in languages]),
        float(np.mean([min(1.0, k / tests[language]["n"]) for language in languages])),
    )
