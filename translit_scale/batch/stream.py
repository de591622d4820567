"""Step t of training: the same global batch on every rank, and this rank's share of it, masked and packed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from translit_scale.batch.order import WINDOW_ROWS, PairKeys, PairOrder
from translit_scale.batch.pack import MicroBatch, Packer, Ragged
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import encode_batch
from translit_scale.errors import ConfigError


@dataclass(frozen=True)
class Deal:
    """How an effective batch of B pairs is dealt to W ranks × K micro-batches.

    The objectives are exact means over the effective batch, so micro-batches need not be equal; but every rank has
    the same number K of them, because ranks must call the engine equally often.
    """

    batch_pairs: int
    world_size: int
    micro_pairs: int
    """Most pairs a micro-batch may have (`train_micro_batch_size_per_gpu` of the DeepSpeed JSON)."""

    def __post_init__(self) -> None:
        if self.world_size > self.batch_pairs:
            raise ConfigError(
                f"{self.world_size} ranks cannot share a batch of {self.batch_pairs} pairs",
                "start fewer processes or raise train.batch_pairs",
            )
        if self.world_size * self.micro_batches > self.batch_pairs:
            raise ConfigError(
                f"{self.batch_pairs} pairs cannot fill {self.world_size} ranks × {self.micro_batches} micro-batches of "
                f"at most {self.micro_pairs}",
                "raise train_micro_batch_size_per_gpu in the DeepSpeed JSON, or make train.batch_pairs a multiple of "
                f"{self.world_size}",
            )

    @property
    def micro_batches(self) -> int:
        """K, the number of micro-batches of each rank."""
        return math.ceil(self.batch_pairs / (self.world_size * self.micro_pairs))

    def pairs_of(self, rank: int, micro: int) -> slice:
        """Which pairs of the batch micro-batch `micro` of `rank` holds."""
        return slice(micro * self.world_size + rank, None, self.world_size * self.micro_batches)

    def pairs_per_rank(self) -> list[int]:
        """[W] pairs of each rank."""
        batch = range(self.batch_pairs)
        return [
            sum(len(batch[self.pairs_of(rank, k)]) for k in range(self.micro_batches))
            for rank in range(self.world_size)
        ]


@dataclass
class RankBatch:
    """One rank's share of an effective batch."""

    micro: list[MicroBatch]
    truncated: int
    """Sentences cut to the maximum length."""


class BatchStream:
    """Reads, tokenizes, masks and packs the pairs of step t for one rank."""

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: PreTrainedTokenizerFast,
        order: PairOrder,
        deal: Deal,
        rank: int,
        packer: Packer,
        second: Literal["transliteration", "copy"],
    ) -> None:
        self.tokenizer, self.order, self.deal, self.rank = tokenizer, order, deal, rank
        self.packer, self.second = packer, second
        self._first_rows = {
            language: np.concatenate([[0], np.cumsum(shards.block_rows(language))]) for language in order.languages
        }
        windows = 1 + math.ceil(WINDOW_ROWS / max(max(shards.block_rows(language)) for language in order.languages))
        self._read_block = lru_cache(maxsize=windows * len(order.languages))(shards.read_block)

    def step(self, t: int) -> RankBatch:
        """This rank's micro-batches of optimizer step t (from 0)."""
        batch = self.order.batch(t * self.deal.batch_pairs, self.deal.batch_pairs)
        micro, truncated = [], 0
        for k in range(self.deal.micro_batches):
            keys = batch[self.deal.pairs_of(self.rank, k)]
            orig, latn = self._tokens(keys)
            limit = self.packer.max_length - 2
            truncated += sum(len(sentence) > limit for sentence in (*orig, *latn))
            micro.append(self.packer.micro_batch(Ragged.of(orig, limit), Ragged.of(latn, limit), keys.bits))
        return RankBatch(micro, truncated)

    def _tokens(self, keys: PairKeys) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of both sides of each pair."""
        orig, latn = [], []
        for language_index, row in zip(keys.language, keys.row, strict=True):
            language = self.order.languages[language_index]
            first_rows = self._first_rows[language]
            number = int(np.searchsorted(first_rows, row, side="right")) - 1
            block = self._read_block(language, number)
            orig.append(block.orig[row - first_rows[number]])
            latn.append(block.latn[row - first_rows[number]])
        second = orig if self.second == "copy" else latn
        ids = encode_batch(self.tokenizer, orig + second)
        return ids[: len(keys)], ids[len(keys) :]
