"""One block of a shard as bytes: members of a tar archive, written byte-reproducibly and read with checks.

There are four, and one more for each further transliteration that sentences of the language can have.
The reader accepts nothing in a block's span but these members exactly as they are written here: it follows no links,
interprets no extended headers, allocates no more than the span has and never unpickles.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt

from translit_scale.corpus.manifest import MAX_BLOCK_BYTES, TAR_BLOCK, BlockEntry

Lengths = npt.NDArray[np.uint16]

_MAX_LENGTH = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Block:
    """Pairs of one language: `orig[i]` and `latn[i]` are a sentence and its transliteration."""

    orig: tuple[str, ...]
    latn: tuple[str, ...]
    further: tuple[tuple[str, ...], ...] = ()
    """Columns of further transliterations: `further[k][i]` is another one of sentence i, or "" if it has none; one that
    has several has them in the first columns, and all differ."""


def encode_block(key: str, block: Block) -> tuple[bytes, BlockEntry]:
    """The tar span of a block, and its manifest entry with offset 0.

    Args:
        key: beginning of the names of its members.

    Raises:
        ValueError: the columns differ in length, the block is empty or too large, or a sentence contains a newline.
    """
    rows, columns = len(block.orig), (block.orig, block.latn, *block.further)
    if rows == 0 or any(len(column) != rows for column in columns):
        found = ", ".join(str(len(column)) for column in columns[1:])
        raise ValueError(f"{key}: {rows} originals, {found} transliterations")
    texts = ["\n".join([*column, ""]).encode() for column in columns]
    of_lines = list(map(_line_lengths, texts))
    if any(len(column) != rows for column in of_lines):
        raise ValueError(f"{key}: a sentence contains a newline")
    latn = len(columns) - 1
    lengths = _npy_header(rows, latn) + np.stack(of_lines, axis=1).tobytes()
    contents = (lengths, *texts, _block_json(key, rows))
    span = b"".join(
        _tar_header(name, len(content)) + content + bytes(-len(content) % TAR_BLOCK)
        for name, content in zip(_member_names(key, latn), contents, strict=True)
    )
    if len(span) > MAX_BLOCK_BYTES:
        raise ValueError(
            f"{key}: {len(span):,} bytes, at most {MAX_BLOCK_BYTES:,} are read; take fewer rows to a block"
        )
    return span, BlockEntry(rows, 0, len(span), _crc32(texts), zlib.crc32(lengths))


def _crc32(texts: Iterable[bytes]) -> int:
    """Of the texts, one after the other."""
    value = 0
    for text in texts:
        value = zlib.crc32(text, value)
    return value


def decode_block(key: str, entry: BlockEntry, span: bytes, latn: int = 1) -> Block:
    """The block in a tar span, checked against its manifest entry.

    Args:
        latn: columns of transliterations.

    Raises:
        ValueError: the span does not hold exactly the expected members, or their contents do not
            match; the message says what was expected and what was found.
    """
    texts = zip(_text_names(latn), decode_columns(key, entry, span, latn), strict=True)
    orig, first, *further = (_lines(name, text) for name, text in texts)
    return Block(orig, first, tuple(further))


def decode_columns(key: str, entry: BlockEntry, span: bytes, latn: int = 1) -> tuple[bytes, ...]:
    """The text of `orig`, `latn` and further transliterations, checked as in `decode_block` except for UTF-8.

    A newline ends each sentence.
    """
    contents = []
    position = 0
    for name in _member_names(key, latn):
        content, position = _tar_member(span, position, name)
        contents.append(content)
    if position != len(span):
        raise ValueError(f"expected {len(span)} bytes of members, found {position}")
    _, *texts, description = contents
    _check_crc32(_crc32(texts), entry.crc32, "the text")
    if description != _block_json(key, entry.rows):
        raise ValueError(f"the json member is not that of {key} with {entry.rows} rows")
    lengths = decode_lengths(key, entry, span, latn)
    for name, text, of_lines in zip(_text_names(latn), texts, lengths.T, strict=True):
        _check_lines(name, text, of_lines)
    return tuple(texts)


def _check_lines(name: str, text: bytes, lengths: Lengths) -> None:
    """Raises a ValueError if the lines of a text member do not have these lengths."""
    actual = _line_lengths(text)
    if len(actual) != len(lengths) or not text.endswith(b"\n"):
        raise ValueError(f"expected {len(lengths)} lines in {name}, found {len(actual)} and their ends")
    if not np.array_equal(actual, lengths):
        line = int((actual != lengths).argmax())
        raise ValueError(f"lengths.npy has {lengths[line]} bytes for line {line + 1} of {name}, found {actual[line]}")


def _lines(name: str, text: bytes) -> tuple[str, ...]:
    try:
        return tuple(text[:-1].decode().split("\n"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None


def decode_lengths(key: str, entry: BlockEntry, head: bytes, latn: int = 1) -> Lengths:
    """The lengths at the beginning of a block's span, checked against its manifest entry.

    Args:
        head: the first `lengths_bytes(entry, latn)` bytes of the span, or more.
        latn: columns of transliterations.

    Returns:
        [rows, 1 + latn] bytes of each sentence and of its transliterations, at most 65 535.

    Raises:
        ValueError: the first member is not the expected one, or its contents do not match.
    """
    content, _ = _tar_member(head, 0, _member_names(key, latn)[0])
    _check_crc32(zlib.crc32(content), entry.lengths_crc32, "lengths.npy")
    header, columns = _npy_header(entry.rows, latn), 1 + latn
    if len(content) != len(header) + 2 * columns * entry.rows or not content.startswith(header):
        raise ValueError(f"lengths.npy is not an array of {entry.rows} × {columns} numbers of 16 bits")
    return np.frombuffer(content, "<u2", offset=len(header)).reshape(-1, columns)


def lengths_bytes(entry: BlockEntry, latn: int = 1) -> int:
    """Bytes of the member `lengths.npy` at the beginning of a block's span."""
    size = len(_npy_header(entry.rows, latn)) + 2 * (1 + latn) * entry.rows
    return TAR_BLOCK + size + -size % TAR_BLOCK


@lru_cache(maxsize=64)
def _npy_header(rows: int, latn: int) -> bytes:
    """The header of a `.npy` file of [rows, 1 + latn] little-endian numbers of 16 bits."""
    buffer, shape = BytesIO(), (rows, 1 + latn)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<u2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _line_lengths(text: bytes) -> Lengths:
    """Bytes of each line without its end, at most 65 535; text after the last line end is ignored."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    return np.minimum(np.diff(ends, prepend=-1) - 1, _MAX_LENGTH).astype("<u2")


def _check_crc32(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise ValueError(f"expected crc32 {expected:08x} of {what}, found {found:08x}")


def _text_names(latn: int) -> list[str]:
    return ["orig.txt", "latn.txt", *(f"latn{number}.txt" for number in range(2, latn + 1))]


def _member_names(key: str, latn: int) -> list[str]:
    return [f"{key}.{name}" for name in ("lengths.npy", *_text_names(latn), "json")]


def _block_json(key: str, rows: int) -> bytes:
    language, shard, block = key.split("-")
    value = {"language": language, "shard": int(shard), "block": int(block), "rows": rows}
    return (json.dumps(value) + "\n").encode()


def _tar_header(name: str, size: int) -> bytes:
    """A USTAR header that does not depend on the machine, the user or the time."""
    info = tarfile.TarInfo(name)  # mode 0644, mtime, uid and gid 0, no owner names
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _tar_member(span: bytes, position: int, name: str) -> tuple[bytes, int]:
    """Contents and end of the member at `position`, which must be the plain file `name` exactly as written here."""
    header = span[position : position + TAR_BLOCK]
    try:
        size = int(header[124:135], 8)
        intact = size >= 0 and header == _tar_header(name, size)
    except ValueError:
        intact = False
    if not intact:
        actual, kind, size_field = header[:100].rstrip(b"\0"), header[156:157], header[124:136]
        raise ValueError(
            f"expected the tar header of the plain file {name}, found {actual!r} of type {kind!r} with size "
            f"{size_field!r}: one of these or another field is wrong"
        )
    start = position + TAR_BLOCK
    end = start + size
    if end > len(span):
        raise ValueError(f"{name} is said to have {size} bytes, which is more than the block has")
    padding = span[end : end + -size % TAR_BLOCK]
    if len(padding) != -size % TAR_BLOCK or any(padding):
        raise ValueError(f"expected zeros between the end of {name} and the next tar header")
    return span[start:end], end + len(padding)
