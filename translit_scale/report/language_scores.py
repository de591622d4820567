"""The scores of every language in results, by task and source: what means over languages are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from translit_scale.errors import DataError
from translit_scale.languages import listed
from translit_scale.report.results import ResultFile, Results
from translit_scale.testsets.task import TOP_K

EACH_OTHER = "every other language"
"""The source of retrieval between all pairs of languages."""

SIDES = ("query", "candidates")
Direction = tuple[str, str]
"""Language of the queries, language of the candidates."""
Measures = dict[str, float]
"""Measure → score of one language, a fraction."""
Scores = dict[tuple[str, str], dict[str, dict[str, Measures]]]
"""(task, source) → row of a table → language → measures."""


def language_scores(
    results: Results, models: Mapping[str, str], profile: str, damaged: list[DataError]
) -> tuple[Scores, list[str]]:
    """All scores, and notes about those that were left out because a language lacks some seeds.

    Args:
        models: row → label of results, in the order of the rows.
        profile: of transfer scores, `paper` or `strict`.
        damaged: gets an error about every result that cannot be read; the others are used.
    """
    scores: Scores = {}
    notes: list[str] = []
    for row, label in models.items():
        for task in [task for task, of_model in results.retrieval if of_model == label]:
            by_source = _retrieval_scores(results.retrieval[task, label], damaged)
            for source, by_language in by_source.items():
                scores.setdefault((task, source), {})[row] = by_language
        for key in [key for key in results.transfer if key[1] == label]:
            task, _, source = key
            by_language, incomplete = _transfer_scores(results.transfer[key], source, profile, damaged)
            scores.setdefault((task, source), {})[row] = by_language
            if incomplete:
                notes.append(
                    f"{row}, {task} from {source}: left out without results of all seeds: {listed(incomplete)}"
                )
    return scores, notes


def _retrieval_scores(result: ResultFile, damaged: list[DataError]) -> dict[str, dict[str, Measures]]:
    """Source → target → means of the measures over the target's directions that can be read."""
    tests = {(test["query"], test["candidates"]): test for test in readable_tests(result, damaged, *SIDES)}
    names = [f"top{k}" for k in TOP_K]
    measured = {
        direction: found
        for direction, test in tests.items()
        if (found := finite_measures(result, " -> ".join(direction), test, names, damaged))
    }
    return {
        source: {
            target: mean_measures([measured[direction] for direction in directions if direction in measured])
            for target, directions in by_target.items()
            if any(direction in measured for direction in directions)
        }
        for source, by_target in directions_of_languages(list(tests)).items()
    }


def directions_of_languages(directions: Sequence[Direction]) -> dict[str, dict[str, list[Direction]]]:
    """Source → target → the directions whose mean is the score of the target.

    Languages that are connected by no direction, such as those of two results, are looked at apart. Of both directions
    of a pair, `evaluate` writes the one from the source first. Of two languages each is the source of the other. Where
    all pairs of more languages were measured there is no source: the score of a language is the mean over the
    directions from every other language.

    Args:
        directions: (query, candidates) in the order of the result.
    """
    found: dict[str, dict[str, list[Direction]]] = {}
    for connected in _connected(directions):
        for source, by_target in _directions_of_connected(connected).items():
            found.setdefault(source, {}).update(by_target)
    return found


def _connected(directions: Sequence[Direction]) -> list[list[Direction]]:
    """The directions in groups without a common language."""
    group_of: dict[str, set[str]] = {}
    for direction in directions:
        one, other = (group_of.setdefault(code, {code}) for code in direction)
        if one is not other:
            one |= other
            group_of.update(dict.fromkeys(other, one))
    groups: dict[int, list[Direction]] = {}
    for direction in directions:
        groups.setdefault(id(group_of[direction[0]]), []).append(direction)
    return list(groups.values())


def _directions_of_connected(directions: Sequence[Direction]) -> dict[str, dict[str, list[Direction]]]:
    forward: dict[Direction, None] = {}
    for direction in directions:
        if direction[::-1] not in forward:
            forward[direction] = None
    languages = {code for direction in forward for code in direction}
    sources = dict.fromkeys(query for query, _ in (forward if len(languages) > 2 else directions))
    if len(languages) > 2 and len(sources) == len(languages) - 1:
        into: dict[str, list[Direction]] = {}
        for query, target in directions:
            into.setdefault(target, []).append((query, target))
        return {EACH_OTHER: into}
    by_source: dict[str, dict[str, list[Direction]]] = {source: {} for source in sources}
    for query, target in directions:
        if query in by_source:
            by_source[query][target] = [(query, target)]
    return by_source


def _transfer_scores(
    by_seed: Mapping[int, ResultFile], source: str, profile: str, damaged: list[DataError]
) -> tuple[dict[str, Measures], list[str]]:
    """Target → means over seeds, and the targets that some seeds have no result of."""
    found: dict[str, list[Measures]] = {}
    for result in by_seed.values():
        for test in readable_tests(result, damaged, "language", profile):
            language = test["language"]
            measures = finite_measures(result, language, test[profile], list(test[profile]), damaged)
            if measures and language not in source.split("+"):
                found.setdefault(language, []).append(measures)
    incomplete = [language for language, of_seeds in found.items() if len(of_seeds) < len(by_seed)]
    return {code: mean_measures(of_seeds) for code, of_seeds in found.items() if code not in incomplete}, incomplete


def readable_tests(result: ResultFile, damaged: list[DataError], *fields: str) -> list[dict[str, Any]]:
    """The entries of a result; none, with an error, of a file that is not complete."""
    found: list[dict[str, Any]] = []
    for file in result.files:
        try:
            found += [test for test in file.content["scores"]["test"] if all(test[field] for field in fields)]
        except (KeyError, TypeError) as error:
            damaged.append(DataError(f"{file.path} is not a complete result: {error}", "evaluate again"))
    return found


def finite_measures(
    result: ResultFile, what: str, values: Mapping[str, Any], names: Sequence[str], damaged: list[DataError]
) -> Measures | None:
    """The named scores; None, with an error, if one of them is missing or is no number."""
    wrong = [name for name in names if not _is_number(values.get(name))]
    if wrong:
        damaged.append(DataError(f"{result.path}: {what} has no {wrong[0]} that is a number", "evaluate again"))
        return None
    return {name: float(values[name]) for name in names}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def mean_measures(of_language: list[Measures]) -> Measures:
    return {name: float(np.mean([measures[name] for measures in of_language])) for name in of_language[0]}
