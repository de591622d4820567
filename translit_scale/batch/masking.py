"""Random masking of tokens, which depends on the pair and not on the rank or micro-batch that computes it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from translit_scale.batch.random_bits import Bits, derive, uniforms
from translit_scale.config import MaskingConfig


class MaskedTokens(NamedTuple):
    """Tokens of any number of sentences after masking."""

    input_ids: npt.NDArray[np.int64]
    """[n] input of the model."""
    selected: npt.NDArray[np.bool_]
    """[n] whether the model predicts the token."""


def mask_tokens(
    token_ids: npt.NDArray[np.int64],
    keys: Bits,
    position: npt.NDArray[np.int64],
    masking: MaskingConfig,
    mask_id: int,
    vocab_size: int,
) -> MaskedTokens:
    """Selects tokens with `mlm_probability`; replaces them by `<mask>` or a random token, or keeps them.

    Random tokens are drawn from the whole vocabulary, special tokens included, as in the papers' code.

    Args:
        token_ids: [n] ids without special tokens.
        keys: [n] random key of each token's sentence.
        position: [n] position of each token in its sentence.
        masking: probabilities; `mask_replace_prob` and `random_replace_prob` apply to the selected tokens.
    """
    selected = uniforms(derive(keys, 3 * position)) < masking.mlm_probability
    chosen = np.flatnonzero(selected)
    action = uniforms(derive(keys[chosen], 3 * position[chosen] + 1))
    input_ids = token_ids.copy()
    input_ids[chosen[action < masking.mask_replace_prob]] = mask_id
    replaced = chosen[
        (action >= masking.mask_replace_prob) & (action < masking.mask_replace_prob + masking.random_replace_prob)
    ]
    random_ids = uniforms(derive(keys[replaced], 3 * position[replaced] + 2)) * vocab_size
    input_ids[replaced] = random_ids.astype(np.int64)
    return MaskedTokens(input_ids, selected)
