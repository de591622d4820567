"""Shards: WebDataset tars of text blocks of one language each.

A sample of the tar is one block of about 1000 pairs: `<lang>-<shard>-<block>.lengths.npy`, `.orig.txt`, `.latn.txt`
(one sentence per line) and `.json`; languages with several transliterations also have `.latn2.txt` and so on. Plain
`webdataset` and `tar` can read it. `ShardSet` seeks to the span of a single block, which the manifest records.
"""

from __future__ import annotations

import errno
import stat
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import IO, TypeVar

from translit_scale.corpus.blocks import (
    Block,
    Lengths,
    decode_block,
    decode_columns,
    decode_lengths,
    encode_block,
    lengths_bytes,
)
from translit_scale.corpus.manifest import END_OF_TAR, BlockEntry, BlockTable, Manifest, ShardEntry, read_manifest
from translit_scale.errors import DataError, LostError
from translit_scale.files import open_regular
from translit_scale.languages import listed
from translit_scale.progress import say

Decoded = TypeVar("Decoded")
RETRY_SECONDS = (1.0, 4.0, 16.0, 0.0)
"""Pauses after the attempts to read a block, of which the last is followed by none."""
PASSING = frozenset({
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNRESET,
    errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
})  # fmt: skip
"""Errors of a network file system whose server is restarted or cannot be reached for a while."""


def encode_shard(language: str, number: int, blocks: Sequence[Block]) -> tuple[bytes, ShardEntry]:
    """The bytes of `<lang>-<number>.tar` and its manifest entry; they depend on the arguments alone."""
    key = f"{language}-{number:05d}"
    spans, entries, offset = [], [], 0
    for index, block in enumerate(blocks):
        span, entry = encode_block(f"{key}-{index:04d}", block)
        spans.append(span)
        entries.append(entry._replace(offset=offset))
        offset += len(span)
    data = b"".join([*spans, END_OF_TAR])
    return data, ShardEntry(
        name=f"{key}.tar",
        bytes=len(data),
        sha256=sha256(data).hexdigest(),
        blocks=BlockTable.of(entries),
        transliterations=1 + len(blocks[0].further),
    )


class ShardSet:
    """A finished shard set on disk. It keeps no files open, so it can be pickled and used after a fork.

    Every method raises a DataError about a language or block that is not in the set. Reading a block is one seek and
    one read; if the bytes do not match the manifest, the DataError names shard and block. If the file system does not
    answer, it is asked again for `RETRY_SECONDS`; then a LostError is raised.
    """

    def __init__(self, directory: Path, manifest: Manifest, fingerprint: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.fingerprint = fingerprint
        """sha256 of the manifest's bytes: two sets with the same fingerprint are the same."""
        self.languages: tuple[str, ...] = tuple(sorted(manifest.languages))
        self._shards: dict[str, list[ShardEntry]] = {code: [] for code in self.languages}
        for shard in manifest.shards:
            self._shards[shard.language].append(shard)
        self._ends = {
            code: list(accumulate(len(shard.blocks) for shard in shards)) for code, shards in self._shards.items()
        }
        """For each language, the number of blocks up to the end of each shard."""

    @classmethod
    def open(cls, directory: str | Path, check_files: bool = True) -> ShardSet:
        """Reads the manifest and, if `check_files`, checks that every shard exists and has the recorded size.

        Raises:
            DataError: no manifest, another format version, a shard missing or of another size.
        """
        directory = Path(directory)
        manifest, fingerprint = read_manifest(directory)
        for shard in manifest.shards if check_files else ():
            if problem := size_problem(directory, shard):
                raise DataError(problem, _verify_hint(directory))
        return cls(directory, manifest, fingerprint)

    def _of(self, language: str) -> list[ShardEntry]:
        if language not in self._shards:
            raise DataError(
                f"no language {language!r} in the shard set {self.directory}",
                f"it has {listed(self.languages)}",
            )
        return self._shards[language]

    def rows(self, language: str) -> int:
        """Number of pairs of a language."""
        return sum(int(shard.blocks.rows.sum()) for shard in self._of(language))

    def block_rows(self, language: str) -> tuple[int, ...]:
        """Rows of each block of a language, in order."""
        return tuple(rows for shard in self._of(language) for rows in shard.blocks.rows.tolist())

    def transliterations(self, language: str) -> int:
        """The number of transliterations that a sentence of a language can have: columns of its blocks."""
        return self._of(language)[0].transliterations

    def read_block(self, language: str, block: int) -> Block:
        """A block, by its number among all blocks of the language."""
        return self._read(language, block, lambda entry, latn: entry.bytes, decode_block)

    def read_columns(self, language: str, block: int) -> tuple[bytes, ...]:
        """Sentences, transliterations and further transliterations of a block in UTF-8, each followed by a newline."""
        return self._read(language, block, lambda entry, latn: entry.bytes, decode_columns)

    def read_lengths(self, language: str, block: int) -> Lengths:
        """[rows, 1 + transliterations] bytes of each sentence of a block and of its transliterations.

        The text is not read.
        """
        return self._read(language, block, lengths_bytes, decode_lengths)

    def _read(
        self,
        language: str,
        block: int,
        size: Callable[[BlockEntry, int], int],
        decode: Callable[[str, BlockEntry, bytes, int], Decoded],
    ) -> Decoded:
        shards, ends = self._of(language), self._ends[language]
        if not 0 <= block < ends[-1]:
            raise DataError(f"{language} has blocks 0 to {ends[-1] - 1}, not {block}")
        number = bisect_right(ends, block)
        shard = shards[number]
        index = block - ends[number] + len(shard.blocks)
        entry, key, path = shard.blocks[index], shard.block_key(index), self.directory / shard.name
        latn = shard.transliterations
        try:
            return decode(key, entry, _read_patiently(path, entry.offset, size(entry, latn)), latn)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{path}:{key}: {reason}", _verify_hint(self.directory)) from None

    def pairs(self, language: str) -> Iterator[tuple[str, str]]:
        """All pairs of a language in stored order; of several transliterations the first one."""
        for orig, latn, *_ in self.rows_of(language):
            yield orig, latn

    def rows_of(self, language: str) -> Iterator[list[str]]:
        """All sentences of a language in stored order, each followed by all its transliterations."""
        for number in range(len(self.block_rows(language))):
            block = self.read_block(language, number)
            for orig, latn, *further in zip(block.orig, block.latn, *block.further, strict=True):
                yield [orig, latn, *filter(None, further)]


def _read_patiently(path: Path, offset: int, size: int) -> bytes:
    """`read_span` of a file, which is opened again after a while if the file system does not answer.

    Raises:
        OSError, ValueError: the file cannot be opened, or ends before.
        LostError: the file system does not answer, even after `RETRY_SECONDS`.
    """
    for seconds in RETRY_SECONDS:
        try:
            with open_regular(path) as file:
                return read_span(file, offset, size)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            reason = error.strerror
        if seconds:
            say(f"{path}: {reason}; it is read again in {seconds:g} s", error=True)
            time.sleep(seconds)
    raise LostError(
        f"{path}: cannot read {size:,} bytes from byte {offset:,}: {reason}, also after {sum(RETRY_SECONDS):g} s",
        "if the file system is there again, the same command goes on; if only this file cannot be read, remove it, and "
        "the same command of prepare makes it again",
    )


def read_span(file: IO[bytes], offset: int, size: int) -> bytes:
    """`size` bytes from `offset`. Raises a ValueError if the file ends before."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"expected {size} bytes from byte {offset}, found {len(data)}")
    return data


def size_problem(directory: Path, shard: ShardEntry) -> str:
    """What is wrong with a shard that can be told without opening it; "" if it is a file of the right size."""
    path = directory / shard.name
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    return "" if status.st_size == shard.bytes else f"{path}: expected {shard.bytes:,} bytes, found {status.st_size:,}"


def _verify_hint(directory: Path) -> str:
    return f"translit-scale shards verify --deep {directory}"
