"""Similarities with several models on several parallel texts: result files, values of all pairs, charts, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from translit_scale.analyze.figures import draw, drawn_directions, similarity_charts
from translit_scale.analyze.measurement import (
    RomanizedText,
    Similarities,
    check_texts,
    direction_names,
    measure,
    romanize_texts,
    similarity_settings,
)
from translit_scale.analyze.similarity import formula, similarity_gap
from translit_scale.charts import can_draw
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.models import EmbeddingSettings, ModelName, check_earlier, describe_model
from translit_scale.evaluate.results import describe_omissions, header, percent, write_arrays
from translit_scale.evaluate.retrieval.run import METRIC_COLUMNS
from translit_scale.files import write_json
from translit_scale.testsets.parallel import ParallelText
from translit_scale.text_table import format_table


def run_similarity(
    models: Sequence[ModelName],
    texts: Sequence[ParallelText],
    embedding: EmbeddingSettings,
    task: str,
    out: Path,
    seed: int = 0,
    figures: bool = True,
    force: bool = False,
) -> str:
    """Measures all models, writes `<out>/<task>/` and returns the tables.

    Files: `<label>.similarity.json` and `.npz` (every pair) for each model, and charts of all models for each direction
    of the texts (`figures.similarity_charts`), if vl-convert is installed.

    Args:
        force: replaces earlier results of other settings, weights or texts.

    Raises:
        DataError: a text has only one pair, or there are earlier results that the new ones do not contain.
        ConfigError: a language pair occurs twice.
    """
    check_texts(texts)
    folder = out / task
    if not force:
        tests = [
            {"hf_subset": name, "text_sha256": text.fingerprint} for text in texts for name in direction_names(text)
        ]
        check_earlier(
            models,
            embedding,
            lambda model: folder / f"{model.label}.similarity.json",
            lambda model, encoder: _result(task, model, encoder, embedding, seed, tests),
        )
    folder.mkdir(parents=True, exist_ok=True)  # fails here rather than after the models have run
    romanized = romanize_texts(texts)
    measured = {model.label: _measure(model, romanized, embedding, task, folder, seed) for model in models}
    by_direction = _by_direction(measured)
    if figures and can_draw():
        shown = drawn_directions(list(by_direction))
        draw([chart for name in shown for chart in similarity_charts(task, by_direction[name])], folder)
    return "\n\n".join(_table(task, models_of, seed) for models_of in by_direction.values())


def _by_direction(measured: Mapping[str, Sequence[Similarities]]) -> dict[str, dict[str, Similarities]]:
    """The similarities of all models, by the name of the direction and the label of the model."""
    directions = zip(*measured.values(), strict=True)
    return {of_models[0].name: dict(zip(measured, of_models, strict=True)) for of_models in directions}


def _measure(
    model: ModelName,
    texts: Sequence[RomanizedText],
    embedding: EmbeddingSettings,
    task: str,
    folder: Path,
    seed: int,
) -> list[Similarities]:
    """Measures with one model and writes its files."""
    encoder = embedding.load(model)
    measured = measure(encoder, texts, embedding, model.label, seed)
    arrays = {
        f"{similarities.name}:{name}:{kind}": values
        for similarities in measured
        for name, both in similarities.pairs.items()
        for kind, values in zip(("matched", "random"), both, strict=True)
    }
    write_arrays(folder / f"{model.label}.similarity.npz", arrays)
    scores = [similarities.score(seed) for similarities in measured]
    write_json(folder / f"{model.label}.similarity.json", _result(task, model, encoder, embedding, seed, scores))
    return measured


def _result(
    task: str, model: ModelName, encoder: Encoder, embedding: EmbeddingSettings, seed: int, scores: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        **header(task, "similarity"),
        "model": describe_model(model, encoder),
        "settings": similarity_settings(encoder, embedding, seed),
        "scores": {"test": scores},
    }


def _table(task: str, models: Mapping[str, Similarities], seed: int) -> str:
    """One direction: a line for each model and similarity, then a line for the retrieval of each model."""
    first = next(iter(models.values()))
    lines, retrieval = [], []
    for label, similarities in models.items():
        for name, values in similarities.pairs.items():
            gap = similarity_gap(*values)
            means = [(gap.matched, gap.matched_se), (gap.random, gap.random_se), (gap.gap, gap.gap_se)]
            cells = [f"{mean:.3f} ±{1.96 * error:.3f}" for mean, error in means]
            separable = f"{100 * gap.separability:.1f} ±{196 * gap.separability_se:.1f}"
            lines.append([label, formula(name), *cells, separable])
        retrieval.append([label, *map(percent, similarities.direction.accuracies(seed))])
    omitted = describe_omissions(first.direction.text)
    return "\n".join([
        f"{task}: {first.title}",
        format_table(["model", "similarity", "matched", "random", "gap", "AUC %"], lines, left=2),
        f"\n{task}: retrieval, {first.direction.query} -> {first.direction.candidates} (query -> candidates)",
        format_table(["model", *METRIC_COLUMNS], retrieval),
        *([omitted] if omitted else []),
    ])  # fmt: skip
