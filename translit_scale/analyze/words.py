"""Alignment of the words of a sentence with those of its transliteration, which needs no gold data.

uroman keeps the order of words and the white space between them, so word i of a sentence corresponds to word i of its
transliteration. A word's vector is the mean of the hidden states of its tokens, in the context of the whole sentence.
Words are matched by cosine: each word of one side to the most similar word of the other, in both directions, and two
words that choose each other are a link (the mutual argmax of SimAlign, Jalili Sabet et al. 2020).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from translit_scale.corpus.tokenizer import encode_with_offsets
from translit_scale.evaluate.embedding import Encoder, batches_by_length
from translit_scale.evaluate.packed import flat_states
from translit_scale.evaluate.retrieval.metrics import normalise
from translit_scale.model.encoder import mean_pool
from translit_scale.progress import Advance

WITHOUT_SPACES = frozenset(
    ("Hani", "Hans", "Hant", "Jpan", "Hira", "Kana", "Hrkt", "Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Lana", "Talu")
)
"""Scripts (ISO 15924) that do not put white space between words: what stands between two spaces is a phrase."""
COLUMNS = ("words", "forward", "backward", "links", "correct")
"""Of the counts of a sentence: words, those whose most similar word of the transliteration is the right one, the same
from the transliteration, links, and right links."""
MEASURES = ("forward", "backward", "precision", "recall", "f1")
_WORD = re.compile(r"\S+")


class Words(NamedTuple):
    """The words of one sentence."""

    vectors: NDArray[np.float32]
    """[w, d], of length 1."""
    problem: str
    """Why the vectors cannot be used: `too_long` for the model, or `no_tokens` for one of the words; else ""."""


@dataclass(frozen=True)
class WordCounts:
    """Counts of the S sentences of a language that were measured, and why others were not."""

    every: NDArray[np.int64]
    """[S, 5] of all words, see `COLUMNS`."""
    changed: NDArray[np.int64]
    """[S, 5] of the words that the transliteration changes."""
    chance: NDArray[np.float64]
    """[S, 5] of all words, expected for random similarities."""
    changed_chance: NDArray[np.float64]
    """[S, 5] of the changed words, expected for random similarities among all words of the sentence."""
    left_out: dict[str, int]


def words_of(sentence: str) -> list[str]:
    """What stands between white space."""
    return _WORD.findall(sentence)


def token_words(sentence: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(token, word) for each word that a token has a character of; tokens of white space belong to no word.

    Args:
        offsets: of each token the characters that it stands for, as the tokenizer gives them.
    """
    word_at = np.full(len(sentence) + 1, -1)
    for word, match in enumerate(_WORD.finditer(sentence)):
        word_at[match.start() : match.end()] = word
    pairs = []
    for token, (start, end) in enumerate(offsets):
        covered = word_at[start:end]
        pairs += [(token, int(word)) for word in dict.fromkeys(covered[covered >= 0].tolist())]
    return pairs


def embed_words(
    encoder: Encoder, sentences: Sequence[str], batch_tokens: int, advance: Advance = lambda amount: None
) -> list[Words]:
    """Vectors of all words of each sentence, in the order of the sentences."""
    encoded = encode_with_offsets(encoder.tokenizer, sentences)
    n_special = len(encoder.prefix) + len(encoder.suffix)
    words: list[Words] = [Words(np.empty((0, 0), np.float32), "too_long")] * len(sentences)
    lengths = [len(ids) + n_special for ids, _ in encoded]
    usable = [index for index, length in enumerate(lengths) if length <= encoder.max_length]
    advance(len(sentences) - len(usable))
    for batch in batches_by_length([lengths[index] for index in usable], batch_tokens):
        indices = [usable[place] for place in batch]
        pairs = [token_words(sentences[index], encoded[index][1]) for index in indices]
        counts = [len(words_of(sentences[index])) for index in indices]
        vectors = _pool(encoder, [encoded[index][0] for index in indices], pairs, counts)
        for index, of_sentence, count, vector in zip(indices, pairs, counts, vectors, strict=True):
            complete = len({word for _, word in of_sentence}) == count
            words[index] = Words(vector, "" if complete else "no_tokens")
        advance(len(batch))
    return words


@torch.inference_mode()
def _pool(
    encoder: Encoder, ids: Sequence[list[int]], pairs: Sequence[list[tuple[int, int]]], counts: Sequence[int]
) -> list[NDArray[np.float32]]:
    """Means over the tokens of each word, of length 1: a list of [words, d]; without tokens, the zero vector."""
    hidden, bounds = flat_states(
        encoder.model, [[*encoder.prefix, *body, *encoder.suffix] for body in ids], encoder.layer
    )
    starts = np.cumsum([0, *counts])
    places = [
        (bounds[sentence] + len(encoder.prefix) + token, starts[sentence] + word)
        for sentence, of_sentence in enumerate(pairs)
        for token, word in of_sentence
    ]
    index, rows = torch.tensor(places, dtype=torch.long, device=hidden.device).reshape(-1, 2).T
    pooled = normalise(mean_pool(hidden, index, rows, int(starts[-1])).cpu().numpy())
    return np.split(pooled, starts[1:-1])


def match_words(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether word i of a chooses word i of b, word i of b chooses word i of a, word i of a has a link, and the right
    one: four times [w].

    Args:
        a, b: [w, d], of length 1.
    """
    similarity = a @ b.T
    forward, backward = similarity.argmax(axis=1), similarity.argmax(axis=0)
    own = np.arange(len(a))
    linked = backward[forward] == own
    return forward == own, backward == own, linked, linked & (forward == own)


def count_words(
    originals: Sequence[str], transliterations: Sequence[str], a: Sequence[Words], b: Sequence[Words]
) -> WordCounts:
    """Counts of all sentences with the same number of words on both sides, at least two.

    Args:
        a, b: `embed_words` of the sentences and of their transliterations.
    """
    left_out: Counter[str] = Counter()
    every, changed, sizes = [], [], []
    for orig, latn, left, right in zip(originals, transliterations, a, b, strict=True):
        words, latin = words_of(orig), words_of(latn)
        if problem := _problem(words, latin) or left.problem or right.problem:
            left_out[problem] += 1
            continue
        is_changed = np.array([word != other for word, other in zip(words, latin, strict=True)])
        hits = np.stack([np.ones(len(words), np.bool_), *match_words(left.vectors, right.vectors)], axis=1)
        every.append(hits.sum(axis=0))
        changed.append(hits[is_changed].sum(axis=0))
        sizes.append([len(words), int(is_changed.sum())])
    n_words, n_changed = np.array(sizes, np.int64).reshape(-1, 2).T
    return WordCounts(
        np.array(every, np.int64).reshape(-1, len(COLUMNS)),
        np.array(changed, np.int64).reshape(-1, len(COLUMNS)),
        _expected(n_words, n_words),
        _expected(n_words, n_changed),
        dict(sorted(left_out.items())),
    )


def _problem(words: Sequence[str], latin: Sequence[str]) -> str:
    if len(words) != len(latin):
        return "words_differ"
    return "one_word" if len(words) < 2 else ""


def _expected(n_words: NDArray[np.int64], n_scored: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts to be expected if all similarities are independent and of one distribution: [S, 5].

    The largest of w similarities is the right one with probability 1/w, and a cell is the largest of its row and of its
    column, which are 2w - 1 cells, with probability 1/(2w - 1). So a word has a link with probability w/(2w - 1).
    """
    chosen, linked = n_scored / n_words, n_scored / (2 * n_words - 1)
    return np.stack([n_scored, chosen, chosen, linked * n_words, linked], axis=1)


def word_scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """`MEASURES` of summed counts: [..., 5] → [..., 5]; 0 where nothing was counted.

    Forward and backward are accuracies of the two directions. Precision is over links, recall over words, and F1 is
    their harmonic mean.
    """
    words, forward, backward, links, correct = np.moveaxis(np.asarray(sums, np.float64), -1, 0)

    def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
        fraction: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
        return fraction

    scores = [ratio(forward, words), ratio(backward, words), ratio(correct, links), ratio(correct, words)]
    return np.stack([*scores, ratio(2 * correct, links + words)], axis=-1)
