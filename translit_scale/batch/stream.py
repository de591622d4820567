"""Step t of training: the same global batch on every rank, and this rank's share of it, masked and packed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerFast

from translit_scale.batch.order import WINDOW_BLOCKS, PairKey, PairOrder
from translit_scale.batch.pack import MaskedPair, MicroBatch, Vocabulary, mask_pair, pack_micro_batch
from translit_scale.config import ObjectivesConfig
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
    """Reads, tokenizes, masks and packs the pairs of step t for one rank.

    Args:
        split_tlm: pack TLM apart (see `pack_micro_batch`).
        max_length: longest sequence in tokens, special ones included.
    """

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: PreTrainedTokenizerFast,
        vocabulary: Vocabulary,
        order: PairOrder,
        deal: Deal,
        rank: int,
        objectives: ObjectivesConfig,
        max_length: int,
        split_tlm: bool,
    ) -> None:
        self.tokenizer, self.vocabulary, self.order, self.deal = tokenizer, vocabulary, order, deal
        self.rank, self.objectives, self.max_length, self.split_tlm = rank, objectives, max_length, split_tlm
        self._read_block = lru_cache(maxsize=2 * WINDOW_BLOCKS * len(order.languages))(shards.read_block)

    def step(self, t: int) -> RankBatch:
        """This rank's micro-batches of optimizer step t (from 0)."""
        size = self.deal.batch_pairs
        micro, truncated = [], 0
        for k in range(self.deal.micro_batches):
            pairs, cut = self._masked_pairs(self.order.batch(t * size, size, self.deal.pairs_of(self.rank, k)))
            micro.append(pack_micro_batch(pairs, self.vocabulary, self.split_tlm))
            truncated += cut
        return RankBatch(micro, truncated)

    def _masked_pairs(self, keys: list[PairKey]) -> tuple[list[MaskedPair], int]:
        """Tokenizes and masks pairs; also how many sentences were longer than the model."""
        blocks = [self._read_block(key.language, key.block) for key in keys]
        orig = [block.orig[key.row] for block, key in zip(blocks, keys, strict=True)]
        latn = [block.latn[key.row] for block, key in zip(blocks, keys, strict=True)]
        second = orig if self.objectives.second == "copy" else latn
        ids = encode_batch(self.tokenizer, orig + second)
        room = self.max_length - 2
        truncated = sum(len(sentence) > room for sentence in ids)
        pairs = [
            mask_pair(
                ids[i][:room],
                ids[len(keys) + i][:room],
                (self.order.seed, "masks", *key),
                self.objectives.masking,
                self.vocabulary,
                self.objectives.tlm_weight > 0,
                self.max_length,
            )
            for i, key in enumerate(keys)
        ]
        return pairs, truncated
