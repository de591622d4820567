"""Random numbers that are a function of a key.

Only the raw output of Philox is used: numpy promises that stream for ever, but not the distributions built on
it, and the order of training data must not change with a numpy release.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def raw_bits(count: int, *key: str | int) -> npt.NDArray[np.uint64]:
    """`count` independent 64-bit numbers that depend on `key` alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(count)


def uniforms(count: int, *key: str | int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1)."""
    return (raw_bits(count, *key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(size: int, *key: str | int) -> npt.NDArray[np.int64]:
    """A random order of 0 … size−1."""
    return np.argsort(raw_bits(size, *key), kind="stable")
