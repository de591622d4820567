"""Makes one rank's masked and packed micro-batches of step t from the batch that all ranks have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from translit_scale.batch.cuts import cut_into_parts
from translit_scale.batch.layout import BatchLayout, sort_by_position, split_into_micro_batches
from translit_scale.batch.order import PairKeys, PairOrder
from translit_scale.batch.pack import MicroBatch, Packer, text_hashes
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.corpus.clean import same_letters
from translit_scale.corpus.encode import Ragged, TextEncoder
from translit_scale.errors import DataError

SPECIAL = 4
"""Special tokens of a pair: two on each side."""
_COST_UNIT = 16
"""Costs are integers in sixteenths of a token."""

Indices = npt.NDArray[np.int64]


@dataclass
class RankBatch:
    """One rank's part of an effective batch."""

    micro: list[MicroBatch]
    pairs_per_rank: list[int]
    """[W] number of pairs of each rank."""
    pairs_per_micro_batch: list[list[int]] | None
    """[K][W] number of pairs in each micro-batch of each rank; None if each rank splits its pairs on its own."""
    truncated: int
    """Number of sentences cut to the maximum length."""

    @property
    def pairs(self) -> int:
        """Number of pairs in the effective batch."""
        return sum(self.pairs_per_rank)


@dataclass
class BatchStream:
    """Reads, tokenizes, masks and packs the pairs of step t for one rank."""

    order: PairOrder
    reader: PairReader
    encoder: TextEncoder
    packer: Packer
    """With `split_tlm`, TLM has a part of its own at steps with several micro-batches."""
    sizes: BatchSizes
    layout: BatchLayout
    """Of a full batch; the number of micro-batches of a smaller one follows from its size."""
    rank: int
    token_rates: npt.NDArray[np.float64]
    """[L, 2] tokens per byte of each language's sentences and transliterations, used to estimate the cost of pairs;
    equal on all ranks."""
    pair_with: Literal["transliteration", "copy"]
    """Whether the second side of a pair is its transliteration or the sentence itself."""
    equal_split: bool = False
    """Balance numbers of pairs, not of tokens, for objectives that are defined on micro-batches."""
    ignore_diacritics: bool = False
    """Whether sides that differ in diacritics and case only are the same text."""

    def batch(self, t: int) -> PairKeys:
        """The pairs of step t (from 0) without those in damaged blocks; the same on every rank.

        Raises:
            DataError: too few pairs remain.
        """
        layout = self.layout_at(t)
        keys = self.reader.without_damaged(self.order.batch(self.sizes.before(t), layout.batch_pairs))
        if len(keys) < layout.world_size * layout.micro_batches:
            small = "; or use fewer ranks, or raise train.first_batch_pairs in a run of its own"
            raise DataError(
                f"step {t}: only {len(keys)} of {layout.batch_pairs} pairs are in undamaged blocks, too few for "
                f"{layout.world_size} ranks with {layout.micro_batches} micro-batches each",
                "repair the shards: translit-scale prepare RECIPE remakes the missing parts"
                + small * (layout.batch_pairs < self.sizes.full),
            )
        return keys

    def layout_at(self, t: int) -> BatchLayout:
        """How the batch of step t is divided."""
        return replace(self.layout, batch_pairs=self.sizes.at(t))

    def split(self, keys: PairKeys, micro_batches: int) -> tuple[Indices, Indices]:
        """Gives each rank its pairs; a function of the batch, so the same on every rank.

        Args:
            micro_batches: K; a rank gets at least so many pairs.

        Returns:
            [B] indices of the pairs, first those of rank 0; [W] number of pairs of each rank.
        """
        if self.layout.world_size == 1:
            return np.arange(len(keys)), np.array([len(keys)])
        order = sort_by_position(keys.language, keys.row)
        cost = self.estimated_cost(keys[order])
        by_rank, pairs_per_rank = cut_into_parts(cost, self.layout.world_size, micro_batches)
        return order[by_rank], pairs_per_rank

    def estimated_cost(self, keys: PairKeys) -> Indices:
        """[n] number of tokens of each pair in sixteenths, estimated from its bytes."""
        sides = (0, 0) if self.pair_with == "copy" else (0, 1)
        lengths, limit = self.reader.lengths(keys), self.packer.max_length - 2
        orig, latn = (np.minimum(lengths[:, k] * self.token_rates[:, k][keys.language], limit) for k in sides)
        # uroman rarely writes a sentence in other letters with as many bytes.
        same = lengths[:, 0] == lengths[:, 1]
        return (_COST_UNIT * self.packer.cost(orig + SPECIAL // 2, latn + SPECIAL // 2, same)).astype(np.int64)

    def step(self, t: int) -> RankBatch:
        """This rank's micro-batches of optimizer step t (from 0).

        Raises:
            DataError: a shard is damaged.
        """
        keys, layout = self.batch(t), self.layout_at(t)
        packer = self.packer._replace(split_tlm=self.packer.split_tlm and layout.micro_batches > 1)
        fixed = layout.equal_split(len(keys)) if self.equal_split else None
        if fixed:
            by_rank = np.concatenate([part for of_rank in fixed for part in of_rank])
            pairs_per_rank = np.array([sum(map(len, of_rank)) for of_rank in fixed])
        else:
            by_rank, pairs_per_rank = self.split(keys, layout.micro_batches)
        own = by_rank[pairs_per_rank[: self.rank].sum() :][: pairs_per_rank[self.rank]]
        local = keys[own if fixed else np.sort(own)]
        texts = self.texts(local)
        orig, latn = self.tokens(texts)
        limit = np.full(len(local), self.packer.max_length - 2)
        truncated = int((orig.lengths > limit).sum() + (latn.lengths > limit).sum())
        orig, latn = orig.cut(limit), latn.cut(limit)
        hashes = text_hashes(orig, latn)
        same = hashes[:, 0] == hashes[:, 1]
        if self.ignore_diacritics:
            same |= np.fromiter(map(same_letters, *texts), np.bool_, len(local))
        if fixed:
            parts = np.split(np.arange(len(local)), np.cumsum([len(part) for part in fixed[self.rank]])[:-1])
        else:
            cost = self.packer.cost(orig.lengths + SPECIAL // 2, latn.lengths + SPECIAL // 2, same)
            parts = split_into_micro_batches(cost, layout.micro_batches)
        bits, language = local.bits, local.language
        micro = [
            packer.micro_batch(orig.take(part), latn.take(part), bits[part], language[part], hashes[part], same[part])
            for part in parts
        ]
        counts = [[len(part) for part in of_ranks] for of_ranks in zip(*fixed, strict=True)] if fixed else None
        return RankBatch(micro, pairs_per_rank.tolist(), counts, truncated)

    def texts(self, keys: PairKeys) -> tuple[list[bytes], list[bytes]]:
        """The two sides of the pairs."""
        orig, latn = self.reader.texts(keys)
        return orig, orig if self.pair_with == "copy" else latn

    def tokens(self, texts: tuple[list[bytes], list[bytes]]) -> tuple[Ragged, Ragged]:
        """Token ids of the two sides of pairs."""
        both, pairs = self.encoder([*texts[0], *texts[1]]), len(texts[0])
        return both.take(np.arange(pairs)), both.take(np.arange(pairs, 2 * pairs))
