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

# As constants, because making such a number takes as long as adding a thousand of them.
_GOLDEN, _FIRST_FACTOR, _SECOND_FACTOR = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_1, _27, _30, _31 = map(np.uint64, (1, 27, 30, 31))
ROUNDS = 8
"""Feistel rounds of `permute`; with ideal round functions four already give a pseudorandom permutation."""
_STEPS = np.arange(1, ROUNDS + 1, dtype=np.uint64) * _GOLDEN
_CHUNK = 1 << 13
"""Numbers that `permute` computes at a time. Larger arrays do not fit in the cache of a core, and the allocator returns
their memory to the system after each operation: this took three times as long."""


@lru_cache(maxsize=8192)
def key(*parts: str | int) -> np.uint64:
    """A 64-bit key from names and numbers."""
    return np.uint64(int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little"))


def mix(x: Bits) -> Bits:
    """Scrambles 64-bit numbers one to one (the output function of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> _30)) * _FIRST_FACTOR
    x = (x ^ (x >> _27)) * _SECOND_FACTOR
    return x ^ (x >> _31)


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
    result, left = np.zeros(len(index), np.int64), np.flatnonzero(size > 1)
    image, limit, keys = index[left].astype(np.uint64), size[left].astype(np.uint64), keys[left]
    bits = np.maximum(np.frexp(limit - _1)[1], 2).astype(np.uint64)  # of the largest index; exact below 2⁵³
    while len(left):
        chunks = [slice(start, start + _CHUNK) for start in range(0, len(left), _CHUNK)]
        image = np.concatenate([_feistel(image[chunk], bits[chunk], keys[chunk]) for chunk in chunks])
        result[left] = image
        outside = np.flatnonzero(image >= limit)
        left = left[outside]
        image, limit, bits, keys = (array[outside] for array in (image, limit, bits, keys))
    return result


def _feistel(index: Bits, bits: Bits, keys: Bits) -> Bits:
    """Permutes numbers of `bits` binary digits each."""
    low_bits = bits >> _1
    low_mask = (_1 << low_bits) - _1
    high_mask = (_1 << (bits - low_bits)) - _1
    low, high = index & low_mask, index >> low_bits
    for half_round in range(0, ROUNDS, 2):
        low ^= mix((keys ^ high) + _STEPS[half_round]) & low_mask  # the half_round-th value of keys ^ high
        high ^= mix((keys ^ low) + _STEPS[half_round + 1]) & high_mask
    return (high << low_bits) | low
