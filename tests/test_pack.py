"""Masks depend on the pair only; packing neither loses nor adds tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.naive import MaskedPair, mask_pair
from translit_scale.batch.masking import mask_tokens
from translit_scale.batch.pack import LATN, ORIG, TLM, MicroBatch, Packer, Vocabulary, _copied
from translit_scale.batch.random_bits import key
from translit_scale.batch.segments import Segments
from translit_scale.batch.token_counts import TokenCounts
from translit_scale.config import MaskingConfig
from translit_scale.corpus.encode import Ragged

BOS, EOS, MASK = 0, 2, 99
VOCABULARY = Vocabulary(bos_id=BOS, eos_id=EOS, mask_id=MASK, size=100, first_position=2)
HALF = Packer(MaskingConfig(mlm_probability=0.5), VOCABULARY, max_length=21, with_tlm=True, split_tlm=False)
NOTHING = HALF._replace(masking=MaskingConfig(mlm_probability=1e-300))
ids = st.lists(st.integers(4, 98), max_size=19)
pair_lists = st.lists(st.tuples(ids, ids), min_size=1, max_size=6)

Texts = list[tuple[list[int], list[int]]]


def keys_of(texts: Texts) -> np.ndarray:
    return np.array([key("pair", i) for i in range(len(texts))])


def pack(texts: Texts, packer: Packer) -> MicroBatch:
    limit = np.full(len(texts), packer.max_length - 2)
    orig, latn = (Ragged.of([text[side] for text in texts]).cut(limit) for side in (0, 1))
    return packer.micro_batch(orig, latn, keys_of(texts), np.arange(len(texts)))


def naive_pairs(texts: Texts, packer: Packer) -> list[MaskedPair]:
    return [mask_pair(a, b, k, packer) for (a, b), k in zip(texts, keys_of(texts), strict=True)]


def sequences(batch: MicroBatch) -> list[list[int]]:
    found = []
    for part in batch.parts:
        for start, end in pairwise(part.segments.cu_seqlens.tolist()):
            found.append(part.input_ids[start:end].tolist())
            assert part.position_ids[start:end].tolist() == list(range(2, 2 + end - start))
    return found


def test_masking_fractions() -> None:
    n = 200_000
    token_ids = np.full(n, 50)
    masked = mask_tokens(token_ids, np.full(n, key("shares")), np.arange(n), MaskingConfig(), MASK, 100)
    chosen = masked.input_ids[masked.selected]
    assert masked.selected.mean() == pytest.approx(0.15, abs=0.003)
    assert (chosen == MASK).mean() == pytest.approx(0.8 + 0.1 / 100, abs=0.01)
    assert (chosen == 50).mean() == pytest.approx(0.1 + 0.1 / 100, abs=0.01)
    assert (masked.input_ids[~masked.selected] == 50).all()
    randoms = chosen[(chosen != MASK) & (chosen != 50)]
    assert len(set(randoms.tolist())) == 98  # the whole vocabulary except those two


@given(pair_lists, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_packing_equals_one_pair_at_a_time(texts: Texts, split: bool, with_tlm: bool) -> None:
    packer = HALF._replace(split_tlm=split, with_tlm=with_tlm)
    batch, pairs = pack(texts, packer), naive_pairs(texts, packer)
    assert len(batch.parts) == (2 if split and with_tlm else 1)
    streams = {ORIG: [p.orig for p in pairs], LATN: [p.latn for p in pairs], TLM: [p.tlm for p in pairs if p.tlm]}
    wanted = [(stream, s) for stream in (ORIG, LATN, TLM) for s in streams[stream]]
    found = sequences(batch)
    assert found == [[BOS, *s.input_ids, EOS] for _, s in wanted]
    offsets = np.cumsum([0, *map(len, found)])
    expected = {
        (int(offset) + 1 + position, label, stream, number % len(texts))
        for number, ((stream, s), offset) in enumerate(zip(wanted, offsets, strict=False))
        for position, label in zip(s.positions, s.labels, strict=True)
    }
    begin, predicted = 0, []
    for part in batch.parts:
        columns = part.mask_index + begin, part.mask_labels, part.mask_stream, part.mask_language
        predicted += zip(*(column.tolist() for column in columns), strict=True)
        begin += len(part.input_ids)
    assert set(predicted) == expected
    assert len(predicted) == len(expected) == sum(batch.masked)
    assert list(batch.masked) == [sum(s == stream for _, _, s, _ in expected) for stream in (ORIG, LATN, TLM)]
    pooled = batch.parts[0]
    for row, sentence in enumerate([*streams[ORIG], *streams[LATN]]):
        assert pooled.input_ids[pooled.pool_index[pooled.pool_sentence == row]].tolist() == sentence.input_ids
    masked = [len(s.labels) for _, s in wanted]
    assert batch.token_counts == TokenCounts.of(np.array(list(map(len, found))), np.array(masked))
    assert batch.tokens == sum(map(len, found)) <= batch.padded_tokens
    assert batch.identical == sum(a[:19] == b[:19] for a, b in texts)


def test_switching_tlm_off_does_not_move_the_other_masks() -> None:
    texts = [([5] * 12, [6] * 12)]
    with_tlm, without = (pack(texts, HALF._replace(with_tlm=flag)) for flag in (True, False))
    assert sequences(with_tlm)[:2] == sequences(without)


def test_copy_of_a_sentence_is_masked_independently() -> None:
    orig, latn, _ = sequences(pack([([5, 6, 7, 8] * 3,) * 2], HALF))
    assert orig != latn


def test_tlm_order_is_a_coin_flip_with_one_separator() -> None:
    first = [tuple(s[1:-1]) for s in sequences(pack([([5] * 3, [6] * 3)] * 400, NOTHING))[800:]]
    assert set(first) == {(5, 5, 5, EOS, 6, 6, 6), (6, 6, 6, EOS, 5, 5, 5)}
    assert first.count((5, 5, 5, EOS, 6, 6, 6)) == pytest.approx(200, abs=50)


@pytest.mark.parametrize(("a", "b"), [(19, 3), (3, 19), (19, 19), (9, 9), (0, 19), (18, 12), (12, 18)])
def test_long_tlm_cuts_the_longer_side_first(a: int, b: int) -> None:
    tlm = sequences(pack([([5] * a, [6] * b)], NOTHING))[2]
    kept = tlm.count(5), tlm.count(6)
    assert len(tlm) <= 21
    assert sum(kept) == min(a + b, 18)
    assert min(kept) == min(a, b, 9 if a + b > 18 else 30)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_segments_map_tokens_to_padded_positions_and_back(lengths: list[int]) -> None:
    segments = Segments.from_lengths(np.array(lengths))
    tokens = sum(lengths)
    assert torch.equal(segments.padding.padded_from_flat[segments.padding.flat_from_padded], torch.arange(tokens))
    real = [
        torch.ones(g * n, dtype=torch.bool) if mask is None else mask.flatten()
        for (g, n), mask in zip(segments.groups, segments.padding.key_masks, strict=True)
    ]
    assert int(torch.cat(real).sum()) == tokens == len(segments.padding.flat_from_padded)
    assert sum(g for g, _ in segments.groups) == len(lengths)
    assert len(segments.padding.padded_from_flat) <= 1.125 * tokens + 8 * len(lengths)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
@example([20, 12, 11, 88, 77, 76])  # at the bounds: 88 | 77 and 20 | 12 are together, 77 | 76 and 12 | 11 are not
@settings(max_examples=100, deadline=None)
def test_groups_hold_what_is_within_eight_tokens_or_an_eighth_of_their_longest(lengths: list[int]) -> None:
    groups: list[tuple[int, int]] = []
    for length in sorted(lengths, reverse=True):
        count, longest = groups[-1] if groups else (0, 0)
        if count and longest - length <= max(8, longest // 8):
            groups[-1] = count + 1, longest
        else:
            groups.append((1, length))
    segments = Segments.from_lengths(np.array(lengths))
    assert segments.groups == groups
    assert segments.longest == max(lengths)


class Copies(TorchDispatchMode):
    """Counts copies to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += operation is torch.ops.aten._to_copy.default
        return operation(*args, **(kwargs or {}))


def test_a_micro_batch_moves_to_a_device_in_one_piece_for_each_type_of_numbers() -> None:
    """Two parts have 17 int64 tensors and two int32 ones; what only grouped attention needs stays on the host."""
    batch = pack([([5] * 9, [6] * 4), ([7] * 3, [8] * 8)] * 3, HALF._replace(split_tlm=True))
    assert len(batch.parts) == 2
    with Copies() as copies:
        moved = batch.to(torch.device("meta"))
    assert copies.number == 2
    for before, after in zip(batch.parts, moved.parts, strict=True):
        shapes = [{name: x.shape for name, x in part.tensors().items()} for part in (before, after)]
        assert shapes[0] == shapes[1] and all(x.is_meta for x in after.tensors().values())
        assert after.segments.groups == before.segments.groups and not after.segments.padding.padded_from_flat.is_meta
        assert after.segments.padding_on(torch.device("meta")).flat_from_padded.is_meta
    assert moved.text_hashes.is_meta and moved.text_hashes.shape == batch.text_hashes.shape


def test_tensors_that_are_copied_together_keep_their_values() -> None:
    tensors = [torch.arange(5), torch.arange(6, dtype=torch.int32).view(2, 3), torch.empty(0, dtype=torch.int64)]
    copies = _copied([*tensors, tensors[0] + 7], torch.device("cpu"))
    assert all(torch.equal(one, other) for one, other in zip(copies, [*tensors, tensors[0] + 7], strict=True))
    assert [copy.dtype for copy in copies] == [torch.int64, torch.int32, torch.int64, torch.int64]
