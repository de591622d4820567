"""Similarities with several models on several parallel texts: result files, values of all pairs, figures, one table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from translit_scale.analyze.similarity import SIMILARITIES, Pairs, derangement, four_similarities, similarity_gap
from translit_scale.corpus.clean import clean
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.results import (
    EmbeddingSettings,
    ModelName,
    check_earlier,
    describe_model,
    describe_omissions,
    describe_text,
    header,
    write_arrays,
)
from translit_scale.extras import install_command
from translit_scale.files import write_json
from translit_scale.progress import Progress
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.testsets.parallel import ParallelText
from translit_scale.text_table import format_table

Sides = Mapping[str, Sequence[str]]
"""The sentences of `s`, `t`, `r_s` and `r_t`."""


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

    Files: `<label>.similarity.json` and `.npz` (every pair) for each model, and for each text a figure of all models,
    `similarity.<s>-<t>.png` and `.pdf`, if matplotlib is installed. The random pairs depend only on `seed` and the
    number of pairs, so they are the same for all models.

    Args:
        force: replaces earlier results of other settings, weights or texts.

    Raises:
        DataError: a text has only one pair, or there are earlier results that the new ones do not contain.
        ConfigError: a language pair occurs twice.
    """
    for text in texts:
        if len(text) < 2:
            raise DataError(f"{text.name} has one pair: random pairs need at least two")
    if len({text.name for text in texts}) < len(texts):
        raise ConfigError("a language pair occurs twice in one run", "use separate runs with different --name")
    folder = out / task
    if not force:
        tests = [{"hf_subset": text.name, "text_sha256": text.fingerprint} for text in texts]
        check_earlier(
            models,
            embedding,
            lambda model: folder / f"{model.label}.similarity.json",
            lambda model, encoder: _result(task, model, encoder, embedding, seed, tests),
        )
    folder.mkdir(parents=True, exist_ok=True)  # fails here rather than after the models have run
    figures = figures and _can_draw()
    sides = _with_romanizations(texts)
    measured = {model.label: _measure(model, texts, sides, embedding, task, folder, seed) for model in models}
    tables = []
    for index, text in enumerate(texts):
        by_model = {label: pairs[index] for label, pairs in measured.items()}
        title = f"{task}: s = {text.source_language}, t = {text.target_language}, {len(text)} pairs"
        tables.append("\n".join([title, _table(by_model), *filter(None, [describe_omissions(text)])]))
        if figures:
            from translit_scale.analyze.figures import similarity_figure, write_figure

            write_figure(similarity_figure(by_model, title), folder / f"similarity.{text.name}")
    return "\n\n".join(tables)


def _with_romanizations(texts: Sequence[ParallelText]) -> list[Sides]:
    """Both sides of each text and their romanizations, made from the cleaned sentence as for training."""
    romanizer = Romanizer()
    with Progress("romanizing", sum(2 * len(text) for text in texts), "sentences") as progress:

        def romanize(sentences: Sequence[str], language: str) -> list[str]:
            romanized = []
            for sentence in sentences:
                romanized.append(romanizer(clean(sentence), language)[0])
                progress.advance(1)
            return romanized

        return [
            {
                "s": text.source,
                "t": text.target,
                "r_s": romanize(text.source, text.source_language),
                "r_t": romanize(text.target, text.target_language),
            }
            for text in texts
        ]


def _measure(
    model: ModelName,
    texts: Sequence[ParallelText],
    sides: Sequence[Sides],
    embedding: EmbeddingSettings,
    task: str,
    folder: Path,
    seed: int,
) -> list[Pairs]:
    """Embeds with one model, writes its files and returns its similarities for each text."""
    encoder = embedding.load(model)
    scores, measured = [], []
    with Progress(f"embedding with {model.label}", sum(4 * len(text) for text in texts), "sentences") as progress:
        for text, sentences in zip(texts, sides, strict=True):
            embeddings = {
                side: embedding.embed(encoder, sentences[side], progress.advance) for side in ("s", "t", "r_s", "r_t")
            }
            vectors = {side: embedded.vectors for side, embedded in embeddings.items()}
            pairs = four_similarities(vectors, derangement(len(text), seed))
            counts = {
                "truncated": sum(embedded.truncated for embedded in embeddings.values()),
                "no_tokens": sum(embedded.no_tokens for embedded in embeddings.values()),
            }
            scores.append(_score(text, pairs) | counts)
            measured.append(pairs)
    arrays = {
        f"{text.name}:{name}:{kind}": values
        for text, pairs in zip(texts, measured, strict=True)
        for name, both in pairs.items()
        for kind, values in zip(("matched", "random"), both, strict=True)
    }
    write_arrays(folder / f"{model.label}.similarity.npz", arrays)
    write_json(folder / f"{model.label}.similarity.json", _result(task, model, encoder, embedding, seed, scores))
    return measured


def _score(text: ParallelText, pairs: Pairs) -> dict[str, Any]:
    return {
        "hf_subset": text.name,
        "s": text.source_language,
        "t": text.target_language,
        **{name: asdict(similarity_gap(*values)) for name, values in pairs.items()},
        **describe_text(text),
    }


def _result(
    task: str, model: ModelName, encoder: Encoder, embedding: EmbeddingSettings, seed: int, scores: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        **header(task, "similarity"),
        "model": describe_model(model, encoder),
        "settings": {
            **embedding.record(encoder),
            "romanizer": Romanizer().provenance(),
            "random_pairs": {"kind": "derangement", "seed": seed},
        },
        "scores": {"test": scores},
    }


def _table(by_model: Mapping[str, Pairs]) -> str:
    """A line for each model and similarity."""
    lines = []
    for label, pairs in by_model.items():
        for name, (first, second) in SIMILARITIES.items():
            gap = similarity_gap(*pairs[name])
            means = [(gap.matched, gap.matched_se), (gap.random, gap.random_se), (gap.gap, gap.gap_se)]
            cells = [f"{mean:.3f} ±{1.96 * error:.3f}" for mean, error in means]
            lines.append([label, f"sim({first}, {second})", *cells, f"{100 * gap.matched_higher:.1f}"])
    return format_table(["model", "similarity", "matched", "random", "gap", "matched higher %"], lines, left=2)


def _can_draw() -> bool:
    if find_spec("matplotlib") is None:
        print(f"note: no figures without matplotlib: {install_command('plots')}", file=sys.stderr)
        return False
    return True
