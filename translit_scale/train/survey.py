"""What must be known of shards and tokenizer before training, found by looking at a sample or at every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from transformers import PreTrainedTokenizerFast

from translit_scale.corpus.encode import TextEncoder, differing, sentencepiece_model
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import DataError
from translit_scale.files import write_json
from translit_scale.train.launch import Rank

SAMPLE = 500
"""Sentences of each language that are tokenized."""
COMPARED = 50
"""Sentences of each language that are tokenized both ways."""
MAX_DIFFERING = 1e-3
"""SentencePiece is used if it gives other ids than the tokenizer in at most this share of them (and of at least one
in a thousand there is always an honest tie)."""


@dataclass(frozen=True)
class Fit:
    """How a tokenizer fits a shard set."""

    fast: bool
    """Whether training encodes with the tokenizer's SentencePiece model."""
    token_rates: npt.NDArray[np.float64]
    """[L, 2] tokens per byte of each language's sentences and transliterations."""


def fit_tokenizer(
    shards: ShardSet,
    tokenizer: PreTrainedTokenizerFast,
    languages: Sequence[str],
    pair_with: Literal["transliteration", "copy"],
    max_unknown_fraction: float,
) -> Fit:
    """Tries a tokenizer on the first block of each language.

    Raises:
        DataError: it does not know a language's script, or not the Latin of its transliterations; with the language
            and the share of unknown tokens.
    """
    samples = [
        [column.split(b"\n")[:-1][:SAMPLE] for column in shards.read_columns(language, 0)] for language in languages
    ]
    compared = [line for sides in samples for side in sides for line in side[:COMPARED]]
    fast = sentencepiece_model(tokenizer) is not None
    fast = fast and differing(tokenizer, compared) <= max(1, MAX_DIFFERING * len(compared))
    encoder = TextEncoder(tokenizer, fast)
    rates, misfits = np.empty((len(languages), 2)), []
    for index, (language, sides) in enumerate(zip(languages, samples, strict=True)):
        for side, lines in enumerate(sides):
            ids = encoder(lines).ids
            rates[index, side] = len(ids) / sum(map(len, lines))
            share = float((ids == tokenizer.unk_token_id).mean()) if len(ids) else 0.0
            if share > max_unknown_fraction and (side == 0 or pair_with == "transliteration"):
                misfits.append((share, ("sentences", "transliterations")[side], language))
    if misfits:
        worst = [f"{share:.1%} of the tokens of the {side} of {code}" for share, side, code in sorted(misfits)[::-1]]
        more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
        raise DataError(
            f"the tokenizer does not fit the shards: {', '.join(worst[:5])}{more} in {shards.directory} are unknown to "
            f"it, allowed are {max_unknown_fraction:.1%} (data.max_unknown_fraction)",
            f"train one on these shards: translit-scale tokenizer --shards {shards.directory} --out DIR",
        )
    return Fit(fast, rates)


@dataclass(frozen=True)
class Damage:
    """A block that training leaves out."""

    language: str
    block: int
    rows: int
    problem: str


def find_damage(shards: ShardSet, languages: Sequence[str], max_share: float, rank: Rank) -> list[Damage]:
    """Reads every block, each rank its part, and returns the damaged ones, the same list on all ranks.

    Raises:
        DataError: more than `max_share` of the pairs are in damaged blocks.
    """
    blocks = [(language, b, rows) for language in languages for b, rows in enumerate(shards.block_rows(language))]
    own = slice(*(len(blocks) * r // rank.world_size for r in (rank.rank, rank.rank + 1)))
    found: list[Damage] = []
    for language, number, rows in blocks[own]:
        try:
            shards.read_lengths(language, number)
            shards.read_columns(language, number)
        except DataError as error:
            found.append(Damage(language, number, int(rows), error.message))
    of_rank: list[list[Damage]] = [[] for _ in range(rank.world_size)]
    dist.all_gather_object(of_rank, found)
    damage = [one for part in of_rank for one in part]
    lost, total = sum(one.rows for one in damage), sum(int(rows) for _, _, rows in blocks)
    if lost > max_share * total:
        first = "\n    ".join(one.problem for one in damage[:5])
        raise DataError(
            f"{len(damage)} damaged blocks with {lost:,} of {total:,} pairs in {shards.directory}, allowed are "
            f"{max_share:.2%} of the pairs (data.max_damaged_fraction):\n    {first}",
            f"translit-scale shards verify --deep {shards.directory} lists all; remove the damaged shards and run "
            "prepare again",
        )
    return damage


def write_ledger(path: Path, damage: Sequence[Damage]) -> None:
    """What a training leaves out, as JSON."""
    write_json(path, [vars(one) for one in damage])
