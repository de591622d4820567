"""Bootstrap intervals are exactly those of loops over the seeded draws, with the documented seed and resamples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from translit_scale.evaluate import bootstrap
from translit_scale.evaluate.bootstrap import Estimate, accuracy, mean_accuracy, paired_difference, two_level

DOCUMENTED = {"seed": 0, "resamples": 10_000}
"""What docs/evaluation.md says, and what result files record as `bootstrap`."""
VERSES = ["v1", "v2", "v3", "v4", "v5"]
DIRECTIONS = [(VERSES, np.array([1.0, 0, 1, 1, 0])), (["v4"], np.array([1.0])), (["v6", "v2"], np.array([0.0, 1.0]))]
"""Three directions over six verses. Many resamples have a verse of only some directions, or only one of a direction."""


def interval(resampled: list[float]) -> list[float]:
    return np.percentile(resampled, [2.5, 97.5]).tolist()


@pytest.mark.parametrize("weights_at_once", [bootstrap._BLOCK, 1, 6 * 7])
def test_a_mean_of_directions_resamples_verses_together_in_any_block(
    weights_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK", weights_at_once)
    verses = [*VERSES, "v6"]
    means = []
    for draw in np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), size=500):
        times = dict(zip(verses, draw.tolist(), strict=True))
        of_direction = []
        for ids, hits in DIRECTIONS:
            drawn = [hit for key, hit in zip(ids, hits, strict=True) for _ in range(times[key])]
            of_direction += [np.mean(drawn)] if drawn else []  # a direction without a drawn verse says nothing
        means.append(float(np.mean(of_direction)))
    estimate = mean_accuracy(DIRECTIONS, seed=5, resamples=500)
    assert estimate.value == pytest.approx((3 / 5 + 1 + 1 / 2) / 3)
    assert [estimate.low, estimate.high] == pytest.approx(interval(means), abs=1e-12)


def test_two_levels_resample_seeds_and_then_items() -> None:
    """One language; a resample is the mean of as many seeds as there are, drawn with replacement."""
    draws = np.random.default_rng(3).random((400, 3, 2))
    chosen = np.random.default_rng(0).integers(0, 3, size=(400, 3))
    means = [float(np.mean([draws[row, seed].mean() for seed in seeds])) for row, seeds in enumerate(chosen)]
    estimate = two_level(draws)
    assert estimate.value == pytest.approx(draws.mean())
    assert [estimate.low, estimate.high] == pytest.approx(interval(means), abs=1e-12)


HITS = np.random.default_rng(1).random((2, 997)) < 0.6


@pytest.mark.parametrize(
    "estimate",
    [
        lambda **settings: accuracy(HITS[0], **settings),
        lambda **settings: paired_difference(HITS[0], HITS[1], **settings),
        lambda **settings: mean_accuracy([([str(i) for i in range(97)], np.linspace(0, 1, 97) ** 2)], **settings),
    ],
    ids=["accuracy", "paired_difference", "mean_accuracy"],
)
def test_without_settings_the_documented_ones_hold(estimate: Callable[..., Estimate]) -> None:
    assert estimate() == estimate(**DOCUMENTED)
    assert estimate() != estimate(**DOCUMENTED | {"seed": 1}) and estimate() != estimate(**DOCUMENTED | {"seed": 2})
