"""Reads what is associated: scores of transfer and retrieval, and the results of `analyze`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from translit_scale.errors import DataError
from translit_scale.files import read_json
from translit_scale.languages import matching_codes
from translit_scale.report.association import Observation
from translit_scale.report.language_scores import language_scores
from translit_scale.report.results import Results
from translit_scale.testsets.registry import transfer_tasks

ANALYSES = ("similarity", "vocabulary", "words")
"""`task_type` of the results of `analyze` that are read."""
Values = dict[str, dict[tuple[str, str], float]]
"""Predictor → (source, target) or (target, source) → value. A value of the target alone has the key ("", target)."""


def read_observations(
    results: Results,
    analyses: Iterable[tuple[Path, Mapping[str, Any]]],
    models: Mapping[str, str],
    profile: str,
    damaged: list[DataError],
) -> tuple[list[Observation], list[str]]:
    """Every score of transfer from a single source, with all predictors that its languages have; and notes.

    Args:
        analyses: results of `analyze`, as `analysis_files` finds them.
        models: row → label of results.
        profile: of transfer.
        damaged: gets an error about every file that cannot be read; the others are used.
    """
    scores, notes = language_scores(results, models, profile, damaged)
    by_label = {label: _retrieval(results, label) for label in models.values()}
    unused: list[str] = []
    tokenizers = _tokenizers(results)
    languages = {code for of_task in scores.values() for of_row in of_task.values() for code in of_row}
    languages |= {source for _, source in scores}
    for path, content in analyses:
        try:
            _add_analysis(path, content, by_label, tokenizers, languages, unused)
        except (KeyError, TypeError, OSError, ValueError) as error:
            damaged.append(DataError(f"{path} is not a complete result: {error}", "analyze again"))
    find = {row: _Predictors(by_label[label]) for row, label in models.items()}
    observations = [
        Observation(task, row, source, target, next(iter(measures.values())), find[row](source, target))
        for (task, source), by_row in scores.items()
        if task in transfer_tasks() and "+" not in source
        for row, by_language in by_row.items()
        for target, measures in by_language.items()
    ]
    joint = sorted({source for task, source in scores if task in transfer_tasks() and "+" in source})
    if joint:
        notes.append(f"sources of several languages are left out: {', '.join(joint)}")
    return observations, notes + unused


def _retrieval(results: Results, label: str) -> Values:
    """top-10 of both directions of every pair of each retrieval task."""
    values: Values = {}
    for (task, name), result in results.retrieval.items():
        if name == label:
            for test in result.tests:
                values.setdefault(f"{task} top10", {})[test["query"], test["candidates"]] = float(test["top10"])
    return values


def _tokenizers(results: Results) -> dict[str, set[str]]:
    """Fingerprints of the tokenizers of each label."""
    found: dict[str, set[str]] = {}
    for model in (file.content["model"] for file in results.files):
        found.setdefault(model["label"], set()).add(str(model.get("tokenizer_sha256")))
    return found


def analysis_files(folders: Sequence[Path], damaged: list[DataError]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The results of `analyze` below folders that predict something; files that cannot be read are added to `damaged`.

    Raises:
        DataError: there is no such folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"folder not found: {folder}", "analyze writes it: --out")
        for path in sorted(folder.rglob("*.json")):
            try:
                content = read_json(path, "result", "analyze again")
            except DataError as error:
                damaged.append(error)
                continue
            if isinstance(content, dict) and content.get("task_type") in ANALYSES:
                yield path, content


def _add_analysis(
    path: Path,
    content: Mapping[str, Any],
    by_label: dict[str, Values],
    tokenizers: dict[str, set[str]],
    languages: set[str],
    unused: list[str],
) -> None:
    """Adds the values of one result of `analyze` to the models that it belongs to; else a note."""
    kind = content["task_type"]
    if kind == "vocabulary":
        fingerprint = content["tokenizer"]["tokenizer_sha256"]
        labels = [label for label in by_label if fingerprint in tokenizers.get(label, ())]
        values = _overlaps(path, languages)
    else:
        labels = [label for label in by_label if label == content["model"]["label"]]
        values = _gaps(content) if kind == "similarity" else _words(content)
    for label in labels:
        for name, of_pairs in values.items():
            by_label[label].setdefault(name, {}).update(of_pairs)
    if not labels:
        unused.append(f"{path} belongs to no model of the results")


def _gaps(content: Mapping[str, Any]) -> Values:
    """The gap of translation similarity between matched and random pairs."""
    tests = content["scores"]["test"]
    return {
        f"{content['task_name']} gap": {(test["s"], test["t"]): float(test["translation"]["gap"]) for test in tests}
    }


def _words(content: Mapping[str, Any]) -> Values:
    """F1 of word alignment with the transliteration, of the target alone."""
    tests = [test for test in content["scores"]["test"] if test["n"]]
    return {"words F1": {("", test["hf_subset"]): float(test["all"]["f1"]) for test in tests}}


def _overlaps(path: Path, languages: set[str]) -> Values:
    """Lexical overlap of the languages of the results, from the matrix beside a vocabulary result."""
    values: Values = {}
    with np.load(path.with_suffix(".npz")) as arrays:
        available = [str(code) for code in arrays["languages"]]
        index = {
            code: available.index(match) for code in sorted(languages) for match in matching_codes(code, available)
        }
        for name, side in (("overlap", "original"), ("overlap latin", "transliteration")):
            shared = arrays[f"shared_{side}"].astype(np.int64)
            total = shared.diagonal()[:, None] + shared.diagonal()[None, :] - shared
            overlap = shared / np.maximum(total, 1)
            values[name] = {
                (first, second): float(overlap[i, j]) for first, i in index.items() for second, j in index.items()
            }
    return values


class _Predictors:
    """Finds the predictors of pairs of languages, which may have other names than in the results of transfer."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._codes = {name: sorted({code for pair in pairs for code in pair}) for name, pairs in values.items()}

    def __call__(self, source: str, target: str) -> dict[str, float]:
        """All predictors of a pair; where both directions have a value, their mean."""
        found = {}
        for name, pairs in self._values.items():
            first, second = (next(iter(matching_codes(code, self._codes[name])), "") for code in (source, target))
            keys = [key for key in dict.fromkeys([(first, second), (second, first), ("", second)]) if key in pairs]
            if second and keys:
                found[name] = float(np.mean([pairs[key] for key in keys]))
        return found
