"""Random numbers and permutations as pure functions of a key, computed for whole arrays at once.

All randomness in the data (order, masks, coin flips) comes from here. It uses integer arithmetic only, so the numbers
are the same on every machine and with every numpy release, and there is no generator whose state could be lost.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ROUNDS = 8
"""Feistel rounds of `permute`; with ideal round functions four already give a pseudorandom permutation."""


@lru_cache(maxsize=8192)
def key(*parts: str | int) -> np.uint64:
    """A 64-bit key from names and numbers."""
    return np.uint64(int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little"))


def mix(x: Bits) -> Bits:
    """Scrambles 64-bit numbers one to one (the output function of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def derive(keys: Bits, number: npt.ArrayLike) -> Bits:
    """The `number`-th value (≥ 0, broadcast) of the SplitMix64 stream that starts from each of `keys`."""
    return mix(keys + (np.atleast_1d(number).astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def uniforms(bits: Bits) -> npt.NDArray[np.float64]:
    """Converts random bits to numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(index: npt.NDArray[np.int64], size: npt.NDArray[np.int64], keys: Bits) -> npt.NDArray[np.int64]:
    """Applies a keyed permutation of 0 … size−1 to `index`; each element has its own size and key.

    The permutation is a Feistel network over the next power of two, repeated until the result is below `size` (cycle
    walking). It needs no table, and index 10⁹ costs as much as index 0.

    Args:
        index: [n] with 0 ≤ index < size; size: [n] ≥ 1; keys: [n].

    Returns:
        [n] images of `index`.
    """
    bits = np.maximum(np.ceil(np.log2(np.maximum(size, 2))).astype(np.uint64), np.uint64(2))
    low_bits = bits // np.uint64(2)
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    high_mask = (np.uint64(1) << (bits - low_bits)) - np.uint64(1)
    result = index.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        shift, lows, highs, round_keys = low_bits[outside], low_mask[outside], high_mask[outside], keys[outside]
        low, high = result[outside] & lows, result[outside] >> shift
        for half_round in range(0, ROUNDS, 2):
            low = low ^ (derive(round_keys ^ high, half_round) & lows)
            high = high ^ (derive(round_keys ^ low, half_round + 1) & highs)
        result[outside] = (high << shift) | low
        outside = outside[result[outside] >= size[outside].astype(np.uint64)]
    return result.astype(np.int64)
