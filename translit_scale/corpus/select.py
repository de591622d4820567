"""Which sentences of a language are taken, and in which order.

Every sentence has a 64-bit hash, keyed by the recipe's seed. The k sentences with the smallest hashes are
taken and stored in ascending order of their hashes. So the choice does not depend on the order of the
input, a smaller sample is the beginning of a larger one, and rows come in random order.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Set
from fractions import Fraction

import numpy as np

from translit_scale.corpus.clean import fold
from translit_scale.errors import DataError


def sentence_hash(sentence: str, seed: int) -> int:
    """64-bit BLAKE2b of a cleaned sentence, keyed by the seed (0 <= seed < 2**63)."""
    digest = hashlib.blake2b(sentence.encode(), digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def sample_size(n: int, fraction: float, minimum: int) -> int:
    """max(⌈fraction · n⌉, min(n, minimum)): paper B takes 10 % but at least 10 000 of each language."""
    decimal = Fraction(str(fraction))  # as the recipe says it: 10 % of 70 are 7, but 0.1 * 70 > 7 in floats
    return max(math.ceil(decimal * n), min(n, minimum))


def select(
    read: Callable[[Counter[str]], Iterator[str]],
    held_out: Set[str],
    seed: int,
    fraction: float,
    minimum: int,
) -> tuple[list[str], Counter[str]]:
    """Sampled sentences of a language in ascending order of their hashes, and the counts.

    Reads twice: hashes first, then the text of the sampled ones. Memory is at most 24 bytes per sentence
    read and about 200 bytes besides its text per sentence taken. Of two different sentences with the same
    hash (probability 1e-5 among 20 million) the second in alphabetical order counts as a duplicate.

    Args:
        read: starts a pass over the cleaned sentences, counting what it drops.
        held_out: `fold`ed sentences that must not be taken.

    Returns:
        The sentences, and `read`, all reasons of `read`, `held_out`, `duplicate` and `not_sampled`; what
        is not counted under a reason is taken.

    Raises:
        DataError: the second pass does not find what the first one saw.
    """
    counts: Counter[str] = Counter()
    hashes = array("Q")
    for sentence in read(counts):
        if held_out and fold(sentence) in held_out:
            counts["held_out"] += 1
        else:
            hashes.append(sentence_hash(sentence, seed))
    distinct = np.unique(np.frombuffer(hashes, dtype=np.uint64)) if hashes else np.empty(0, np.uint64)
    size = sample_size(len(distinct), fraction, minimum)
    counts["duplicate"] = len(hashes) - len(distinct)
    counts["not_sampled"] = len(distinct) - size
    wanted = distinct[:size].tolist()
    del hashes, distinct

    text: dict[int, str] = {}
    for sentence in read(Counter()) if wanted else ():
        key = sentence_hash(sentence, seed)
        if key <= wanted[-1] and not (held_out and fold(sentence) in held_out):
            text[key] = min(sentence, text.get(key, sentence))
    if text.keys() != set(wanted):
        raise DataError("the text files changed while they were read", "run the same command again")
    return [text[key] for key in wanted], counts
