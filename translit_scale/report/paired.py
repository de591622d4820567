"""Differences of two models in single languages, over the same items and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import mean_draws, resample_seeds
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.evaluate.significance import Comparison, compare_draws, compare_hits
from translit_scale.evaluate.transfer.metrics import paired_draws
from translit_scale.report.language_scores import (
    SIDES,
    Direction,
    Measures,
    directions_of_languages,
    finite_measures,
    mean_measures,
    readable_tests,
)
from translit_scale.report.results import TABLE_RESAMPLES, ResultFile, item_counts
from translit_scale.testsets.task import TOP_K

MEASURES = tuple(f"top{k}" for k in TOP_K)
OTHER_TEXT = "left out, because the models were tested on different texts"
NO_ITEMS = "no interval and no verdict, because a result lacks its .items.npz"

Note = Callable[[str, list[str]], None]
"""Is called with a reason and the languages that it applies to."""
Tests = Mapping[Any, Mapping[str, Any]]
"""Direction of retrieval, or language of transfer → its entry in a result."""


@dataclass(frozen=True)
class Difference:
    """One language: the scores of two models on the same items, and how they differ."""

    language: str
    first: float
    """Score of the first model, a fraction."""
    value: float
    """Score of the other model."""
    items: int
    """Sentences that both models answered; over several directions each sentence counts once."""
    seeds: int
    """Seeds of fine-tuning that both models have; 1 for retrieval, which has none."""
    comparison: Comparison | None
    """Paired interval and p-value; None without items."""

    @property
    def difference(self) -> float:
        """Score of the other model minus that of the first."""
        return self.value - self.first


def retrieval_differences(
    first: ResultFile, other: ResultFile, damaged: list[DataError], note: Note
) -> Iterator[tuple[str, str, list[Difference]]]:
    """For each source and measure the differences of the languages that both results have, on the same texts."""
    tests_a, tests_b = (
        {(test["query"], test["candidates"]): test for test in readable_tests(result, damaged, *SIDES)}
        for result in (first, other)
    )
    of_first, of_other = (directions_of_languages(list(tests)) for tests in (tests_a, tests_b))
    for source in (source for source in of_first if source in of_other):
        common = {
            target: [direction for direction in directions if direction in of_other[source].get(target, [])]
            for target, directions in of_first[source].items()
        }
        common = {target: directions for target, directions in common.items() if directions}
        texts = {target: all(_same_text(tests_a[d], tests_b[d]) for d in common[target]) for target in common}
        note(OTHER_TEXT, [target for target, same in texts.items() if not same])
        languages = {}
        for target in (target for target, same in texts.items() if same):
            scores = [_mean_over(result, tests, common[target], damaged)
                      for result, tests in ((first, tests_a), (other, tests_b))]  # fmt: skip
            if scores[0] and scores[1]:
                ranks = [_ranks(first, other, direction) for direction in common[target]]
                languages[target] = (scores[0], scores[1], [found for found in ranks if found] if all(ranks) else [])
        note(NO_ITEMS, [target for target, (_, _, ranks) in languages.items() if not ranks])
        for measure, k in zip(MEASURES, TOP_K, strict=True):
            yield source, measure, _retrieval_measure(languages, measure, k)


Ranks = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]
"""Ids of the items of one direction, and their ranks by both models."""


def _retrieval_measure(
    languages: Mapping[str, tuple[Measures, Measures, list[Ranks]]], measure: str, k: int
) -> list[Difference]:
    compared = {}
    changes = {
        language: [(ids, hits(b, k).astype(np.int64) - hits(a, k)) for ids, a, b in ranks]
        for language, (_, _, ranks) in languages.items()
    }
    single = {language: found[0][1] for language, found in changes.items() if len(found) == 1}
    if single:
        gained, lost, items = (
            np.array([count(change) for change in single.values()])
            for count in (lambda change: (change > 0).sum(), lambda change: (change < 0).sum(), len)
        )
        compared = dict(zip(single, compare_hits(gained, lost, items), strict=True))
    for language, found in changes.items():
        if len(found) > 1:
            draws = mean_draws([(ids.tolist(), change) for ids, change in found], resamples=TABLE_RESAMPLES)
            compared[language] = compare_draws(*draws)
    return [
        Difference(
            language, a[measure], b[measure], len({key for ids, _, _ in ranks for key in ids.tolist()}), 1,
            compared.get(language),
        )
        for language, (a, b, ranks) in languages.items()
    ]  # fmt: skip


def _mean_over(
    result: ResultFile, tests: Tests, directions: list[Direction], damaged: list[DataError]
) -> Measures | None:
    """The mean over directions; None, with an error, if one of them cannot be read."""
    found = [finite_measures(result, " -> ".join(d), tests[d], MEASURES, damaged) for d in directions]
    measures = [measure for measure in found if measure]
    return mean_measures(measures) if len(measures) == len(found) else None


def _same_text(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return bool(a.get("text_sha256") == b.get("text_sha256") and a.get("n") == b.get("n"))


def _ranks(first: ResultFile, other: ResultFile, direction: Direction) -> Ranks | None:
    """None if one of the results lacks its items, or they are not the same."""
    name = "->".join(direction)
    arrays_a, arrays_b = first.arrays or {}, other.arrays or {}
    if not {f"ids:{name}", f"rank:{name}"} <= arrays_a.keys() & arrays_b.keys():
        return None
    ids = arrays_a[f"ids:{name}"]
    if not np.array_equal(ids, arrays_b[f"ids:{name}"]):
        return None
    return ids, arrays_a[f"rank:{name}"], arrays_b[f"rank:{name}"]


def transfer_differences(
    first: Mapping[int, ResultFile],
    other: Mapping[int, ResultFile],
    task: str,
    source: str,
    profile: str,
    damaged: list[DataError],
    note: Note,
) -> tuple[str, list[Difference]]:
    """The measure and the differences of the target languages that both models have, over their common seeds.

    Args:
        first: seed → result of the first model.
        other: seed → result of the other model.
    """
    seeds = [seed for seed in first if seed in other]
    tests = {
        seed: [
            {test["language"]: test for test in readable_tests(result, damaged, "language", profile)}
            for result in (first[seed], other[seed])
        ]
        for seed in seeds
    }
    languages = dict.fromkeys(code for a, b in tests.values() for code in a if code in b)
    found, different, without, measure = [], [], [], ""
    for language in (code for code in languages if code not in source.split("+")):
        pairs = {seed: (a[language], b[language]) for seed, (a, b) in tests.items() if language in a and language in b}
        if not all(_same_text(a, b) for a, b in pairs.values()):
            different.append(language)
            continue
        files = [(first[seed], other[seed]) for seed in pairs]
        scores = [[finite_measures(result, language, test[profile], list(test[profile])[:1], damaged)
                   for result, test in zip(files[i], pair, strict=True)]
                  for i, pair in enumerate(pairs.values())]  # fmt: skip
        if not all(measures for of_seed in scores for measures in of_seed):
            continue
        measure = next(iter(scores[0][0] or {}))
        a, b = (float(np.mean([(of_seed[side] or {})[measure] for of_seed in scores])) for side in (0, 1))
        items, comparison = _compare_seeds(files, language, task, profile, b - a)
        if comparison is None:
            without.append(language)
        found.append(Difference(language, a, b, items, len(pairs), comparison))
    note(OTHER_TEXT, different)
    note(NO_ITEMS, without)
    return measure, found


def _compare_seeds(
    files: list[tuple[ResultFile, ResultFile]], language: str, task: str, profile: str, difference: float
) -> tuple[int, Comparison | None]:
    """Number of items, and the comparison: resamples of seeds and of items, the same for both models."""
    counted = [item_counts(result, language, task, profile) for pair in files for result in pair]
    counts = [found[1] for found in counted if found is not None]
    if len(counts) < len(counted) or any(found[0] != counted[0][0] for found in counted if found and counted[0]):
        return 0, None
    draws = paired_draws(counts[::2], counts[1::2], resamples=TABLE_RESAMPLES)
    return len(counts[0].hits), compare_draws(difference, resample_seeds(draws))
