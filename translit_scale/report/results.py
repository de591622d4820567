"""Collects the result files under a folder and computes the value and interval of a table's cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import mean_accuracy, number_ids, two_level
from translit_scale.evaluate.results import result_files
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.evaluate.transfer.metrics import ClassCounts, main_count, resampled
from translit_scale.languages import matching_codes
from translit_scale.testsets.registry import transfer_tasks

TABLE_RESAMPLES = 2_000
"""For means over seeds or languages; a single retrieval result contains its own interval."""


@dataclass(frozen=True)
class Value:
    """A number of a table (a fraction), and what it is a mean over."""

    value: float
    low: float | None
    high: float | None
    seeds: int = 1
    """Fine-tunings; 1 for retrieval, which has none."""
    languages: tuple[str, ...] = ()
    """Target languages of the mean."""


@dataclass(frozen=True)
class ResultFile:
    """One result file, and those of the same task, model and seed that have other directions or languages."""

    path: Path
    content: dict[str, Any]
    others: tuple[ResultFile, ...] = ()

    @property
    def files(self) -> tuple[ResultFile, ...]:
        """This file and the others."""
        return (self, *self.others)

    @property
    def tests(self) -> list[dict[str, Any]]:
        """Scores of all files, one for each language or direction."""
        return [test for file in self.files for test in file.content["scores"]["test"]]

    @property
    def tested(self) -> set[tuple[str, ...]]:
        """The directions of retrieval, or the languages of transfer, that this file has scores of."""
        names = ("query", "candidates") if self.content["task_type"] == "retrieval" else ("language",)
        try:
            return {tuple(test[name] for name in names) for test in self.content["scores"]["test"]}
        except (KeyError, TypeError) as error:
            raise _incomplete(self, error) from None

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]] | None:
        """The arrays of `.items.npz` beside the files; None if no file has one."""
        found = [arrays for file in self.files if (arrays := file._arrays) is not None]
        return {name: array for arrays in found for name, array in arrays.items()} if found else None

    @cached_property
    def _arrays(self) -> Mapping[str, NDArray[Any]] | None:
        path = self.path.with_name(f"{self.path.name.removesuffix('.json')}.items.npz")
        if not path.exists():
            return None
        try:
            with np.load(path) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}", "evaluate again") from error


class Results:
    """All results under a folder: retrieval by task and model, transfer by task, model and source, seed by seed."""

    def __init__(self, folder: Path, damaged: list[DataError] | None = None) -> None:
        """Reads every result file below `folder`; other files are ignored.

        Args:
            damaged: gets the errors of single files, which are then left out; without it they are raised.

        Raises:
            DataError: no such folder, no result, a damaged or newer file, or two results of the same direction or
                language.
        """
        self.retrieval: dict[tuple[str, str], ResultFile] = {}
        self.transfer: dict[tuple[str, str, str], dict[int, ResultFile]] = {}
        for path, content in result_files(folder, damaged):
            try:
                self.add(ResultFile(path, content))
            except DataError as error:
                if damaged is None:
                    raise
                damaged.append(error)
        if not self.labels:
            problems = "".join(f"\n{error}" for error in damaged or [])
            raise DataError(f"no results in {folder}{problems}", "evaluate writes OUT/TASK/LABEL.json")

    @property
    def labels(self) -> list[str]:
        """Labels of all models that have a result."""
        return sorted({key[1] for key in (*self.retrieval, *self.transfer)})

    def model_paths(self, label: str) -> list[str]:
        """Where the results say that a model was when it was evaluated."""
        models = [file.content["model"] for file in self.files]
        return list(dict.fromkeys(path for model in models if model["label"] == label and (path := model.get("path"))))

    @property
    def files(self) -> list[ResultFile]:
        """All files, each on its own."""
        joined = [*self.retrieval.values(), *(result for seeds in self.transfer.values() for result in seeds.values())]
        return [file for result in joined for file in result.files]

    @property
    def summary(self) -> str:
        """`sr_b; sib200 from eng_Latn`: the tasks that have results, and the sources of transfer."""
        sources: dict[str, list[str]] = {task: [] for task, _ in self.retrieval}
        for task, _, source in self.transfer:
            sources.setdefault(task, []).append(source)
        return "; ".join(
            f"{task} from {', '.join(dict.fromkeys(of_task))}" if of_task else task for task, of_task in sources.items()
        )

    def add(self, result: ResultFile) -> None:
        """Adds one file to those of the same task, model, source and seed.

        Raises:
            DataError: it is not complete, or one of them has the same direction or language.
        """
        content = result.content
        try:
            task, label, settings = content["task_name"], content["model"]["label"], content["settings"]
            source, seed = ("", 0) if content["task_type"] == "retrieval" else (settings["source"], settings["seed"])
        except (KeyError, TypeError) as error:
            raise _incomplete(result, error) from None
        if content["task_type"] == "retrieval":
            self.retrieval[task, label] = _joined(self.retrieval.get((task, label)), result)
        else:
            by_seed = self.transfer.setdefault((task, label, "+".join(source)), {})
            by_seed[seed] = _joined(by_seed.get(seed), result)

    def value(
        self, label: str, task: str, metric: str, source: str, targets: Sequence[str], profile: str = "paper"
    ) -> Value | None:
        """The unweighted mean over the targets that have a result; of several targets the source is left out.

        Args:
            metric: `top10` …, or a metric of transfer.
            profile: of transfer; `strict` returns the profile's main score, whatever the metric.

        Returns:
            None if there is no result.
        """
        if len(targets) > 1:
            targets = [target for target in targets if target != source]
        if metric.startswith("top"):
            return self._retrieval_value(label, task, int(metric.removeprefix("top")), source, targets)
        return self._transfer_value(label, task, metric, source, targets, profile)

    def _retrieval_value(self, label: str, task: str, k: int, source: str, targets: Sequence[str]) -> Value | None:
        result = self.retrieval.get((task, label))
        entries = {(test["query"], test["candidates"]): test for test in result.tests} if result else {}
        languages = tuple(target for target in targets if (source, target) in entries)
        if not languages or result is None:
            return None
        tests = [entries[source, target] for target in languages]
        if len(tests) == 1:
            low, high = tests[0]["ci95"][f"top{k}"]
            return Value(tests[0][f"top{k}"], low, high, languages=languages)
        arrays, names = result.arrays or {}, [f"{source}->{target}" for target in languages]
        if any(f"rank:{name}" not in arrays for name in names):
            return Value(float(np.mean([test[f"top{k}"] for test in tests])), None, None, languages=languages)
        directions = [(arrays[f"ids:{name}"].tolist(), hits(arrays[f"rank:{name}"], k)) for name in names]
        estimate = mean_accuracy(directions, resamples=TABLE_RESAMPLES)
        return Value(estimate.value, estimate.low, estimate.high, languages=languages)

    def _transfer_value(
        self, label: str, task: str, metric: str, source: str, targets: Sequence[str], profile: str
    ) -> Value | None:
        sources = [key[2] for key in self.transfer if key[:2] == (task, label)]
        of_source = self.transfer.get((task, label, _matching_name(source, sources) or ""), {})
        tests = {seed: {test["language"]: test for test in result.tests} for seed, result in of_source.items()}
        # another group of languages may have more seeds
        by_seed = {seed: of_source[seed] for seed in tests if any(_matching_name(t, tests[seed]) for t in targets)}
        tests = {seed: tests[seed] for seed in by_seed}
        available = sorted(set.intersection(*(set(test) for test in tests.values()))) if tests else []
        names = {target: name for target in targets if (name := _matching_name(target, available))}
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


def _incomplete(result: ResultFile, error: Exception) -> DataError:
    return DataError(f"{result.path} is not a complete result: {error}", "evaluate again")


def _joined(earlier: ResultFile | None, result: ResultFile) -> ResultFile:
    """Both as one result.

    Raises:
        DataError: a direction or language is in both.
    """
    if earlier is None:
        return result
    for file in earlier.files:
        if common := sorted(file.tested & result.tested):
            raise DataError(
                f"{file.path} and {result.path} are results of the same thing, {' -> '.join(common[0])}",
                "keep one of them in the folder",
            )
    return replace(earlier, others=(*earlier.others, result))


def _matching_name(language: str, available: Iterable[str]) -> str | None:
    """The name of a language in results: test sets may write its script differently (`yue_Hani`, `yue_Hant`)."""
    same_language = [name for name in available if name[:3] == language[:3] and "+" not in name]
    matches = matching_codes(language, same_language)
    return matches[0] if len(matches) == 1 else None


def _score(test: dict[str, Any], profile: str, metric: str, path: Path) -> float:
    if profile == "strict":
        return float(test["main_score"])
    if metric not in test[profile]:
        raise DataError(f"{path}: no {metric} among {', '.join(test[profile])}", "evaluate again")
    return float(test[profile][metric])


def _draws(
    results: Sequence[ResultFile], languages: Sequence[str], task: str, profile: str
) -> NDArray[np.float64] | None:
    """Bootstrap distributions over items of the main score: [resamples, seeds, languages], or None without items.

    Texts with ids (the same sentences in all languages) are resampled together in all languages, other items
    separately in each language.
    """
    tests = [item_counts(result, language, task, profile) for result in results for language in languages]
    complete = [test for test in tests if test is not None]
    if len(complete) < len(tests):
        return None
    if all(ids is not None for ids, _ in complete):
        aligned = _aligned(complete)
        return resampled(aligned, resamples=TABLE_RESAMPLES).reshape(TABLE_RESAMPLES, len(results), len(languages))
    by_language = [[counts for _, counts in complete[index :: len(languages)]] for index in range(len(languages))]
    draws = [resampled(counts, seed=seed, resamples=TABLE_RESAMPLES) for seed, counts in enumerate(by_language)]
    return np.stack(draws, axis=2)


def item_counts(
    result: ResultFile, language: str, task: str, profile: str
) -> tuple[list[str] | None, ClassCounts] | None:
    """The ids of one test set's items, if they have any, and the counts of its main score; None without items."""
    arrays = result.arrays
    if arrays is None or f"gold:{language}" not in arrays:
        return None
    gold, predicted = (arrays[f"{side}:{language}"] for side in ("gold", "predicted"))
    ids = arrays.get(f"ids:{language}")
    if ids is not None:
        return ids.tolist(), main_count(transfer_tasks()[task], profile, gold, predicted)
    ends = np.cumsum(arrays[f"words:{language}"])[:-1]
    sentences = (np.split(side, ends) for side in (gold, predicted))
    return None, main_count(transfer_tasks()[task], profile, *sentences)


def _aligned(tests: Sequence[tuple[list[str] | None, ClassCounts]]) -> list[ClassCounts]:
    """Counts with the same item at the same index in all tests; items that a test does not have count nothing there."""
    index_of = number_ids(ids or () for ids, _ in tests)
    aligned = []
    for ids, counts in tests:
        items = [index_of[key] for key in ids or ()]
        hit, marked = np.zeros((2, len(index_of), counts.hits.shape[1]), dtype=np.int64)
        np.add.at(hit, items, counts.hits)
        np.add.at(marked, items, counts.marked)
        aligned.append(ClassCounts(hit, marked, counts.all_classes))
    return aligned
