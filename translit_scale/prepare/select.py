"""Samples the sentences of a language and determines their order.

Every sentence has a 64-bit hash, keyed by the recipe's seed. The k sentences with the smallest hashes are taken and
stored in ascending order of their hashes. So the sample does not depend on the order of the input, a smaller sample is
the beginning of a larger one, and rows are in random order.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from fractions import Fraction
from itertools import islice
from pathlib import Path

from translit_scale.corpus.clean import deduplication_key, fold
from translit_scale.corpus.text import Sentence
from translit_scale.prepare.recipe import Sample

_BUCKET_BYTES = 32 * 2**20
"""Approximate size of a bucket; one bucket at a time is sorted in memory."""
_PENDING_BYTES = 64 * 2**20
"""Approximate size of what a `Spool` keeps in memory before it writes to its files."""
_HASH_DIGITS = 16
_HASH_BITS = 64
_LINE_BYTES = 41
"""What Python adds to the text of a line in memory: the head of an object and a pointer in a list."""


def sentence_hash(sentence: str, seed: int) -> int:
    """64-bit BLAKE2b of a sentence's `deduplication_key`, keyed by the seed (0 <= seed < 2**63)."""
    digest = hashlib.blake2b(sentence.encode(), digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def sample_size(n: int, sample: Sample) -> int:
    """max(⌈fraction · n⌉, min(n, minimum)), up to maximum: paper B takes 10 % but at least 10 000 of each language."""
    decimal = Fraction(str(sample.fraction))  # the decimal number: 10 % of 70 are 7, but 0.1 * 70 > 7 in floats
    size = max(math.ceil(decimal * n), min(n, sample.minimum))
    return size if sample.maximum is None else min(size, sample.maximum)


class Spool:
    """Sorts sentences by their hashes with bounded memory: one bucket for each prefix of a hash, sorted one at a time.

    A sentence is kept as a line that begins with its hash in hexadecimal, so lines are in the order of hashes, and of
    two sentences with the same hash the alphabetically first is first. What follows the sentence after a tab goes with
    it; of several lines with the same sentence, the first one added is kept.

    Lines beyond 64 MB are kept in files, which the caller removes with their folder. Sorting a bucket of 32 MB takes 70
    MB, or up to 300 MB if a sentence has 20 bytes; the memory does not depend on the number of sentences.

    Args:
        folder: for the files; created when the first one is written.
        text_bytes: estimated size of all lines; determines the number of buckets and the memory, but not the result.
    """

    def __init__(self, folder: Path, text_bytes: int) -> None:
        self._folder = folder
        self._bits = (max(text_bytes - 1, 0) // _BUCKET_BYTES).bit_length()
        self._pending: list[list[bytes]] = [[] for _ in range(1 << self._bits)]
        self._pending_bytes = 0
        self._on_disk = False

    def add(self, line_text: str, key: int) -> None:
        """Keeps a sentence, and what follows it after a tab, under the hash of the sentence."""
        line = b"%016x%s\n" % (key, line_text.encode())
        self._pending[key >> (_HASH_BITS - self._bits)].append(line)
        self._pending_bytes += len(line) + _LINE_BYTES
        if self._pending_bytes > _PENDING_BYTES:
            self._write()

    def _write(self) -> None:
        """Appends the lines in memory to the files, which are not kept open: a process may not open so many at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for bucket, lines in enumerate(self._pending):
            with self._file(bucket).open("ab") as file:
                file.writelines(lines)
            lines.clear()
        self._pending_bytes = 0
        self._on_disk = True

    def _file(self, bucket: int) -> Path:
        return self._folder / f"{bucket:04x}"

    def _lines(self, bucket: int) -> Iterator[bytes]:
        if not self._on_disk:
            yield from self._pending[bucket]
            return
        if self._pending_bytes:
            self._write()
        with self._file(bucket).open("rb") as file:
            yield from file

    def distinct(self) -> int:
        """Number of different hashes."""
        return sum(len({line[:_HASH_DIGITS] for line in self._lines(b)}) for b in range(len(self._pending)))

    def ascending(self) -> Iterator[bytes]:
        """Lines in ascending order of their hashes, one for each hash, as UTF-8."""
        for bucket in range(len(self._pending)):
            lines: dict[bytes, bytes] = {}
            for line in self._lines(bucket):
                lines.setdefault(line.partition(b"\t")[0], line)
            last = b""
            for sentence in sorted(lines):
                if sentence[:_HASH_DIGITS] != last:
                    last = sentence[:_HASH_DIGITS]
                    yield lines[sentence][_HASH_DIGITS:]
            self._file(bucket).unlink(missing_ok=True)


def select(
    sentences: Iterable[Sentence], counts: Counter[str], held_out: Set[str], seed: int, sample: Sample, spool: Spool
) -> Iterator[bytes]:
    """Sampled sentences of a language in ascending order of their hashes, as lines of UTF-8.

    A line is a sentence, and after a tab its transliteration where that is not None; `parse_line` reads it. Of equal
    sentences the first one read keeps its transliteration; of duplicates that differ in their characters, such as
    full-width and usual digits, the alphabetically first is kept.

    Reads once. Of two different sentences with the same hash (probability 1e-4 among 63 million) the second in
    alphabetical order counts as a duplicate.

    Args:
        sentences: must be cleaned.
        counts: `held_out`, `duplicate` and `not_sampled` are added before this returns.
        held_out: `fold`ed sentences that are left out.
        spool: must be empty.
    """
    added = 0
    for text, transliteration in sentences:
        if held_out and fold(text) in held_out:
            counts["held_out"] += 1
        else:
            spool.add(
                text if transliteration is None else f"{text}\t{transliteration}",
                sentence_hash(deduplication_key(text), seed),
            )
            added += 1
    distinct = spool.distinct()
    size = sample_size(distinct, sample)
    counts["duplicate"] = added - distinct
    counts["not_sampled"] = distinct - size
    return islice(spool.ascending(), size)


def parse_line(line: str) -> Sentence:
    """The sentence and transliteration in a line that `select` made, without its line end."""
    text, tab, transliteration = line.partition("\t")
    return Sentence(text, transliteration if tab else None)
