"""Retrieval for several models over several parallel texts: results JSON, ranks, one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.errors import ConfigError
from translit_scale.evaluate.bootstrap import RESAMPLES, Estimate, accuracy, mean_accuracy, paired_difference
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.results import (
    EmbeddingSettings,
    ModelName,
    describe_losses,
    describe_model,
    describe_text,
    format_table,
    header,
    percent,
    write_arrays,
)
from translit_scale.evaluate.retrieval.metrics import hits, ranks
from translit_scale.files import write_json
from translit_scale.progress import Progress
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.task import TOP_K


@dataclass(frozen=True)
class Direction:
    """One direction of one parallel text as one model answered it."""

    text: ParallelText
    query: str
    candidates: str
    rank: NDArray[np.int64]
    truncated: int
    """Sentences of both sides that were longer than the model's maximum."""
    no_tokens: int
    """Sentences of both sides of which the tokenizer left nothing."""

    @property
    def name(self) -> str:
        """`pol_Latn->ukr_Cyrl`: query language, candidate language."""
        return f"{self.query}->{self.candidates}"


@dataclass(frozen=True)
class Answers:
    """All directions as one model answered them, and the record of the model."""

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
) -> str:
    """Evaluates, writes `<out>/<task>/` and returns the table.

    Files: `<label>.json` and `<label>.items.npz` (the rank of every item) for each model, and
    `comparison.json` (paired differences to the first model) where there are several.

    Args:
        notes: about the test set, for the files.
    """
    _check_directions(texts)
    folder = out / task
    folder.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is found before the models run
    answers = []
    for model in models:
        answers.append(_answer(model, texts, embedding))
        _write_answers(folder, task, answers[-1], seed, notes)
    if len(answers) > 1:
        write_json(folder / "comparison.json", _comparison(task, answers, seed))
    if len(texts) == 1:
        tables = [_table(task, answers, index, seed) for index in range(len(answers[0].directions))]
    else:
        tables = [overview(task, answers, seed)]
    return "\n\n".join(tables)


def _check_directions(texts: Sequence[ParallelText]) -> None:
    """Results are found by their direction: each may occur once in a run."""
    seen: set[str] = set()
    for text in texts:
        for name in (
            f"{text.source_language}->{text.target_language}",
            f"{text.target_language}->{text.source_language}",
        ):
            if name in seen:
                raise ConfigError(
                    f"{name} occurs twice in one run",
                    "evaluate them in separate runs with different --name",
                )
            seen.add(name)


def _answer(model: ModelName, texts: Sequence[ParallelText], embedding: EmbeddingSettings) -> Answers:
    encoder = embedding.load(model)
    directions = answer_texts(encoder, texts, embedding, model.label)
    return Answers(model, describe_model(model, encoder), embedding.record(encoder), directions)


def answer_texts(
    encoder: Encoder, texts: Sequence[ParallelText], embedding: EmbeddingSettings, label: str
) -> list[Direction]:
    """Both directions of every text. The sentences of a language are embedded once, in however many texts they are."""
    sentences: dict[str, dict[str, int]] = {}
    for text in texts:
        for language, side in ((text.source_language, text.source), (text.target_language, text.target)):
            number = sentences.setdefault(language, {})
            for sentence in side:
                number.setdefault(sentence, len(number))
    with Progress(f"embedding with {label}", sum(map(len, sentences.values())), "sentences") as progress:
        embedded = {
            language: embedding.embed(encoder, list(number), progress.advance) for language, number in sentences.items()
        }
    directions = []
    for text in texts:
        a, b = (
            embedded[language].rows([sentences[language][sentence] for sentence in side])
            for language, side in ((text.source_language, text.source), (text.target_language, text.target))
        )
        languages = text.source_language, text.target_language
        truncated, no_tokens = a.truncated + b.truncated, a.no_tokens + b.no_tokens
        for (query, candidates), rank in (
            (languages, ranks(a.vectors, b.vectors, text.target)),
            (languages[::-1], ranks(b.vectors, a.vectors, text.source)),
        ):
            directions.append(Direction(text, query, candidates, rank, truncated, no_tokens))
    return directions


def _write_answers(folder: Path, task: str, answers: Answers, seed: int, notes: Sequence[str]) -> None:
    bootstrap = {"interval": 0.95, "resamples": RESAMPLES, "seed": seed}
    result = {
        **header(task, "retrieval"),
        "model": answers.record,
        "settings": {**answers.settings, "bootstrap": bootstrap},
        **({"notes": list(notes)} if notes else {}),
        "scores": {"test": [_score(direction, seed) for direction in answers.directions]},
    }
    arrays: dict[str, NDArray[Any]] = {}
    for direction in answers.directions:
        arrays[f"rank:{direction.name}"] = direction.rank
        arrays[f"ids:{direction.name}"] = np.array(direction.text.ids)
    write_arrays(folder / f"{answers.model.label}.items.npz", arrays)
    write_json(folder / f"{answers.model.label}.json", result)


def _score(direction: Direction, seed: int) -> dict[str, Any]:
    """One entry in the shape of MTEB: shares between 0 and 1, the main score is top-1."""
    estimates = {f"top{k}": accuracy(hits(direction.rank, k), seed) for k in TOP_K}
    return {
        "hf_subset": f"{direction.query}-{direction.candidates}",
        "languages": [direction.query.replace("_", "-"), direction.candidates.replace("_", "-")],
        "query": direction.query,
        "candidates": direction.candidates,
        "main_score": estimates["top1"].value,
        **{name: estimate.value for name, estimate in estimates.items()},
        "ci95": {name: [estimate.low, estimate.high] for name, estimate in estimates.items()},
        **describe_text(direction.text),
        "truncated": direction.truncated,
        "no_tokens": direction.no_tokens,
    }


def _differences(base: Direction, other: Direction, seed: int) -> list[Estimate]:
    return [paired_difference(hits(base.rank, k), hits(other.rank, k), seed) for k in TOP_K]


def _comparison(task: str, answers: Sequence[Answers], seed: int) -> dict[str, Any]:
    first, *others = answers
    entries = []
    for other in others:
        for base, compared in zip(first.directions, other.directions, strict=True):
            differences = dict(zip(TOP_K, _differences(base, compared, seed), strict=True))
            entries.append(
                {
                    "model": other.model.label,
                    "hf_subset": f"{base.query}-{base.candidates}",
                    "n": len(base.text),
                    **{f"top{k}": estimate.value for k, estimate in differences.items()},
                    "ci95": {f"top{k}": [estimate.low, estimate.high] for k, estimate in differences.items()},
                }
            )
    return {**header(task, "retrieval, difference to the first model"), "first": first.record, "scores": entries}


def _table(task: str, answers: Sequence[Answers], index: int, seed: int) -> str:
    """One direction: a row for each model, below it the difference to the first model."""
    first = answers[0].directions[index]
    n = len(first.text)
    rows = []
    for answer in answers:
        direction = answer.directions[index]
        cells = [percent(accuracy(hits(direction.rank, k), seed)) for k in TOP_K]
        rows.append([answer.model.label, str(answer.settings["layer"]), *cells])
        if answer is not answers[0]:
            changes = [percent(change, "+") for change in _differences(first, direction, seed)]
            rows.append([f"  minus {answers[0].model.label}", "", *changes])
    rows.append(["chance", "", *(f"{100 * min(k / n, 1):.1f}" for k in TOP_K)])
    title = f"{task}: {first.query} -> {first.candidates} (query -> candidates), {n} pairs"
    table = format_table(["model", "layer", *(f"top-{k} % [95 %]" for k in TOP_K)], rows)
    return "\n".join([title, table, *_losses(answers, index)])


def _losses(answers: Sequence[Answers], index: int) -> list[str]:
    """What is missing from one direction's numbers, or should be known about them."""
    text = answers[0].directions[index].text
    notes = [describe_losses(text)] if describe_losses(text) else []
    for answer in answers:
        counts = answer.directions[index]
        if counts.truncated:
            notes.append(f"{answer.model.label}: {counts.truncated} sentences cut at the model's maximum")
        if counts.no_tokens:
            notes.append(f"{answer.model.label}: {counts.no_tokens} sentences tokenize to nothing")
    return notes


def overview(task: str, answers: Sequence[Answers], seed: int) -> str:
    """A line for each model and direction, and the unweighted average of all directions."""
    rows, notes = [], []
    for answer in answers:
        for index, direction in enumerate(answer.directions):
            cells = [percent(accuracy(hits(direction.rank, k), seed)) for k in TOP_K]
            rows.append(
                [answer.model.label, f"{direction.query} -> {direction.candidates}", str(len(direction.text)), *cells]
            )
            if answer is answers[0] and index % 2 == 0:
                notes += [f"{direction.text.name}: {loss}" for loss in _losses(answers, index)]
        means = (mean_accuracy([(d.text.ids, hits(d.rank, k)) for d in answer.directions], seed) for k in TOP_K)
        rows.append([answer.model.label, f"average of {len(answer.directions)}", "", *map(percent, means)])
    columns = ["model", "query -> candidates", "n", *(f"top-{k} % [95 %]" for k in TOP_K)]
    return "\n".join([task, format_table(columns, rows, names=2), *notes])
