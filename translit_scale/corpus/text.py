"""Readers of text files: one sentence per line, or a column of a table.

Text is read in binary and split at the byte `\\n` only: other line ends (U+2028, U+0085, form feed) stay inside their
sentence. Every line or record that does not become a sentence is counted under a reason. Memory is bounded whatever a
file contains: compressed files are read in small pieces, and lines have a maximal length.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus import web
from translit_scale.corpus.arrow import ARROW_FILES, arrow_cells, arrow_header, arrow_rows
from translit_scale.corpus.clean import clean
from translit_scale.corpus.compression import COMPRESSIONS
from translit_scale.corpus.json_lines import Bad, json_cells, json_header, json_values
from translit_scale.corpus.lines import (
    COMPRESSED_FILES,
    MAX_LINE_BYTES,
    decode,
    ignore,
    inner_suffix,
    is_unicode,
    read_lines,
)
from translit_scale.corpus.script import has_letters
from translit_scale.corpus.tables import Column, Dialect, column_indices, read_header, read_records, recognise
from translit_scale.corpus.tagged import is_tagged, tagged_sentences
from translit_scale.corpus.tars import TAR, tar_cells, tar_header
from translit_scale.errors import ConfigError, DataError
from translit_scale.progress import Advance

MAX_LATIN_PER_CHAR = 10
"""A transliteration in a file may have so many times the characters that a sentence may have."""

UNREADABLE = {
    "undecodable": ("are not UTF-8", "is the file in another encoding? iconv -f ENCODING -t UTF-8 FILE > NEW_FILE"),
    "lone_surrogate": ('have half of a character, such as "\\ud83d"', "were the strings cut before they were written?"),
    "malformed": (
        "have no text where the recipe asks for it",
        "translit-scale docs data-formats describes each format",
    ),
}
"""Reasons of `read_sentences` that mean a fault of a file: what its lines are or have, and what helps."""

_EXPECTED = f"{', '.join(COMPRESSED_FILES)} (also with {', '.join(COMPRESSIONS)}), {' or '.join(ARROW_FILES)}"
_REMEDIES = {
    (".zip",): "unpack it and name the files in it",
    (".tgz",): "unpack it and name the files in it, or name it .tar.gz if it is a WebDataset",
    (".json",): "with an object on each line it is a .jsonl; an array becomes one by: jq -c '.[]' FILE > FILE.jsonl",
    (".xlsx", ".xls", ".ods"): "save it as .csv",
    (".docx", ".doc", ".odt", ".pdf", ".html", ".htm"): "save it as plain text with a sentence on each line",
}
_NOT_LINES = (
    ".json",
    ".xml",
    ".tmx",
    ".sgm",
    ".sgml",
    ".html",
    ".htm",
    ".zip",
    ".tar",
    ".tgz",
    ".pdf",
    ".docx",
    ".xlsx",
)
"""Files that may have sentences, but not in their lines."""
_NO_DIALECT = "only .csv and .tsv files have a delimiter and quoted fields"
_USUAL_NAME = "transliteration"
"""The papers' CSV files have the columns `text` and `transliteration`."""


class Columns(NamedTuple):
    """Which columns of a table are read, and how the table is written."""

    text: Column | None = None
    """None for a `.txt` file, which has no columns."""
    transliteration: Column | None = None
    """None if the file has none: the recipe's source of transliterations makes them."""
    dialect: Dialect = Dialect()

    @property
    def named(self) -> list[Column]:
        """The columns that are given: the text, and the transliteration if the file has one."""
        return [column for column in (self.text, self.transliteration) if column is not None]

    @property
    def by_number(self) -> bool:
        """Whether the columns are given by their numbers, so that the table has no header row."""
        return all(isinstance(column, int) for column in self.named)


_ALL_COLUMNS = Columns()


class Sentence(NamedTuple):
    """A sentence, and its transliteration if the file has one."""

    text: str
    transliteration: str | None = None


def read_clean(
    path: Path,
    columns: Columns,
    max_chars: int,
    counts: Counter[str],
    advance: Advance,
    removed: Sequence[web.Kind] = (),
) -> Iterator[Sentence]:
    """Cleaned sentences of a file, in order, with their cleaned transliterations.

    Args:
        counts: as in `read_sentences`, with further reasons: `empty`, `too_long` if a sentence has more than
            `max_chars` characters after cleaning or its transliteration `MAX_LATIN_PER_CHAR` times as many, and those
            of `_transliteration_problem`. `cleaned_html` and others tell from how many sentences a kind was removed.
        removed: what `web.remove` removes before.
    """
    for sentence in read_sentences(path, columns, counts, advance):
        text, transliteration = _without(removed, sentence, counts) if removed else sentence
        cleaned = Sentence(clean(text), None if transliteration is None else clean(transliteration))
        if not cleaned.text:
            counts["empty"] += 1
        elif len(cleaned.text) > max_chars or len(cleaned.transliteration or "") > MAX_LATIN_PER_CHAR * max_chars:
            counts["too_long"] += 1
        elif transliteration is not None and (problem := _transliteration_problem(cleaned, transliteration)):
            counts[problem] += 1
        else:
            yield cleaned


def _without(removed: Sequence[web.Kind], sentence: Sentence, counts: Counter[str]) -> Sentence:
    """A sentence and its transliteration without what `web.remove` removes."""
    of_text: Counter[web.Kind] = Counter()
    text, transliteration = web.remove(sentence.text, removed, of_text), sentence.transliteration
    counts.update({f"cleaned_{kind}": number for kind, number in of_text.items()})
    return Sentence(text, transliteration if transliteration is None else web.remove(transliteration, removed))


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

    All but Parquet and Arrow files may be compressed (`compression.COMPRESSIONS`).

    Args:
        counts: `read` goes up by one per line or record. Each one that is not yielded adds to one of `undecodable` (not
            UTF-8), `lone_surrogate` (half of a character, in JSON), `malformed` (not JSON, no such field, not a
            string, more fields than the header), `missing_transliteration` (the same of the transliteration) or
            `too_long` (`MAX_LINE_BYTES`).
        advance: called with bytes of the (compressed) file.

    Raises:
        ConfigError: unknown file type, a column missing for a table or given for a `.txt`.
        DataError: missing, empty, damaged or unreadable file, a line of a `.csv` that is longer than
            `MAX_LINE_BYTES`, or no such column; names file and columns.
    """
    kind = file_kind(path, columns)
    names = [str(column) for column in columns.named]
    if kind in ARROW_FILES:
        _check_header(path, columns, arrow_header(path))
        records: Iterator[Sequence[object]] = arrow_cells(path, names, advance)
    elif kind == TAR:
        records = tar_cells(path, names, advance, counts)
    elif kind == ".txt":
        records = _text_lines(path, advance, counts)
    elif kind == ".jsonl":
        _note_unused(path, columns, json_header(path))
        records = json_cells(path, names, advance, counts)
    else:
        records = _table_cells(path, columns, advance, counts)
    for cells in records:
        counts["read"] += 1
        problem = _cell_problem(cells[0])
        if not problem and len(cells) > 1:
            problem = _cell_problem(cells[1]).replace("malformed", "missing_transliteration")
        if problem:
            counts[problem] += 1
        else:
            yield Sentence(*cells)  # type: ignore[arg-type]  # checked to be strings


def _text_lines(path: Path, advance: Advance, counts: Counter[str]) -> Iterator[Sequence[str]]:
    """The lines of a text file; says on stderr how many of them contain carriage returns, which may end lines too."""
    with_returns = 0
    for line in read_lines(path, advance, counts):
        with_returns += b"\r" in line
        yield (decode(line),)
    if with_returns:
        print(
            f"{path}: {with_returns:,} lines contain carriage returns (\\r) and are read as one sentence each. If they "
            f"end lines too: tr '\\r' '\\n' < {path} > FILE",
            file=sys.stderr,
        )


def _cell_problem(cell: object) -> str:
    """Why a cell is not text; "" if it is."""
    if not isinstance(cell, str):
        return cell.value if isinstance(cell, Bad) else "malformed"
    if len(cell) > MAX_LINE_BYTES:
        return "too_long"
    return "" if is_unicode(cell) else "undecodable"


def read_all_cells(path: Path, columns: Columns = _ALL_COLUMNS) -> Iterator[str]:
    """All text of a table or JSON lines, or some columns of it, or every line of another file; bad bytes dropped.

    If a file has a word and its tag on each line, its sentences.

    Raises:
        ConfigError: a type of file whose lines are not sentences.
        DataError: missing, empty, damaged or unreadable file.
    """
    kind = inner_suffix(path)
    if kind not in (".csv", ".tsv") and columns.dialect != Dialect():
        raise ConfigError(f"{path}: {_NO_DIALECT}")
    if columns.text is not None:
        sentences = read_sentences(path, columns, Counter(), ignore)
        cells: Iterator[str] = (cell for sentence in sentences for cell in sentence if cell is not None)
    elif kind not in (*ARROW_FILES, ".jsonl", *_NOT_LINES) and columns.dialect == Dialect() and is_tagged(path):
        cells = tagged_sentences(path)
    elif kind in (".csv", ".tsv"):
        records = read_records(path, recognise(path, columns.dialect))
        cells = (cell for _, fields in records for cell in fields)
    elif kind == ".jsonl":
        cells = (cell for value in json_values(path) for cell in _texts(value))
    elif kind in ARROW_FILES:
        cells = (cell for row in arrow_rows(path) for cell in _texts(row))
    elif kind in _NOT_LINES:
        hint = "unpack or convert it, and move it away from the files that `exclude` matches"
        raise ConfigError(f"{path}: held-out sentences cannot be read from {kind} files", hint)
    else:  # of any name: Tatoeba's files end in the code of their language
        cells = (decode(line) for line in read_lines(path))
    return (cell.encode(errors="ignore").decode() for cell in cells)


def _texts(value: object) -> Iterator[str]:
    """All strings inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def file_kind(path: Path, columns: Columns) -> str:
    """The suffix that determines how a file is read, without that of its compression.

    Raises:
        ConfigError: the type is unknown, or a column is missing for a table or given for a `.txt`.
    """
    kind = inner_suffix(path)
    if kind not in COMPRESSED_FILES + ARROW_FILES:
        name = path.name.lower()
        remedies = [remedy for suffixes, remedy in _REMEDIES.items() if name.endswith(suffixes)]
        hint = remedies[0] if remedies else f"expected {_EXPECTED}"
        raise ConfigError(f"{path}: unknown type of file {kind or path.name!r}", hint)
    if kind == ".txt" and columns.text is not None:
        raise ConfigError(
            f"{path}: a .txt file has no columns, but column {columns.text!r} is asked for",
            "if it is a table, give it the suffix .tsv or .csv",
        )
    if kind != ".txt" and columns.text is None:
        raise ConfigError(f"{path}: which column?", "write {path: " + path.name + ", column: NAME} in the recipe")
    if kind in (".jsonl", TAR, *ARROW_FILES) and any(isinstance(column, int) for column in columns.named):
        raise ConfigError(
            f"{path}: the columns of a {kind} file have names, but column {columns.named[0]} is asked for"
        )
    if kind not in (".csv", ".tsv") and columns.dialect != Dialect():
        raise ConfigError(f"{path}: {_NO_DIALECT}")
    return kind


def check_columns(path: Path, columns: Columns) -> None:
    """Reads the beginning of a file, so that what is wrong with it is known before any work.

    Raises:
        ConfigError, DataError: as `read_sentences`, as far as the beginning of the file shows.
    """
    kind = file_kind(path, columns)
    if kind == ".txt":
        next(read_lines(path, counts=Counter()), None)
        return
    if kind in ARROW_FILES:
        header = arrow_header(path)
    elif kind == TAR:
        header = tar_header(path)
    else:
        header = json_header(path) if kind == ".jsonl" else read_header(path, columns.dialect, columns.named)
    if columns.by_number:
        _check_numbers(path, columns, len(header))
    elif kind == ".jsonl" and not header:
        hint = "an array becomes such lines by: jq -c '.[]' FILE > NEW_FILE"
        raise DataError(f"{path}: expected a JSON object on each line, found none in the first lines", hint)
    else:
        column_indices(path, header, [str(column) for column in columns.named])


def _check_numbers(path: Path, columns: Columns, width: int) -> None:
    """Raises a DataError if the first row of a table has fewer columns than are asked for."""
    if too_large := [column for column in columns.named if isinstance(column, int) and column > width]:
        raise DataError(
            f"{path} has {width} columns in its first row, but column {too_large[0]} is asked for",
            "columns are counted from 1; `delimiter` in the recipe tells what separates them",
        )


def _table_cells(
    path: Path, columns: Columns, advance: Advance, counts: Counter[str]
) -> Iterator[Sequence[str | None]]:
    """The columns' fields of every record below the header; None in records with too few or too many fields."""
    dialect = recognise(path, columns.dialect, columns.named)
    records = (fields for _, fields in read_records(path, dialect, advance, counts))
    width = None
    if columns.by_number:
        indices = [int(column) - 1 for column in columns.named]
    else:
        header = next(records, [])
        width = len(header)
        indices = _check_header(path, columns, header)
    for record in records:
        is_too_long = width is not None and any(record[width:])
        yield [record[index] if index < len(record) and not is_too_long else None for index in indices]


def _check_header(path: Path, columns: Columns, header: Sequence[str]) -> list[int]:
    """As `column_indices`; also says on stderr that a file has transliterations which are not used."""
    _note_unused(path, columns, header)
    return column_indices(path, header, [str(column) for column in columns.named])


def _note_unused(path: Path, columns: Columns, header: Sequence[str]) -> None:
    """Says on stderr that a file has transliterations which are not used."""
    if _USUAL_NAME in header and columns.transliteration is None and columns.text != _USUAL_NAME:
        use = f"`transliteration: {_USUAL_NAME}` in the recipe uses it"
        print(f"{path}: the column {_USUAL_NAME!r} is ignored; {use}", file=sys.stderr)
