"""Readers of text files: one sentence per line, or a column of a table.

Text is read in binary and cut at the byte `\\n` only: what other programs take for line ends (U+2028,
U+0085, form feed) stays inside its sentence. Nothing is lost silently: everything that does not become
a sentence is counted under a reason.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from translit_scale.corpus.clean import clean
from translit_scale.errors import ConfigError, DataError
from translit_scale.progress import Advance

LINE_FILES = (".txt", ".csv", ".tsv", ".jsonl")
ARROW_FILES = (".parquet", ".arrow")
COMPRESSIONS = (".gz", ".xz", ".zst")
"""Suffixes that may follow those of `LINE_FILES`."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def _ignore(amount: int) -> None:
    """An `advance` that nobody watches."""


def read_clean(path: Path, column: str | None, max_chars: int, counts: Counter[str], advance: Advance) -> Iterator[str]:
    """Cleaned sentences of a file, in order.

    Args:
        counts: as `read_sentences`; further reasons are `empty` and `too_long` (more than `max_chars`
            characters after cleaning).

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
            UTF-8) or `malformed` (not JSON, no such field, not a string).
        advance: called with bytes of the (compressed) file.

    Raises:
        ConfigError: unknown file type, a column missing for a table or given for a `.txt`.
        DataError: missing, empty, damaged or unreadable file, or no such column; names file and columns.
    """
    kind = file_kind(path, column)
    if kind in ARROW_FILES:
        cells: Iterator[Any] = _arrow_cells(path, kind, str(column), advance)
    elif kind == ".txt":
        cells = (decode(line) for line in read_lines(path, advance))
    elif kind == ".jsonl":
        cells = _json_cells(path, str(column), advance)
    else:
        cells = _table_cells(path, (fields for _, fields in read_records(path, advance)), str(column))
    for cell in cells:
        counts["read"] += 1
        if not isinstance(cell, str):
            counts["malformed"] += 1
        elif not is_unicode(cell):
            counts["undecodable"] += 1
        else:
            yield cell


def read_lines(path: Path, advance: Advance = _ignore) -> Iterator[bytes]:
    """Lines of a possibly compressed file, without their line ends and without a byte order mark.

    Raises:
        ConfigError: a package for the compression is not installed.
        DataError: missing, empty, damaged or unreadable file, or UTF-16.
    """
    try:
        with path.open("rb") as raw:
            position = count = 0
            for count, line in enumerate(_decompressed(raw, path.suffix), 1):
                if count == 1:
                    line = _without_bom(path, line)
                yield line.rstrip(b"\r\n")
                if count % 10_000 == 0:
                    advance(raw.tell() - position)
                    position = raw.tell()
            advance(raw.tell() - position)
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"cannot read {path}: {error}", "is the file complete?") from None
    if count == 0:
        raise DataError(f"{path} is empty")


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


def _without_bom(path: Path, line: bytes) -> bytes:
    if line.startswith(_UTF16):
        raise DataError(f"{path} is UTF-16, expected UTF-8", f"iconv -f UTF-16 -t UTF-8 {path} > FILE")
    return line.removeprefix(_BOM)


def _decompressed(raw: IO[bytes], suffix: str) -> Iterator[bytes]:
    """Lines with their line ends."""
    if suffix == ".gz":
        return gzip.open(raw)
    if suffix == ".xz":
        return lzma.open(raw)
    return _zstd_lines(raw) if suffix == ".zst" else raw


def _zstd_lines(raw: IO[bytes]) -> Iterator[bytes]:
    """Lines of a zstd file. Its own stream reader takes a truncated file for a complete one."""
    try:
        import zstandard
    except ImportError:
        raise ConfigError("reading .zst needs a package", "pip install 'translit-scale[zstd]'") from None
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    rest, inside_frame = b"", False
    while data := raw.read(1 << 20):
        while data:
            if not inside_frame:
                decompressor = zstandard.ZstdDecompressor().decompressobj()
            try:
                *lines, rest = (rest + decompressor.decompress(data)).split(b"\n")
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None
            yield from lines
            inside_frame = not decompressor.eof
            data = decompressor.unused_data if decompressor.eof else b""
    if inside_frame:
        raise EOFError("the compressed stream ends early")
    if rest:
        yield rest


def read_records(path: Path, advance: Advance = _ignore) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every record of a table, the header row included.

    A `.csv` is quoted as in RFC 4180: its fields may hold line ends, and its blank lines are no records. Every other
    table is cut at tabs. Of bytes that are not UTF-8, `is_unicode` tells.

    Raises:
        DataError: missing, empty, damaged or unreadable file, or quoting that is not closed.
    """
    lines = (decode(line) for line in read_lines(path, advance))
    if _kind(path) == ".csv":
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


def _json_cells(path: Path, column: str, advance: Advance) -> Iterator[object]:
    """A field of every line's JSON object; None where there is no such object or field."""
    keys: list[str] = []
    found = False
    for line in read_lines(path, advance):
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
                yield from batch.column(column).to_pylist()
            advance(path.stat().st_size)
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {error}", "is the file complete?") from None


def _no_such_column(path: Path, column: str, found: list[str]) -> DataError:
    return DataError(f"{path} has no column {column!r}", f"it has {', '.join(map(repr, found)) or 'none'}")
