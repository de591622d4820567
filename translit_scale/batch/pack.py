"""Sentences laid end to end in one flat sequence, without padding.

input_ids     [T]     <s> a a a </s> <s> b b </s> …
position_ids  [T]      2  3 4 5  6    2  3 4  5   …      (XLM-R starts at padding_idx + 1 = 2)
cu_seqlens    [S+1]    0              5          9 …     segment s = tokens cu_seqlens[s] … cu_seqlens[s+1]−1
mask_index    [M]     rows of the LM head;  mask_labels, mask_language [M];  mask_stream [M] (0 orig, 1 latn, 2 tlm)
pool_index    [N]     non-special tokens of orig and latn;    pool_row [N] (0 … 2P−1: orig rows, latn rows)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from translit_scale.batch.masking import mask_tokens
from translit_scale.batch.random_bits import Bits, derive, mix, uniforms
from translit_scale.batch.segments import Segments, Work
from translit_scale.config import MaskingConfig
from translit_scale.corpus.encode import Ragged

STREAMS = ("mlm_orig", "mlm_latn", "tlm")
"""Names of the token-prediction losses, in the order of `mask_stream`."""
ORIG, LATN, TLM = range(3)
_COIN, _TLM_ORIG, _TLM_LATN = 2, 3, 4
"""Further numbers under the key of a visit; ORIG and LATN are 0 and 1."""

Indices = npt.NDArray[np.int64]


class Vocabulary(NamedTuple):
    """What packing must know of tokenizer and model."""

    bos_id: int
    eos_id: int
    mask_id: int
    size: int
    """Number of ids random replacements are drawn from."""
    first_position: int
    """Position id of the first token (RoBERTa family: padding_idx + 1)."""


@dataclass
class PackedPart:
    """One flat forward pass; see the module docstring for the layout."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: Segments
    mask_index: torch.Tensor
    mask_labels: torch.Tensor
    mask_stream: torch.Tensor
    mask_language: torch.Tensor
    pool_index: torch.Tensor
    pool_row: torch.Tensor
    rows: int
    """2P: pooled rows of this part, 0 where it holds no orig and latn."""
    work: Work

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
    masked: tuple[int, int, int]
    """Predicted tokens of each stream."""
    texts: torch.Tensor
    """[P, 2] a number for each text, orig and latn: the same tokens have the same one."""
    identical: int
    """Pairs whose two sides are the same tokens: their contrastive positive is trivial up to masking."""

    @property
    def work(self) -> Work:
        """Of all parts."""
        return Work(*map(sum, zip(*(part.work for part in self.parts), strict=True)))

    @property
    def slots(self) -> int:
        """Tokens and padding that grouped attention works on (`Segments`)."""
        return sum(len(part.segments.slot_token) for part in self.parts)

    @property
    def tokens(self) -> int:
        """All tokens, special ones included."""
        return sum(len(part.input_ids) for part in self.parts)

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch on another device."""
        return MicroBatch(
            **{**vars(self), "parts": [part.to(device) for part in self.parts], "texts": self.texts.to(device)}
        )


class _Body(NamedTuple):
    """Sentences, or halves of TLM, as they stand inside a part: masked, with the flat position of each token."""

    text: Ragged
    stream: int
    input_ids: Indices
    selected: npt.NDArray[np.bool_]
    begin: Indices
    """[P] flat position of the first token of each."""

    @property
    def positions(self) -> Indices:
        """[n] flat position of each token."""
        return np.repeat(self.begin, self.text.lengths) + self.text.place


class Packer(NamedTuple):
    """Masks and packs pairs; the tensors of a pair depend on its key alone, not on its neighbours.

    TLM is `<s> A </s> B </s>`; which of orig and latn is A is a coin flip, the masks are drawn anew (paper B,
    section 3). Where it exceeds `max_length` tokens the longer side is cut first, so that neither script disappears.
    """

    masking: MaskingConfig
    vocabulary: Vocabulary
    max_length: int
    """Longest sequence in tokens, special ones included."""
    with_tlm: bool
    split_tlm: bool
    """Keep TLM in a part of its own. Dropout is drawn for whole tensors, so a pass over orig and latn can only be
    replayed exactly when they were packed alone the first time too."""

    def micro_batch(self, orig: Ragged, latn: Ragged, keys: Bits, language: Indices) -> MicroBatch:
        """Packs P pairs.

        Args:
            orig, latn: sentences of at most `max_length` − 2 tokens; keys: [P] key of each visit; language: [P] number
                of each pair's language.
        """
        pairs = len(keys)
        single = np.concatenate([orig.lengths, latn.lengths]) + 2
        starts = np.cumsum(single) - single
        bodies = [
            self._mask(orig, ORIG, ORIG, keys, starts[:pairs] + 1),
            self._mask(latn, LATN, LATN, keys, starts[pairs:] + 1),
        ]
        halves, lengths, between = self._join(orig, latn, keys) if self.with_tlm else ([], single[:0], single[:0])
        if self.with_tlm and self.split_tlm:
            parts = [
                self._part(bodies, single, language, 2 * pairs),
                self._part(halves, lengths, language, 0, between),
            ]
        else:
            offset = int(single.sum())
            halves = [half._replace(begin=half.begin + offset) for half in halves]
            lengths = np.concatenate([single, lengths])
            parts = [self._part(bodies + halves, lengths, language, 2 * pairs, between + offset)]
        texts = np.stack([_numbers(orig), _numbers(latn)], axis=1)
        counts = [sum(int(b.selected.sum()) for b in bodies + halves if b.stream == s) for s in range(len(STREAMS))]
        return MicroBatch(
            parts=parts,
            pairs=pairs,
            masked=(counts[ORIG], counts[LATN], counts[TLM]),
            texts=torch.from_numpy(texts),
            identical=int((texts[:, 0] == texts[:, 1]).sum()),
        )

    def _mask(self, text: Ragged, stream: int, number: int, keys: Bits, begin: Indices) -> _Body:
        own = np.repeat(derive(keys, number), text.lengths)
        masked = mask_tokens(text.ids, own, text.place, self.masking, self.vocabulary.mask_id, self.vocabulary.size)
        return _Body(text, stream, masked.input_ids, masked.selected, begin)

    def _join(self, orig: Ragged, latn: Ragged, keys: Bits) -> tuple[list[_Body], Indices, Indices]:
        """Both halves of TLM, the length [P] of each sequence and the flat position [P] of the `</s>` between."""
        room = self.max_length - 3
        keep_orig = np.minimum(orig.lengths, np.maximum(room - latn.lengths, room - room // 2))
        orig, latn = orig.cut(keep_orig), latn.cut(np.minimum(latn.lengths, room - keep_orig))
        lengths = orig.lengths + latn.lengths + 3
        starts = np.cumsum(lengths) - lengths
        orig_first = uniforms(derive(keys, _COIN)) < 0.5
        between = starts + 1 + np.where(orig_first, orig.lengths, latn.lengths)
        halves = [
            self._mask(orig, TLM, _TLM_ORIG, keys, np.where(orig_first, starts, between) + 1),
            self._mask(latn, TLM, _TLM_LATN, keys, np.where(orig_first, between, starts) + 1),
        ]
        return halves, lengths, between

    def _part(
        self,
        bodies: Sequence[_Body],
        lengths: Indices,
        language: Indices,
        rows: int,
        between: Indices | None = None,
    ) -> PackedPart:
        """Lays sequences of the given lengths end to end; the first `rows` bodies' sentences are pooled."""
        ends = np.cumsum(lengths)
        input_ids = np.empty(int(ends[-1]), np.int64)
        input_ids[ends - lengths], input_ids[ends - 1] = self.vocabulary.bos_id, self.vocabulary.eos_id
        if between is not None:
            input_ids[between] = self.vocabulary.eos_id
        for body in bodies:
            input_ids[body.positions] = body.input_ids
        position_ids = np.arange(len(input_ids)) - np.repeat(ends - lengths, lengths) + self.vocabulary.first_position
        pooled = bodies[:2] if rows else ()
        pool_row = [body.text.sentence + i * (rows // 2) for i, body in enumerate(pooled)]
        empty = np.empty(0, np.int64)
        mask_index = np.concatenate([body.positions[body.selected] for body in bodies])
        masked, _ = np.histogram(mask_index, bins=np.concatenate([[0], ends]))
        return PackedPart(
            input_ids=torch.from_numpy(input_ids),
            position_ids=torch.from_numpy(position_ids),
            segments=Segments.from_lengths(lengths),
            mask_index=torch.from_numpy(mask_index),
            mask_labels=torch.from_numpy(np.concatenate([body.text.ids[body.selected] for body in bodies])),
            mask_stream=torch.from_numpy(
                np.repeat([body.stream for body in bodies], [body.selected.sum() for body in bodies])
            ),
            mask_language=torch.from_numpy(
                language[np.concatenate([body.text.sentence[body.selected] for body in bodies])]
            ),
            pool_index=torch.from_numpy(np.concatenate([empty, *(body.positions for body in pooled)])),
            pool_row=torch.from_numpy(np.concatenate([empty, *pool_row])),
            rows=rows,
            work=Work.of(lengths, masked),
        )


def _numbers(text: Ragged) -> Indices:
    """[P] a number for each sentence: a hash of its tokens and their places (two differ by chance once in 2⁶⁴)."""
    of_token = mix(mix(text.ids.astype(np.uint64)) + text.place.astype(np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(of_token)])  # modulo 2⁶⁴
    ends = np.cumsum(text.lengths)
    return (sums[ends] - sums[ends - text.lengths]).view(np.int64)
