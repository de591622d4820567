"""Vocabularies of several tokenizers on one text: result files, charts and tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from translit_scale.analyze.published_vocabulary import published_group, published_pair
from translit_scale.analyze.text_sample import TextSample
from translit_scale.analyze.vocabulary import (
    SIDES,
    LanguageVocabulary,
    VocabularyCounter,
    lexical_overlap,
    nearest,
    shared_types,
    unique_types,
)
from translit_scale.analyze.vocabulary_pages import vocabulary_charts, vocabulary_tables
from translit_scale.charts import Row, can_draw, comma_separated, write_chart
from translit_scale.corpus.tokenizer import tokenizer_fingerprint
from translit_scale.errors import DataError
from translit_scale.evaluate.loading import model_tokenizer
from translit_scale.evaluate.models import ModelName
from translit_scale.evaluate.results import header, refuse_change, write_arrays
from translit_scale.files import read_json, write_bytes, write_json
from translit_scale.languages import GROUPS, PAIRS
from translit_scale.progress import Progress
from translit_scale.schema import changed_settings

NEIGHBOURS = 5
ALL_PAIRS = 100
"""With more languages, only the papers' pairs are listed one by one; the matrix has all."""
_USUAL_LENGTH = 512
"""For a tokenizer that states no length."""


@dataclass(frozen=True)
class VocabularySettings:
    """What is counted; the same for all tokenizers of a call."""

    sentences: int | None
    """Of each language; None: all."""
    seed: int = 0
    max_length: int | None = None
    """Tokens of a sentence, special ones included; None: the tokenizer's own length, else 512."""
    groups: Mapping[str, Sequence[str]] | None = None
    """Name → languages, besides the papers' groups."""


def run_vocabulary(
    tokenizers: Sequence[ModelName],
    sample: TextSample,
    settings: VocabularySettings,
    task: str,
    out: Path,
    figures: bool = True,
    force: bool = False,
) -> tuple[str, list[DataError]]:
    """Counts with all tokenizers, writes `<out>/<task>/` and returns the tables, and errors of languages left out.

    Files of each tokenizer: `<label>.vocabulary.json`, `.npz` (the matrix), `<label>.languages.csv`,
    `<label>.pairs.csv`, `<label>.neighbours.csv`, and charts.

    Raises:
        DataError: a tokenizer cannot be loaded, no language can be read, or there are earlier results of another
            tokenizer, text or setting (unless `force`).
    """
    folder = out / task
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[str] = []
    skipped: dict[str, DataError] = {}
    figures = figures and can_draw()
    for name in tokenizers:
        tokenizer = model_tokenizer(name.path)
        counter = VocabularyCounter(tokenizer, settings.max_length or _length_of(tokenizer))
        counted = _count(counter, sample, name.label, skipped)
        result = _result(task, name, counter, counted, sample, settings)
        shared = {side: shared_types([language.types[side] for language in counted.values()]) for side in SIDES}
        result |= _comparisons(counted, shared, settings.groups or {})
        path = folder / f"{name.label}.vocabulary.json"
        if not force:
            _check_replaceable(path, result)
        _write(folder, name.label, result, shared)
        if figures:
            for chart in vocabulary_charts(name.label, result):
                write_chart(chart, folder)
        tables.append(vocabulary_tables(result))
    if sample.dropped.total():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sample.dropped.items() if count)
        print(f"note: lines that are not used: {reasons}", file=sys.stderr)
    return "\n\n".join(tables), list(skipped.values())


def _length_of(tokenizer: PreTrainedTokenizerFast) -> int:
    length = int(tokenizer.model_max_length)  # 10^30 if the tokenizer states none
    return length if length < 10**6 else _USUAL_LENGTH


def _count(
    counter: VocabularyCounter, sample: TextSample, label: str, skipped: dict[str, DataError]
) -> dict[str, LanguageVocabulary]:
    """Vocabularies of all languages that can be read; errors of the others go to `skipped`."""
    counted: dict[str, LanguageVocabulary] = {}
    with Progress(f"tokens of {label}", len(sample.languages), "languages") as progress:
        for language in sample.languages:
            try:
                counted[language] = counter.count(sample.chunks(language))
            except DataError as error:
                skipped[language] = error
            progress.advance(1)
    if not counted:
        raise DataError("\n".join(["no language can be read:", *map(str, skipped.values())]))
    return counted


def _result(
    task: str,
    name: ModelName,
    counter: VocabularyCounter,
    counted: Mapping[str, LanguageVocabulary],
    sample: TextSample,
    settings: VocabularySettings,
) -> dict[str, Any]:
    return {
        **header(task, "vocabulary"),
        "tokenizer": {
            "label": name.label,
            "path": name.path,
            "tokenizer_sha256": tokenizer_fingerprint(counter.tokenizer),
            "size": len(counter.tokenizer),
        },
        "settings": {
            "sentences": settings.sentences,
            "seed": settings.seed,
            "max_length": counter.max_length,
            "encoder": "sentencepiece" if counter.fast else "tokenizer",
            **sample.provenance(),
        },
        "languages": {
            language: {
                **{side: vocabulary.figures[side].record() for side in SIDES},
                "text_sha256": vocabulary.text_sha256,
            }
            for language, vocabulary in counted.items()
        },
    }


def _comparisons(
    counted: Mapping[str, LanguageVocabulary],
    shared: Mapping[str, NDArray[np.int32]],
    groups: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Pairs, groups and nearest neighbours."""
    languages = list(counted)
    overlaps = {side: lexical_overlap(matrix) for side, matrix in shared.items()}
    index_of = {language: index for index, language in enumerate(languages)}
    in_papers = [pair for pair in PAIRS.values() if set(pair) <= index_of.keys()]
    others = [] if len(languages) > ALL_PAIRS else list(combinations(languages, 2))
    pairs = dict.fromkeys([*in_papers, *(pair for pair in others if pair not in in_papers)])

    def compare(first: str, second: str, side: str) -> dict[str, Any]:
        i, j = index_of[first], index_of[second]
        matrix = shared[side]
        total = int(matrix[i, i]) + int(matrix[j, j]) - int(matrix[i, j])
        return {"shared": int(matrix[i, j]), "total": total, "overlap": round(float(overlaps[side][i, j]), 6)}

    near = {side: nearest(overlap, NEIGHBOURS) for side, overlap in overlaps.items()}
    return {
        "pairs": [
            {
                "languages": [first, second],
                **{side: compare(first, second, side) for side in SIDES},
                "published": published_pair(first, second),
            }
            for first, second in pairs
        ],
        "groups": _groups(counted, groups),
        "neighbours": {
            language: {
                side: [[languages[j], round(float(overlaps[side][i, j]), 6)] for j in near[side][i]] for side in SIDES
            }
            for i, language in enumerate(languages)
        },
    }


def _groups(counted: Mapping[str, LanguageVocabulary], own: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Unique tokens of all languages, of the papers' groups and of one's own, as far as the text has them."""
    groups = []
    for name, members in {"all": list(counted), **GROUPS, **own}.items():
        present = [language for language in members if language in counted]
        if len(present) > 1 or name in own:
            unique = {side: unique_types(counted[language].types[side] for language in present) for side in SIDES}
            missing = [language for language in members if language not in counted]
            groups.append(
                {"group": name, "languages": present, "missing": missing, **unique, "published": published_group(name)}
            )
    return groups


def _check_replaceable(path: Path, result: Mapping[str, Any]) -> None:
    """Raises a DataError if there is an earlier result of another tokenizer or setting, or of other text."""
    if not path.exists():
        return
    try:
        old = _inputs(read_json(path, "result"))
    except (DataError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is not a result of this command", "--force replaces it") from None
    refuse_change(path, [change for change in changed_settings(old, _inputs(result)) if change[1] is not None])


def _inputs(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": result["schema"],
        "tokenizer": result["tokenizer"]["tokenizer_sha256"],
        "settings": result["settings"],
        "text": {code: language["text_sha256"] for code, language in result["languages"].items()},
    }


def _write(folder: Path, label: str, result: Mapping[str, Any], shared: Mapping[str, NDArray[np.int32]]) -> None:
    """Writes all files but the charts, the JSON file last."""
    languages = result["languages"]
    arrays: dict[str, NDArray[Any]] = {"languages": np.array(list(languages))}
    arrays |= {f"shared_{side}": matrix for side, matrix in shared.items()}
    write_arrays(folder / f"{label}.vocabulary.npz", arrays)
    tables: dict[str, list[Row]] = {
        "languages": [
            {"language": code, "script": side, **figures[side]} for code, figures in languages.items() for side in SIDES
        ],
        "pairs": [
            {"first": pair["languages"][0], "second": pair["languages"][1], "script": side, **pair[side]}
            for pair in result["pairs"]
            for side in SIDES
        ],
        "neighbours": [
            {"language": code, "script": side, "rank": rank, "neighbour": neighbour, "overlap": overlap}
            for code, near in result["neighbours"].items()
            for side in SIDES
            for rank, (neighbour, overlap) in enumerate(near[side], 1)
        ],
    }
    for name, rows in tables.items():
        write_bytes(folder / f"{label}.{name}.csv", comma_separated(rows).encode())
    write_json(folder / f"{label}.vocabulary.json", result)
