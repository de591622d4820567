"""Token ids of text at the speed of training, with SentencePiece where it gives the ids of the tokenizer.

A tokenizer folder of the XLM-R family has the same unigram model twice: as `tokenizer.json`, and as the SentencePiece
model from which it was made, which is about ten times faster. Their ids differ in a few of a hundred thousand sentences
(ties, decomposed marks). A training chooses one of them at its start and records the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt
import sentencepiece
from transformers import PreTrainedTokenizerFast

from translit_scale.corpus.tokenizer import encode_batch, sentencepiece_file

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Concatenated token ids of P sentences, without special tokens."""

    ids: Indices
    """[n]."""
    lengths: Indices
    """[P]."""

    @classmethod
    def of(cls, sentences: Sequence[Sequence[int]]) -> Ragged:
        """Concatenates sentences."""
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        return cls(np.fromiter(chain.from_iterable(sentences), np.int64, int(lengths.sum())), lengths)

    @cached_property
    def sentence(self) -> Indices:
        """[n] index of the sentence of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def place(self) -> Indices:
        """[n] position of each token in its sentence."""
        return np.arange(len(self.ids)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)

    def cut(self, lengths: Indices) -> Ragged:
        """The first lengths[i] tokens of each sentence i, or all if it is shorter."""
        kept = np.minimum(lengths, self.lengths)
        if np.array_equal(kept, self.lengths):
            return self
        return Ragged(self.ids[self.place < np.repeat(kept, self.lengths)], kept)

    def take(self, chosen: Indices) -> Ragged:
        """Some of the sentences, in the order of `chosen`."""
        lengths = self.lengths[chosen]
        shift = (np.cumsum(self.lengths) - self.lengths)[chosen] - (np.cumsum(lengths) - lengths)
        return Ragged(self.ids[np.repeat(shift, lengths) + np.arange(int(lengths.sum()))], lengths)


class TextEncoder:
    """Token ids of sentences as text only: `<s>` or `<mask>` in a corpus is not the special token of that name.

    Args:
        fast: encode with SentencePiece; see `sentencepiece_model`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, fast: bool) -> None:
        self.tokenizer, self.fast = tokenizer, fast
        self._sentencepiece = sentencepiece_model(tokenizer) if fast else None
        assert self._sentencepiece or not fast, "no SentencePiece model with the tokenizer's vocabulary"

    def __call__(self, sentences: Sequence[bytes]) -> Ragged:
        """Token ids of sentences in UTF-8, without special tokens."""
        if self._sentencepiece is None:
            return Ragged.of(encode_batch(self.tokenizer, [sentence.decode() for sentence in sentences]))
        model, ids = self._sentencepiece
        pieces = Ragged.of(model.encode(list(sentences), num_threads=1))
        return Ragged(ids[pieces.ids], pieces.lengths)


def sentencepiece_model(
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[sentencepiece.SentencePieceProcessor, Indices] | None:
    """The SentencePiece model of a tokenizer and the token id of each of its pieces.

    None if there is no model, or if it has pieces that the tokenizer lacks.
    """
    path = sentencepiece_file(tokenizer)
    if path is None:
        return None
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    vocabulary, ids = tokenizer.get_vocab(), np.full(model.get_piece_size(), -1, np.int64)
    for number in range(len(ids)):
        if model.is_unknown(number):
            ids[number] = tokenizer.unk_token_id
        elif not model.is_control(number):
            ids[number] = vocabulary.get(model.id_to_piece(number), -1)
            if ids[number] < 0:
                return None
    return model, ids


def differing(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[bytes]) -> int:
    """Number of sentences for which SentencePiece and the tokenizer give different ids."""
    slow, fast = TextEncoder(tokenizer, False)(sentences), TextEncoder(tokenizer, True)(sentences)
    ends = np.cumsum(slow.lengths)[:-1], np.cumsum(fast.lengths)[:-1]
    pairs = zip(np.split(slow.ids, ends[0]), np.split(fast.ids, ends[1]), strict=True)
    return sum(not np.array_equal(a, b) for a, b in pairs)
