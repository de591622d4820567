"""Random masking of one sentence, from numbers that belong to the pair and not to the rank that sees it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from translit_scale.config import MaskingConfig


class Masked(NamedTuple):
    """A sentence with some tokens hidden."""

    input_ids: npt.NDArray[np.int64]
    """[n] what the model sees."""
    positions: npt.NDArray[np.int64]
    """[m] which of the n tokens are to be predicted, ascending."""
    labels: npt.NDArray[np.int64]
    """[m] their original ids."""


def mask_tokens(
    token_ids: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.float64],
    masking: MaskingConfig,
    mask_id: int,
    vocab_size: int,
) -> Masked:
    """Selects each token with `masking.probability`; replaces 80 % by `<mask>`, 10 % by a random token.

    Random tokens come from the whole vocabulary, special tokens included, as in the papers' code.

    Args:
        token_ids: [n] ids without special tokens.
        numbers: [3, n] uniform in [0, 1): is it selected, what replaces it, by which random token.
    """
    selected, action, replacement = numbers
    positions = np.flatnonzero(selected < masking.probability)
    input_ids = token_ids.copy()
    chosen = action[positions]
    input_ids[positions[chosen < masking.mask_share]] = mask_id
    randomised = positions[(chosen >= masking.mask_share) & (chosen < masking.mask_share + masking.random_share)]
    input_ids[randomised] = (replacement[randomised] * vocab_size).astype(np.int64)
    return Masked(input_ids, positions, token_ids[positions])
