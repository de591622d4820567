"""Splitting a batch is a permutation that balances tokens and lets each rank read about the same part of the shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.naive import split_over_ranks_naively
from translit_scale.batch.cuts import cut_into_parts
from translit_scale.batch.layout import BatchLayout, sort_by_position, split_into_micro_batches
from translit_scale.batch.order import PairOrder


def split_over_ranks(
    language: np.ndarray, row: np.ndarray, cost: np.ndarray, ranks: int, least: int
) -> list[np.ndarray]:
    """The split of `BatchStream`, with known costs."""
    order = sort_by_position(language, row)
    by_rank, pairs = cut_into_parts(cost[order], ranks, least)
    return np.split(order[by_rank], np.cumsum(pairs)[:-1])


def batch(pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in 40 languages, and costs distributed like real sentences."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 40, pairs), rng.integers(0, 4096, pairs), rng.lognormal(4.4, 0.6, pairs).astype(np.int64) + 4


@given(
    st.integers(1, 9), st.integers(1, 4), st.lists(st.integers(1, 10**6), min_size=36, max_size=90), st.integers(0, 9)
)
@settings(max_examples=100, deadline=None)
def test_every_pair_goes_to_one_rank_and_every_rank_has_enough(
    ranks: int, least: int, costs: list[int], seed: int
) -> None:
    language, row, _ = batch(len(costs), seed)
    parts = split_over_ranks(language, row, np.array(costs), ranks, least)
    assert len(parts) == ranks and min(map(len, parts)) >= least
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(costs)))


@given(st.data(), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_all_parts_at_once_are_the_parts_cut_one_after_another(
    data: st.DataObject, ranks: int, least: int, seed: int
) -> None:
    """From so few pairs to a rank that nearly all parts take some of their neighbours', to so many that none does."""
    pairs = ranks * least + data.draw(st.sampled_from([0, 1, 10, 300, 2000]))
    rng = np.random.default_rng(seed)
    language, row = rng.integers(0, 5, pairs), rng.integers(0, data.draw(st.sampled_from([2, 50, 10_000])), pairs)
    cost = np.maximum(rng.lognormal(data.draw(st.sampled_from([0.5, 4.4, 9])), 0.8, pairs).astype(np.int64), 1)
    found = split_over_ranks(language, row, cost, ranks, least)
    expected = split_over_ranks_naively(language, row, cost, ranks, least)
    assert [sorted(part.tolist()) for part in found] == [sorted(part.tolist()) for part in expected]


@pytest.mark.parametrize("of_each", [8, 32, 64])
def test_parts_of_many_ranks_are_the_parts_cut_one_after_another(of_each: int) -> None:
    language, row, cost = batch(512 * of_each, of_each)
    cost *= 1 + language % 4  # some languages have long sentences
    found = split_over_ranks(language, row, cost, 512, 1)
    expected = split_over_ranks_naively(language, row, cost, 512, 1)
    assert [sorted(part.tolist()) for part in found] == [sorted(part.tolist()) for part in expected]


@given(st.integers(1, 12), st.lists(st.integers(1, 10**6), min_size=12, max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_pair_goes_to_one_micro_batch_and_none_is_empty(micro_batches: int, costs: list[int]) -> None:
    parts = split_into_micro_batches(np.array(costs), micro_batches)
    assert len(parts) == micro_batches and min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(costs)))
    totals = [sum(costs[i] for i in part) for part in parts]
    assert max(totals) <= sum(costs) / micro_batches + max(costs)  # the bound of the greedy algorithm


@pytest.mark.parametrize("micro_batches", [1, 2, 3])
def test_pairs_go_to_few_micro_batches_in_descending_order_of_cost(micro_batches: int) -> None:
    parts = split_into_micro_batches(np.array([5, 3, 9, 4, 1]), micro_batches)
    expected = {1: [[0, 1, 2, 3, 4]], 2: [[1, 2], [0, 3, 4]], 3: [[2], [0, 4], [1, 3]]}
    assert [part.tolist() for part in parts] == expected[micro_batches]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 90))
def test_an_equal_split_gives_each_pair_to_one_micro_batch_and_all_about_as_many(
    ranks: int, micro_batches: int, pairs: int
) -> None:
    layout = BatchLayout(ranks * micro_batches * 7, ranks, micro_batch_pairs=7)
    assert layout.micro_batches == micro_batches
    parts = layout.equal_split(pairs)  # fewer than the batch has, if some are in damaged blocks
    assert [len(of_rank) for of_rank in parts] == [micro_batches] * ranks
    indices = [index for of_rank in parts for of_micro_batch in of_rank for index in of_micro_batch.tolist()]
    assert sorted(indices) == list(range(pairs)) and all(isinstance(index, int) for index in indices)
    sizes = [len(of_micro_batch) for of_rank in parts for of_micro_batch in of_rank]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("ranks", "of_each"), [(8, 32), (64, 32), (1024, 32), (8, 128)])
def test_the_slowest_rank_has_at_most_three_percent_more_than_the_mean(ranks: int, of_each: int) -> None:
    for seed in range(3):
        language, row, cost = batch(ranks * of_each, seed)
        totals = np.array([cost[part].sum() for part in split_over_ranks(language, row, cost, ranks, 1)])
        assert totals.max() <= 1.03 * totals.mean()


def test_micro_batches_are_balanced_too() -> None:
    cost = batch(8 * 32, 0)[2]
    totals = np.array([cost[part].sum() for part in split_into_micro_batches(cost, 8)])
    assert totals.max() <= 1.01 * totals.mean()


def test_a_rank_reads_about_the_same_part_of_the_shards() -> None:
    """In an epoch of 20 languages, 8 ranks together read at most twice all blocks, not eight times."""
    pairs = {f"a{chr(97 + i)}a_Latn": 3000 + 700 * i for i in range(20)}
    order = PairOrder(pairs)
    touched: list[set[tuple[int, int]]] = [set() for _ in range(8)]
    for start in range(0, order.total, 1024):
        keys = order.batch(start, min(1024, order.total - start))
        cost = batch(len(keys), start)[2]
        for blocks, part in zip(touched, split_over_ranks(keys.language, keys.row, cost, 8, 1), strict=True):
            blocks.update(zip(keys.language[part].tolist(), (keys.row[part] // 1000).tolist(), strict=True))
    everything = sum(-(-n // 1000) for n in pairs.values())
    assert len(set().union(*touched)) == everything
    assert sum(map(len, touched)) < 2 * everything
    assert max(map(len, touched)) < 0.3 * everything


def test_too_few_pairs() -> None:
    with pytest.raises(ValueError, match="3 pairs for 2 ranks with at least 2 each"):
        split_over_ranks(*batch(3, 0), ranks=2, least=2)
