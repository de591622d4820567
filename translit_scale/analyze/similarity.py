"""The four similarities of paper A (section 5.1), of matched pairs against random pairs.

For a sentence s, its translation t and their romanizations r_s and r_t: transliteration sim(s, r_s),
translation sim(s, t), transliteration-translation sim(r_s, t) and transliteration-transliteration
sim(r_s, r_t), all cosine. A high similarity of matched pairs says little by itself, because random pairs
may be as similar; the gap between the two is what retrieval needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from translit_scale.corpus.clean import clean
from translit_scale.corpus.romanize import Romanizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.parallel import ParallelText
from translit_scale.evaluate.results import (
    EmbeddingSettings,
    ModelName,
    describe_losses,
    describe_model,
    describe_text,
    format_table,
    header,
    write_arrays,
)
from translit_scale.evaluate.retrieval import normalise
from translit_scale.files import write_json
from translit_scale.progress import Progress

SIMILARITIES = {
    "transliteration": ("s", "r_s"),
    "translation": ("s", "t"),
    "transliteration_translation": ("r_s", "t"),
    "transliteration_transliteration": ("r_s", "r_t"),
}
"""Which two texts each similarity compares; s is in the source language, t in the target language."""


@dataclass(frozen=True)
class Contrast:
    """Matched against random pairs; `_se` are standard errors of the means over pairs."""

    matched: float
    matched_se: float
    random: float
    random_se: float
    gap: float
    gap_se: float
    matched_higher: float
    """Share of sentences whose matched pair is more similar than their random pair."""


def derangement(n: int, seed: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 that leaves no number in its place, uniform among those.

    Permutations are drawn until one fits (e = 2.72 draws on average).

    Raises:
        ValueError: n < 2, where there is none.
    """
    if n < 2:
        raise ValueError("random pairs need at least two sentences")
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def paired_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of row i of `a` with row i of `b`: [n, d], [n, d] -> [n]."""
    return np.einsum("nd,nd->n", normalise(a), normalise(b), dtype=np.float64)


def four_similarities(
    vectors: dict[str, NDArray[np.float32]], order: NDArray[np.int64]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Per similarity the values [n] of matched pairs and of random pairs.

    Args:
        vectors: `s`, `t`, `r_s`, `r_t`, each [n, d].
        order: the derangement; the random partner of the first text's row i is the second's row order[i].
    """
    return {
        name: (
            paired_cosine(vectors[first], vectors[second]),
            paired_cosine(vectors[first], vectors[second][order]),
        )
        for name, (first, second) in SIMILARITIES.items()
    }


def contrast(matched: NDArray[np.float64], random: NDArray[np.float64]) -> Contrast:
    """Means, their gap and standard errors (of the gap: from the differences within a sentence)."""

    def mean(values: NDArray[np.float64]) -> tuple[float, float]:
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    return Contrast(*mean(matched), *mean(random), *mean(matched - random), float((matched > random).mean()))


def run_similarity(
    models: Sequence[ModelName],
    texts: Sequence[ParallelText],
    embedding: EmbeddingSettings,
    task: str,
    out: Path,
    seed: int = 0,
) -> str:
    """Measures, writes `<out>/<task>/<label>.similarity.{json,npz}` (npz: every pair), returns the tables.

    The random pairs depend on `seed` and the number of pairs alone, so all models get the same.
    """
    for text in texts:
        if len(text) < 2:
            raise DataError(f"{text.name} has one pair: random pairs need at least two")
    if len({text.name for text in texts}) < len(texts):
        raise ConfigError("a language pair occurs twice in one run", "use separate runs with different --name")
    romanizer = Romanizer()
    romanized = [_romanize(text, romanizer) for text in texts]
    measured = [_measure(model, texts, romanized, embedding, task, out / task, seed) for model in models]
    return "\n\n".join(
        _table(task, text, {model.label: found[index] for model, found in zip(models, measured, strict=True)})
        for index, text in enumerate(texts)
    )


def _romanize(text: ParallelText, romanizer: Romanizer) -> tuple[list[str], list[str]]:
    """Romanizations of both sides, made like those of training: of the cleaned sentence."""
    with Progress(f"romanizing {text.name}", 2 * len(text), "sentences") as progress:

        def romanize(sentence: str, language: str) -> str:
            progress.advance(1)
            return romanizer(clean(sentence), language)[0]

        return (
            [romanize(sentence, text.source_language) for sentence in text.source],
            [romanize(sentence, text.target_language) for sentence in text.target],
        )


def _measure(
    model: ModelName,
    texts: Sequence[ParallelText],
    romanized: Sequence[tuple[list[str], list[str]]],
    embedding: EmbeddingSettings,
    task: str,
    folder: Path,
    seed: int,
) -> list[dict[str, Contrast]]:
    """Embeds, writes the files of one model and returns its contrasts for each text."""
    encoder = embedding.load(model)
    scores, arrays, found = [], {}, []
    for text, (source_latin, target_latin) in zip(texts, romanized, strict=True):
        sides = {"s": text.source, "t": text.target, "r_s": source_latin, "r_t": target_latin}
        embedded = {
            side: embedding.embed(encoder, sentences, f"{model.label}: {side} of {text.name}")
            for side, sentences in sides.items()
        }
        pairs = four_similarities(
            {side: result.vectors for side, result in embedded.items()}, derangement(len(text), seed)
        )
        contrasts = {name: contrast(*values) for name, values in pairs.items()}
        for name, (matched, random) in pairs.items():
            arrays[f"{text.name}:{name}:matched"], arrays[f"{text.name}:{name}:random"] = matched, random
        scores.append(
            {
                "hf_subset": text.name,
                "s": text.source_language,
                "t": text.target_language,
                **{name: asdict(values) for name, values in contrasts.items()},
                **describe_text(text),
                "truncated": sum(result.truncated for result in embedded.values()),
                "no_tokens": sum(result.no_tokens for result in embedded.values()),
            }
        )
        found.append(contrasts)
    write_arrays(folder / f"{model.label}.similarity.npz", arrays)
    write_json(
        folder / f"{model.label}.similarity.json",
        {
            **header(task, "similarity"),
            "model": describe_model(model, encoder),
            "settings": {
                **embedding.record(encoder),
                "romanizer": Romanizer().provenance(),
                "random_pairs": {"kind": "derangement", "seed": seed},
            },
            "scores": {"test": scores},
        },
    )
    return found


def _table(task: str, text: ParallelText, found: dict[str, dict[str, Contrast]]) -> str:
    rows = []
    for label, contrasts in found.items():
        for name, c in contrasts.items():
            first, second = SIMILARITIES[name]
            values = [(c.matched, c.matched_se), (c.random, c.random_se), (c.gap, c.gap_se)]
            cells = [f"{mean:.3f} ±{1.96 * error:.3f}" for mean, error in values]
            rows.append([label, f"sim({first}, {second})", *cells, f"{100 * c.matched_higher:.1f}"])
    title = f"{task}: s = {text.source_language}, t = {text.target_language}, {len(text)} pairs, cosine"
    columns = ["model", "similarity", "matched", "random", "gap", "matched higher %"]
    return "\n".join([title, format_table(columns, rows, names=2), *filter(None, [describe_losses(text)])])
