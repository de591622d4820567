"""New pieces for transliterations in the unigram tokenizer of a pretrained model, which leave other text as it was.

The tokenizers of XLM-R, Glot500 and their like have seen Latin text, but no transliterations, and cut these into many
short pieces. New pieces are learned from transliterations. A Latin piece could be used in original text as well, which
the model has learned to read in other pieces: so every new piece that changes the segmentation of an original is left
out again.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from translit_scale.corpus.tokenizer import encode_batch
from translit_scale.errors import ConfigError

Piece = tuple[str, float]
"""A piece and its score, the logarithm of its probability."""
PRIOR = math.log(0.5)
"""Added to the scores of new pieces: text is as likely a transliteration as not. Old scores stay as they are, because a
shift of all of them would favour other segmentations of originals."""


class Extension(NamedTuple):
    """A tokenizer with new pieces, whose ids follow the old ones."""

    tokenizer: PreTrainedTokenizerFast
    pieces: list[str]
    parts: list[list[int]]
    """For each new piece the old tokens that its text was cut into."""
    rejected: list[str]
    """Pieces left out because originals would have been segmented differently."""


def extend(
    tokenizer: PreTrainedTokenizerFast, learned: Sequence[Piece], originals: Sequence[str], most: int
) -> Extension:
    """Adds the most probable pieces that the tokenizer lacks and that leave all originals as they are.

    Args:
        learned: pieces of a unigram model of transliterations.
        originals: text in which no new piece may be used.
        most: number of pieces to add at most.

    Raises:
        ConfigError: it is not a unigram tokenizer, or its ids leave no room for more pieces.
    """
    old = {piece for piece, _ in unigram_vocabulary(tokenizer)}
    candidates = [(piece, score + PRIOR) for piece, score in learned if piece not in old and len(piece) > 1]
    kept = sorted(candidates, key=lambda item: (-item[1], item[0]))
    before = encode_batch(tokenizer, originals)
    first, rejected, suspects = len(tokenizer), list[str](), list(range(len(originals)))
    while suspects:
        extended = _with_pieces(tokenizer, kept)
        after = encode_batch(extended, [originals[i] for i in suspects])
        # A sentence that uses no new piece keeps its segmentation when pieces are taken away.
        suspects = [i for i, ids in zip(suspects, after, strict=True) if ids != before[i]]
        used = {number - first for ids in after for number in ids if number >= first}
        rejected += [kept[i][0] for i in sorted(used)]
        kept = [piece for i, piece in enumerate(kept) if i not in used]
        if not used:
            break
    pieces = [piece for piece, _ in kept[:most]]
    model = tokenizer.backend_tokenizer.model  # without the normalizer, which puts a space before every text
    parts = [[token.id for token in model.tokenize(piece)] for piece in pieces]
    return Extension(_with_pieces(tokenizer, kept[:most]), pieces, parts, rejected)


def unigram_vocabulary(tokenizer: PreTrainedTokenizerFast) -> list[Piece]:
    """The pieces of a unigram tokenizer, by their ids.

    Raises:
        ConfigError: it is another kind of tokenizer, or has tokens with ids behind its pieces.
    """
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    if pipeline["model"].get("type") != "Unigram":
        raise ConfigError(
            f"the tokenizer is of type {pipeline['model'].get('type')}; new pieces can be added to unigram tokenizers",
            "those of XLM-R, Glot500, multilingual-e5 and of `translit-scale tokenizer` are",
        )
    pieces = [(piece, score) for piece, score in pipeline["model"]["vocab"]]
    if len(pieces) < len(tokenizer):
        raise ConfigError(
            f"the tokenizer has {len(tokenizer) - len(pieces)} added tokens with ids behind its {len(pieces):,} pieces",
            "start from the tokenizer as its authors published it",
        )
    return pieces


def _with_pieces(tokenizer: PreTrainedTokenizerFast, pieces: Sequence[Piece]) -> PreTrainedTokenizerFast:
    """A copy with more pieces. It no longer names a SentencePiece model, which would lack them."""
    pipeline: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    pipeline["model"]["vocab"] += [[piece, score] for piece, score in pieces]
    result: Any = copy.deepcopy(tokenizer)
    result._tokenizer = Tokenizer.from_str(json.dumps(pipeline))
    result.vocab_file = None
    return cast(PreTrainedTokenizerFast, result)
