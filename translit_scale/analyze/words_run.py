"""Word alignment with several models on many languages: result files, a chart and one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.analyze.text_sample import TextSample, read_pairs
from translit_scale.analyze.words import (
    COLUMNS,
    MEASURES,
    WITHOUT_SPACES,
    WordCounts,
    count_words,
    embed_words,
    word_scores,
)
from translit_scale.charts import Axes, Chart, Row, can_draw, interval_chart, write_chart
from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import RESAMPLES, resampled_sums
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.models import EmbeddingSettings, ModelName, check_earlier, describe_model
from translit_scale.evaluate.results import header, write_arrays
from translit_scale.files import write_json
from translit_scale.languages import listed
from translit_scale.progress import Progress
from translit_scale.testsets.parallel import text_sha256
from translit_scale.text_table import format_table

Texts = Mapping[str, tuple[list[str], list[str]]]
"""Language → sentences and their transliterations."""
_MOST_IN_CHART = 40


def run_words(
    models: Sequence[ModelName],
    sample: TextSample,
    embedding: EmbeddingSettings,
    sampled: Mapping[str, Any],
    task: str,
    out: Path,
    figures: bool = True,
    force: bool = False,
) -> tuple[str, list[DataError]]:
    """Measures all models, writes `<out>/<task>/`, and returns the table, and errors of languages left out.

    Files: `<label>.words.json` and `.npz` (counts of every sentence) for each model, and a chart of all models.
    Languages whose script has no white space between words are not measured; the files and the table name them.

    Args:
        sampled: `sentences` and `seed` of the sample, for the record.

    Raises:
        DataError: no language can be measured, or there are earlier results that the new ones do not contain.
    """
    skipped: list[DataError] = []
    unspaced = [language for language in sample.languages if language.partition("_")[2] in WITHOUT_SPACES]
    texts = _read(sample, [language for language in sample.languages if language not in unspaced], skipped)
    if not texts:
        named = f"; without white space between words: {listed(unspaced)}" if unspaced else ""
        raise DataError("\n".join([f"no language can be measured{named}", *map(str, skipped)]))
    folder = out / task
    settings = {**sampled, **sample.provenance()}
    tests = [{"hf_subset": code, "text_sha256": text_sha256(*text)} for code, text in texts.items()]
    if not force:
        check_earlier(
            models,
            embedding,
            lambda model: folder / f"{model.label}.words.json",
            lambda model, encoder: _result(task, model, encoder, settings, unspaced, tests),
        )
    folder.mkdir(parents=True, exist_ok=True)
    scores = {model.label: _measure(model, texts, embedding, settings, task, folder, unspaced) for model in models}
    if figures and len(texts) <= _MOST_IN_CHART and can_draw():
        write_chart(_chart(scores), folder)
    return "\n".join([_table(scores), *_notes(scores, unspaced, len(texts))]), skipped


def _read(sample: TextSample, languages: Sequence[str], skipped: list[DataError]) -> Texts:
    texts = {}
    with Progress("reading sentences", len(languages), "languages") as progress:
        for language in languages:
            try:
                texts[language] = read_pairs(sample, language)
            except DataError as error:
                skipped.append(error)
            progress.advance(1)
    return texts


def _measure(
    model: ModelName,
    texts: Texts,
    embedding: EmbeddingSettings,
    settings: Mapping[str, Any],
    task: str,
    folder: Path,
    unspaced: Sequence[str],
) -> list[dict[str, Any]]:
    """Measures one model, writes its files and returns its scores."""
    encoder = embedding.load(model)
    scores: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {"columns": np.array(COLUMNS)}
    total = sum(2 * len(originals) for originals, _ in texts.values())
    with Progress(f"words with {model.label}", total, "sentences") as progress:
        for language, text in texts.items():
            words = [embed_words(encoder, side, embedding.batch_tokens, progress.advance) for side in text]
            counts = count_words(*text, *words)
            scores.append({"hf_subset": language, **_score(counts), "text_sha256": text_sha256(*text)})
            arrays |= {f"{language}:all": counts.every, f"{language}:changed": counts.changed}
    write_arrays(folder / f"{model.label}.words.npz", arrays)
    result = _result(task, model, encoder, settings, unspaced, scores)
    write_json(folder / f"{model.label}.words.json", result)
    return scores


def _score(counts: WordCounts) -> dict[str, Any]:
    """Scores of all words and of the changed ones; without a measured sentence only what was left out."""
    n = len(counts.every)
    record: dict[str, Any] = {"n": n, "left_out": counts.left_out}
    if not n:
        return record
    for name, of_sentences, chance in (
        ("all", counts.every, counts.chance),
        ("changed", counts.changed, counts.changed_chance),
    ):
        sums = of_sentences.sum(axis=0)
        drawn = word_scores(resampled_sums(of_sentences))
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        record[name] = {
            "words": int(sums[0]),
            **_named(word_scores(sums)),
            "ci95": {measure: [float(low[i]), float(high[i])] for i, measure in enumerate(MEASURES)},
            "chance": _named(word_scores(chance.sum(axis=0))),
        }
    return record


def _named(values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(MEASURES, values.tolist(), strict=True))


def _result(
    task: str,
    model: ModelName,
    encoder: Encoder,
    settings: Mapping[str, Any],
    unspaced: Sequence[str],
    scores: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        **header(task, "words"),
        "model": describe_model(model, encoder),
        "settings": {
            "layer": encoder.layer,
            "pooling": "mean of the tokens of a word",
            "max_length": encoder.max_length,
            "similarity": "cosine",
            "bootstrap": {"interval": "percentile", "resamples": RESAMPLES, "seed": 0},
            **settings,
        },
        "without_spaces": list(unspaced),
        "scores": {"test": scores},
    }


def _table(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    lines = []
    for label, of_languages in scores.items():
        for score in of_languages:
            line = [label, score["hf_subset"], f"{score['n']:,}"]
            if score["n"]:
                every, changed = score["all"], score["changed"]
                low, high = every["ci95"]["f1"]
                line += [f"{100 * every['f1']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"]
                line += [f"{100 * value:.1f}" for value in (every["chance"]["f1"], every["forward"], every["backward"])]
                line += [f"{100 * changed['f1']:.1f}" if changed["words"] else "-"]
            lines.append([*line, *["-"] * (8 - len(line))])
    columns = ["model", "language", "sent.", "F1 [95 %]", "chance", "to lat.", "back", "changed"]
    return format_table(columns, lines, left=2)


def _notes(scores: Mapping[str, Sequence[Mapping[str, Any]]], unspaced: Sequence[str], languages: int) -> Iterator[str]:
    """What was left out, and what the columns are."""
    yield "In percent. F1: of words that choose each other. to lat., back: accuracy of the"
    yield "two directions. changed: F1 of the words that transliteration changes."
    reasons: dict[str, int] = {}
    for score in next(iter(scores.values())):
        for reason, count in score["left_out"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    if reasons:
        yield f"sentences left out: {', '.join(f'{count:,} {reason}' for reason, count in reasons.items())}"
    if unspaced:
        yield f"not measured, no white space between words: {listed(unspaced, 5)}"
    if languages > _MOST_IN_CHART:
        yield f"no chart: there are more than {_MOST_IN_CHART} languages"


def _chart(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> Chart:
    rows: list[Row] = [
        {
            "model": label,
            "language": score["hf_subset"],
            "f1": 100 * score["all"]["f1"],
            "low": 100 * score["all"]["ci95"]["f1"][0],
            "high": 100 * score["all"]["ci95"]["f1"][1],
            "chance": 100 * score["all"]["chance"]["f1"],
        }
        for label, of_languages in scores.items()
        for score in of_languages
        if score["n"]
    ]
    axes = Axes("f1", "language", "model", low="low", high="high", x_title="F1 of word alignment (%)")
    return interval_chart("words", "Words of a sentence matched with those of its transliteration", rows, axes)
