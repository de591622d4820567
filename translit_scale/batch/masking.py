"""Random masking, from numbers that belong to the pair and not to the rank or micro-batch that sees it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from translit_scale.batch.random_bits import Bits, derive, uniforms
from translit_scale.config import MaskingConfig


class Masked(NamedTuple):
    """Tokens of any number of sentences, some of them hidden."""

    input_ids: npt.NDArray[np.int64]
    """[n] what the model sees."""
    selected: npt.NDArray[np.bool_]
    """[n] whether the token is to be predicted."""


def mask_tokens(
    token_ids: npt.NDArray[np.int64],
    keys: Bits,
    place: npt.NDArray[np.int64],
    masking: MaskingConfig,
    mask_id: int,
    vocab_size: int,
) -> Masked:
    """Selects each token with `masking.mlm_probability`; replaces 80 % by `<mask>`, 10 % by a random token.

    Random tokens come from the whole vocabulary, special tokens included, as in the papers' code.

    Args:
        token_ids: [n] ids without special tokens.
        keys: [n] random key of the sentence each token stands in.
        place: [n] place of each token in its sentence.
    """
    selected = uniforms(derive(keys, 3 * place)) < masking.mlm_probability
    chosen = np.flatnonzero(selected)
    action = uniforms(derive(keys[chosen], 3 * place[chosen] + 1))
    input_ids = token_ids.copy()
    input_ids[chosen[action < masking.mask_replace_prob]] = mask_id
    randomised = chosen[
        (action >= masking.mask_replace_prob) & (action < masking.mask_replace_prob + masking.random_replace_prob)
    ]
    random_ids = uniforms(derive(keys[randomised], 3 * place[randomised] + 2)) * vocab_size
    input_ids[randomised] = random_ids.astype(np.int64)
    return Masked(input_ids, selected)
