"""How often each language comes: shares of a mixture, and an even spread of them over a cycle of slots."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from translit_scale.config import MixtureConfig
from translit_scale.errors import ConfigError
from translit_scale.languages import listed

Shares = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def shares_of(mixture: MixtureConfig, languages: Sequence[str], pairs: Counts) -> Shares:
    """The share of each language, without regard to `max_repeats`; they sum to 1.

    Args:
        languages, pairs: [L] codes and numbers of pairs.

    Raises:
        ConfigError: `weights` names a language that is not there, or gives all others nothing.
    """
    if mixture.kind == "weights":
        weights = mixture.weights or {}
        if unknown := sorted(weights.keys() - set(languages)):
            raise ConfigError(
                f"data.mixture.weights: no pairs of {', '.join(unknown)}", f"there are pairs of {listed(languages)}"
            )
        share = np.array([weights.get(language, 0.0) for language in languages])
    else:
        share = pairs.astype(np.float64) ** (1.0 if mixture.kind == "concatenate" else mixture.alpha)
    return share / share.sum()


def capped(share: Shares, most: Shares, languages: Sequence[str]) -> Shares:
    """The shares nearest to `share` in proportion of which none exceeds `most`: what is cut off goes to the others.

    Args:
        share: [L] sums to 1; most: [L] upper bounds.

    Raises:
        ConfigError: even at their bounds the shares do not sum to 1.
    """
    if most[share > 0].sum() < 1 - 1e-9:
        raise ConfigError(
            f"data.mixture.max_repeats: all pairs repeated so often are {most[share > 0].sum():.1%} of what training "
            f"asks of {listed(languages)}",
            "train fewer steps or epochs, raise max_repeats, or add text",
        )
    full = np.zeros(len(share), bool)
    result = share
    while (over := ~full & (result > most)).any():
        full |= over
        free = share[~full].sum()
        result = np.where(full, most, share * ((1 - most[full].sum()) / free if free else 0.0))
    return result


def apportion(weights: Sequence[float], slots: int) -> list[int]:
    """Whole quotas ∝ weights that sum to `slots` (largest remainder), at least one for each weight above 0."""
    total = sum(weights)
    exact = [weight * slots / total for weight in weights]
    quotas = [max(1, int(share)) if share else 0 for share in exact]
    assert slots >= sum(map(bool, quotas))
    by_remainder = sorted((i for i, quota in enumerate(quotas) if quota), key=lambda i: (quotas[i] - exact[i], i))
    while (missing := slots - sum(quotas)) > 0:
        for i in by_remainder[:missing]:
            quotas[i] += 1
    while sum(quotas) > slots:  # the minimum of one has been given too often: take from the largest
        quotas[quotas.index(max(quotas))] -= 1
    return quotas


def interleave(quotas: Sequence[int]) -> tuple[npt.NDArray[np.int32], Counts]:
    """Spreads each language's slots evenly over a cycle of sum(quotas) slots.

    The k-th slot (from 0) of a language with quota q in a cycle of C must lie in [⌊kC/q⌋, ⌈(k+1)C/q⌉ − 1] for its
    count to stay within one of its share at every prefix; serving the earliest deadline first always meets this
    (Tijdeman 1980, the chairman assignment problem).

    Returns:
        slot → language index [C], slot → how many slots of this language came before in the cycle [C].
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
