"""Readers of text files: one sentence per line, or a column of a table.

Text is read in binary and split at the byte `\\n` only: other line ends (U+2028, U+0085, form feed) stay inside their
sentence. Every line or record that does not become a sentence is counted under a reason. Memory is bounded whatever a
file contains: compressed files are read in small pieces, and lines have a maximal length.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from translit_scale.corpus.clean import clean
from translit_scale.corpus.compression import COMPRESSIONS, decompressed
from translit_scale.corpus.script import has_letters
from translit_scale.errors import ConfigError, DataError
from translit_scale.extras import install_command
from translit_scale.progress import Advance

LINE_FILES = (".txt", ".csv", ".tsv", ".jsonl")
"""May be compressed: one of `COMPRESSIONS` follows."""
ARROW_FILES = (".parquet", ".arrow")

MAX_LINE_BYTES = 2**24
"""Longer lines and cells are counted, not read. No sentence is so long, but a JSON line may have other fields."""
MAX_LATIN_PER_CHAR = 10
"""A transliteration in a file may have so many times the characters that a sentence may have."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 1024
_MAX_ZEROS, _MAX_ZERO_FRACTION = 4, 1 / 32
"""Zero bytes at the beginning of a text file. UTF-16, UTF-32 and files that are not text have more."""
_USUAL_NAME = "transliteration"
"""The papers' CSV files have the columns `text` and `transliteration`."""


class Columns(NamedTuple):
    """Which columns of a table are read."""

    text: str | None = None
    """None for a `.txt` file, which has no columns."""
    transliteration: str | None = None
    """None if the file has none: the recipe's source of transliterations makes them."""


class Sentence(NamedTuple):
    """A sentence, and its transliteration if the file has one."""

    text: str
    transliteration: str | None = None


def _ignore(amount: int) -> None:
    """An `advance` for callers that do not show progress."""


def read_clean(
    path: Path, columns: Columns, max_chars: int, counts: Counter[str], advance: Advance
) -> Iterator[Sentence]:
    """Cleaned sentences of a file, in order, with their cleaned transliterations.

    Args:
        counts: as in `read_sentences`, with further reasons: `empty`, `too_long` if a sentence has more than
            `max_chars` characters after cleaning or its transliteration `MAX_LATIN_PER_CHAR` times as many, and those
            of `_transliteration_problem`.
    """
    for text, transliteration in read_sentences(path, columns, counts, advance):
        cleaned = Sentence(clean(text), None if transliteration is None else clean(transliteration))
        if not cleaned.text:
            counts["empty"] += 1
        elif len(cleaned.text) > max_chars or len(cleaned.transliteration or "") > MAX_LATIN_PER_CHAR * max_chars:
            counts["too_long"] += 1
        elif transliteration is not None and (problem := _transliteration_problem(cleaned, transliteration)):
            counts[problem] += 1
        else:
            yield cleaned


def _transliteration_problem(cleaned: Sentence, raw: str) -> str:
    """Why a sentence's own transliteration cannot be used; "" if it can.

    One without any Latin letter is right only for a sentence without letters, such as a date.
    """
    if not cleaned.transliteration:
        return "missing_transliteration"
    if "\n" in (stripped := raw.strip()) or "\r" in stripped:
        return "multiline_transliteration"
    is_latin = has_letters(cleaned.transliteration, "Latn") or not any(map(str.isalpha, cleaned.text))
    return "" if is_latin else "non_latin_transliteration"


def read_sentences(path: Path, columns: Columns, counts: Counter[str], advance: Advance) -> Iterator[Sentence]:
    """Sentences of one file as they stand in it: the lines of a `.txt`, or columns of a table.

    `.txt`, `.csv`, `.tsv` and `.jsonl` may be compressed (`.gz`, `.xz`, `.zst`). A `.csv` is quoted as in
    RFC 4180; in a `.tsv` a quotation mark is a character like any other.

    Args:
        counts: `read` goes up by one per line or record. Each one that is not yielded adds to one of `undecodable` (not
            UTF-8), `malformed` (not JSON, no such field, not a string), `missing_transliteration` (the same of the
            transliteration) or `too_long` (`MAX_LINE_BYTES`).
        advance: called with bytes of the (compressed) file.

    Raises:
        ConfigError: unknown file type, a column missing for a table or given for a `.txt`.
        DataError: missing, empty, damaged or unreadable file, a line of a `.csv` that is longer than
            `MAX_LINE_BYTES`, or no such column; names file and columns.
    """
    kind = file_kind(path, columns)
    if kind in ARROW_FILES:
        records: Iterator[Sequence[Any]] = _arrow_cells(path, kind, columns, advance)
    elif kind == ".txt":
        records = ((decode(line),) for line in read_lines(path, advance, counts))
    elif kind == ".jsonl":
        records = _json_cells(path, columns, advance, counts)
    else:
        records = _table_cells(path, (fields for _, fields in read_records(path, advance, counts)), columns)
    for cells in records:
        counts["read"] += 1
        problem = _cell_problem(cells[0])
        if not problem and len(cells) > 1:
            problem = _cell_problem(cells[1]).replace("malformed", "missing_transliteration")
        if problem:
            counts[problem] += 1
        else:
            yield Sentence(*cells)


def _cell_problem(cell: object) -> str:
    """Why a cell is not text; "" if it is."""
    if not isinstance(cell, str):
        return "malformed"
    if len(cell) > MAX_LINE_BYTES:
        return "too_long"
    return "" if is_unicode(cell) else "undecodable"


def read_lines(path: Path, advance: Advance = _ignore, counts: Counter[str] | None = None) -> Iterator[bytes]:
    """Lines of a possibly compressed file, without their line ends and without a byte order mark.

    Args:
        counts: a line longer than `MAX_LINE_BYTES` is skipped and adds to `read` and `too_long`; without `counts` it
            is an error.

    Raises:
        ConfigError: a package for the compression is not installed.
        DataError: missing, empty, damaged or unreadable file, UTF-16 or not text, or a line that is too long.
    """
    try:
        with path.open("rb") as raw:
            position = 0
            for count, line in enumerate(_bounded_lines(path, decompressed(raw, path.suffix)), 1):
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
    if head.startswith(_UTF16) or head.count(0) > _MAX_ZEROS + _MAX_ZERO_FRACTION * len(head):
        raise DataError(
            f"{path} is UTF-16 or no text, expected UTF-8", f"if it is UTF-16: iconv -f UTF-16 -t UTF-8 {path} > FILE"
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
    """Every field of a `.csv` or `.tsv`, header row included, or every line of another file; bad bytes dropped.

    Raises:
        DataError: missing, empty, damaged or unreadable file.
    """
    if inner_suffix(path) in (".csv", ".tsv"):
        cells = (cell for _, fields in read_records(path) for cell in fields)
    else:  # of any name: Tatoeba's files end in the code of their language
        cells = (decode(line) for line in read_lines(path))
    return (cell.encode(errors="ignore").decode() for cell in cells)


def file_kind(path: Path, columns: Columns) -> str:
    """The suffix that determines how a file is read, without that of its compression.

    Raises:
        ConfigError: the type is unknown, or a column is missing for a table or given for a `.txt`.
    """
    kind = inner_suffix(path)
    if kind not in LINE_FILES + ARROW_FILES:
        raise ConfigError(
            f"{path}: unknown type of file {kind or path.name!r}",
            f"expected {', '.join(LINE_FILES)} (also with {', '.join(COMPRESSIONS)}), {' or '.join(ARROW_FILES)}",
        )
    if kind == ".txt" and columns.text is not None:
        raise ConfigError(f"{path}: a .txt file has no columns, but column {columns.text!r} is asked for")
    if kind != ".txt" and columns.text is None:
        raise ConfigError(f"{path}: which column?", "write {path: " + path.name + ", column: NAME} in the recipe")
    return kind


def inner_suffix(path: Path) -> str:
    """The suffix of a file, without that of its compression."""
    inner = path.with_suffix("").suffix
    return inner if path.suffix in COMPRESSIONS and inner in LINE_FILES else path.suffix


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


def read_records(
    path: Path, advance: Advance = _ignore, counts: Counter[str] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every record of a table, the header row included.

    A `.csv` is quoted as in RFC 4180: its fields may contain line ends, and its blank lines are not records. Every
    other table is split at tabs. `is_unicode` tells whether a field was valid UTF-8.

    Args:
        counts: as in `read_lines`, but unused for a `.csv`: without a line of it, others could mean something else.

    Raises:
        DataError: missing, empty, damaged or unreadable file, a line that is too long, or quoting that is not closed.
    """
    is_csv = inner_suffix(path) == ".csv"
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


def _table_cells(path: Path, records: Iterator[list[str]], columns: Columns) -> Iterator[Sequence[str | None]]:
    """The columns' fields of every record below the header; None where a record is too short."""
    header = next(records, [])
    indices = [header.index(name) for name in _existing(path, columns, header)]
    for record in records:
        yield [record[index] if index < len(record) else None for index in indices]


def _json_cells(path: Path, columns: Columns, advance: Advance, counts: Counter[str]) -> Iterator[Sequence[object]]:
    """Fields of every line's JSON object; None where there is no such object or field."""
    names = [name for name in columns if name is not None]
    seen: dict[str, None] = {}
    for line in read_lines(path, advance, counts):
        try:
            value = json.loads(line)
        except UnicodeDecodeError:
            yield [decode(line)]
            continue
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            seen |= dict.fromkeys(name for name in (names if seen else value) if name in value)
        yield [value.get(name) if isinstance(value, dict) else None for name in names]
    _existing(path, columns, list(seen))


def _arrow_cells(path: Path, kind: str, columns: Columns, advance: Advance) -> Iterator[Sequence[object]]:
    """Columns of a Parquet file, or of an Arrow stream as Hugging Face `datasets` writes it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"reading {kind} needs a package", install_command("parquet")) from None
    try:
        with path.open("rb") as file:
            source = pyarrow.parquet.ParquetFile(file) if kind == ".parquet" else pyarrow.ipc.open_stream(file)
            names = _existing(path, columns, (source.schema_arrow if kind == ".parquet" else source.schema).names)
            for batch in source.iter_batches(columns=names) if kind == ".parquet" else source:
                yield from zip(*(_arrow_strings(batch.column(name)) for name in names), strict=True)
            advance(path.stat().st_size)
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, MemoryError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error) or 'out of memory'}", "is the file complete?") from None


def _arrow_strings(cells: Any) -> Iterator[object]:
    """The values of an Arrow array. Arrow does not check that strings are valid UTF-8, as the file claims."""
    import pyarrow

    binary = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}.get(cells.type)
    if binary is None:
        return iter(cells.to_pylist())
    cells = cells.view(binary)
    cells.validate(full=True)  # wrong offsets would be read as addresses
    return (cell if cell is None else decode(cell) for cell in cells.to_pylist())


def _existing(path: Path, columns: Columns, header: Sequence[str]) -> list[str]:
    """The names of the columns, which a file must have; says on stderr if it has transliterations that are not used."""
    names = [name for name in columns if name is not None]
    for name in names:
        if name not in header:
            others = ", ".join(map(repr, header[:20])) + (", ..." if len(header) > 20 else "")
            raise DataError(f"{path} has no column {name!r}", f"it has {others or 'none'}")
    if _USUAL_NAME in header and columns.transliteration is None and columns.text != _USUAL_NAME:
        use = f"`transliteration: {_USUAL_NAME}` in the recipe uses it"
        print(f"{path}: the column {_USUAL_NAME!r} is ignored; {use}", file=sys.stderr)
    return names
