"""Shards: language-pure WebDataset tars of text blocks, written byte-reproducibly and read with checks.

A sample of the tar is one block of about 1000 pairs: `<lang>-<block>.orig.txt`, `.latn.txt` (one sentence
per line) and `.json`. Plain `webdataset` and `tar` read it. This reader goes straight to a block's span,
which the manifest knows, and accepts nothing but the three members it expects there: it follows no
links, interprets no extended headers and never unpickles.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from translit_scale.corpus.manifest import BlockEntry, Manifest, ShardEntry, read_manifest
from translit_scale.errors import DataError
from translit_scale.files import write_bytes

_TAR_BLOCK = 512
_END_OF_TAR = bytes(2 * _TAR_BLOCK)


@dataclass(frozen=True, slots=True)
class Block:
    """Pairs of one language: `orig[i]` and `latn[i]` are a sentence and its transliteration."""

    orig: tuple[str, ...]
    latn: tuple[str, ...]


def encode_block(language: str, number: int, block: Block) -> tuple[bytes, int]:
    """The tar span of a block and the crc32 of its two texts.

    Raises:
        ValueError: the columns differ in length, the block is empty or a sentence contains a newline.
    """
    rows = len(block.orig)
    if rows == 0 or len(block.latn) != rows:
        raise ValueError(f"{language} block {number}: {rows} originals, {len(block.latn)} transliterations")
    texts = ["".join(f"{line}\n" for line in column).encode() for column in (block.orig, block.latn)]
    if any(text.count(b"\n") != rows for text in texts):
        raise ValueError(f"{language} block {number}: a sentence contains a newline")
    span = b"".join(
        _tar_header(name, len(content)) + content + bytes(-len(content) % _TAR_BLOCK)
        for name, content in zip(
            _member_names(language, number), [*texts, _block_json(language, number, rows)], strict=True
        )
    )
    return span, zlib.crc32(texts[1], zlib.crc32(texts[0]))


def decode_block(language: str, number: int, entry: BlockEntry, span: bytes) -> Block:
    """The block in a tar span, checked against its manifest entry.

    Raises:
        ValueError: the span does not hold exactly the three expected members, or their contents do not
            match; the message says what was expected and what was found.
    """
    contents = []
    position = 0
    for name in _member_names(language, number):
        content, position = _tar_member(span, position, name)
        contents.append(content)
    if position != len(span):
        raise ValueError(f"expected {len(span)} bytes of members, found {position}")
    orig, latn, description = contents
    crc32 = zlib.crc32(latn, zlib.crc32(orig))
    if crc32 != entry.crc32:
        raise ValueError(f"expected crc32 {entry.crc32:08x}, found {crc32:08x}")
    if description != _block_json(language, number, entry.rows):
        raise ValueError(f"the json member is not that of block {number} with {entry.rows} rows")
    columns = []
    for name, content in (("orig", orig), ("latn", latn)):
        lines = content.decode().split("\n")
        if lines.pop() != "" or len(lines) != entry.rows:
            raise ValueError(f"expected {entry.rows} lines in {name}, found {len(lines)}")
        columns.append(tuple(lines))
    return Block(*columns)


def _member_names(language: str, number: int) -> tuple[str, str, str]:
    key = f"{language}-{number:06d}"
    return f"{key}.orig.txt", f"{key}.latn.txt", f"{key}.json"


def _block_json(language: str, number: int, rows: int) -> bytes:
    return (json.dumps({"language": language, "block": number, "rows": rows}) + "\n").encode()


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


def write_shards(directory: Path, language: str, blocks: Iterable[Block], shard_bytes: int) -> list[ShardEntry]:
    """Writes the blocks of one language as `<lang>-00000.tar`, `<lang>-00001.tar`, ...

    A shard is closed before the block that would make it larger than `shard_bytes`; one shard at a time
    is in memory. The bytes depend on the blocks and `shard_bytes` alone.

    Raises:
        DataError: the disk is full.
    """
    shards: list[ShardEntry] = []
    for spans, entries in _shard_spans(language, blocks, shard_bytes):
        name = f"{language}-{len(shards):05d}.tar"
        data = b"".join(spans) + _END_OF_TAR
        write_bytes(directory / name, data)
        shards.append(ShardEntry(name=name, bytes=len(data), sha256=sha256(data).hexdigest(), blocks=entries))
    return shards


def _shard_spans(
    language: str, blocks: Iterable[Block], shard_bytes: int
) -> Iterator[tuple[list[bytes], list[BlockEntry]]]:
    """Blocks as tar spans with their entries, grouped into shards."""
    spans: list[bytes] = []
    entries: list[BlockEntry] = []
    offset = 0
    for number, block in enumerate(blocks):
        span, crc32 = encode_block(language, number, block)
        if spans and offset + len(span) + len(_END_OF_TAR) > shard_bytes:
            yield spans, entries
            spans, entries, offset = [], [], 0
        spans.append(span)
        entries.append(BlockEntry(len(block.orig), offset, len(span), crc32))
        offset += len(span)
    if spans:
        yield spans, entries


class ShardSet:
    """A finished shard set on disk. Holds no open files: it can be pickled and used after a fork."""

    def __init__(self, directory: Path, manifest: Manifest, fingerprint: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.fingerprint = fingerprint
        """sha256 of the manifest's bytes: two sets with the same fingerprint are the same."""
        self.languages: tuple[str, ...] = tuple(sorted(manifest.languages))
        self._blocks: dict[str, list[tuple[ShardEntry, BlockEntry]]] = {code: [] for code in self.languages}
        for shard in manifest.shards:
            self._blocks[shard.language].extend((shard, entry) for entry in shard.blocks)

    @classmethod
    def open(cls, directory: Path) -> ShardSet:
        """Reads the manifest and checks that every shard is there with the stated size.

        Raises:
            DataError: no manifest, another format version, a shard missing or of another size.
        """
        manifest, fingerprint = read_manifest(directory)
        for shard in manifest.shards:
            path = directory / shard.name
            found = path.stat().st_size if path.is_file() else None
            if found != shard.bytes:
                what = "is missing" if found is None else f"has {found:,} bytes"
                raise DataError(f"{path} {what}, expected {shard.bytes:,} bytes", _verify_hint(directory))
        return cls(directory, manifest, fingerprint)

    def _of(self, language: str) -> list[tuple[ShardEntry, BlockEntry]]:
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
        return tuple(entry.rows for _, entry in self._of(language))

    def read_block(self, language: str, block: int) -> Block:
        """Reads one block: one seek, one read of its span, all checks.

        Raises:
            DataError: the language or block is not in the set, or the bytes are not what the manifest says;
                the message names shard and block.
        """
        blocks = self._of(language)
        if not 0 <= block < len(blocks):
            raise DataError(f"{language} has blocks 0 to {len(blocks) - 1}, not {block}")
        shard, entry = blocks[block]
        path = self.directory / shard.name
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                span = file.read(entry.bytes)
            if len(span) != entry.bytes:
                raise ValueError(f"expected {entry.bytes} bytes from {entry.offset}, found {len(span)}")
            return decode_block(language, block, entry, span)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}:{language}-{block:06d}: {error}", _verify_hint(self.directory)) from None

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
