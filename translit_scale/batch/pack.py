"""Masks sentences and packs them end to end into one flat sequence without padding.

input_ids     [T]     <s> a a a </s> <s> b b </s> …
position_ids  [T]      2  3 4 5  6    2  3 4  5   …      (XLM-R starts at padding_idx + 1 = 2)
cu_seqlens    [S+1]    0              5          9 …     segment s = tokens cu_seqlens[s] … cu_seqlens[s+1]−1
mask_index    [M]     predicted tokens;  mask_labels, mask_language [M];  mask_stream [M] (0 orig, 1 latn, 2 tlm)
pool_index    [N]     non-special tokens of orig and latn;  pool_sentence [N] their sentence (0 … 2C−1: orig, then latn)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from translit_scale.batch.masking import mask_tokens
from translit_scale.batch.random_bits import Bits, derive, mix, uniforms
from translit_scale.batch.segments import Segments
from translit_scale.batch.token_counts import TokenCounts
from translit_scale.config import MaskingConfig, ObjectivesConfig
from translit_scale.corpus.encode import Ragged

STREAMS = ("mlm_orig", "mlm_latn", "tlm")
"""Names of the token-prediction losses, in the order of `mask_stream`; see `stream_names`."""
ORIG, LATN, TLM = range(3)
_COIN, _TLM_ORIG, _TLM_LATN = 2, 3, 4
"""Further numbers derived from the key of a visit; ORIG and LATN are 0 and 1."""

Indices = npt.NDArray[np.int64]


def stream_names(objectives: ObjectivesConfig) -> tuple[str, ...]:
    """Names of the losses of an experiment: where a sentence is paired with its copy, nothing is transliterated."""
    return tuple("mlm_copy" if name == "mlm_latn" and objectives.pair_with == "copy" else name for name in STREAMS)


class Vocabulary(NamedTuple):
    """Facts about tokenizer and model that packing needs."""

    bos_id: int
    eos_id: int
    mask_id: int
    size: int
    """Number of ids that random replacements are drawn from."""
    first_position: int
    """Position id of the first token (RoBERTa family: padding_idx + 1)."""
    window: int | None = None
    """How far a token attends in layers that do not attend to whole sentences (ModernBERT); None: there are none."""


@dataclass
class PackedSequences:
    """The input of one flat forward pass; the module docstring gives the shapes."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: Segments
    mask_index: torch.Tensor
    mask_labels: torch.Tensor
    mask_stream: torch.Tensor
    mask_language: torch.Tensor
    pool_index: torch.Tensor
    pool_sentence: torch.Tensor
    num_pooled: int | None
    """Number of embeddings pooled from this part; None if it holds TLM only."""
    token_counts: TokenCounts

    def tensors(self) -> dict[str, torch.Tensor]:
        """Those that a forward pass needs on its device, by name."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return {**own, "cu_seqlens": self.segments.cu_seqlens}

    def with_tensors(self, tensors: dict[str, torch.Tensor]) -> PackedSequences:
        """The same part with other tensors of these names."""
        own: dict[str, Any] = {name: value for name, value in tensors.items() if name != "cu_seqlens"}
        return replace(self, segments=replace(self.segments, cu_seqlens=tensors["cu_seqlens"]), **own)


@dataclass
class MicroBatch:
    """P pairs of one rank."""

    parts: list[PackedSequences]
    """One flat part (orig | latn | tlm), or two (orig | latn, then tlm) if the first is run twice."""
    pairs: int
    contrasted: int
    """C: pairs that have embeddings, all or those with two different sides (`objectives.identical`)."""
    masked: tuple[int, int, int]
    """Number of predicted tokens of each stream."""
    text_hashes: torch.Tensor
    """[C, 2] hash of the tokens of each orig and latn; equal texts have equal hashes."""
    identical: int
    """Pairs whose two sides are the same text, so that their contrastive positive is trivial up to masking."""

    @property
    def token_counts(self) -> TokenCounts:
        """Sum over the parts."""
        return TokenCounts(*map(sum, zip(*(part.token_counts for part in self.parts), strict=True)))

    @property
    def padded_tokens(self) -> int:
        """Number of tokens and padding that grouped attention processes (`Segments`)."""
        return sum(part.segments.padded_size for part in self.parts)

    @property
    def tokens(self) -> int:
        """Number of tokens, special tokens included."""
        return sum(len(part.input_ids) for part in self.parts)

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch on another device, copied in one piece for each type of numbers.

        A copy takes about 10 µs whatever its size, and the twenty tensors are small. From pinned memory the host need
        not wait for it.
        """
        if device.type == "cpu":
            return self
        parts = [part.tensors() for part in self.parts]
        copies = iter(_copied([*(tensor for part in parts for tensor in part.values()), self.text_hashes], device))
        moved = [
            part.with_tensors({name: next(copies) for name in tensors})
            for part, tensors in zip(self.parts, parts, strict=True)
        ]
        return replace(self, parts=moved, text_hashes=next(copies))


def _copied(tensors: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """The same tensors on another device, as views of one tensor for each type of numbers."""
    copies: list[torch.Tensor] = list(tensors)
    for dtype in {tensor.dtype for tensor in tensors}:
        indices = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = torch.cat([tensors[index].flatten() for index in indices])
        if device.type == "cuda":
            flat = flat.pin_memory()
        pieces = flat.to(device, non_blocking=True).split([tensors[index].numel() for index in indices])
        for index, piece in zip(indices, pieces, strict=True):
            copies[index] = piece.view_as(tensors[index])
    return copies


class _MaskedText(NamedTuple):
    """Masked sentences, or halves of TLM sequences, and where they start in a part."""

    text: Ragged
    stream: int
    input_ids: Indices
    selected: npt.NDArray[np.bool_]
    starts: Indices
    """[p] flat position of the first token of each sentence."""
    pairs: Indices
    """[p] the pair of each sentence."""

    @property
    def positions(self) -> Indices:
        """[n] flat position of each token."""
        return np.repeat(self.starts, self.text.lengths) + self.text.place


class Packer(NamedTuple):
    """Masks and packs pairs; the tensors of a pair depend on its key alone, not on its neighbours.

    A TLM sequence is `<s> A </s> B </s>`: a coin flip decides whether A is orig or latn, and its masks are drawn
    independently of the MLM masks (paper B, section 3). If it exceeds `max_length` tokens, the longer side is cut
    first, so that neither script disappears.
    """

    masking: MaskingConfig
    vocabulary: Vocabulary
    max_length: int
    """Maximum length of a sequence in tokens, special tokens included."""
    with_tlm: bool
    split_tlm: bool
    """Put TLM into a part of its own. Dropout is drawn for whole tensors, so a pass over orig and latn can be replayed
    exactly only if they are packed without TLM in both passes."""
    identical: Literal["keep", "mlm", "mlm_once"] = "keep"
    """What pairs take part in whose sides are the same text: everything, MLM of both sides, or of orig only."""

    def micro_batch(
        self,
        orig: Ragged,
        latn: Ragged,
        keys: Bits,
        language: Indices,
        texts: Indices | None = None,
        same: npt.NDArray[np.bool_] | None = None,
    ) -> MicroBatch:
        """Packs P pairs.

        Args:
            orig, latn: sentences of at most `max_length` − 2 tokens.
            keys: [P] key of each visit; language: [P] index of each pair's language.
            texts: [P, 2] `text_hashes` of both sides; default: computed here.
            same: [P] whether both sides are the same text; default: whether they have the same tokens.
        """
        pairs = len(keys)
        texts = text_hashes(orig, latn) if texts is None else texts
        same = texts[:, 0] == texts[:, 1] if same is None else same
        every, different = np.arange(pairs), np.flatnonzero(~same)
        contrasted = every if self.identical == "keep" else different
        of_latn = different if self.identical == "mlm_once" else every
        latn_once = latn.take(of_latn)
        single = np.concatenate([orig.lengths, latn_once.lengths]) + 2
        starts = np.cumsum(single) - single
        sides = [
            self._mask(orig, ORIG, ORIG, keys, starts[:pairs] + 1, every),
            self._mask(latn_once, LATN, LATN, keys, starts[pairs:] + 1, of_latn),
        ]
        halves: list[_MaskedText] = []
        joined, middle = single[:0], single[:0]
        if self.with_tlm and len(contrasted):
            halves, joined, middle = self._join(orig, latn, keys, contrasted)
        if self.with_tlm and self.split_tlm:
            if not halves:  # ZeRO 3 gathers weights in each pass, so every rank needs as many: `<s> </s> </s>`
                joined, middle = np.array([3]), np.array([1])
            parts = [
                self._part(sides, single, language, contrasted),
                self._part(halves, joined, language, None, middle),
            ]
        else:
            offset = int(single.sum())
            halves = [half._replace(starts=half.starts + offset) for half in halves]
            lengths = np.concatenate([single, joined])
            parts = [self._part(sides + halves, lengths, language, contrasted, middle + offset)]
        counts = [sum(int(t.selected.sum()) for t in sides + halves if t.stream == s) for s in range(len(STREAMS))]
        return MicroBatch(
            parts=parts,
            pairs=pairs,
            contrasted=len(contrasted),
            masked=(counts[ORIG], counts[LATN], counts[TLM]),
            text_hashes=torch.from_numpy(texts[contrasted]),
            identical=int(same.sum()),
        )

    def cost(self, orig: npt.NDArray[Any], latn: npt.NDArray[Any], same: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """[P] how many tokens a pair has in all its sequences, up to a factor that pairs have in common.

        Args:
            orig, latn: [P] tokens of the sides, with their special tokens.
        """
        if self.identical == "keep":
            return orig + latn
        mlm = np.where(same, orig if self.identical == "mlm_once" else orig + latn, orig + latn)
        return mlm + np.where(same, 0, orig + latn) if self.with_tlm else mlm

    def _mask(self, text: Ragged, stream: int, number: int, keys: Bits, starts: Indices, pairs: Indices) -> _MaskedText:
        """Masks the sentence of each of some pairs with the `number`-th key derived from its visit's key."""
        of_token = np.repeat(derive(keys[pairs], number), text.lengths)
        vocabulary = self.vocabulary
        masked = mask_tokens(text.ids, of_token, text.place, self.masking, vocabulary.mask_id, vocabulary.size)
        return _MaskedText(text, stream, masked.input_ids, masked.selected, starts, pairs)

    def _join(
        self, orig: Ragged, latn: Ragged, keys: Bits, pairs: Indices
    ) -> tuple[list[_MaskedText], Indices, Indices]:
        """Both halves of TLM of some pairs [p], [p] length of each sequence and [p] flat position of the `</s>` in its
        middle."""
        orig, latn = orig.take(pairs), latn.take(pairs)
        room = self.max_length - 3
        keep_orig = np.minimum(orig.lengths, np.maximum(room - latn.lengths, room - room // 2))
        orig, latn = orig.cut(keep_orig), latn.cut(np.minimum(latn.lengths, room - keep_orig))
        lengths = orig.lengths + latn.lengths + 3
        starts = np.cumsum(lengths) - lengths
        orig_first = uniforms(derive(keys[pairs], _COIN)) < 0.5
        middle = starts + 1 + np.where(orig_first, orig.lengths, latn.lengths)
        halves = [
            self._mask(orig, TLM, _TLM_ORIG, keys, np.where(orig_first, starts, middle) + 1, pairs),
            self._mask(latn, TLM, _TLM_LATN, keys, np.where(orig_first, middle, starts) + 1, pairs),
        ]
        return halves, lengths, middle

    def _part(
        self,
        texts: Sequence[_MaskedText],
        lengths: Indices,
        language: Indices,
        contrasted: Indices | None,
        middle: Indices | None = None,
    ) -> PackedSequences:
        """Packs sequences of the given lengths. The first two texts are pooled into embeddings of the pairs
        `contrasted`; None: there are none."""
        ends = np.cumsum(lengths)
        input_ids = np.empty(int(ends[-1]), np.int64)
        input_ids[ends - lengths], input_ids[ends - 1] = self.vocabulary.bos_id, self.vocabulary.eos_id
        if middle is not None:
            input_ids[middle] = self.vocabulary.eos_id
        for text in texts:
            input_ids[text.positions] = text.input_ids
        position_ids = np.arange(len(input_ids)) - np.repeat(ends - lengths, lengths) + self.vocabulary.first_position
        none = np.empty(0, np.int64)
        pool_index, pool_sentence = [none], [none]
        if contrasted is not None:
            number = np.full(len(language), -1)
            number[contrasted] = np.arange(len(contrasted))
            for i, side in enumerate(texts[:2]):
                of_token = number[side.pairs][side.text.sentence]
                pool_index.append(side.positions[of_token >= 0])
                pool_sentence.append(of_token[of_token >= 0] + i * len(contrasted))
        mask_index = np.concatenate([none, *(t.positions[t.selected] for t in texts)])
        masked, _ = np.histogram(mask_index, bins=np.concatenate([[0], ends]))
        return PackedSequences(
            input_ids=torch.from_numpy(input_ids),
            position_ids=torch.from_numpy(position_ids),
            segments=Segments.from_lengths(lengths),
            mask_index=torch.from_numpy(mask_index),
            mask_labels=torch.from_numpy(np.concatenate([none, *(t.text.ids[t.selected] for t in texts)])),
            mask_stream=torch.from_numpy(np.concatenate([none, *(np.full(t.selected.sum(), t.stream) for t in texts)])),
            mask_language=torch.from_numpy(
                language[np.concatenate([none, *(t.pairs[t.text.sentence[t.selected]] for t in texts)])]
            ),
            pool_index=torch.from_numpy(np.concatenate(pool_index)),
            pool_sentence=torch.from_numpy(np.concatenate(pool_sentence)),
            num_pooled=None if contrasted is None else 2 * len(contrasted),
            token_counts=TokenCounts.of(lengths, masked, self.vocabulary.window),
        )


def text_hashes(orig: Ragged, latn: Ragged) -> Indices:
    """[P, 2] hashes of the sentences of each pair; equal texts have equal hashes."""
    return np.stack([_hashes(orig), _hashes(latn)], axis=1)


def _hashes(text: Ragged) -> Indices:
    """[P] hash of each sentence's tokens and their positions; two sentences collide with probability 2⁻⁶⁴."""
    of_token = mix(mix(text.ids.astype(np.uint64)) + text.place.astype(np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(of_token)])  # modulo 2⁶⁴
    ends = np.cumsum(text.lengths)
    return (sums[ends] - sums[ends - text.lengths]).view(np.int64)
