"""Readers of text files: one sentence per line, or a column of a table.

Text is read in binary and cut at the byte `\\n` only: what other programs take for line ends (U+2028,
U+0085, form feed) stays inside its sentence. Nothing is lost silently: everything that does not become
a sentence is counted under a reason. Nothing a file contains makes a reader take much memory: compressed files
are read in small pieces, and lines have a longest length.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from translit_scale.corpus.clean import clean
from translit_scale.errors import ConfigError, DataError
from translit_scale.progress import Advance

LINE_FILES = (".txt", ".csv", ".tsv", ".jsonl")
ARROW_FILES = (".parquet", ".arrow")
COMPRESSIONS = (".gz", ".xz", ".zst")
"""Suffixes that may follow those of `LINE_FILES`."""

MAX_LINE_BYTES = 2**24
"""Longer lines and cells are counted, not read. No sentence is so long, but a JSON line may hold much besides."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 1024
_ZEROS, _ZERO_SHARE = 4, 1 / 32
"""Stray zero bytes at the beginning of a file: only UTF-16, UTF-32 and what is not text have more."""
_PIECE = 1024
"""Bytes of compressed input decompressed at once: zstd can make 32 MiB of them, gzip 1 MiB."""
_XZ_MEMORY = 2**29
"""`xz -9` needs 65 MB; the header of a file could ask for gigabytes."""


def _ignore(amount: int) -> None:
    """An `advance` that nobody watches."""


def read_clean(path: Path, column: str | None, max_chars: int, counts: Counter[str], advance: Advance) -> Iterator[str]:
    """Cleaned sentences of a file, in order.

    Args:
        counts: as `read_sentences`; `empty` is a further reason, and `too_long` are also sentences of more than
            `max_chars` characters after cleaning.

    Raises:
        DataError: as `read_sentences`.
    """
    for sentence in read_sentences(path, column, counts, advance):
        cleaned = clean(sentence)
        if not cleaned:
            counts["empty"] += 1
        elif len(cleaned) > max_chars:
            counts["too_long"] += 1
        else:
            yield cleaned


def read_sentences(path: Path, column: str | None, counts: Counter[str], advance: Advance) -> Iterator[str]:
    """Sentences of one file as they stand in it: the lines of a `.txt`, or one column of a table.

    `.txt`, `.csv`, `.tsv` and `.jsonl` may be compressed (`.gz`, `.xz`, `.zst`). A `.csv` is quoted as in
    RFC 4180; in a `.tsv` a quotation mark is a character like any other.

    Args:
        column: name of the column; None for `.txt`.
        counts: `read` goes up by one per line or record; what is not yielded adds to `undecodable` (not
            UTF-8), `malformed` (not JSON, no such field, not a string) or `too_long` (`MAX_LINE_BYTES`).
        advance: called with bytes of the (compressed) file.

    Raises:
        ConfigError: unknown file type, a column missing for a table or given for a `.txt`.
        DataError: missing, empty, damaged or unreadable file, a line of a `.csv` that is longer than
            `MAX_LINE_BYTES`, or no such column; names file and columns.
    """
    kind = file_kind(path, column)
    if kind in ARROW_FILES:
        cells: Iterator[Any] = _arrow_cells(path, kind, str(column), advance)
    elif kind == ".txt":
        cells = (decode(line) for line in read_lines(path, advance, counts))
    elif kind == ".jsonl":
        cells = _json_cells(path, str(column), advance, counts)
    else:
        cells = _table_cells(path, (fields for _, fields in read_records(path, advance, counts)), str(column))
    for cell in cells:
        counts["read"] += 1
        if not isinstance(cell, str):
            counts["malformed"] += 1
        elif len(cell) > MAX_LINE_BYTES:
            counts["too_long"] += 1
        elif not is_unicode(cell):
            counts["undecodable"] += 1
        else:
            yield cell


def read_lines(path: Path, advance: Advance = _ignore, counts: Counter[str] | None = None) -> Iterator[bytes]:
    """Lines of a possibly compressed file, without their line ends and without a byte order mark.

    Args:
        counts: a line longer than `MAX_LINE_BYTES` is left out and adds to `read` and `too_long`; without `counts`
            it is an error.

    Raises:
        ConfigError: a package for the compression is not installed.
        DataError: missing, empty, damaged or unreadable file, UTF-16 or not text, or a line that is too long.
    """
    try:
        with path.open("rb") as raw:
            position = 0
            for count, line in enumerate(_bounded_lines(path, _decompressed(raw, path.suffix)), 1):
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
        raise DataError(f"cannot read {path}: {error}", "is the file complete?") from None


def _bounded_lines(path: Path, file: io.BufferedReader) -> Iterator[bytes | None]:
    """The lines of a file without their ends; None for one that is longer than `MAX_LINE_BYTES`."""
    head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if not head.removeprefix(_BOM):
        raise DataError(f"{path} is empty")
    if head.startswith(_UTF16) or head.count(0) > _ZEROS + _ZERO_SHARE * len(head):
        raise DataError(
            f"{path} is UTF-16 or no text, expected UTF-8", f"of UTF-16: iconv -f UTF-16 -t UTF-8 {path} > FILE"
        )
    if head.startswith(_BOM):
        file.read(len(_BOM))
    read = partial(file.readline, MAX_LINE_BYTES + 1)
    while line := read():
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n")
        else:
            while line and not line.endswith(b"\n"):
                line = read()
            yield None


def read_all_cells(path: Path) -> Iterator[str]:
    """Every line of a `.txt` or every field of a `.csv` or `.tsv`, header row included; bad bytes dropped.

    Raises:
        ConfigError: another type of file.
        DataError: missing, empty, damaged or unreadable file.
    """
    kind = _kind(path)
    if kind == ".txt":
        records: Iterator[list[str]] = ([decode(line)] for line in read_lines(path))
    elif kind in (".csv", ".tsv"):
        records = (fields for _, fields in read_records(path))
    else:
        raise ConfigError(f"{path}: held-out sentences are read from .txt, .csv and .tsv files only")
    for record in records:
        yield from (cell.encode(errors="ignore").decode() for cell in record)


def file_kind(path: Path, column: str | None) -> str:
    """The suffix that says how a file is read, without that of its compression.

    Raises:
        ConfigError: the type is unknown, or a column is missing for a table or given for a `.txt`.
    """
    kind = _kind(path)
    if kind not in LINE_FILES + ARROW_FILES:
        raise ConfigError(
            f"{path}: unknown type of file {kind or path.name!r}",
            f"expected {', '.join(LINE_FILES)} (also with {', '.join(COMPRESSIONS)}), {' or '.join(ARROW_FILES)}",
        )
    if kind == ".txt" and column is not None:
        raise ConfigError(f"{path}: a .txt file has no columns, but column {column!r} is asked for")
    if kind != ".txt" and column is None:
        raise ConfigError(f"{path}: which column?", "write {path: " + path.name + ", column: NAME} in the recipe")
    return kind


def _kind(path: Path) -> str:
    inner = path.with_suffix("").suffix
    return inner if path.suffix in COMPRESSIONS and inner in LINE_FILES else path.suffix


def decode(data: bytes) -> str:
    """UTF-8 in which bad bytes are kept recognisable (lone surrogates), see `is_unicode`."""
    return data.decode(errors="surrogateescape")


def is_unicode(text: str) -> bool:
    """Whether a text that `decode` made was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Decompressed(io.RawIOBase):
    """The contents of a compressed file. The package's own reader of zstd takes a truncated file for a complete one."""

    def __init__(self, raw: IO[bytes], decompressor: Callable[[], Any], error: type[Exception]) -> None:
        """
        Args:
            decompressor: makes one for the next stream, as in `zlib.decompressobj`.
            error: what that raises.
        """
        self._raw, self._new, self._error = raw, decompressor, error
        self._decompressor: Any = None  # none between two streams
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As in `io.RawIOBase`; raises EOFError where a stream ends early, and OSError where it is damaged."""
        while not self._output and (self._input or self._fill()):
            try:
                self._decompressor = self._decompressor or self._new()
                self._output = memoryview(self._decompressor.decompress(self._input))
            except self._error as error:
                raise OSError(str(error)) from None
            self._input = self._decompressor.unused_data
            if self._decompressor.eof:
                self._decompressor = None
                self._input = self._input.lstrip(b"\0")  # padding between streams
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _fill(self) -> bytes:
        self._input = self._raw.read(_PIECE)
        if self._decompressor is None:
            self._input = self._input.lstrip(b"\0")
        elif not self._input:
            raise EOFError("the compressed stream ends early")
        return self._input


def _decompressed(raw: io.BufferedReader, suffix: str) -> io.BufferedReader:
    """The file itself, or what is compressed in it.

    Raises:
        ConfigError: the package for the compression is not installed.
    """
    if suffix == ".gz":
        return io.BufferedReader(_Decompressed(raw, partial(zlib.decompressobj, wbits=31), zlib.error))
    if suffix == ".xz":
        xz = partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY)
        return io.BufferedReader(_Decompressed(raw, xz, lzma.LZMAError))
    if suffix != ".zst":
        return raw
    try:
        import zstandard
    except ImportError:
        raise ConfigError("reading .zst needs a package", "pip install 'translit-scale[zstd]'") from None
    return io.BufferedReader(_Decompressed(raw, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError))


def read_records(
    path: Path, advance: Advance = _ignore, counts: Counter[str] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every record of a table, the header row included.

    A `.csv` is quoted as in RFC 4180: its fields may hold line ends, and its blank lines are no records. Every other
    table is cut at tabs. Of bytes that are not UTF-8, `is_unicode` tells.

    Args:
        counts: as in `read_lines`, but not for a `.csv`: without one of its lines, others would mean something else.

    Raises:
        DataError: missing, empty, damaged or unreadable file, a line that is too long, or quoting that is not closed.
    """
    is_csv = _kind(path) == ".csv"
    lines = (decode(line) for line in read_lines(path, advance, None if is_csv else counts))
    if is_csv:
        return _csv_records(path, lines)
    return ((number, line.split("\t")) for number, line in enumerate(lines, 1))


def _csv_records(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    # A lone carriage return is no line end here; csv would stop at it.
    reader = csv.reader((line.replace("\r", " ") + "\n" for line in lines), strict=True)
    first = 1
    try:
        for record in reader:
            if record:
                yield first, record
            first = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{first}: {error}",
            "is a quotation mark never closed, or not doubled inside a quoted field?",
        ) from None


def _table_cells(path: Path, records: Iterator[list[str]], column: str) -> Iterator[str | None]:
    """A column's field of every record below the header; None where a record is too short."""
    header = next(records, [])
    if column not in header:
        raise _no_such_column(path, column, header)
    index = header.index(column)
    for record in records:
        yield record[index] if index < len(record) else None


def _json_cells(path: Path, column: str, advance: Advance, counts: Counter[str]) -> Iterator[object]:
    """A field of every line's JSON object; None where there is no such object or field."""
    keys: list[str] = []
    found = False
    for line in read_lines(path, advance, counts):
        try:
            value = json.loads(line)
        except UnicodeDecodeError:
            yield decode(line)
            continue
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            found = found or column in value
            keys = keys or list(value)
        yield value.get(column) if isinstance(value, dict) else None
    if not found:
        raise _no_such_column(path, column, keys)


def _arrow_cells(path: Path, kind: str, column: str, advance: Advance) -> Iterator[object]:
    """A column of a Parquet file, or of an Arrow stream as Hugging Face `datasets` writes it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"reading {kind} needs a package", "pip install 'translit-scale[parquet]'") from None
    try:
        with path.open("rb") as file:
            source = pyarrow.parquet.ParquetFile(file) if kind == ".parquet" else pyarrow.ipc.open_stream(file)
            names = (source.schema_arrow if kind == ".parquet" else source.schema).names
            if column not in names:
                raise _no_such_column(path, column, names)
            for batch in source.iter_batches(columns=[column]) if kind == ".parquet" else source:
                yield from _arrow_strings(batch.column(column))
            advance(path.stat().st_size)
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, MemoryError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error) or 'out of memory'}", "is the file complete?") from None


def _arrow_strings(cells: Any) -> Iterator[object]:
    """The values of an Arrow array. Files say of strings that they are UTF-8, and nothing in Arrow has checked it."""
    import pyarrow

    binary = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}.get(cells.type)
    if binary is None:
        return iter(cells.to_pylist())
    cells = cells.view(binary)
    cells.validate(full=True)  # offsets that lie would be read as addresses
    return (cell if cell is None else decode(cell) for cell in cells.to_pylist())


def _no_such_column(path: Path, column: str, found: list[str]) -> DataError:
    names = ", ".join(map(repr, found[:20])) + (", ..." if len(found) > 20 else "")
    return DataError(f"{path} has no column {column!r}", f"it has {names or 'none'}")
