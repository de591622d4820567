"""Measures the four similarities and retrieval with one encoder: both directions of every parallel text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.analyze.similarity import Pairs, derangement, four_similarities, similarity_gap
from translit_scale.corpus.clean import clean
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.models import EmbeddingSettings
from translit_scale.evaluate.results import describe_text
from translit_scale.evaluate.retrieval.run import Direction, both_directions, by_k
from translit_scale.progress import Progress
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.testsets.parallel import ParallelText


@dataclass(frozen=True)
class RomanizedText:
    """A parallel text and the romanizations of its sentences, in their order."""

    text: ParallelText
    source: list[str]
    target: list[str]


@dataclass(frozen=True)
class Similarities:
    """What one encoder gives for one direction of a text, whose query language is the language of s."""

    direction: Direction
    pairs: Pairs
    truncated: int
    """Sentences among s, t, r_s and r_t that were longer than the model's maximum."""
    no_tokens: int

    @property
    def name(self) -> str:
        """`urd_Arab-hin_Deva`: the languages of s and t."""
        return f"{self.direction.query}-{self.direction.candidates}"

    @property
    def title(self) -> str:
        """`s = urd_Arab, t = hin_Deva, 450 pairs`."""
        direction = self.direction
        return f"s = {direction.query}, t = {direction.candidates}, {len(direction.text)} pairs"

    def score(self, seed: int) -> dict[str, Any]:
        """The entry of a result file."""
        return {
            "hf_subset": self.name,
            "s": self.direction.query,
            "t": self.direction.candidates,
            **{name: asdict(similarity_gap(*values)) for name, values in self.pairs.items()},
            "retrieval": by_k(self.direction.accuracies(seed)),
            **describe_text(self.direction.text),
            "truncated": self.truncated,
            "no_tokens": self.no_tokens,
        }


def direction_names(text: ParallelText) -> tuple[str, str]:
    """The names of both directions of a text."""
    return text.name, f"{text.target_language}-{text.source_language}"


def check_texts(texts: Sequence[ParallelText]) -> None:
    """Checks that both directions of every text can be measured.

    Raises:
        DataError: a text has only one pair.
        ConfigError: a language pair occurs twice.
    """
    for text in texts:
        if len(text) < 2:
            raise DataError(f"{text.name} has one pair: random pairs need at least two")
    names = [name for text in texts for name in direction_names(text)]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(
            f"{repeated[0]} occurs twice in one run: both directions of every pair are measured",
            "use separate runs with different --name",
        )


def romanize_texts(texts: Sequence[ParallelText]) -> list[RomanizedText]:
    """Romanizes both sides of each text; the sentences are cleaned before, as for training."""
    romanizer, known = Romanizer(), dict[tuple[str, str], str]()
    sides = [(text.source_language, text.source) for text in texts]
    sides += [(text.target_language, text.target) for text in texts]
    with Progress("romanizing", sum(len(sentences) for _, sentences in sides), "sentences") as progress:
        for language, sentences in sides:
            for sentence in sentences:
                if (language, sentence) not in known:
                    known[language, sentence] = romanizer(clean(sentence), language)[0]
                progress.advance(1)
    return [
        RomanizedText(
            text,
            [known[text.source_language, sentence] for sentence in text.source],
            [known[text.target_language, sentence] for sentence in text.target],
        )
        for text in texts
    ]


def measure(
    encoder: Encoder, texts: Sequence[RomanizedText], embedding: EmbeddingSettings, label: str, seed: int
) -> list[Similarities]:
    """Both directions of every text. Every sentence and romanization is embedded once.

    The random pairs depend only on `seed` and the number of pairs, so they are the same for all encoders. Those of the
    other direction are the same pairs, so that translation and transliteration-transliteration similarities of both
    directions are equal (paper A, section 5.1), whichever language is named first.
    """
    lists = [side for text in texts for side in (text.text.source, text.text.target, text.source, text.target)]
    look_up = embedding.embed_once(encoder, lists, label)
    results = []
    for romanized in texts:
        text, order = romanized.text, derangement(len(romanized.text), seed)
        a, b, r_a, r_b = map(look_up, (text.source, text.target, romanized.source, romanized.target))
        sides = {"s": a, "t": b, "r_s": r_a, "r_t": r_b}
        swapped = {"s": b, "t": a, "r_s": r_b, "r_t": r_a}
        for direction, embeddings in zip(both_directions(text, a, b), (sides, swapped), strict=True):
            vectors = {side: embedded.vectors for side, embedded in embeddings.items()}
            in_order = order if direction.query < direction.candidates else _inverse(order)
            truncated = sum(embedded.truncated for embedded in sides.values())
            no_tokens = sum(embedded.no_tokens for embedded in sides.values())
            results.append(Similarities(direction, four_similarities(vectors, in_order), truncated, no_tokens))
    return results


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The permutation that undoes another one: [n] -> [n]."""
    return np.argsort(order)


def similarity_settings(encoder: Encoder, embedding: EmbeddingSettings, seed: int) -> dict[str, Any]:
    """The settings that change the numbers."""
    return {
        **embedding.record(encoder),
        "romanizer": Romanizer().provenance(),
        "random_pairs": {"kind": "derangement", "seed": seed},
    }
