"""Sentences laid end to end in one flat sequence, without padding.

input_ids     [T]     <s> a a a </s> <s> b b </s> …
position_ids  [T]      2  3 4 5  6    2  3 4  5   …      (XLM-R starts at padding_idx + 1 = 2)
cu_seqlens    [S+1]    0              5          9 …     segment s = tokens cu_seqlens[s] … cu_seqlens[s+1]−1
mask_index    [M]     rows of the LM head;  mask_labels [M];  mask_stream [M] (0 orig, 1 latn, 2 tlm)
pool_index    [N]     non-special tokens of orig and latn;    pool_row [N] (0 … 2P−1: orig rows, latn rows)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from translit_scale.batch.masking import Masked, mask_tokens
from translit_scale.batch.random_bits import uniforms
from translit_scale.batch.segments import Segments
from translit_scale.config import MaskingConfig

STREAMS = ("mlm_orig", "mlm_latn", "tlm")
"""Names of the token-prediction losses, in the order of `mask_stream`."""
ORIG, LATN, TLM = range(3)


class Vocabulary(NamedTuple):
    """What packing must know of tokenizer and model."""

    bos_id: int
    eos_id: int
    mask_id: int
    size: int
    """Number of ids random replacements are drawn from."""
    first_position: int
    """Position id of the first token (RoBERTa family: padding_idx + 1)."""


class MaskedPair(NamedTuple):
    """One pair, tokenized and masked; its tensors depend on the pair's key and the seed alone."""

    orig: Masked
    latn: Masked
    tlm: Masked | None
    """Both sentences joined with `</s>` between them."""
    identical: bool
    """Both sides have the same tokens: the contrastive positive is trivial up to masking."""


@dataclass
class PackedPart:
    """One flat forward pass; see the module docstring for the layout."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: Segments
    mask_index: torch.Tensor
    mask_labels: torch.Tensor
    mask_stream: torch.Tensor
    pool_index: torch.Tensor
    pool_row: torch.Tensor
    rows: int
    """2P: pooled rows of this part, 0 where it holds no orig and latn."""

    def to(self, device: torch.device) -> PackedPart:
        """The same part on another device."""
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if hasattr(v, "to")}
        return PackedPart(**{**vars(self), **moved})


@dataclass
class MicroBatch:
    """P pairs of one rank."""

    parts: list[PackedPart]
    """One flat part (orig | latn | tlm), or two (orig | latn, then tlm) where the first is run twice."""
    pairs: int
    tokens: int
    """All tokens, special ones included."""
    masked: tuple[int, int, int]
    """Predicted tokens of each stream."""
    identical: int
    """Pairs whose two sides are the same tokens."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch on another device."""
        return MicroBatch(**{**vars(self), "parts": [part.to(device) for part in self.parts]})


def mask_pair(
    orig: Sequence[int],
    latn: Sequence[int],
    key: tuple[str | int, ...],
    masking: MaskingConfig,
    vocabulary: Vocabulary,
    with_tlm: bool,
    max_length: int,
) -> MaskedPair:
    """Draws the masks of one pair: orig, latn and their concatenation, each on its own (paper B, section 3).

    TLM is `<s> A </s> B </s>`; which of orig and latn is A is a coin flip. Where it exceeds `max_length` tokens
    the longer side is cut first, so that neither script disappears.

    Args:
        orig, latn: token ids without special tokens, at most `max_length` − 2 each.
        key: what the random numbers depend on: (seed, language, epoch, block, row).
    """
    sides = [np.asarray(orig, np.int64), np.asarray(latn, np.int64)]
    numbers = uniforms(1 + 6 * (len(orig) + len(latn)), *key)
    coin, numbers = numbers[0], numbers[1:]

    def masked(ids: npt.NDArray[np.int64]) -> Masked:
        nonlocal numbers
        own, numbers = numbers[: 3 * len(ids)].reshape(3, len(ids)), numbers[3 * len(ids) :]
        return mask_tokens(ids, own, masking, vocabulary.mask_id, vocabulary.size)

    masked_orig, masked_latn = masked(sides[0]), masked(sides[1])
    tlm = None
    if with_tlm:
        flip = int(coin >= 0.5)
        first, second = _fit(sides[flip], sides[1 - flip], max_length - 3)
        a, b = masked(first), masked(second)
        tlm = Masked(
            np.concatenate([a.input_ids, [vocabulary.eos_id], b.input_ids]),
            np.concatenate([a.positions, b.positions + len(first) + 1]),
            np.concatenate([a.labels, b.labels]),
        )
    return MaskedPair(masked_orig, masked_latn, tlm, np.array_equal(sides[0], sides[1]))


def _fit(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], room: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cuts the longer side until both fit into `room` tokens."""
    shorter = min(len(first), len(second), room // 2)
    longer = min(max(len(first), len(second)), room - shorter)
    if len(first) <= len(second):
        return first[:shorter], second[:longer]
    return first[:longer], second[:shorter]


def pack_micro_batch(pairs: Sequence[MaskedPair], vocabulary: Vocabulary, split_tlm: bool) -> MicroBatch:
    """Packs masked pairs.

    Args:
        split_tlm: keep TLM in a part of its own. Dropout is drawn for whole tensors, so a pass over orig and latn
            can only be replayed exactly when they were packed alone the first time too.
    """
    both = [(ORIG, pair.orig) for pair in pairs] + [(LATN, pair.latn) for pair in pairs]
    tlm = [(TLM, pair.tlm) for pair in pairs if pair.tlm is not None]
    groups = [both, tlm] if split_tlm and tlm else [both + tlm]
    parts = [_pack(group, vocabulary, 0 if group is tlm else 2 * len(pairs)) for group in groups]
    counts = torch.bincount(torch.cat([part.mask_stream for part in parts]), minlength=len(STREAMS)).tolist()
    return MicroBatch(
        parts=parts,
        pairs=len(pairs),
        tokens=sum(len(part.input_ids) for part in parts),
        masked=(counts[ORIG], counts[LATN], counts[TLM]),
        identical=sum(pair.identical for pair in pairs),
    )


def _pack(sentences: Sequence[tuple[int, Masked]], vocabulary: Vocabulary, rows: int) -> PackedPart:
    """Lays (stream, sentence) end to end; the first `rows` of them are pooled."""
    lengths = np.array([len(sentence.input_ids) + 2 for _, sentence in sentences])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    input_ids = np.concatenate(
        [part for _, s in sentences for part in ([vocabulary.bos_id], s.input_ids, [vocabulary.eos_id])]
    )
    position_ids = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths) + vocabulary.first_position
    inner = lengths[:rows] - 2
    pool_row = np.repeat(np.arange(rows), inner)
    first_inner = np.concatenate([[0], np.cumsum(inner)])
    pool_index = np.arange(len(pool_row)) - first_inner[pool_row] + starts[pool_row] + 1
    masked = [len(s.positions) for _, s in sentences]
    return PackedPart(
        input_ids=torch.from_numpy(input_ids.astype(np.int64)),
        position_ids=torch.from_numpy(position_ids),
        segments=Segments.from_lengths(lengths.tolist()),
        mask_index=torch.from_numpy(
            np.concatenate([s.positions for _, s in sentences]) + np.repeat(starts[:-1], masked) + 1
        ),
        mask_labels=torch.from_numpy(np.concatenate([s.labels for _, s in sentences])),
        mask_stream=torch.from_numpy(np.repeat([stream for stream, _ in sentences], masked)),
        pool_index=torch.from_numpy(pool_index),
        pool_row=torch.from_numpy(pool_row),
        rows=rows,
    )
