"""Result files under a folder, by what they are results of; a number with its interval for every cell asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import Estimate, mean_accuracy
from translit_scale.evaluate.results import SCHEMA
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.evaluate.transfer.metrics import Counts, main_counts, resampled
from translit_scale.files import read_json
from translit_scale.languages import matching_codes
from translit_scale.testsets.registry import transfer_tasks

KINDS = ("retrieval", "classification", "tagging")
RESAMPLES = 2000
"""Of means over seeds or languages; single retrieval results bring their interval with them."""


@dataclass(frozen=True)
class Value:
    """A number of a table (a share), and what it is a mean of."""

    value: float
    low: float | None
    high: float | None
    seeds: int = 1
    """Fine-tunings; 1 for retrieval, which has none."""
    languages: tuple[str, ...] = ()
    """Target languages, if it is a mean over several."""


@dataclass(frozen=True)
class Result:
    """One result file."""

    path: Path
    content: dict[str, Any]

    @property
    def tests(self) -> list[dict[str, Any]]:
        """Its scores, one for each language or direction."""
        return list(self.content["scores"]["test"])

    def arrays(self) -> Mapping[str, NDArray[Any]] | None:
        """The items beside it; None if the file is not there."""
        return _arrays(self.path.with_name(f"{self.path.name.removesuffix('.json')}.items.npz"))


@lru_cache(maxsize=256)
def _arrays(path: Path) -> Mapping[str, NDArray[Any]] | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", "evaluate again") from error


class Results:
    """All results under a folder: retrieval by task and model, transfer by task, model and source, seed by seed."""

    def __init__(self, folder: Path) -> None:
        """Reads every result file below `folder`; other files are left alone.

        Raises:
            DataError: no such folder, no result, a damaged or newer file, or two of the same thing.
        """
        if not folder.is_dir():
            raise DataError(f"results folder not found: {folder}", "evaluate writes it: --out")
        self.retrieval: dict[tuple[str, str], Result] = {}
        self.transfer: dict[tuple[str, str, str], dict[int, Result]] = {}
        for path in sorted(folder.rglob("*.json")):
            content = read_json(path, "result", "remove it, or evaluate again")
            if isinstance(content, dict) and content.get("task_type") in KINDS:
                self._add(Result(path, content))
        if not self.labels:
            raise DataError(f"no results in {folder}", "evaluate writes OUT/TASK/LABEL.json")

    @property
    def labels(self) -> list[str]:
        """Labels of all models that have a result."""
        return sorted({key[1] for key in (*self.retrieval, *self.transfer)})

    def _add(self, result: Result) -> None:
        content = result.content
        if content["schema"] != SCHEMA:
            raise DataError(f"{result.path}: schema {content['schema']}, expected {SCHEMA}", "evaluate again")
        task, label = content["task_name"], content["model"]["label"]
        if content["task_type"] == "retrieval":
            earlier = self.retrieval.setdefault((task, label), result)
        else:
            source, seed = "+".join(content["settings"]["source"]), content["settings"]["seed"]
            earlier = self.transfer.setdefault((task, label, source), {}).setdefault(seed, result)
        if earlier is not result:
            raise DataError(
                f"{earlier.path} and {result.path} are results of the same thing", "leave one in the folder"
            )

    def value(
        self, label: str, task: str, metric: str, source: str, targets: Sequence[str], profile: str = "paper"
    ) -> Value | None:
        """The unweighted mean over those targets that have a result; of several targets the source is none.

        Args:
            metric: `top10` …, or a metric of transfer.
            profile: of transfer; `strict` takes its main score, whatever the metric.

        Returns:
            None if there is no result.
        """
        wanted = [target for target in targets if target != source] if len(targets) > 1 else list(targets)
        if metric.startswith("top"):
            return self._retrieved(label, task, int(metric.removeprefix("top")), source, wanted)
        return self._transferred(label, task, metric, source, wanted, profile)

    def _retrieved(self, label: str, task: str, k: int, source: str, targets: Sequence[str]) -> Value | None:
        result = self.retrieval.get((task, label))
        entries = {(test["query"], test["candidates"]): test for test in result.tests} if result else {}
        found = [(target, entries[source, target]) for target in targets if (source, target) in entries]
        if not found or result is None:
            return None
        if len(found) == 1:
            target, test = found[0]
            low, high = test["ci95"][f"top{k}"]
            return Value(test[f"top{k}"], low, high, languages=(target,))
        languages = tuple(target for target, _ in found)
        arrays = result.arrays()
        if arrays is None:
            return Value(float(np.mean([test[f"top{k}"] for _, test in found])), None, None, languages=languages)
        names = [f"{source}->{target}" for target in languages]
        both = [(arrays[f"ids:{name}"].tolist(), hits(arrays[f"rank:{name}"], k)) for name in names]
        estimate = mean_accuracy(both, resamples=RESAMPLES)
        return Value(estimate.value, estimate.low, estimate.high, languages=languages)

    def _transferred(
        self, label: str, task: str, metric: str, source: str, targets: Sequence[str], profile: str
    ) -> Value | None:
        sources = [key[2] for key in self.transfer if key[:2] == (task, label)]
        by_seed = self.transfer.get((task, label, _named(source, sources) or ""), {})
        tests = {seed: {test["language"]: test for test in result.tests} for seed, result in by_seed.items()}
        there = set.intersection(*(set(test) for test in tests.values())) if tests else set()
        names = {target: name for target in targets if (name := _named(target, sorted(there)))}
        if not names:
            return None
        scores = [[_score(tests[seed][name], profile, metric, by_seed[seed].path) for name in names.values()]
                  for seed in tests]  # fmt: skip
        low = high = None
        draws = _draws(list(by_seed.values()), list(names.values()), task, profile)
        if draws is not None:
            estimate = two_level(draws)
            low, high = estimate.low, estimate.high
        return Value(float(np.mean(scores)), low, high, len(by_seed), tuple(names))


def _named(language: str, there: Iterable[str]) -> str | None:
    """What results call a language: a test set may write its script otherwise (`yue_Hani`, `yue_Hant`)."""
    same = [name for name in there if name[:3] == language[:3] and "+" not in name]
    found = matching_codes(language, same)
    return found[0] if len(found) == 1 else None


def _score(test: dict[str, Any], profile: str, metric: str, path: Path) -> float:
    if profile == "strict":
        return float(test["main_score"])
    if metric not in test[profile]:
        raise DataError(f"{path}: no {metric} among {', '.join(test[profile])}", "evaluate again")
    return float(test[profile][metric])


def _draws(results: Sequence[Result], languages: Sequence[str], task: str, profile: str) -> NDArray[np.float64] | None:
    """Bootstrap distributions over items of the main score: [resamples, seeds, languages], or None without items.

    Texts with ids (the same sentences in all languages) are resampled together in all languages, others in each.
    """
    counts = [[_counts(result, language, task, profile) for language in languages] for result in results]
    if any(one is None for row in counts for one in row):
        return None
    found = [[one for one in row if one is not None] for row in counts]
    if all(ids is not None for row in found for ids, _ in row):
        aligned = _aligned([one for row in found for one in row])
        return resampled(aligned, resamples=RESAMPLES).reshape(RESAMPLES, len(results), len(languages))
    columns = [
        resampled([row[column][1] for row in found], seed=column, resamples=RESAMPLES)
        for column in range(len(languages))
    ]
    return np.stack(columns, axis=2)


def _counts(result: Result, language: str, task: str, profile: str) -> tuple[list[str] | None, Counts] | None:
    """The ids of one test set's items, if it has them, and the counts of its main score."""
    arrays = result.arrays()
    if arrays is None or f"gold:{language}" not in arrays:
        return None
    gold, predicted = (arrays[f"{side}:{language}"] for side in ("gold", "predicted"))
    ids = arrays.get(f"ids:{language}")
    if ids is not None:
        return ids.tolist(), main_counts(transfer_tasks()[task], gold.tolist(), predicted.tolist())[profile]
    ends = np.cumsum(arrays[f"words:{language}"])[:-1]
    sentences = ([part.tolist() for part in np.split(side, ends)] for side in (gold, predicted))
    return None, main_counts(transfer_tasks()[task], *sentences)[profile]


def _aligned(found: Sequence[tuple[list[str] | None, Counts]]) -> list[Counts]:
    """The same items in the same rows of all; an item that a language does not have counts nothing there."""
    number: dict[str, int] = {}
    for ids, _ in found:
        for key in ids or ():
            number.setdefault(key, len(number))
    aligned = []
    for ids, counts in found:
        rows = [number[key] for key in ids or ()]
        hit, marked = np.zeros((2, len(number), counts.hits.shape[1]), dtype=np.int64)
        np.add.at(hit, rows, counts.hits)
        np.add.at(marked, rows, counts.marked)
        aligned.append(Counts(hit, marked, counts.all_classes))
    return aligned


def two_level(draws: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Mean over seeds and languages, with a percentile interval that draws seeds with replacement, then items.

    Args:
        draws: [resamples, seeds, languages]: bootstrap over items of every score.
    """
    resamples, seeds, _ = draws.shape
    chosen = np.random.default_rng(seed).integers(0, seeds, size=(resamples, seeds))
    means = draws.mean(axis=2)
    drawn = np.take_along_axis(means, chosen, axis=1).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(draws.mean()), float(low), float(high))
