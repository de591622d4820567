"""Tables in text files, as spreadsheets, pandas and shell tools write them.

The dialect of a table is its delimiter, and whether its fields are quoted as in RFC 4180: a field in quotation marks
may contain delimiters and line ends, and a quotation mark inside is doubled. A recipe may state the dialect; otherwise
it is recognised where it is certain. A `.csv` is quoted unless a recipe says otherwise; a `.tsv` may be either.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.lines import decode, ignore, inner_suffix, read_lines
from translit_scale.errors import DataError
from translit_scale.progress import Advance

Column = str | int
"""The name of a column in the header row, or the number of one, from 1, in a table without a header row."""

_CSV_DELIMITERS = (",", ";", "\t")
_HEAD_LINES = 200
"""Lines that show the delimiter of a `.csv`."""
_CLEAR_MAJORITY = 20
_MAX_CELL_LINES = 1000
_ALL_QUOTED_LINES = 10
"""So many lines that all contain a field in quotation marks are quoted, even if the marks contain nothing special."""
_NOTED_FRACTION = 0.01
_DECIDE = "`quoted: true` or `quoted: false` in the recipe decides; for evaluate, save it as .csv with quoted fields"


class Dialect(NamedTuple):
    """How a table is written; None where it is to be recognised."""

    delimiter: str | None = None
    quoted: bool | None = None


UNQUOTED_TSV = Dialect("\t", quoted=False)
"""Fields separated by tabs; a quotation mark is a character like any other."""


def read_records(
    path: Path, dialect: Dialect = UNQUOTED_TSV, advance: Advance = ignore, counts: Counter[str] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every record of a table, the header row included.

    Fields of a quoted table may contain line ends, and its blank lines are not records. `lines.is_unicode` tells
    whether a field was valid UTF-8.

    Args:
        dialect: recognised already (`recognise`).
        counts: as in `read_lines`, but unused for a quoted table: without a line of it, others could mean something
            else.

    Raises:
        DataError: missing, empty, damaged or unreadable file, a line that is too long, or quoting that is not closed.
    """
    assert dialect.delimiter is not None
    lines = (decode(line) for line in read_lines(path, advance, None if dialect.quoted else counts))
    if dialect.quoted:
        return _quoted_records(path, lines, dialect.delimiter)
    return ((number, line.split(dialect.delimiter)) for number, line in enumerate(lines, 1))


def _quoted_records(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    # A lone carriage return is no line end here; csv would stop at it.
    reader = csv.reader((line.replace("\r", " ") + "\n" for line in lines), strict=True, delimiter=delimiter)
    first = 1
    try:
        for record in reader:
            if record:
                yield first, record
            first = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{first}: {error}",
            "is a quotation mark never closed, or not doubled inside a quoted field? If quotation marks are text in "
            "this table, write `quoted: false` in the recipe",
        ) from None


def column_indices(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Positions of the named columns in the header row.

    Raises:
        DataError: a column does not exist or occurs twice; the hint lists those that exist.
    """
    names = [name.strip() for name in header]
    shown = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
    for column in columns:
        if column not in names:
            is_table = inner_suffix(path) in (".csv", ".tsv")
            number = "in a table without a header row give the number of the column; " if is_table else ""
            raise DataError(f"{path} has no column {column!r}", f"{number}it has {shown or 'none'}")
        if names.count(column) > 1:
            raise DataError(
                f"{path} has {names.count(column)} columns {column!r}", f"rename all but one; it has {shown}"
            )
    return [names.index(column) for column in columns]


def read_header(path: Path, dialect: Dialect, columns: Sequence[Column]) -> list[str]:
    """The first record of a table, with the dialect that makes its fields the columns if there is one.

    Raises:
        DataError: as `recognise`.
    """
    delimiter, head = _delimiter(path, dialect, dialect.quoted, columns), _head(path)
    as_text, as_quoted = (_records_of_head(head, delimiter, quoted) for quoted in (False, True))
    header = as_text[0] if as_text else []
    if dialect.quoted or not set(columns) <= {name.strip() for name in header}:
        header = as_quoted[0] if as_quoted else header
    return header


def recognise(path: Path, dialect: Dialect, columns: Sequence[Column] = ()) -> Dialect:
    """The dialect of a table; prints a note on stderr if quotation marks are read as text and may be quoting.

    The delimiter of a `.csv` is the one that gives a header with the columns, or the same number of fields in all of
    the first lines; that of any other table is the tab. The quoting of a `.tsv` is decided by all its lines.

    Raises:
        DataError: as `read_records`, or several dialects fit.
    """
    quoted = True if dialect.quoted is None and inner_suffix(path) == ".csv" else dialect.quoted
    delimiter = _delimiter(path, dialect, quoted, columns)
    if quoted is None:
        quoted = _Quoting(path, delimiter).decide(columns)
    return Dialect(delimiter, quoted)


def _head(path: Path) -> list[str]:
    """The first lines of a table."""
    return [decode(line) for line in islice(read_lines(path, counts=Counter()), _HEAD_LINES)]


def _delimiter(path: Path, dialect: Dialect, quoted: bool | None, columns: Sequence[Column]) -> str:
    """The delimiter that is given; else the tab, or in a `.csv` the one that its first lines show."""
    if dialect.delimiter or inner_suffix(path) != ".csv":
        return dialect.delimiter or "\t"
    head = _head(path)
    widths: dict[str, set[int]] = {}
    for delimiter in _CSV_DELIMITERS:
        records = _records_of_head(head, delimiter, quoted)
        names = {name.strip() for name in records[0]} if records else set()
        if columns and names.issuperset(columns):
            return delimiter
        widths[delimiter] = {len(record) for record in records}
    least = max((column for column in columns if isinstance(column, int)), default=2)
    fitting = [delimiter for delimiter, of in widths.items() if len(of) == 1 and min(of) >= max(least, 2)]
    if len(fitting) > 1 and columns:
        shown = " or ".join(map(repr, fitting))
        raise DataError(f"{path}: its fields may be separated by {shown}", "write `delimiter` in the recipe")
    return fitting[0] if fitting else ","


def _records_of_head(head: Sequence[str], delimiter: str, quoted: bool | None) -> list[list[str]]:
    if not quoted:
        return [line.split(delimiter) for line in head]
    try:
        records = [record for record in csv.reader((f"{line}\n" for line in head), delimiter=delimiter) if record]
    except csv.Error:
        return []
    return records[:-1] if len(head) == _HEAD_LINES else records  # the last one may be cut off


@dataclass
class _Evidence:
    """Number of records for a reading, and the line of the first."""

    records: int = 0
    line: int = 0

    def add(self, line: int) -> None:
        self.records += 1
        self.line = self.line or line


class _Quoting:
    """Finds out whether the fields of a table are quoted.

    Quoted tables have no quotation marks but around fields, and doubled inside. Any other mark is evidence of text.
    Doubled marks, and delimiters or line ends between marks where a record would otherwise have too many or too few
    fields, are evidence of quoting. A whole sentence in quotation marks may be either.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path, self._delimiter = path, delimiter
        self._quoted, self._text, self._either, self._broken = (_Evidence() for _ in range(4))
        self._lines = self._width = 0
        plain, opened = f'[^"{re.escape(delimiter)}]*', '"[^"]*(?:""[^"]*)*'
        before = f'(?:(?:{plain}|{opened}"){re.escape(delimiter)})*'
        self._complete = re.compile(f'{before}(?:{plain}|{opened}")')
        self._unfinished = re.compile(f"{before}{opened}")

    def decide(self, columns: Sequence[Column]) -> bool:
        """Reads the table; raises a DataError if there is as much evidence of one as of the other."""
        lines = (decode(line) for line in read_lines(self._path, counts=Counter()))
        header = next(lines, "")
        self._width = len(header.split(self._delimiter))
        if self._named_only_if_quoted(header, columns):
            return True
        for first, record in self._records(chain([header], lines)):
            self._weigh(first, record)
        return self._verdict()

    def _named_only_if_quoted(self, header: str, columns: Sequence[Column]) -> bool:
        wanted = {column for column in columns if isinstance(column, str)}
        if wanted <= {name.strip() for name in header.split(self._delimiter)}:
            return False
        return wanted <= {name.strip() for name in self._parsed([header]) or ()}

    def _records(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        """Lines with quotation marks that are one record if the table is quoted, with the number of the first."""
        record: list[str] = []
        for self._lines, line in enumerate(lines, 1):
            if record or '"' in line:
                record.append(line)
                stays_open = len(record) > 1 and '"' not in line
                if len(record) < _MAX_CELL_LINES and (stays_open or self._unfinished.fullmatch("\n".join(record))):
                    continue
                yield self._lines - len(record) + 1, record
                record = []
        if record:
            yield self._lines - len(record) + 1, record

    def _parsed(self, lines: Sequence[str]) -> list[str] | None:
        """The fields of a record if it is quoted; None if it cannot be."""
        try:
            is_complete = self._complete.fullmatch("\n".join(lines))
            return next(csv.reader((f"{line}\n" for line in lines), delimiter=self._delimiter)) if is_complete else None
        except csv.Error:
            return None

    def _weigh(self, first: int, lines: Sequence[str]) -> None:
        fields = self._parsed(lines)
        fits_as_text = {len(line.split(self._delimiter)) for line in lines} == {self._width}
        if fields is None or (len(fields) != self._width and fits_as_text):
            evidence = self._text
        elif any('"' in field for field in fields) or (len(fields) == self._width and not fits_as_text):
            evidence = self._quoted
        else:
            evidence = self._broken if len(lines) > 1 else self._either
        evidence.add(first)

    def _verdict(self) -> bool:
        quoted, text = self._quoted.records, self._text.records
        if quoted and text and max(quoted, text) < _CLEAR_MAJORITY * min(quoted, text):
            raise DataError(
                f"{self._path}: quotation marks enclose fields in {quoted:,} lines, first in line {self._quoted.line}, "
                f"but are text in {text:,} lines, first in line {self._text.line}",
                _DECIDE,
            )
        if quoted or text:
            return quoted > text
        if self._either.records == self._lines >= _ALL_QUOTED_LINES:
            return True
        doubtful = self._broken.records + self._either.records
        if self._broken.records or doubtful > _NOTED_FRACTION * self._lines:
            first = min(of.line for of in (self._broken, self._either) if of.line)
            print(
                f"{self._path}: {doubtful:,} fields begin and end with a quotation mark, the first in line {first}. "
                "They are read as text; if the table is quoted, write `quoted: true` in the recipe",
                file=sys.stderr,
            )
        return False
