"""Reads FLORES+ as its page on the Hugging Face hub has it: Parquet files with a row for each sentence.

The columns `iso_639_3` and `iso_15924` state the language, so a file may hold one language or all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from translit_scale.corpus.arrow import arrow_header, arrow_rows
from translit_scale.corpus.tables import column_indices
from translit_scale.testsets.parallel import unique_texts

LANGUAGE_COLUMNS = ("iso_639_3", "iso_15924")


def languages_of(path: Path) -> list[str]:
    """Sorted codes (`pol_Latn`) of the languages in a file.

    Raises:
        DataError: the file cannot be read, or has no such columns.
        ConfigError: the package pyarrow is missing.
    """
    return sorted({f"{iso3}_{script}" for iso3, script in _rows(path, LANGUAGE_COLUMNS)})


def texts_of(paths: Sequence[Path], language: str) -> dict[str, str]:
    """Text by id of the rows in one language, in the order of the files.

    Raises:
        DataError: as `languages_of`, or an id is empty or occurs twice.
    """
    return unique_texts(
        (f"{path}, row {number}", key, text.strip())
        for path in paths
        for number, (iso3, script, key, text) in enumerate(_rows(path, (*LANGUAGE_COLUMNS, "id", "text")), 1)
        if f"{iso3}_{script}" == language
    )


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The columns of every row, as strings."""
    column_indices(path, arrow_header(path), columns)
    for row in arrow_rows(path, columns):
        yield tuple("" if row[name] is None else str(row[name]) for name in columns)
