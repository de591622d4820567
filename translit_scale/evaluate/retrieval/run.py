"""Retrieval with several models on several parallel texts: result files, ranks of all items, one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.bootstrap import (
    RESAMPLES,
    Estimate,
    accuracy,
    mean_accuracy,
    paired_difference,
)
from translit_scale.evaluate.embedding import Embeddings, Encoder
from translit_scale.evaluate.models import EmbeddingSettings, ModelName, check_earlier, describe_model
from translit_scale.evaluate.results import describe_omissions, describe_text, difference, header, percent, write_arrays
from translit_scale.evaluate.retrieval.metrics import hits, ranks
from translit_scale.files import read_json, write_json
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.task import TOP_K
from translit_scale.text_table import format_table

SIGNIFICANT = "* the 95 % interval of the difference does not contain 0"
METRIC_COLUMNS = [f"top-{k} % [95 %]" for k in TOP_K]


@dataclass(frozen=True)
class Direction:
    """One direction of one parallel text, with the ranks that one model gives."""

    text: ParallelText
    query: str
    candidates: str
    rank: NDArray[np.int64]
    """[n] as `metrics.ranks`."""
    truncated: int
    """Sentences of both sides that were longer than the model's maximum."""
    no_tokens: int
    """Sentences of both sides of which the tokenizer left nothing."""

    @property
    def name(self) -> str:
        """`pol_Latn->ukr_Cyrl`: query language, candidate language."""
        return f"{self.query}->{self.candidates}"

    def accuracies(self, seed: int) -> list[Estimate]:
        """Top-k for every k of `TOP_K`."""
        return [accuracy(hits(self.rank, k), seed) for k in TOP_K]

    def minus(self, base: Direction, seed: int) -> list[Estimate]:
        """Top-k minus that of another model on the same text, for every k of `TOP_K`."""
        return [paired_difference(hits(base.rank, k), hits(self.rank, k), seed) for k in TOP_K]


@dataclass(frozen=True)
class ModelResult:
    """All directions with one model, and the records of model and settings for its result file."""

    model: ModelName
    record: dict[str, Any]
    settings: dict[str, Any]
    directions: list[Direction]


def run_retrieval(
    models: Sequence[ModelName],
    texts: Sequence[ParallelText],
    embedding: EmbeddingSettings,
    task: str,
    out: Path,
    seed: int = 0,
    notes: Sequence[str] = (),
    force: bool = False,
) -> str:
    """Evaluates all models, writes `<out>/<task>/` and returns the tables.

    Files: `<label>.json` and `<label>.items.npz` (the rank of every item) for each model, and `comparison.json` (paired
    differences to the first model) if there are several.

    Args:
        notes: about the test set, for the files.
        force: replaces earlier results of other settings, weights or texts.

    Raises:
        ConfigError: a direction occurs twice.
        DataError: there are earlier results that the new ones do not contain, and `force` is not given.
    """
    _check_directions(texts)
    folder = out / task
    if not force:
        _check_earlier(models, texts, embedding, task, folder, seed)
    folder.mkdir(parents=True, exist_ok=True)  # fails here rather than after the models have run
    results = []
    for model in models:
        encoder = embedding.load(model)
        directions = rank_texts(encoder, texts, embedding, model.label)
        results.append(ModelResult(model, describe_model(model, encoder), embedding.record(encoder), directions))
        _write_result(folder, task, results[-1], seed, notes)
    if len(results) > 1:
        write_json(folder / "comparison.json", _comparison(task, results, seed))
    if len(texts) == 1:
        return "\n\n".join(_direction_table(task, results, index, seed) for index in range(2))
    return _overview_table(task, results, seed)


def _check_directions(texts: Sequence[ParallelText]) -> None:
    """Results are looked up by direction, so each may occur once in a run."""
    sides = [(text.source_language, text.target_language) for text in texts]
    names = [f"{query}->{candidates}" for pair in sides for query, candidates in permutations(pair)]
    if repeated := [name for name in names if names.count(name) > 1]:
        hint = "evaluate the texts in separate runs with different --name"
        raise ConfigError(f"{repeated[0]} occurs twice in one run", hint)


def rank_texts(
    encoder: Encoder, texts: Sequence[ParallelText], embedding: EmbeddingSettings, label: str
) -> list[Direction]:
    """Both directions of every text. Each sentence is embedded once, however many texts contain it."""
    look_up = embedding.embed_once(encoder, [side for text in texts for side in (text.source, text.target)], label)
    return [
        direction for text in texts for direction in both_directions(text, look_up(text.source), look_up(text.target))
    ]


def both_directions(text: ParallelText, source: Embeddings, target: Embeddings) -> tuple[Direction, Direction]:
    """The ranks from source to target and from target to source.

    Args:
        source, target: embeddings [n, d] of the sentences of the text.
    """
    a, b = text.source_language, text.target_language
    truncated, no_tokens = source.truncated + target.truncated, source.no_tokens + target.no_tokens
    return (
        Direction(text, a, b, ranks(source.vectors, target.vectors, text.target), truncated, no_tokens),
        Direction(text, b, a, ranks(target.vectors, source.vectors, text.source), truncated, no_tokens),
    )


def _write_result(folder: Path, task: str, result: ModelResult, seed: int, notes: Sequence[str]) -> None:
    record = {
        **_header(task, result.record, result.settings, seed),
        **({"notes": list(notes)} if notes else {}),
        "scores": {"test": [_score(direction, seed) for direction in result.directions]},
    }
    arrays: dict[str, NDArray[Any]] = {}
    for direction in result.directions:
        arrays[f"rank:{direction.name}"] = direction.rank
        arrays[f"ids:{direction.name}"] = np.array(direction.text.ids)
    write_arrays(folder / f"{result.model.label}.items.npz", arrays)
    write_json(folder / f"{result.model.label}.json", record)


def _header(task: str, model: dict[str, Any], settings: dict[str, Any], seed: int) -> dict[str, Any]:
    bootstrap = {"interval": 0.95, "resamples": RESAMPLES, "seed": seed}
    return {**header(task, "retrieval"), "model": model, "settings": {**settings, "bootstrap": bootstrap}}


def _check_earlier(
    models: Sequence[ModelName],
    texts: Sequence[ParallelText],
    embedding: EmbeddingSettings,
    task: str,
    folder: Path,
    seed: int,
) -> None:
    """Refuses to replace what the new results do not contain, before anything is computed."""
    tests = [
        {"hf_subset": f"{query}-{candidates}", "text_sha256": text.fingerprint}
        for text in texts
        for query, candidates in permutations((text.source_language, text.target_language))
    ]

    def record(model: ModelName, encoder: Encoder) -> dict[str, Any]:
        head = _header(task, describe_model(model, encoder), embedding.record(encoder), seed)
        return {**head, "scores": {"test": tests}}

    check_earlier(models, embedding, lambda model: folder / f"{model.label}.json", record)
    comparison = folder / "comparison.json"
    if len(models) > 1 and comparison.exists():
        earlier = read_json(comparison, "comparison", "--force replaces it")
        before = [earlier["first"]["label"], *dict.fromkeys(entry["model"] for entry in earlier["scores"])]
        if before[0] != models[0].label or not set(before) <= {model.label for model in models}:
            raise DataError(
                f"{comparison} compares {', '.join(before)} with the first of them",
                "name all of them again in this order, or keep both with another --name; --force replaces it",
            )


def _score(direction: Direction, seed: int) -> dict[str, Any]:
    """One entry in the shape of MTEB: fractions between 0 and 1, the main score is top-1."""
    estimates = direction.accuracies(seed)
    return {
        "hf_subset": f"{direction.query}-{direction.candidates}",
        "languages": [direction.query.replace("_", "-"), direction.candidates.replace("_", "-")],
        "query": direction.query,
        "candidates": direction.candidates,
        "main_score": estimates[0].value,
        **by_k(estimates),
        **describe_text(direction.text),
        "truncated": direction.truncated,
        "no_tokens": direction.no_tokens,
    }


def by_k(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """`top1`, `top5`, `top10`, and their intervals under `ci95`."""
    named = {f"top{k}": estimate for k, estimate in zip(TOP_K, estimates, strict=True)}
    return {
        **{name: estimate.value for name, estimate in named.items()},
        "ci95": {name: [estimate.low, estimate.high] for name, estimate in named.items()},
    }


def _comparison(task: str, results: Sequence[ModelResult], seed: int) -> dict[str, Any]:
    first, *others = results
    entries = [
        {
            "model": other.model.label,
            "hf_subset": f"{base.query}-{base.candidates}",
            "n": len(base.text),
            **by_k(direction.minus(base, seed)),
        }
        for other in others
        for base, direction in zip(first.directions, other.directions, strict=True)
    ]
    return {**header(task, "retrieval, difference to the first model"), "first": first.record, "scores": entries}


def _direction_table(task: str, results: Sequence[ModelResult], index: int, seed: int) -> str:
    """One direction: a line for each model, and below it the difference to the first model."""
    first = results[0].directions[index]
    n = len(first.text)
    lines = []
    for result in results:
        direction = result.directions[index]
        lines.append([result.model.label, str(result.settings["layer"]), *map(percent, direction.accuracies(seed))])
        if result is not results[0]:
            differences = list(map(difference, direction.minus(first, seed)))
            lines.append([f"  minus {results[0].model.label}", "", *differences])
    lines.append(["chance", "", *(f"{100 * min(k / n, 1):.1f}" for k in TOP_K)])
    title = f"{task}: {first.query} -> {first.candidates} (query -> candidates), {n} pairs"
    notes = [SIGNIFICANT] if len(results) > 1 else []
    table = format_table(["model", "layer", *METRIC_COLUMNS], lines)
    return "\n".join([title, table, *notes, *_omissions(results, index)])


def _omissions(results: Sequence[ModelResult], index: int) -> list[str]:
    """What one direction's numbers leave out, and what readers should know about them."""
    text = results[0].directions[index].text
    notes = [describe_omissions(text)] if describe_omissions(text) else []
    for result in results:
        direction = result.directions[index]
        if direction.truncated:
            notes.append(f"{result.model.label}: {direction.truncated} sentences cut at the model's maximum")
        if direction.no_tokens:
            notes.append(f"{result.model.label}: {direction.no_tokens} sentences tokenize to nothing")
    return notes


def _overview_table(task: str, results: Sequence[ModelResult], seed: int) -> str:
    """A line for each model and direction, and the unweighted average over all directions."""
    lines, notes = [], []
    for result in results:
        label, directions = result.model.label, result.directions
        for index, direction in enumerate(directions):
            name = f"{direction.query} -> {direction.candidates}"
            lines.append([label, name, str(len(direction.text)), *map(percent, direction.accuracies(seed))])
            if result is results[0] and index % 2 == 0:
                notes += [f"{direction.text.name}: {note}" for note in _omissions(results, index)]
        means = (mean_accuracy([(d.text.ids, hits(d.rank, k)) for d in directions], seed) for k in TOP_K)
        lines.append([label, f"average of {len(directions)}", "", *map(percent, means)])
    columns = ["model", "query -> candidates", "n", *METRIC_COLUMNS]
    tables = [task, format_table(columns, lines, left=2), *notes]
    if len(results) > 1:
        tables += ["", f"difference to {results[0].model.label}"]
        rows = [row for result in results[1:] for row in _difference_rows(results[0], result, seed)]
        tables += [format_table(columns, rows, left=2), SIGNIFICANT]
    return "\n".join(tables)


def _difference_rows(first: ModelResult, other: ModelResult, seed: int) -> Iterator[list[str]]:
    """A line for each direction, for each language that is in some directions only, and for all."""
    pairs = list(zip(first.directions, other.directions, strict=True))
    for base, direction in pairs:
        name = f"{direction.query} -> {direction.candidates}"
        cells = map(difference, direction.minus(base, seed))
        yield [other.model.label, name, str(len(direction.text)), *cells]
    languages = dict.fromkeys(language for base, _ in pairs for language in (base.query, base.candidates))
    groups = {language: [pair for pair in pairs if language in (pair[0].query, pair[0].candidates)]
              for language in languages}  # fmt: skip
    for language, group in {**groups, "": pairs}.items():
        if language and not 2 < len(group) < len(pairs):
            continue
        means = (
            mean_accuracy([(b.text.ids, hits(d.rank, k) * 1.0 - hits(b.rank, k)) for b, d in group], seed)
            for k in TOP_K
        )
        title = f"average of {len(group)}" + (f" with {language}" if language else "")
        yield [other.model.label, title, "", *map(difference, means)]
