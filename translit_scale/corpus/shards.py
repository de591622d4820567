"""Shards: language-pure WebDataset tars of text blocks, written byte-reproducibly and read with checks.

A sample of the tar is one block of about 1000 pairs: `<lang>-<shard>-<block>.lengths.npy`, `.orig.txt`, `.latn.txt`
(one sentence per line) and `.json`. Plain `webdataset` and `tar` read it. This reader goes straight to a block's
span, which the manifest knows, and accepts nothing there but the four members as they are written here, header for
header: it follows no links, interprets no extended headers, allocates no more than the span has and never unpickles.
"""

from __future__ import annotations

import json
import stat
import tarfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt

from translit_scale.corpus.manifest import (
    END_OF_TAR,
    MAX_BLOCK_BYTES,
    TAR_BLOCK,
    BlockEntry,
    BlockTable,
    Manifest,
    ShardEntry,
    read_manifest,
)
from translit_scale.errors import DataError
from translit_scale.files import open_regular
from translit_scale.languages import listed

_LONGEST = 2**16 - 1

Lengths = npt.NDArray[np.uint16]
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True)
class Block:
    """Pairs of one language: `orig[i]` and `latn[i]` are a sentence and its transliteration."""

    orig: tuple[str, ...]
    latn: tuple[str, ...]


def encode_block(key: str, block: Block) -> tuple[bytes, BlockEntry]:
    """The tar span of a block, and its manifest entry as if it stood at the beginning of a shard.

    Args:
        key: what the names of its members begin with.

    Raises:
        ValueError: the columns differ in length, the block is empty or too large, or a sentence contains a newline.
    """
    rows = len(block.orig)
    if rows == 0 or len(block.latn) != rows:
        raise ValueError(f"{key}: {rows} originals, {len(block.latn)} transliterations")
    orig, latn = ("\n".join([*column, ""]).encode() for column in (block.orig, block.latn))
    of_lines = _line_lengths(orig), _line_lengths(latn)
    if any(len(column) != rows for column in of_lines):
        raise ValueError(f"{key}: a sentence contains a newline")
    lengths = _npy_header(rows) + np.stack(of_lines, axis=1).tobytes()
    contents = (lengths, orig, latn, _block_json(key, rows))
    span = b"".join(
        _tar_header(name, len(content)) + content + bytes(-len(content) % TAR_BLOCK)
        for name, content in zip(_member_names(key), contents, strict=True)
    )
    if len(span) > MAX_BLOCK_BYTES:
        raise ValueError(
            f"{key}: {len(span):,} bytes, at most {MAX_BLOCK_BYTES:,} are read; take fewer rows to a block"
        )
    return span, BlockEntry(rows, 0, len(span), zlib.crc32(latn, zlib.crc32(orig)), zlib.crc32(lengths))


def decode_block(key: str, entry: BlockEntry, span: bytes) -> Block:
    """The block in a tar span, checked against its manifest entry.

    Raises:
        ValueError: the span does not hold exactly the four expected members, or their contents do not
            match; the message says what was expected and what was found.
    """
    columns = decode_columns(key, entry, span)
    return Block(*(_lines(name, text) for name, text in zip(("orig.txt", "latn.txt"), columns, strict=True)))


def decode_columns(key: str, entry: BlockEntry, span: bytes) -> tuple[bytes, bytes]:
    """The text members `orig` and `latn` in a tar span, each sentence followed by a newline, checked but for UTF-8.

    Raises:
        ValueError: see `decode_block`.
    """
    contents = []
    position = 0
    for name in _member_names(key):
        content, position = _tar_member(span, position, name)
        contents.append(content)
    if position != len(span):
        raise ValueError(f"expected {len(span)} bytes of members, found {position}")
    _, orig, latn, description = contents
    _check_crc32(zlib.crc32(latn, zlib.crc32(orig)), entry.crc32, "the text")
    if description != _block_json(key, entry.rows):
        raise ValueError(f"the json member is not that of {key} with {entry.rows} rows")
    lengths = decode_lengths(key, entry, span)
    _check_lines("orig.txt", orig, lengths[:, 0])
    _check_lines("latn.txt", latn, lengths[:, 1])
    return orig, latn


def _check_lines(name: str, text: bytes, lengths: Lengths) -> None:
    """The lines of a text member must be as long as `lengths` says."""
    found = _line_lengths(text)
    if len(found) != len(lengths) or not text.endswith(b"\n"):
        raise ValueError(f"expected {len(lengths)} lines in {name}, found {len(found)} and their ends")
    if not np.array_equal(found, lengths):
        line = int((found != lengths).argmax())
        raise ValueError(f"lengths.npy has {lengths[line]} bytes for line {line + 1} of {name}, found {found[line]}")


def _lines(name: str, text: bytes) -> tuple[str, ...]:
    try:
        return tuple(text[:-1].decode().split("\n"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None


def decode_lengths(key: str, entry: BlockEntry, head: bytes) -> Lengths:
    """The lengths at the beginning of a block's span, checked against its manifest entry.

    Args:
        head: the first `lengths_bytes(entry)` bytes of the span, or more.

    Returns:
        [rows, 2] bytes of each sentence and of its transliteration, at most 65 535.

    Raises:
        ValueError: the first member is not the expected one, or its contents do not match.
    """
    content, _ = _tar_member(head, 0, _member_names(key)[0])
    _check_crc32(zlib.crc32(content), entry.lengths_crc32, "lengths.npy")
    header = _npy_header(entry.rows)
    if len(content) != len(header) + 4 * entry.rows or not content.startswith(header):
        raise ValueError(f"lengths.npy is not an array of {entry.rows} × 2 numbers of 16 bits")
    return np.frombuffer(content, "<u2", offset=len(header)).reshape(-1, 2)


def lengths_bytes(entry: BlockEntry) -> int:
    """Bytes of the member `lengths.npy` at the beginning of a block's span."""
    size = len(_npy_header(entry.rows)) + 4 * entry.rows
    return TAR_BLOCK + size + -size % TAR_BLOCK


@lru_cache(maxsize=64)
def _npy_header(rows: int) -> bytes:
    """What a `.npy` file of [rows, 2] little-endian numbers of 16 bits begins with."""
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<u2", "fortran_order": False, "shape": (rows, 2)})
    return buffer.getvalue()


def _line_lengths(text: bytes) -> Lengths:
    """Bytes of each line without its end, at most 65 535; what follows the last line end does not count."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    return np.minimum(np.diff(ends, prepend=-1) - 1, _LONGEST).astype("<u2")


def _check_crc32(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise ValueError(f"expected crc32 {expected:08x} of {what}, found {found:08x}")


def _member_names(key: str) -> tuple[str, str, str, str]:
    return f"{key}.lengths.npy", f"{key}.orig.txt", f"{key}.latn.txt", f"{key}.json"


def _block_json(key: str, rows: int) -> bytes:
    language, shard, block = key.split("-")
    value = {"language": language, "shard": int(shard), "block": int(block), "rows": rows}
    return (json.dumps(value) + "\n").encode()


def block_key(shard: ShardEntry, block: int) -> str:
    """What the names of the members of a shard's `block`-th block begin with."""
    return f"{shard.key}-{block:04d}"


def _tar_header(name: str, size: int) -> bytes:
    """A USTAR header in which nothing depends on the machine, the user or the time."""
    info = tarfile.TarInfo(name)  # mode 0644, mtime, uid and gid 0, no owner names
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _tar_member(span: bytes, position: int, name: str) -> tuple[bytes, int]:
    """Contents of the member at `position`, which must be the plain file `name` as written here; and where it ends."""
    header = span[position : position + TAR_BLOCK]
    try:
        size = int(header[124:135], 8)
        intact = size >= 0 and header == _tar_header(name, size)
    except ValueError:
        intact = False
    if not intact:
        found, kind, said = header[:100].rstrip(b"\0"), header[156:157], header[124:136]
        raise ValueError(
            f"expected the tar header of the plain file {name}, found {found!r} of type {kind!r} with size {said!r}: "
            "one of these or another field is wrong"
        )
    start = position + TAR_BLOCK
    end = start + size
    if end > len(span):
        raise ValueError(f"{name} is said to have {size} bytes, which is more than the block has")
    padding = span[end : end + -size % TAR_BLOCK]
    if len(padding) != -size % TAR_BLOCK or any(padding):
        raise ValueError(f"expected zeros between the end of {name} and the next tar header")
    return span[start:end], end + len(padding)


def encode_shard(language: str, number: int, blocks: Sequence[Block]) -> tuple[bytes, ShardEntry]:
    """The bytes of `<lang>-<number>.tar` and its manifest entry; they depend on the arguments alone.

    Raises:
        ValueError: see `encode_block`.
    """
    key = f"{language}-{number:05d}"
    spans, entries, offset = [], [], 0
    for index, block in enumerate(blocks):
        span, entry = encode_block(f"{key}-{index:04d}", block)
        spans.append(span)
        entries.append(entry._replace(offset=offset))
        offset += len(span)
    data = b"".join([*spans, END_OF_TAR])
    return data, ShardEntry(
        name=f"{key}.tar", bytes=len(data), sha256=sha256(data).hexdigest(), blocks=BlockTable.of(entries)
    )


class ShardSet:
    """A finished shard set on disk. Holds no open files: it can be pickled and used after a fork."""

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
        """Of each language: the number of blocks up to the end of each shard."""

    @classmethod
    def open(cls, directory: Path, check_files: bool = True) -> ShardSet:
        """Reads the manifest and, if wanted, checks that every shard is there with the stated size.

        Raises:
            DataError: no manifest, another format version, a shard missing or of another size.
        """
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
        """Number of pairs of a language.

        Raises:
            DataError: the language is not in the set.
        """
        return sum(int(shard.blocks.rows.sum()) for shard in self._of(language))

    def block_rows(self, language: str) -> tuple[int, ...]:
        """Rows of each block of a language, in order.

        Raises:
            DataError: the language is not in the set.
        """
        return tuple(rows for shard in self._of(language) for rows in shard.blocks.rows.tolist())

    def read_block(self, language: str, block: int) -> Block:
        """Reads one block: one seek, one read of its span, all checks.

        Args:
            block: its number among all blocks of the language.

        Raises:
            DataError: the language or block is not in the set, or the bytes are not what the manifest says;
                the message names shard and block.
        """
        return self._read(language, block, lambda entry: entry.bytes, decode_block)

    def read_columns(self, language: str, block: int) -> tuple[bytes, bytes]:
        """Sentences and transliterations of a block in UTF-8, each followed by a newline.

        Raises:
            DataError: as `read_block`.
        """
        return self._read(language, block, lambda entry: entry.bytes, decode_columns)

    def read_lengths(self, language: str, block: int) -> Lengths:
        """[rows, 2] bytes of the sentences of a block and of their transliterations, without reading these.

        Raises:
            DataError: as `read_block`.
        """
        return self._read(language, block, lengths_bytes, decode_lengths)

    def _read(
        self,
        language: str,
        block: int,
        size: Callable[[BlockEntry], int],
        decode: Callable[[str, BlockEntry, bytes], Decoded],
    ) -> Decoded:
        shards, ends = self._of(language), self._ends[language]
        if not 0 <= block < ends[-1]:
            raise DataError(f"{language} has blocks 0 to {ends[-1] - 1}, not {block}")
        number = bisect_right(ends, block)
        shard = shards[number]
        index = block - ends[number] + len(shard.blocks)
        entry, key, path = shard.blocks[index], block_key(shard, index), self.directory / shard.name
        try:
            with open_regular(path) as file:
                return decode(key, entry, read_span(file, entry.offset, size(entry)))
        except OSError as error:
            raise DataError(f"{path}:{key}: {error.strerror}", _verify_hint(self.directory)) from None
        except ValueError as error:
            raise DataError(f"{path}:{key}: {error}", _verify_hint(self.directory)) from None

    def pairs(self, language: str) -> Iterator[tuple[str, str]]:
        """All pairs of a language in stored order.

        Raises:
            DataError: as `read_block`.
        """
        for number in range(len(self.block_rows(language))):
            block = self.read_block(language, number)
            yield from zip(block.orig, block.latn, strict=True)


def read_span(file: IO[bytes], offset: int, size: int) -> bytes:
    """`size` bytes from `offset`.

    Raises:
        ValueError: the file ends before.
    """
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"expected {size} bytes from byte {offset}, found {len(data)}")
    return data


def size_problem(directory: Path, shard: ShardEntry) -> str:
    """What can be said against a shard without opening it; nothing if it is a file of the right size."""
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
