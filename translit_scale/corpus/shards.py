"""Shards: language-pure WebDataset tars of text blocks, written byte-reproducibly and read with checks.

A sample of the tar is one block of about 1000 pairs: `<lang>-<shard>-<block>.lengths.npy`, `.orig.txt`, `.latn.txt`
(one sentence per line) and `.json`. Plain `webdataset` and `tar` read it. This reader goes straight to a block's
span, which the manifest knows, and accepts nothing but the four members it expects there: it follows no
links, interprets no extended headers and never unpickles.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from translit_scale.corpus.manifest import BlockEntry, Manifest, ShardEntry, read_manifest
from translit_scale.errors import DataError

_TAR_BLOCK = 512
_END_OF_TAR = bytes(2 * _TAR_BLOCK)
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
        ValueError: the columns differ in length, the block is empty or a sentence contains a newline.
    """
    rows = len(block.orig)
    if rows == 0 or len(block.latn) != rows:
        raise ValueError(f"{key}: {rows} originals, {len(block.latn)} transliterations")
    lines = [[f"{line}\n".encode() for line in column] for column in (block.orig, block.latn)]
    orig, latn = map(b"".join, lines)
    if orig.count(b"\n") != rows or latn.count(b"\n") != rows:
        raise ValueError(f"{key}: a sentence contains a newline")
    lengths = _encode_lengths(np.array([[len(line) - 1 for line in column] for column in lines]).T)
    contents = (lengths, orig, latn, _block_json(key, rows))
    span = b"".join(
        _tar_header(name, len(content)) + content + bytes(-len(content) % _TAR_BLOCK)
        for name, content in zip(_member_names(key), contents, strict=True)
    )
    return span, BlockEntry(rows, 0, len(span), zlib.crc32(latn, zlib.crc32(orig)), zlib.crc32(lengths))


def decode_block(key: str, entry: BlockEntry, span: bytes) -> Block:
    """The block in a tar span, checked against its manifest entry.

    Raises:
        ValueError: see `decode_columns`.
    """
    return Block(*(tuple(column.decode().split("\n")[:-1]) for column in decode_columns(key, entry, span)))


def decode_columns(key: str, entry: BlockEntry, span: bytes) -> tuple[bytes, bytes]:
    """The text members `orig` and `latn` in a tar span, each sentence followed by a newline.

    Raises:
        ValueError: the span does not hold exactly the four expected members, or their contents do not
            match; the message says what was expected and what was found.
    """
    contents = []
    position = 0
    for name in _member_names(key):
        content, position = _tar_member(span, position, name)
        contents.append(content)
    if position != len(span):
        raise ValueError(f"expected {len(span)} bytes of members, found {position}")
    lengths, orig, latn, description = contents
    _check_crc32(zlib.crc32(lengths), entry.lengths_crc32, "lengths.npy")
    _check_crc32(zlib.crc32(latn, zlib.crc32(orig)), entry.crc32, "the text")
    if description != _block_json(key, entry.rows):
        raise ValueError(f"the json member is not that of {key} with {entry.rows} rows")
    for name, content in (("orig", orig), ("latn", latn)):
        found = content.count(b"\n")
        if not content.endswith(b"\n") or found != entry.rows:
            raise ValueError(f"expected {entry.rows} lines in {name}, found {found}")
    return orig, latn


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
    header = _encode_lengths(np.empty((entry.rows, 2), np.uint16))[: -4 * entry.rows]
    if len(content) != len(header) + 4 * entry.rows or not content.startswith(header):
        raise ValueError(f"lengths.npy is not an array of {entry.rows} × 2 numbers of 16 bits")
    return np.frombuffer(content, "<u2", offset=len(header)).reshape(-1, 2)


def lengths_bytes(entry: BlockEntry) -> int:
    """Bytes of the member `lengths.npy` at the beginning of a block's span."""
    size = len(_encode_lengths(np.empty((0, 2)))) + 4 * entry.rows
    return _TAR_BLOCK + size + -size % _TAR_BLOCK


def _encode_lengths(lengths: npt.ArrayLike) -> bytes:
    """[rows, 2] as a `.npy` file; its header has 128 bytes for up to 10¹³ rows."""
    buffer = BytesIO()
    np.lib.format.write_array(buffer, np.minimum(lengths, _LONGEST).astype("<u2", order="C"), version=(1, 0))
    return buffer.getvalue()


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
    """Contents of the member at `position`, which must be a plain file called `name`; and where it ends."""
    header = span[position : position + _TAR_BLOCK]
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.TarError, UnicodeError) as error:
        raise ValueError(f"expected the tar header of {name}: {error}") from None
    if info.name != name or info.type != tarfile.REGTYPE:
        raise ValueError(f"expected the plain file {name}, found {info.name!r} of type {info.type!r}")
    start = position + _TAR_BLOCK
    end = start + info.size + -info.size % _TAR_BLOCK
    if info.size < 0 or end > len(span):
        raise ValueError(f"{name} is said to have {info.size} bytes, which is more than the block has")
    return span[start : start + info.size], end


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
    data = b"".join([*spans, _END_OF_TAR])
    return data, ShardEntry(name=f"{key}.tar", bytes=len(data), sha256=sha256(data).hexdigest(), blocks=entries)


class ShardSet:
    """A finished shard set on disk. Holds no open files: it can be pickled and used after a fork."""

    def __init__(self, directory: Path, manifest: Manifest, fingerprint: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.fingerprint = fingerprint
        """sha256 of the manifest's bytes: two sets with the same fingerprint are the same."""
        self.languages: tuple[str, ...] = tuple(sorted(manifest.languages))
        self._blocks: dict[str, list[tuple[ShardEntry, int]]] = {code: [] for code in self.languages}
        for shard in manifest.shards:
            self._blocks[shard.language].extend((shard, index) for index in range(len(shard.blocks)))

    @classmethod
    def open(cls, directory: Path, check_files: bool = True) -> ShardSet:
        """Reads the manifest and, if wanted, checks that every shard is there with the stated size.

        Raises:
            DataError: no manifest, another format version, a shard missing or of another size.
        """
        manifest, fingerprint = read_manifest(directory)
        for shard in manifest.shards if check_files else ():
            path = directory / shard.name
            found = path.stat().st_size if path.is_file() else None
            if found != shard.bytes:
                what = "is missing" if found is None else f"has {found:,} bytes"
                raise DataError(f"{path} {what}, expected {shard.bytes:,} bytes", _verify_hint(directory))
        return cls(directory, manifest, fingerprint)

    def _of(self, language: str) -> list[tuple[ShardEntry, int]]:
        if language not in self._blocks:
            raise DataError(
                f"no language {language!r} in the shard set {self.directory}",
                f"it has {', '.join(self.languages)}",
            )
        return self._blocks[language]

    def rows(self, language: str) -> int:
        """Number of pairs of a language."""
        return sum(self.block_rows(language))

    def block_rows(self, language: str) -> tuple[int, ...]:
        """Rows of each block of a language, in order.

        Raises:
            DataError: the language is not in the set.
        """
        return tuple(shard.blocks[index].rows for shard, index in self._of(language))

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
        """Sentences and transliterations of a block as UTF-8, each followed by a newline.

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
        blocks = self._of(language)
        if not 0 <= block < len(blocks):
            raise DataError(f"{language} has blocks 0 to {len(blocks) - 1}, not {block}")
        shard, index = blocks[block]
        entry, key, path = shard.blocks[index], block_key(shard, index), self.directory / shard.name
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(size(entry))
            if len(data) != size(entry):
                raise ValueError(f"expected {size(entry)} bytes from {entry.offset}, found {len(data)}")
            return decode(key, entry, data)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}:{key}: {error}", _verify_hint(self.directory)) from None

    def pairs(self, language: str) -> Iterator[tuple[str, str]]:
        """All pairs of a language in stored order.

        Raises:
            DataError: as `read_block`.
        """
        for number in range(len(self._of(language))):
            block = self.read_block(language, number)
            yield from zip(block.orig, block.latn, strict=True)


def _verify_hint(directory: Path) -> str:
    return f"translit-scale shards verify --deep {directory}"
