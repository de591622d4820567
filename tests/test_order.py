"""The stream of pairs covers all pairs, keeps the mixture, and does not depend on how it is split into batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.naive import visit_naively
from translit_scale.batch.cycle import LONG_CYCLE, STRIDE, Cycle, Stream, apportion, interleave
from translit_scale.batch.order import MAX_WINDOW, PairOrder
from translit_scale.batch.random_bits import derive, key, permute, uniforms
from translit_scale.config import MixtureConfig
from translit_scale.errors import ConfigError

Visit = tuple[str, int, int]
sizes = st.dictionaries(
    st.sampled_from(["pol_Latn", "ukr_Cyrl", "hin_Deva", "urd_Arab", "amh_Ethi"]), st.integers(1, 300), min_size=1
)


def visits(order: PairOrder, start: int, count: int) -> list[Visit]:
    """(language, epoch, row) of consecutive positions of the stream."""
    keys = order.batch(start, count)
    names = [order.languages[i] for i in keys.language]
    return list(zip(names, keys.epoch.tolist(), keys.row.tolist(), strict=True))


@given(sizes, st.integers(0, 2**32), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_concatenation_visits_every_pair_once_an_epoch(pairs: dict[str, int], seed: int, epoch: int) -> None:
    order = PairOrder(pairs, seed=seed)
    found = visits(order, epoch * order.total, order.total)
    assert len(found) == order.total
    assert set(found) == {(code, epoch, row) for code, n in pairs.items() for row in range(n)}


@pytest.mark.parametrize("size", [1, MAX_WINDOW - 1, MAX_WINDOW, MAX_WINDOW + 1, 3 * MAX_WINDOW + 777])
def test_epochs_of_windows_cover_and_stay_close(size: int) -> None:
    """Every row occurs once per epoch; visits of one window's length touch at most three windows (rotation)."""
    order = PairOrder({"pol_Latn": size}, seed=5)
    for epoch in range(2):
        rows = order.batch(epoch * size, size).row
        assert np.array_equal(np.sort(rows), np.arange(size))
        for start in range(0, size, MAX_WINDOW):
            assert len(np.unique(rows[start : start + MAX_WINDOW] // MAX_WINDOW)) <= 3


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_every_prefix_of_a_cycle_is_within_one_pair_of_its_proportion(quotas: list[int]) -> None:
    language = interleave(quotas)
    cycle = sum(quotas)
    counts = np.zeros(len(quotas), dtype=np.int64)
    for slot in range(cycle):
        counts[language[slot]] += 1
        assert (abs(counts * cycle - np.array(quotas) * (slot + 1)) < cycle).all()  # |count − quota| < 1, in integers


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=50), st.integers(50, 5000))
def test_quotas_are_whole_positive_and_fill_the_cycle(weights: list[float], slots: int) -> None:
    quotas = apportion(weights, slots)
    assert sum(quotas) == slots
    assert min(quotas) >= 1


@pytest.mark.parametrize("weights", [[1], [1, 1], [1, 2], [7e-9, 1], [0.3, 1e-7, 0, 0.7, 2e-6], list(range(1, 60))])
def test_any_proportions_are_kept_at_every_prefix(weights: list[float]) -> None:
    """Within three pairs and the rounding of the second cycle, of which a position as far as 10¹⁰ has its part."""
    proportions = np.array(weights) / sum(weights)
    stream, rounding = Stream(proportions, None), len(weights) / LONG_CYCLE**2
    for start in (0, LONG_CYCLE - 200, 10**10 + 77):
        languages, before = stream.languages(start, 3000), stream.counts(start)
        assert before.sum() == start
        counts = before + np.cumsum(languages[:, None] == np.arange(len(weights)), axis=0)
        positions = np.arange(start + 1, start + 3001)[:, None]
        assert (abs(counts - proportions * positions) < 3 + rounding * positions).all()
        assert np.array_equal(counts[-1], stream.counts(start + 3000))


def test_counts_of_a_cycle_are_those_of_its_slots() -> None:
    cycle = Cycle([STRIDE, 7, 2 * STRIDE, 0])
    length = len(cycle.slots)
    assert length == 3 * STRIDE + 7
    for position in (0, 1, STRIDE - 1, STRIDE, 3 * STRIDE, length - 1, length, 5 * length + STRIDE + 3):
        expected = np.bincount(cycle.languages(np.arange(position)), minlength=4)
        assert np.array_equal(cycle.counts(position), expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_epoch_of_many_languages_is_an_epoch_of_each(seed: int) -> None:
    """500 languages of 7 to some hundred million pairs, as those of Glot500-c."""
    sizes = np.exp(np.random.default_rng(seed).normal(11, 3, 500)).astype(np.int64) + 7
    order = PairOrder({f"l{number:03d}": int(n) for number, n in enumerate(sizes)})
    visited = np.array(list(order.visits_before(order.total).values()))
    assert (abs(visited - sizes) <= 3 + sizes.sum() * len(sizes) / LONG_CYCLE**2).all()


def test_no_language_is_repeated_more_often_than_allowed() -> None:
    """With temperature, a language of 7 pairs would take its place hundreds of times."""
    sizes = np.exp(np.random.default_rng(2).normal(11, 3, 500)).astype(np.int64) + 7
    pairs, length = {f"l{number:03d}": int(n) for number, n in enumerate(sizes)} | {"tiny": 7}, 200_000_000
    mixture = MixtureConfig(kind="temperature", alpha=0.3, max_repeats=8)
    visited = PairOrder(pairs, mixture, length=length).visits_before(length)
    assert all(visited[name] <= 8 * n + 4 for name, n in pairs.items())
    assert visited["tiny"] >= 8 * 7 - 4


def test_batches_cut_differently_are_the_same_stream() -> None:
    order = PairOrder({"pol_Latn": 150, "ukr_Cyrl": 77}, seed=3)
    whole = visits(order, 0, 600)
    assert [v for start in range(0, 600, 7) for v in visits(order, start, min(7, 600 - start))] == whole
    fresh = PairOrder({"ukr_Cyrl": 77, "pol_Latn": 150}, seed=3)
    assert visits(fresh, 250, 100) == whole[250:350]  # no history needed, order of languages in the input irrelevant


def test_far_positions_need_no_history() -> None:
    order = PairOrder({"pol_Latn": 50_000, "ukr_Cyrl": 1000}, MixtureConfig(kind="temperature", alpha=0.3), seed=1)
    assert len(order.phases[0].stream.cycle.slots) == LONG_CYCLE
    far = order.batch(10**15, 64)
    assert set(far.language.tolist()) == {0, 1}
    assert (far.row >= 0).all() and (far.row < 50_000).all()


def test_temperature_mixture_raises_small_languages() -> None:
    order = PairOrder({"pol_Latn": 9000, "ukr_Cyrl": 1000}, MixtureConfig(kind="temperature", alpha=0.5), seed=0)
    share = (order.batch(0, 4096).language == 1).mean()
    assert share == pytest.approx(1 / (1 + 9**0.5), abs=3 / 4096)


def test_epochs_seeds_and_visits_differ() -> None:
    pairs = {"pol_Latn": 200}
    first, second = (PairOrder(pairs, seed=0).batch(start, 200) for start in (0, 200))
    assert first.row.tolist() != second.row.tolist()
    assert len(set(first.bits.tolist()) | set(second.bits.tolist())) == 400  # no two visits have the same masks
    assert PairOrder(pairs, seed=1).batch(0, 200).row.tolist() != first.row.tolist()


def test_a_batch_is_its_visits_computed_one_by_one() -> None:
    """Across the ends of epochs, windows, cycles and phases; languages of one pair to several windows."""
    pairs = {"rus_Cyrl": 3 * MAX_WINDOW + 777, "tig_Ethi": 1, "tir_Ethi": 2 * MAX_WINDOW, "amh_Ethi": 91}
    mixture, change = MixtureConfig(kind="temperature", alpha=0.5), 2 * LONG_CYCLE + 5000
    order = PairOrder(pairs, mixture, [(change, MixtureConfig()), (change + 3, mixture)], seed=9)
    for start in (0, LONG_CYCLE - 300, change - 300, change + 1, 10**11):
        keys = order.batch(start, 600)
        found = zip(*(column.tolist() for column in (keys.language, keys.epoch, keys.row, keys.bits)), strict=True)
        assert list(found) == [visit_naively(order, 9, position) for position in range(start, start + 600)]


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(ConfigError, match="every language is empty"):
        PairOrder({"pol_Latn": 0})


@given(st.integers(1, 5000), st.integers(0, 2**63))
@settings(max_examples=60, deadline=None)
def test_permute_is_a_permutation(size: int, seed: int) -> None:
    found = permute(np.arange(size), np.full(size, size), np.full(size, key(seed)))
    assert np.array_equal(np.sort(found), np.arange(size))


def test_permute_moves_everything_about_evenly() -> None:
    """Over 4 000 keys, each of 10 positions gets each of 10 elements about 400 times (chi-square of 81 degrees)."""
    keys = np.array([key("even", i) for i in range(4000)])
    places = np.stack([permute(np.full(4000, i), np.full(4000, 10), keys) for i in range(10)])
    counts = np.array([[(places[i] == j).sum() for j in range(10)] for i in range(10)])
    assert ((counts - 400) ** 2 / 400).sum() < 140


def test_random_bits_are_fixed_for_ever() -> None:
    """Golden values: other numbers would silently change every experiment."""
    assert derive(np.array([key(0, "order", "pol_Latn")]), np.arange(2)).tolist() == GOLDEN_BITS
    assert permute(np.arange(8), np.full(8, 8), np.full(8, key("x"))).tolist() == GOLDEN_PERMUTATION
    for size, expected in GOLDEN_SMALL.items():  # as the windows of a language are few
        found = [permute(np.arange(size), np.full(size, size), np.full(size, key("small", i))) for i in range(3)]
        assert [one.tolist() for one in found] == expected
    numbers = uniforms(derive(np.full(10_000, key("y")), np.arange(10_000)))
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.02


GOLDEN_BITS = [3729245888691867176, 10022413056115121660]
GOLDEN_PERMUTATION = [6, 4, 1, 5, 2, 7, 0, 3]
GOLDEN_SMALL = {
    2: [[1, 0], [1, 0], [1, 0]],
    3: [[1, 2, 0], [1, 2, 0], [1, 0, 2]],
    4: [[1, 2, 0, 3], [1, 3, 0, 2], [1, 0, 2, 3]],
    5: [[1, 3, 2, 4, 0], [3, 2, 4, 0, 1], [4, 1, 3, 2, 0]],
}


def test_the_order_of_pairs_is_fixed_for_ever() -> None:
    """Golden values in both phases of a stream, across the end of a cycle and of the first phase, and far away."""
    pairs = {"pol_Latn": 100_000, "ukr_Cyrl": 30_000, "bul_Cyrl": 900}
    change = (600_000, MixtureConfig())
    order = PairOrder(pairs, MixtureConfig(kind="temperature", alpha=0.5), changes=[change], seed=3)
    for start, expected in GOLDEN_VISITS.items():
        assert visits(order, start, len(expected)) == expected
    assert order.batch(0, 2).bits.tolist() == [15262721427234882904, 8530285496738235124]


GOLDEN_VISITS: dict[int, list[Visit]] = {
    0: [("pol_Latn", 0, 74792), ("ukr_Cyrl", 0, 7289), ("pol_Latn", 0, 76864), ("pol_Latn", 0, 70540)],
    2**18 - 2: [("pol_Latn", 1, 18306), ("pol_Latn", 1, 9747), ("pol_Latn", 1, 11795), ("ukr_Cyrl", 2, 10967)],
    600_000 - 2: [("pol_Latn", 3, 11390), ("ukr_Cyrl", 6, 18868), ("pol_Latn", 3, 14600), ("pol_Latn", 3, 19842)],
    10**12: [
        ("pol_Latn", 7639418, 52031),
        ("ukr_Cyrl", 7639421, 6163),
        ("pol_Latn", 7639418, 58600),
        ("pol_Latn", 7639418, 53546),
    ],
}


@pytest.mark.parametrize(
    ("pairs", "mixture", "slots"),
    [
        (1000, MixtureConfig(), 1000),  # an epoch
        (2**22 + 1, MixtureConfig(), 262_144),  # too long to be computed at every start
        (1000, MixtureConfig(kind="temperature"), 262_144),
    ],
)
def test_a_cycle_is_an_epoch_or_has_a_fixed_number_of_slots(pairs: int, mixture: MixtureConfig, slots: int) -> None:
    assert len(PairOrder({"pol_Latn": pairs}, mixture).phases[0].stream.cycle.slots) == slots


@pytest.mark.parametrize(("languages", "rows"), [(1, 16_384), (16, 16_384), (20, 13_107), (64, 4096), (200, 4096)])
def test_windows_are_narrower_with_many_languages(languages: int, rows: int) -> None:
    assert PairOrder({f"l{number}": 1 for number in range(languages)}).window_rows == rows


@pytest.mark.parametrize(
    ("weights", "slots", "quotas"),
    [
        ([5, 3, 2], 7, [4, 2, 1]),  # exactly 3.5, 2.1 and 1.4
        ([2, 3, 5], 7, [1, 2, 4]),
        ([1, 1, 1], 5, [2, 2, 1]),  # equal remainders: the first ones
        ([1000, 1, 1], 10, [8, 1, 1]),  # at least one
        ([1, 0, 3], 6, [2, 0, 4]),  # 1.5 and 4.5
    ],
)
def test_quotas_are_rounded_by_largest_remainder(weights: list[float], slots: int, quotas: list[int]) -> None:
    assert apportion(weights, slots) == quotas
