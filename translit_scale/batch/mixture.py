"""Computes the proportion of each language in a mixture."""

from __future__ import annotations

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
