"""Masks belong to the pair; packing loses and adds nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from translit_scale.batch.masking import mask_tokens
from translit_scale.batch.pack import LATN, ORIG, TLM, MaskedPair, Vocabulary, mask_pair, pack_micro_batch
from translit_scale.batch.random_bits import uniforms
from translit_scale.batch.segments import Segments
from translit_scale.config import MaskingConfig

BOS, EOS, MASK = 0, 2, 99
VOCABULARY = Vocabulary(bos_id=BOS, eos_id=EOS, mask_id=MASK, size=100, first_position=2)
HALF = MaskingConfig(probability=0.5)
ids = st.lists(st.integers(4, 98), max_size=12)
pair_lists = st.lists(st.tuples(ids, ids), min_size=1, max_size=6)


def masked_pairs(texts: list[tuple[list[int], list[int]]], with_tlm: bool = True) -> list[MaskedPair]:
    return [mask_pair(a, b, ("pair", i), HALF, VOCABULARY, with_tlm, 64) for i, (a, b) in enumerate(texts)]


def test_masking_shares() -> None:
    n = 200_000
    token_ids = np.full(n, 50)
    masked = mask_tokens(token_ids, uniforms(3 * n, "shares").reshape(3, n), MaskingConfig(), MASK, 100)
    chosen = masked.input_ids[masked.positions]
    assert len(masked.positions) / n == pytest.approx(0.15, abs=0.003)
    assert (chosen == MASK).mean() == pytest.approx(0.8 + 0.1 / 100, abs=0.01)
    assert (chosen == 50).mean() == pytest.approx(0.1 + 0.1 / 100, abs=0.01)
    assert (masked.labels == 50).all()
    rest = np.setdiff1d(np.arange(n), masked.positions)
    assert (masked.input_ids[rest] == 50).all()


@given(pair_lists, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_packing_keeps_every_token_label_and_row(
    texts: list[tuple[list[int], list[int]]], split: bool, with_tlm: bool
) -> None:
    pairs = masked_pairs(texts, with_tlm)
    batch = pack_micro_batch(pairs, VOCABULARY, split)
    assert len(batch.parts) == (2 if split and with_tlm else 1)
    streams = {ORIG: [p.orig for p in pairs], LATN: [p.latn for p in pairs], TLM: [p.tlm for p in pairs if p.tlm]}
    wanted = [s for stream in (ORIG, LATN, TLM) for s in streams[stream]]
    found, labels, of_stream = [], [], []
    for part in batch.parts:
        cu = part.segments.cu_seqlens.tolist()
        for start, end in pairwise(cu):
            found.append(part.input_ids[start:end].tolist())
            assert part.position_ids[start:end].tolist() == list(range(2, 2 + end - start))
        hidden = part.input_ids[part.mask_index].tolist()
        labels += zip(hidden, part.mask_labels.tolist(), strict=True)
        of_stream += part.mask_stream.tolist()
    assert found == [[BOS, *s.input_ids.tolist(), EOS] for s in wanted]
    assert labels == [
        (int(s.input_ids[i]), int(label)) for s in wanted for i, label in zip(s.positions, s.labels, strict=True)
    ]
    counts = [sum(len(s.positions) for s in streams[stream]) for stream in (ORIG, LATN, TLM)]
    assert list(batch.masked) == counts == [of_stream.count(stream) for stream in (ORIG, LATN, TLM)]
    pooled = batch.parts[0]
    for row, sentence in enumerate([*streams[ORIG], *streams[LATN]]):
        assert pooled.input_ids[pooled.pool_index[pooled.pool_row == row]].tolist() == sentence.input_ids.tolist()
    assert batch.tokens == sum(map(len, found))


def test_masks_depend_on_the_pair_alone() -> None:
    texts = [([5, 6, 7, 8] * 3, [9, 10] * 5), ([11, 12, 13] * 4, [14] * 9)]
    together = masked_pairs(texts)
    alone = mask_pair(*texts[1], ("pair", 1), HALF, VOCABULARY, True, 64)
    for a, b in zip(
        (together[1].orig, together[1].latn, together[1].tlm), (alone.orig, alone.latn, alone.tlm), strict=True
    ):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    other_epoch = mask_pair(*texts[1], ("pair", 2), HALF, VOCABULARY, True, 64)
    assert other_epoch.orig.input_ids.tolist() != alone.orig.input_ids.tolist()


def test_switching_tlm_off_does_not_move_the_other_masks() -> None:
    with_tlm, without = (masked_pairs([([5] * 12, [6] * 12)], tlm)[0] for tlm in (True, False))
    assert without.tlm is None
    assert np.array_equal(with_tlm.orig.positions, without.orig.positions)
    assert np.array_equal(with_tlm.latn.positions, without.latn.positions)


def test_copy_of_a_sentence_is_masked_apart() -> None:
    pair = masked_pairs([([5, 6, 7, 8] * 3,) * 2])[0]
    assert pair.identical
    assert pair.orig.positions.tolist() != pair.latn.positions.tolist()


def test_tlm_order_is_a_coin_flip_with_one_separator() -> None:
    plain = MaskingConfig(probability=1e-12)
    first = [
        mask_pair([5] * 3, [6] * 3, ("coin", i), plain, VOCABULARY, True, 64).tlm.input_ids.tolist()  # type: ignore[union-attr]
        for i in range(400)
    ]
    assert {tuple(x) for x in first} == {(5, 5, 5, EOS, 6, 6, 6), (6, 6, 6, EOS, 5, 5, 5)}
    assert first.count([5, 5, 5, EOS, 6, 6, 6]) == pytest.approx(200, abs=50)


@pytest.mark.parametrize(("a", "b"), [(20, 3), (3, 20), (20, 20), (9, 9), (0, 30), (18, 12)])
def test_long_tlm_cuts_the_longer_side_first(a: int, b: int) -> None:
    plain = MaskingConfig(probability=1e-12)
    tlm = mask_pair([5] * a, [6] * b, ("long",), plain, VOCABULARY, True, 21).tlm
    assert tlm is not None
    kept = (tlm.input_ids == 5).sum(), (tlm.input_ids == 6).sum()
    assert len(tlm.input_ids) + 2 <= 21
    assert sum(kept) == min(a + b, 18)
    assert min(kept) == min(a, b, 9 if a + b > 18 else 30)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_segments_map_tokens_to_slots_and_back(lengths: list[int]) -> None:
    segments = Segments.from_lengths(lengths)
    tokens = sum(lengths)
    assert torch.equal(segments.slot_token[segments.token_slot], torch.arange(tokens))
    real = [
        torch.ones(g * n, dtype=torch.bool) if mask is None else mask.flatten()
        for (g, n), mask in zip(segments.groups, segments.key_masks, strict=True)
    ]
    assert int(torch.cat(real).sum()) == tokens == len(segments.token_slot)
    assert sum(g for g, _ in segments.groups) == len(lengths)
    assert len(segments.slot_token) <= 1.125 * tokens + 8 * len(lengths)
