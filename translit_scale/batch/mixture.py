"""Computes the proportion of each language in a mixture and spreads the languages evenly over a cycle of slots."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from translit_scale.config import MixtureConfig
from translit_scale.errors import ConfigError
from translit_scale.languages import listed

Proportions = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def language_proportions(mixture: MixtureConfig, languages: Sequence[str], pairs: Counts) -> Proportions:
    """[L] proportions of the languages before `max_repeats` is applied; they sum to 1.

    Args:
        languages, pairs: [L] codes and numbers of pairs.

    Raises:
        ConfigError: `weights` or `languages` names a language that has no pairs.
    """
    weights = mixture.weights or {}
    for setting, named in {"weights": weights.keys(), "languages": set(mixture.languages or ())}.items():
        if unknown := sorted(named - set(languages)):
            raise ConfigError(
                f"data.mixture.{setting}: no pairs of {', '.join(unknown)}", f"there are pairs of {listed(languages)}"
            )
    if mixture.kind == "weights":
        scores = np.array([weights.get(language, 0.0) for language in languages])
    else:
        scores = pairs.astype(np.float64) ** (1.0 if mixture.kind == "concatenate" else mixture.alpha)
    if mixture.languages is not None:
        scores *= np.isin(languages, mixture.languages)
    return scores / scores.sum()


def cap_proportions(
    proportions: Proportions, limits: Proportions, languages: Sequence[str], from_step: int = 0
) -> Proportions:
    """Reduces proportions to their limits; the other languages take over the rest in proportion.

    Args:
        proportions: [L] sum to 1; limits: [L] upper bounds.
        languages, from_step: [L] codes, and the first step of the mixture, for the message.

    Raises:
        ConfigError: the limits sum to less than 1.
    """
    largest = limits[proportions > 0].sum()
    if largest < 1 - 1e-9:
        taking_part = [language for language, part in zip(languages, proportions, strict=True) if part]
        raise ConfigError(
            f"max_repeats of the mixture from step {from_step:,} on: repeated as often as allowed, the pairs of "
            f"{listed(taking_part)} are {largest:.1%} of what training needs from that step to its end",
            "train fewer steps or epochs, raise max_repeats, or add text; if another mixture follows, set max_repeats "
            "there only",
        )
    full = np.zeros(len(proportions), bool)
    result = proportions
    while (over := ~full & (result > limits)).any():
        full |= over
        free = proportions[~full].sum()
        result = np.where(full, limits, proportions * ((1 - limits[full].sum()) / free if free else 0.0))
    return result


def apportion(weights: Sequence[float], slots: int) -> list[int]:
    """Integer quotas ∝ `weights` that sum to `slots` (largest remainder); weights above 0 get at least one slot."""
    total = sum(weights)
    exact = [weight * slots / total for weight in weights]
    quotas = [max(1, int(quota)) if quota else 0 for quota in exact]
    assert slots >= sum(map(bool, quotas))
    by_remainder = sorted((i for i, quota in enumerate(quotas) if quota), key=lambda i: (quotas[i] - exact[i], i))
    while (missing := slots - sum(quotas)) > 0:
        for i in by_remainder[:missing]:
            quotas[i] += 1
    while sum(quotas) > slots:  # the minimum of one made the sum too large: take from the largest quota
        quotas[quotas.index(max(quotas))] -= 1
    return quotas


def interleave(quotas: Sequence[int]) -> tuple[npt.NDArray[np.int32], Counts]:
    """Spreads each language's slots evenly over a cycle of C = sum(quotas) slots.

    At every prefix, a language's count stays within one of its proportion if its k-th slot (from 0) of q lies in
    [⌊kC/q⌋, ⌈(k+1)C/q⌉ − 1]. Scheduling the earliest deadline first always achieves this (Tijdeman 1980, the chairman
    assignment problem).

    Returns:
        [C] language index of each slot; [C] number of earlier slots of that language in the cycle.
    """
    cycle = sum(quotas)
    language, rank = np.empty(cycle, np.int32), np.empty(cycle, np.int64)
    waiting = [(0, i, 0) for i, quota in enumerate(quotas) if quota]  # (release, language, k)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []  # (deadline, language, k)
    for slot in range(cycle):
        while waiting and waiting[0][0] <= slot:
            _, i, k = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(k + 1) * cycle // quotas[i]) - 1, i, k))
        _, i, k = heapq.heappop(ready)
        language[slot], rank[slot] = i, k
        if k + 1 < quotas[i]:
            heapq.heappush(waiting, ((k + 1) * cycle // quotas[i], i, k + 1))
    return language, rank
