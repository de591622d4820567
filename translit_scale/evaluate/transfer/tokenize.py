"""Texts with labels as sequences of tokens: which of them are cut or divided, and which states are classified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from translit_scale.corpus.tokenizer import encode_batch
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.loading import special_template
from translit_scale.testsets.classification import LabelledTexts
from translit_scale.testsets.tagging import TaggedSentences
from translit_scale.testsets.task import Examples

Template = tuple[list[int], list[int]]
"""Special tokens before and behind a text."""


@dataclass(frozen=True)
class Sequences:
    """A split as the encoder reads it; the labels of all sequences end to end are those of the split, in its order."""

    ids: list[list[int]]
    """Of each sequence, special tokens included."""
    places: list[list[int]]
    """Of each sequence: the tokens whose states are classified (`<s>`, or the first of each word)."""
    labels: list[list[int]]
    counts: dict[str, int]
    """`truncated` (texts, or words longer than a sequence, that were cut), `no_tokens` (texts or words of which the
    tokenizer leaves nothing), and in tagging `split` (sentences that became several sequences)."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def flat_labels(self) -> NDArray[np.int64]:
        """[N] labels, sequence after sequence."""
        return np.fromiter(chain.from_iterable(self.labels), np.int64)


def joined(parts: Sequence[Sequences]) -> Sequences:
    """Several splits as one."""
    return Sequences(
        [ids for part in parts for ids in part.ids],
        [places for part in parts for places in part.places],
        [labels for part in parts for labels in part.labels],
        {name: sum(part.counts[name] for part in parts) for name in parts[0].counts},
    )


def make_sequences(tokenizer: PreTrainedTokenizerFast, data: Examples, max_length: int) -> Sequences:
    """Tokenizes a split.

    A text is cut at `max_length`. A sentence of words is divided between words instead, so that no word loses its
    label; only a word that is longer than a sequence is cut. Words are tokenized one by one, as the papers' code does;
    one that tokenizes to nothing becomes `<unk>`.

    Args:
        max_length: tokens of a sequence, special ones included.

    Raises:
        ConfigError: `max_length` leaves no room for text.
        DataError: a word tokenizes to nothing and the tokenizer has no `<unk>`.
    """
    template = special_template(tokenizer)
    room = max_length - sum(map(len, template))
    if room < 1:
        raise ConfigError(f"sequences of {max_length} tokens have no room for text", "give a larger --max-length")
    if isinstance(data, LabelledTexts):
        return _texts(tokenizer, data, template, room)
    return _words(tokenizer, data, template, room)


def _texts(tokenizer: PreTrainedTokenizerFast, data: LabelledTexts, template: Template, room: int) -> Sequences:
    prefix, suffix = template
    tokens = encode_batch(tokenizer, data.texts)
    counts = {"truncated": sum(len(ids) > room for ids in tokens), "no_tokens": sum(not ids for ids in tokens)}
    return Sequences(
        [[*prefix, *ids[:room], *suffix] or [_unknown(tokenizer)] for ids in tokens],
        [[0]] * len(tokens),
        [[label] for label in data.labels],
        counts,
    )


def _words(tokenizer: PreTrainedTokenizerFast, data: TaggedSentences, template: Template, room: int) -> Sequences:
    prefix, suffix = template
    distinct = list(dict.fromkeys(chain.from_iterable(data.words)))
    tokens = dict(zip(distinct, encode_batch(tokenizer, distinct), strict=True))
    counts = {"truncated": 0, "split": 0, "no_tokens": 0}
    result = Sequences([], [], [], counts)
    for words, tags in zip(data.words, data.tags, strict=True):
        pieces = [tokens[word] for word in words]
        counts["truncated"] += sum(len(ids) > room for ids in pieces)
        counts["no_tokens"] += sum(not ids for ids in pieces)
        pieces = [ids[:room] or [_unknown(tokenizer)] for ids in pieces]
        bounds = _cuts([len(ids) for ids in pieces], room)
        counts["split"] += len(bounds) > 2
        for start, end in pairwise(bounds):
            body = pieces[start:end]
            result.ids.append([*prefix, *chain.from_iterable(body), *suffix])
            result.places.append(list(accumulate(map(len, body[:-1]), initial=len(prefix))))
            result.labels.append(tags[start:end])
    return result


def _cuts(lengths: Sequence[int], room: int) -> list[int]:
    """Bounds of as few groups of words as possible, each of at most `room` tokens: 0, …, number of words."""
    bounds, filled = [0], 0
    for word, length in enumerate(lengths):
        if filled + length > room:
            bounds.append(word)
            filled = 0
        filled += length
    return [*bounds, len(lengths)]


def _unknown(tokenizer: PreTrainedTokenizerFast) -> int:
    """What stands for a text or word that tokenizes to nothing."""
    if tokenizer.unk_token_id is None:
        raise DataError("a text or word tokenizes to nothing, and the tokenizer has no <unk> to stand for it")
    return int(tokenizer.unk_token_id)
