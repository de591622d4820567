"""Lines of text files, as bytes and as text.

Files are read in binary and split at the byte `\\n` only: other line ends (U+2028, U+0085, form feed) stay inside their
line. Memory is bounded whatever a file contains: compressed files are read in small pieces, and lines have a maximal
length.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from translit_scale.corpus.compression import COMPRESSIONS, decompressed
from translit_scale.errors import DataError
from translit_scale.progress import Advance

LINE_FILES = (".txt", ".csv", ".tsv", ".jsonl")
COMPRESSED_FILES = (*LINE_FILES, ".tar")
"""May be compressed: one of `COMPRESSIONS` follows."""

MAX_LINE_BYTES = 2**24
"""Longer lines and cells are counted, not read. No sentence is so long, but a JSON line may have other fields."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEAD_BYTES = 1024
_MAX_ZEROS, _MAX_ZERO_FRACTION = 4, 1 / 32
"""Zero bytes at the beginning of a text file. UTF-16, UTF-32 and files that are not text have more."""


def ignore(amount: int) -> None:
    """An `advance` for callers that do not show progress."""


def read_lines(path: Path, advance: Advance = ignore, counts: Counter[str] | None = None) -> Iterator[bytes]:
    """Lines of a possibly compressed file, without their line ends and without a byte order mark.

    Args:
        counts: a line longer than `MAX_LINE_BYTES` is skipped and adds to `read` and `too_long`; without `counts` it
            is an error.

    Raises:
        ConfigError: a package for the compression is not installed.
        DataError: missing, empty, damaged or unreadable file, UTF-16 or not text, a line that is too long, or no line
            end but carriage returns.
    """
    try:
        with path.open("rb") as raw:
            position = 0
            for count, line in enumerate(_bounded_lines(path, decompressed(raw, path.suffix.lower())), 1):
                if line is not None:
                    yield line
                elif counts is None:
                    limit = f"{MAX_LINE_BYTES:,} bytes"
                    raise DataError(f"{path}:{count}: a line of more than {limit}", "is it text, with line ends?")
                else:
                    counts.update(("read", "too_long"))
                if count % 10_000 == 0:
                    advance(raw.tell() - position)
                    position = raw.tell()
            advance(raw.tell() - position)
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read {path}: {reason}", _test_command(path)) from None


def _test_command(path: Path) -> str:
    """The command that tells whether a compressed file is damaged; "" for any other."""
    program = COMPRESSIONS.get(path.suffix.lower())
    return f"{program} -t {path} tests the file; if it is incomplete, download or copy it again" if program else ""


def _bounded_lines(path: Path, file: io.BufferedReader) -> Iterator[bytes | None]:
    """The lines of a file without their ends; None for one that is longer than `MAX_LINE_BYTES`."""
    head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    check_is_data(path, head)
    if head.startswith(_UTF16) or head.count(0) > _MAX_ZEROS + _MAX_ZERO_FRACTION * len(head):
        raise DataError(
            f"{path} is UTF-16 or no text, expected UTF-8", f"if it is UTF-16: iconv -f UTF-16 -t UTF-8 {path} > FILE"
        )
    if head.startswith(_BOM):
        file.read(len(_BOM))
    read = partial(file.readline, MAX_LINE_BYTES + 1)
    is_first = True
    while line := read():
        if is_first and b"\r" in line.rstrip(b"\r\n") and not line.endswith(b"\n"):
            raise DataError(
                f"{path}: its lines end with carriage returns (\\r, as on old Macintoshes), expected \\n",
                f"tr '\\r' '\\n' < {path} > FILE, and use FILE",
            )
        is_first = False
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n")
        else:
            while line and not line.endswith(b"\n"):
                line = read()
            yield None


def check_is_data(path: Path, head: bytes, hint: str = "") -> None:
    """Raises a DataError for an empty file, and for what a `git clone` without Git LFS leaves in place of a large one.

    Args:
        head: the first bytes of the file.
        hint: what helps if it is empty.
    """
    if not head.removeprefix(_BOM):
        raise DataError(f"{path} is empty", hint)
    if head.startswith(_LFS_POINTER):
        raise DataError(
            f"{path} is a Git LFS pointer, not the file itself",
            "in its repository: git lfs install && git lfs pull",
        )


def decode(data: bytes) -> str:
    """Decodes UTF-8; invalid bytes become lone surrogates, which `is_unicode` recognises."""
    return data.decode(errors="surrogateescape")


def is_unicode(text: str) -> bool:
    """Whether a text from `decode` was valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def inner_suffix(path: Path) -> str:
    """The suffix of a file in lower case, without that of its compression."""
    inner, last = path.with_suffix("").suffix.lower(), path.suffix.lower()
    return inner if last in COMPRESSIONS and inner in COMPRESSED_FILES else last
