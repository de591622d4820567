"""Compares a fast tokenizer with the SentencePiece model that it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sentencepiece
from transformers import PreTrainedTokenizerFast

from translit_scale.corpus.tokenizer import encode_batch
from translit_scale.errors import DataError

PARITY_TOLERANCE = 0.0005
"""Fraction of sentences that may differ, besides ties."""
_SAME_SCORE = 1e-3
"""Scores are sums of float32 log-probabilities in one implementation and float64 in the other."""
_EXAMPLES = 5


@dataclass(frozen=True)
class TextFigures:
    """How a tokenizer treats one text: one language and column."""

    sentences: int
    mismatches: int
    """Sentences with other ids than SentencePiece gives."""
    ties: int
    """Those mismatches in which both segmentations have the same score, such as `... .` and `. ...`."""
    tokens: int
    tokens_per_character: float
    unknown_rate: float
    """`<unk>` tokens among all tokens; a run of unknown characters is one token."""


def compare(
    model: bytes, tokenizer: PreTrainedTokenizerFast, texts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, TextFigures], list[dict[str, Any]]]:
    """Figures of each text, and up to five sentences for which the tokenizer and SentencePiece give different ids."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    unknown = tokenizer.unk_token_id

    def score(ids: Sequence[int]) -> float:
        return math.fsum(processor.get_score(i - 1) for i in ids if i != unknown)

    figures: dict[str, TextFigures] = {}
    examples: list[dict[str, Any]] = []
    for name, lines in texts.items():
        actual = encode_batch(tokenizer, lines)
        # XLM-R's ids: each piece is one higher, because of `<pad>`, and unknown is 3 instead of 0.
        expected = [[i + 1 if i else unknown for i in ids] for ids in processor.encode(list(lines))]
        differing = [i for i, ids in enumerate(actual) if ids != expected[i]]
        ties = [i for i in differing if abs(score(expected[i]) - score(actual[i])) < _SAME_SCORE]
        for i in sorted(differing, key=lambda i: (i in ties, i))[: _EXAMPLES - len(examples)]:
            sides = {"expected": expected[i], "found": actual[i]}
            pieces = {side: tokenizer.convert_ids_to_tokens(ids) for side, ids in sides.items()}
            examples.append({"text": name, "sentence": lines[i], **pieces})
        tokens = sum(map(len, actual))
        figures[name] = TextFigures(
            sentences=len(lines),
            mismatches=len(differing),
            ties=len(ties),
            tokens=tokens,
            tokens_per_character=round(tokens / max(1, sum(map(len, lines))), 4),
            unknown_rate=round(sum(ids.count(unknown) for ids in actual) / max(1, tokens), 6),
        )
    return figures, examples


def check_parity(texts: Mapping[str, TextFigures], examples: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a tokenizer that gives other ids than SentencePiece, ties apart, for too many sentences.

    Raises:
        DataError: more than `PARITY_TOLERANCE` of the sentences differ.
    """
    sentences = sum(figures.sentences for figures in texts.values())
    mismatches = sum(figures.mismatches - figures.ties for figures in texts.values())
    if mismatches > PARITY_TOLERANCE * sentences:
        shown = "".join(
            f"\n  {example['text']}: {example['sentence']!r}"
            f"\n    SentencePiece {' '.join(example['expected'])}\n    tokenizer     {' '.join(example['found'])}"
            for example in examples
        )
        raise DataError(
            f"the fast tokenizer differs from SentencePiece on {mismatches:,} of {sentences:,} sentences, "
            f"over {PARITY_TOLERANCE:.2%}:{shown}",
            "train on text cleaned by `translit-scale prepare` (NFKC, single spaces, no control characters)",
        )
