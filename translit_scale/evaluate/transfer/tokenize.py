"""Tokenizes labelled texts and tagged sentences: where they are cut or divided, and which tokens are classified."""

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
"""Special tokens before and after a text."""


@dataclass(frozen=True)
class TokenizedSplit:
    """Sequences of a split; the labels of all sequences, concatenated, are those of the split in its order."""

    ids: list[list[int]]
    """Token ids of each sequence, special tokens included."""
    places: list[list[int]]
    """Of each sequence: positions of the tokens that are classified (`<s>`, or the first of each word)."""
    labels: list[list[int]]
    counts: dict[str, int]
    """`truncated` (texts that were cut, or words longer than a sequence), `no_tokens` (texts or words of which the
    tokenizer leaves nothing), and in tagging `split` (sentences divided into several sequences)."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def flat_labels(self) -> NDArray[np.int64]:
        """[N] labels, sequence after sequence."""
        return np.fromiter(chain.from_iterable(self.labels), np.int64)


def concatenate(parts: Sequence[TokenizedSplit]) -> TokenizedSplit:
    """Several splits as one."""
    return TokenizedSplit(
        [ids for part in parts for ids in part.ids],
        [places for part in parts for places in part.places],
        [labels for part in parts for labels in part.labels],
        {name: sum(part.counts[name] for part in parts) for name in parts[0].counts},
    )


def tokenize_split(tokenizer: PreTrainedTokenizerFast, data: Examples, max_length: int) -> TokenizedSplit:
    """Tokenizes a split.

    A text is cut at `max_length`. A tagged sentence is divided between words instead, so that no word loses its label;
    only a word that is longer than a sequence is cut. Words are tokenized one by one, as in the papers' code; a word
    that tokenizes to nothing becomes `<unk>`.

    Args:
        max_length: tokens of a sequence, special ones included.

    Raises:
        ConfigError: `max_length` leaves no room for text.
        DataError: a word tokenizes to nothing and the tokenizer has no `<unk>`.
    """
    template = special_template(tokenizer)
    room = max_length - sum(map(len, template))
    if room < 1:
        raise ConfigError(f"sequences of {max_length} tokens leave no room for text", "increase --max-length")
    if isinstance(data, LabelledTexts):
        return _texts(tokenizer, data, template, room)
    return _words(tokenizer, data, template, room)


def _texts(tokenizer: PreTrainedTokenizerFast, data: LabelledTexts, template: Template, room: int) -> TokenizedSplit:
    prefix, suffix = template
    tokens = encode_batch(tokenizer, data.texts)
    counts = {"truncated": sum(len(ids) > room for ids in tokens), "no_tokens": sum(not ids for ids in tokens)}
    return TokenizedSplit(
        [[*prefix, *ids[:room], *suffix] or [_unknown(tokenizer)] for ids in tokens],
        [[0]] * len(tokens),
        [[label] for label in data.labels],
        counts,
    )


def _words(tokenizer: PreTrainedTokenizerFast, data: TaggedSentences, template: Template, room: int) -> TokenizedSplit:
    prefix, suffix = template
    distinct = list(dict.fromkeys(chain.from_iterable(data.words)))
    tokens = dict(zip(distinct, encode_batch(tokenizer, distinct), strict=True))
    counts = {"truncated": 0, "split": 0, "no_tokens": 0}
    result = TokenizedSplit([], [], [], counts)
    for words, tags in zip(data.words, data.tags, strict=True):
        pieces = [tokens[word] for word in words]
        counts["truncated"] += sum(len(ids) > room for ids in pieces)
        counts["no_tokens"] += sum(not ids for ids in pieces)
        pieces = [ids[:room] or [_unknown(tokenizer)] for ids in pieces]
        bounds = _group_bounds([len(ids) for ids in pieces], room)
        counts["split"] += len(bounds) > 2
        for start, end in pairwise(bounds):
            body = pieces[start:end]
            result.ids.append([*prefix, *chain.from_iterable(body), *suffix])
            result.places.append(list(accumulate(map(len, body[:-1]), initial=len(prefix))))
            result.labels.append(tags[start:end])
    return result


def _group_bounds(lengths: Sequence[int], room: int) -> list[int]:
    """Bounds (0, …, number of words) of as few groups of words as possible, each of at most `room` tokens."""
    bounds, filled = [0], 0
    for word, length in enumerate(lengths):
        if filled + length > room:
            bounds.append(word)
            filled = 0
        filled += length
    return [*bounds, len(lengths)]


def _unknown(tokenizer: PreTrainedTokenizerFast) -> int:
    """Replaces a text or word that tokenizes to nothing."""
    if tokenizer.unk_token_id is None:
        raise DataError("a text or word tokenizes to nothing, and the tokenizer has no <unk> to replace it")
    return int(tokenizer.unk_token_id)
