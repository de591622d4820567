"""What a tokenizer does to sentences and to their transliterations: counts of each language, and shared token types.

A token type is an entry of the vocabulary that occurs in the text; unknown and special tokens are none. Paper A
(Table 1) counts the types that two languages share, and divides by the types of either language (Jaccard index).
Paper B (Table 6) counts the types of all languages of a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from translit_scale.analyze.text_sample import Chunk
from translit_scale.corpus.encode import TextEncoder, sentencepiece_model

SIDES = ("original", "transliteration")
Types = NDArray[np.int32]
"""Sorted ids of token types."""
_DENSE = 2**23
"""Numbers of the dense part of `shared_types` (32 MiB)."""


@dataclass(frozen=True)
class TokenFigures:
    """Counts of one language in one script."""

    sentences: int
    characters: int
    """White space is not counted."""
    words: int
    """Separated by white space."""
    tokens: int
    """Without special tokens."""
    unknown: int
    """Unknown tokens; a run of unknown characters is usually one."""
    types: int
    cut: int
    """Sentences that have more tokens, special ones included, than the length allows."""

    @property
    def rates(self) -> dict[str, float]:
        """Tokens per character and per word, fraction of unknown tokens, fraction of sentences that are cut."""
        return {
            "tokens_per_character": self.tokens / max(1, self.characters),
            "tokens_per_word": self.tokens / max(1, self.words),
            "unknown_rate": self.unknown / max(1, self.tokens),
            "cut_rate": self.cut / max(1, self.sentences),
        }

    def record(self) -> dict[str, Any]:
        """Counts and rates, as JSON."""
        return asdict(self) | {name: round(rate, 6) for name, rate in self.rates.items()}


@dataclass(frozen=True)
class LanguageVocabulary:
    """Figures and token types of one language; keys are `SIDES`."""

    figures: Mapping[str, TokenFigures]
    types: Mapping[str, Types]
    text_sha256: str
    """Of the original sentences in their order."""


class VocabularyCounter:
    """Counts the tokens of text with one tokenizer.

    It encodes with the tokenizer's SentencePiece model where there is one, as training does: that is ten times as
    fast, and the ids differ in a few of a hundred thousand sentences.

    Args:
        max_length: tokens of a sentence, special ones included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.fast = sentencepiece_model(tokenizer) is not None
        self._encode = TextEncoder(tokenizer, self.fast)
        self._special = tokenizer.num_special_tokens_to_add()

    def count(self, chunks: Iterable[Chunk]) -> LanguageVocabulary:
        """Counts one language."""
        size = len(self.tokenizer)
        occurrences = {side: np.zeros(size, np.int64) for side in SIDES}
        sums = {side: np.zeros(4, np.int64) for side in SIDES}
        digest = sha256()
        for chunk in chunks:
            digest.update("".join(f"{sentence}\n" for sentence in chunk[0]).encode())
            for side, sentences in zip(SIDES, chunk, strict=True):
                encoded = self._encode([sentence.encode() for sentence in sentences])
                occurrences[side] += np.bincount(encoded.ids, minlength=size)
                words = [sentence.split() for sentence in sentences]
                sums[side] += [
                    len(sentences),
                    sum(len(word) for of_sentence in words for word in of_sentence),
                    sum(map(len, words)),
                    int((encoded.lengths + self._special > self.max_length).sum()),
                ]
        figures = {side: self._figures(occurrences[side], sums[side]) for side in SIDES}
        types = {side: self._types(occurrences[side]) for side in SIDES}
        return LanguageVocabulary(figures, types, digest.hexdigest())

    def _types(self, occurrences: NDArray[np.int64]) -> Types:
        types = np.flatnonzero(occurrences)
        return types[types != self._unknown].astype(np.int32)

    @property
    def _unknown(self) -> int:
        unknown = self.tokenizer.unk_token_id
        return -1 if unknown is None else int(unknown)

    def _figures(self, occurrences: NDArray[np.int64], sums: NDArray[np.int64]) -> TokenFigures:
        sentences, characters, words, cut = sums.tolist()
        return TokenFigures(
            sentences=sentences,
            characters=characters,
            words=words,
            tokens=int(occurrences.sum()),
            unknown=int(occurrences[self._unknown]) if self._unknown >= 0 else 0,
            types=len(self._types(occurrences)),
            cut=cut,
        )


def shared_types(types: Sequence[Types]) -> NDArray[np.int32]:
    """How many types each two of L languages share: [L, L]; the diagonal has the types of each language.

    The types are products of a matrix of zeros and ones with its transpose, some columns at a time. Types of a single
    language count on the diagonal only, so their columns are left out. Counts up to 2^24 are exact in float32.

    Args:
        types: sorted ids of each language.
    """
    size = len(types)
    ids = np.concatenate([*types, np.empty(0, np.int32)])
    language = np.repeat(np.arange(size), [len(of_language) for of_language in types])
    _, column, languages_with = np.unique(ids, return_inverse=True, return_counts=True)
    kept = languages_with > 1
    number = np.cumsum(kept) - 1
    in_several = kept[column]
    language, column = language[in_several], number[column[in_several]]
    order = np.argsort(column, kind="stable")
    language, column = language[order], column[order]
    shared = np.zeros((size, size), np.float32)
    width = max(1, _DENSE // max(1, size))
    for start in range(0, int(kept.sum()), width):
        first, last = np.searchsorted(column, [start, start + width])
        dense = np.zeros((size, width), np.float32)
        dense[language[first:last], column[first:last] - start] = 1
        shared += dense @ dense.T
    counts = shared.astype(np.int32)
    np.fill_diagonal(counts, [len(of_language) for of_language in types])
    return counts


def lexical_overlap(shared: NDArray[np.int32]) -> NDArray[np.float64]:
    """Shared types divided by the types of either language: [L, L] → [L, L]; 0 for two languages without types."""
    types = shared.diagonal().astype(np.int64)
    total = types[:, None] + types[None, :] - shared
    overlap: NDArray[np.float64] = np.divide(shared, total, out=np.zeros(shared.shape), where=total > 0)
    return overlap


def nearest(overlap: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """The `count` languages with the highest overlap for each language, itself left out: [L, min(count, L − 1)].

    Equal overlaps are in the order of the languages.
    """
    others = overlap.copy()
    np.fill_diagonal(others, -1)
    return np.argsort(-others, axis=1, kind="stable")[:, : min(count, len(overlap) - 1)]


def unique_types(types: Iterable[Types]) -> int:
    """Token types of all languages together (paper B, Table 6)."""
    found = list(types)
    return len(np.unique(np.concatenate(found))) if found else 0
