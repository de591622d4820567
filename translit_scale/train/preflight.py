"""Checks of the shards and the tokenizer before training, on a sample of sentences or on every block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from translit_scale.config import DataConfig
from translit_scale.corpus.encode import TextEncoder, differing, sentencepiece_model
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.staging import open_staged
from translit_scale.errors import DataError
from translit_scale.files import write_json
from translit_scale.train.launching.agreement import gathered
from translit_scale.train.launching.ranks import Rank

SAMPLE = 500
"""Sentences of each language that are tokenized."""
COMPARED = 50
"""Sentences of each language that are tokenized both ways."""
MAX_DIFFERING = 1e-3
"""Training encodes with SentencePiece if it gives other ids than the tokenizer for at most this fraction of the
sentences. A single tie may always differ, however small the sample."""


def open_shards(data: DataConfig) -> ShardSet:
    """The shards of an experiment: the set itself, or this host's copy of it.

    Raises:
        DataError: there is no such set or no complete copy, or files are missing (unless damage is allowed).
    """
    shards = ShardSet.open(data.shards, check_files=not (data.max_damaged_fraction or data.staged))
    return open_staged(shards, data.staged) if data.staged else shards


@dataclass(frozen=True)
class TokenizerCheck:
    """How a tokenizer encodes a shard set."""

    use_sentencepiece: bool
    """Whether training encodes with the tokenizer's SentencePiece model, which is faster."""
    token_rates: npt.NDArray[np.float64]
    """[L, 2] tokens per byte of each language's sentences and transliterations."""


def check_tokenizer(
    shards: ShardSet,
    tokenizer: PreTrainedTokenizerFast,
    languages: Sequence[str],
    pair_with: Literal["transliteration", "copy"],
    max_unknown_fraction: float,
    transliterations: Literal["draw", "first"] = "draw",
) -> TokenizerCheck:
    """Encodes a sample of each language, from its first block; of several transliterations of a sentence all that
    training may draw.

    Raises:
        DataError: too many tokens of a language or of its transliterations are unknown to the tokenizer; the message
            names the language and the fraction of unknown tokens.
    """
    samples = [_sample(shards, language, transliterations == "first") for language in languages]
    compared = [line for sides in samples for side in sides for line in side[:COMPARED]]
    use_sentencepiece = sentencepiece_model(tokenizer) is not None and differing(tokenizer, compared) <= max(
        1, MAX_DIFFERING * len(compared)
    )
    encoder = TextEncoder(tokenizer, use_sentencepiece)
    rates, too_many_unknown = np.empty((len(languages), 2)), []
    for index, (language, sides) in enumerate(zip(languages, samples, strict=True)):
        for side, lines in enumerate(sides):
            ids = encoder(lines).ids
            rates[index, side] = len(ids) / sum(map(len, lines))
            unknown = float((ids == tokenizer.unk_token_id).mean()) if len(ids) else 0.0
            if unknown > max_unknown_fraction and (side == 0 or pair_with == "transliteration"):
                too_many_unknown.append((unknown, ("sentences", "transliterations")[side], language))
    if too_many_unknown:
        worst = [
            f"{unknown:.1%} of the tokens of the {side} of {code}"
            for unknown, side, code in sorted(too_many_unknown)[::-1]
        ]
        more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
        most = math.ceil(100 * max(unknown for unknown, _, _ in too_many_unknown)) / 100
        raise DataError(
            f"the tokenizer does not fit the shards: {', '.join(worst[:5])}{more} in {shards.directory} are unknown to "
            f"it; at most {max_unknown_fraction:.1%} are allowed (data.max_unknown_fraction)",
            f"train one on these shards: translit-scale tokenizer --shards {shards.directory} --out DIR; if it was, "
            f"rare characters are missing: allow that (data.max_unknown_fraction={most:.2f}), raise --vocab-size, or "
            "leave these languages out (data.languages)",
        )
    return TokenizerCheck(use_sentencepiece, rates)


def _sample(shards: ShardSet, language: str, only_first: bool) -> tuple[list[bytes], list[bytes]]:
    """The first sentences of a language, and their transliterations, one sentence after another."""
    orig, *latn = (column.split(b"\n")[:-1][:SAMPLE] for column in shards.read_columns(language, 0))
    of_sentences = zip(*(latn[:1] if only_first else latn), strict=True)
    return orig, [line for lines in of_sentences for line in lines if line]


@dataclass(frozen=True)
class DamagedBlock:
    """A block that training leaves out."""

    language: str
    block: int
    rows: int
    problem: str


def find_damaged_blocks(
    shards: ShardSet,
    languages: Sequence[str],
    max_fraction: float,
    rank: Rank,
    advance: Callable[[], object] = lambda: None,
) -> list[DamagedBlock]:
    """Reads every block, a part on each rank, and returns the damaged ones of all parts. Every rank must call it.

    Args:
        max_fraction: with 0 nothing is read; training then ends at the first damaged block that it meets.
        advance: called for each block.

    Raises:
        DataError: more than `max_fraction` of the pairs are in damaged blocks.
    """
    if not max_fraction:
        return []
    blocks = [(language, b, rows) for language in languages for b, rows in enumerate(shards.block_rows(language))]
    part = slice(*(len(blocks) * r // rank.world_size for r in (rank.rank, rank.rank + 1)))
    damaged_here: list[DamagedBlock] = []
    for language, number, rows in blocks[part]:
        advance()
        try:
            shards.read_lengths(language, number)
            shards.read_columns(language, number)
        except DataError as error:
            damaged_here.append(DamagedBlock(language, number, int(rows), error.message))
    damaged: list[DamagedBlock] = [block for of_rank in gathered(damaged_here) for block in of_rank]
    lost, total = sum(block.rows for block in damaged), sum(int(rows) for _, _, rows in blocks)
    if lost > max_fraction * total:
        first = "\n    ".join(block.problem for block in damaged[:5])
        raise DataError(
            f"{len(damaged)} damaged blocks with {lost:,} of {total:,} pairs in {shards.directory}; at most "
            f"{max_fraction:.2%} of the pairs are allowed (data.max_damaged_fraction):\n    {first}",
            f"translit-scale shards verify --deep {shards.directory} lists all; remove the damaged shards and run "
            "prepare again",
        )
    return damaged


def write_damaged_blocks(path: Path, damaged: Sequence[DamagedBlock]) -> None:
    """Writes the blocks that a training leaves out, as JSON."""
    write_json(path, [vars(block) for block in damaged])
