"""Step t of training: the same global batch on every rank, and this rank's share of it, masked and packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from translit_scale.batch.deal import Deal, deal_to_micro_batches, deal_to_ranks
from translit_scale.batch.order import PairKeys, PairOrder
from translit_scale.batch.pack import MicroBatch, Packer
from translit_scale.batch.reader import PairReader
from translit_scale.corpus.encode import Ragged, TextEncoder
from translit_scale.errors import DataError

SPECIAL = 4
"""Special tokens of a pair: two around each side."""
_COST_UNIT = 16
"""Costs are whole sixteenths of a token."""

Indices = npt.NDArray[np.int64]


@dataclass
class RankBatch:
    """One rank's share of an effective batch."""

    micro: list[MicroBatch]
    pairs_per_rank: list[int]
    """[W] pairs of every rank."""
    pairs_per_micro_batch: list[list[int]] | None
    """[K][W] pairs of every micro-batch of every rank; none where a rank deals to its micro-batches on its own."""
    truncated: int
    """Sentences cut to the maximum length."""

    @property
    def pairs(self) -> int:
        """Pairs of the effective batch."""
        return sum(self.pairs_per_rank)


class BatchStream:
    """Reads, tokenizes, masks and packs the pairs of step t for one rank.

    Args:
        token_rates: [L, 2] tokens per byte of each language's sentences and transliterations, by which the pairs of
            the ranks are estimated; equal on all ranks.
        pair_with: whether the second half of a pair is its transliteration or the sentence once more.
        in_order: deal by number, not by length: for objectives that are defined on micro-batches.
    """

    def __init__(
        self,
        order: PairOrder,
        reader: PairReader,
        encoder: TextEncoder,
        packer: Packer,
        deal: Deal,
        rank: int,
        token_rates: npt.NDArray[np.float64],
        pair_with: Literal["transliteration", "copy"],
        in_order: bool = False,
    ) -> None:
        self.order, self.reader, self.encoder, self.packer = order, reader, encoder, packer
        self.deal, self.rank, self.token_rates, self.pair_with = deal, rank, token_rates, pair_with
        self.in_order = in_order

    def batch(self, t: int) -> PairKeys:
        """The pairs of step t (from 0), the same on every rank: those in damaged blocks are left out.

        Raises:
            DataError: too few are left.
        """
        keys = self.reader.usable(self.order.batch(t * self.deal.batch_pairs, self.deal.batch_pairs))
        if len(keys) < self.deal.world_size * self.deal.micro_batches:
            raise DataError(
                f"step {t}: only {len(keys)} of {self.deal.batch_pairs} pairs are in undamaged blocks",
                "mend the shards: translit-scale prepare RECIPE makes the missing parts again",
            )
        return keys

    def shares(self, keys: PairKeys) -> list[Indices]:
        """[W] which pairs of a batch each rank gets; a function of the batch, the same on every rank."""
        if self.deal.world_size == 1:
            return [np.arange(len(keys))]
        tokens = self.reader.lengths(keys) * self.token_rates[keys.language]
        if self.pair_with == "copy":
            tokens[:, 1] = tokens[:, 0]
        cost = _COST_UNIT * (np.minimum(tokens, self.packer.max_length - 2).sum(1) + SPECIAL)
        return deal_to_ranks(
            keys.language, keys.row, cost.astype(np.int64), self.deal.world_size, self.deal.micro_batches
        )

    def step(self, t: int) -> RankBatch:
        """This rank's micro-batches of optimizer step t (from 0).

        Raises:
            DataError: a shard is damaged.
        """
        keys = self.batch(t)
        fixed = self.deal.in_order(len(keys)) if self.in_order else None
        shares = [np.concatenate(of_rank) for of_rank in fixed] if fixed else self.shares(keys)
        own = keys[shares[self.rank] if fixed else np.sort(shares[self.rank])]
        orig, latn = self.tokens(own)
        limit = np.full(len(own), self.packer.max_length - 2)
        truncated = int((orig.lengths > limit).sum() + (latn.lengths > limit).sum())
        orig, latn = orig.cut(limit), latn.cut(limit)
        if fixed:
            dealt = np.split(np.arange(len(own)), np.cumsum([len(part) for part in fixed[self.rank]])[:-1])
        else:
            dealt = deal_to_micro_batches(orig.lengths + latn.lengths + SPECIAL, self.deal.micro_batches)
        micro = [
            self.packer.micro_batch(orig.take(chosen), latn.take(chosen), own.bits[chosen], own.language[chosen])
            for chosen in dealt
        ]
        of_each = [[len(part) for part in parts] for parts in zip(*fixed, strict=True)] if fixed else None
        return RankBatch(micro, [len(share) for share in shares], of_each, truncated)

    def tokens(self, keys: PairKeys) -> tuple[Ragged, Ragged]:
        """Token ids of both sides of pairs."""
        orig, latn = self.reader.texts(keys)
        both = self.encoder(orig + (orig if self.pair_with == "copy" else latn))
        return both.take(np.arange(len(keys))), both.take(np.arange(len(keys), 2 * len(keys)))
