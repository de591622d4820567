"""Proportions of languages by size, by weight and with a limit of repeats; mixtures that change during training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from translit_scale.batch.mixture import cap_proportions, language_proportions
from translit_scale.batch.order import PairOrder
from translit_scale.config import DataConfig, MixtureChange, MixtureConfig, TrainConfig
from translit_scale.errors import ConfigError

EVEN = MixtureConfig(kind="temperature", alpha=0.0)


def visits(order: PairOrder, start: int, count: int) -> list[tuple[str, int, int]]:
    keys = order.batch(start, count)
    return [(order.languages[i], e, r) for i, e, r in zip(keys.language, keys.epoch, keys.row, strict=True)]


def test_proportions() -> None:
    pairs = np.array([900, 100])
    languages = ("pol_Latn", "ukr_Cyrl")
    assert language_proportions(MixtureConfig(), languages, pairs).tolist() == [0.9, 0.1]
    assert language_proportions(MixtureConfig(kind="temperature", alpha=0.5), languages, pairs).tolist() == [0.75, 0.25]
    weights = MixtureConfig(kind="weights", weights={"ukr_Cyrl": 3.0})
    assert language_proportions(weights, languages, pairs).tolist() == [0.0, 1.0]
    with pytest.raises(ConfigError, match="no pairs of xho_Latn"):
        language_proportions(MixtureConfig(kind="weights", weights={"xho_Latn": 1}), languages, pairs)
    some = MixtureConfig(kind="temperature", alpha=0.5, languages=["ukr_Cyrl"])
    assert language_proportions(some, languages, pairs).tolist() == [0.0, 1.0]
    with pytest.raises(ConfigError, match=r"data\.mixture\.languages: no pairs of xho_Latn"):
        language_proportions(MixtureConfig(languages=["ukr_Cyrl", "xho_Latn"]), languages, pairs)
    with pytest.raises(ValueError, match="is left out by having no weight"):
        MixtureConfig(kind="weights", weights={"ukr_Cyrl": 1.0}, languages=["ukr_Cyrl"])


@pytest.mark.parametrize("settings", [{"kind": "weights"}, {"weights": {"pol_Latn": 1}}])
def test_weights_belong_to_their_kind(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="weights"):
        MixtureConfig.model_validate(settings)


def test_a_language_without_weight_never_comes() -> None:
    order = PairOrder(
        {"pol_Latn": 50, "ukr_Cyrl": 50, "bul_Cyrl": 50},
        MixtureConfig(kind="weights", weights={"pol_Latn": 1, "bul_Cyrl": 2}),
    )
    counts = Counter(language for language, _, _ in visits(order, 0, 3000))
    assert set(counts) == {"pol_Latn", "bul_Cyrl"}
    assert counts["bul_Cyrl"] == pytest.approx(2000, abs=3)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=8))
@example([(1.0, 1.0 - 1e-16)])
@settings(max_examples=100, deadline=None)
def test_capped_proportions_sum_to_one_and_keep_their_ratios_below_limits(
    values: list[tuple[float, float]],
) -> None:
    proportions, limits = (np.array(column) for column in zip(*values, strict=True))
    proportions, limits = proportions / proportions.sum(), limits * len(values)
    names = [str(i) for i in range(len(values))]
    if limits.sum() < 1 - 1e-6:
        with pytest.raises(ConfigError):
            cap_proportions(proportions, limits, names)
        return
    capped = cap_proportions(proportions, limits, names)
    assert capped.sum() == pytest.approx(1)
    assert (capped <= limits + 1e-9).all()
    free = capped < limits - 1e-9
    assert np.ptp(capped[free] / proportions[free]) < 1e-9 if free.any() else True


def test_no_language_is_repeated_more_often_than_allowed() -> None:
    pairs = {"pol_Latn": 5000, "ukr_Cyrl": 100, "bul_Cyrl": 40}
    length = 6000
    order = PairOrder(pairs, EVEN.model_copy(update={"max_repeats": 3.0}), length=length)
    counts = Counter(language for language, _, _ in visits(order, 0, length))
    assert counts["ukr_Cyrl"] <= 301 and counts["bul_Cyrl"] <= 121 and counts["pol_Latn"] >= 5578
    with pytest.raises(ConfigError, match=r"step 0 on: repeated as .* are 85\.\d% of what training needs"):
        PairOrder(pairs, EVEN.model_copy(update={"max_repeats": 1.0}), length=length)


def test_a_change_of_mixture_loses_and_repeats_nothing() -> None:
    pairs = {"pol_Latn": 300, "ukr_Cyrl": 200}
    plain, change = PairOrder(pairs, seed=4), 130
    changed = PairOrder(pairs, changes=[(change, EVEN)], seed=4)
    assert visits(changed, 0, change) == visits(plain, 0, change)
    after = visits(changed, change, 300)
    assert Counter(language for language, _, _ in after) == {"pol_Latn": 150, "ukr_Cyrl": 150}
    seen = visits(changed, 0, change + 300)
    assert len(set(seen)) == len(seen)
    for language, n in pairs.items():  # the order of a language's first epoch does not change
        own = [v for v in seen if v[0] == language and v[1] == 0]
        expected = [v for v in visits(plain, 0, 500) if v[0] == language]
        assert own == expected[: len(own)] and len(own) <= n


def test_a_batch_across_a_change_and_a_far_one_need_no_history() -> None:
    order = PairOrder({"pol_Latn": 30, "ukr_Cyrl": 20}, changes=[(75, EVEN), (10**9, MixtureConfig())], seed=1)
    whole = visits(order, 0, 200)
    assert [v for start in range(0, 200, 9) for v in visits(order, start, min(9, 200 - start))] == whole
    far = visits(order, 10**9 - 50, 100)
    assert Counter(language for language, _, _ in far[:50]) == {"pol_Latn": 25, "ukr_Cyrl": 25}
    assert Counter(language for language, _, _ in far[50:]) == {"pol_Latn": 30, "ukr_Cyrl": 20}


def test_a_later_change_does_not_move_earlier_pairs() -> None:
    """Adding a change keeps the pairs before it, even with a limit of repeats, which depends on the future."""
    capped_mixture = EVEN.model_copy(update={"max_repeats": 4.0})
    pairs = {"pol_Latn": 900, "ukr_Cyrl": 50}
    before = PairOrder(pairs, capped_mixture, length=2000)
    after = PairOrder(pairs, capped_mixture, changes=[(1000, MixtureConfig())], length=2000)
    assert visits(before, 0, 1000) == visits(after, 0, 1000)


def test_languages_resume_where_they_stopped_after_each_of_several_changes() -> None:
    pairs = {"pol_Latn": 300, "ukr_Cyrl": 200}
    plain = visits(PairOrder(pairs, seed=4), 0, 2000)
    changed = visits(PairOrder(pairs, changes=[(130, EVEN), (270, MixtureConfig()), (777, EVEN)], seed=4), 0, 1100)
    for language in pairs:
        own = [visit for visit in changed if visit[0] == language]
        assert own == [visit for visit in plain if visit[0] == language][: len(own)]


def test_a_limit_of_repeats_after_the_end_of_training_limits_nothing() -> None:
    pairs, capped = {"pol_Latn": 900, "ukr_Cyrl": 50}, EVEN.model_copy(update={"max_repeats": 1.0})
    for change in (500, 501, 700):
        order = PairOrder(pairs, changes=[(change, capped)], length=500)
        assert visits(order, 0, 500) == visits(PairOrder(pairs), 0, 500)


def test_languages_may_join_later() -> None:
    """A mixture of some languages has their pairs only, once an epoch; a language that joins begins at its start."""
    pairs = {"pol_Latn": 300, "ukr_Cyrl": 200, "bul_Cyrl": 40}
    some = MixtureConfig(languages=["ukr_Cyrl", "bul_Cyrl"])
    order = PairOrder(pairs, some, changes=[(480, MixtureConfig())], seed=4)
    first, then = visits(order, 0, 480), visits(order, 480, 540)
    assert Counter(Counter((language, row) for language, _, row in first).values()) == {2: 240}
    plain = [visit for visit in visits(PairOrder(pairs, seed=4), 0, 540) if visit[0] == "pol_Latn"]
    assert [visit for visit in then if visit[0] == "pol_Latn"] == plain
    assert {epoch for language, epoch, _ in then if language != "pol_Latn"} == {2}


def test_a_limit_of_repeats_that_is_too_low_names_the_mixture_and_its_languages() -> None:
    pairs = {"pol_Latn": 300, "ukr_Cyrl": 200, "bul_Cyrl": 40}
    some = MixtureConfig(languages=["ukr_Cyrl", "bul_Cyrl"], max_repeats=2)
    message = r"the mixture from step {} on: .* the pairs of bul_Cyrl, ukr_Cyrl are {} of what training needs from that"
    with pytest.raises(ConfigError, match=message.format(0, r"48\.0%")) as found:
        PairOrder(pairs, some, changes=[(480, MixtureConfig())], length=1000)
    assert "if another mixture follows, set max_repeats there only" in found.value.hint
    data = DataConfig(shards=Path("none"), mixture_schedule=[MixtureChange(from_step=3, mixture=some)])
    with pytest.raises(ConfigError, match=message.format(3, r"\d+\.\d%")):
        PairOrder.of_experiment(data, TrainConfig(batch_pairs=100, max_steps=10), pairs)
