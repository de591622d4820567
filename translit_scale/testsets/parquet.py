"""Reads FLORES+ as its page on the Hugging Face hub has it: Parquet files with a row for each sentence.

The columns `iso_639_3` and `iso_15924` state the language, so a file may hold one language or all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from translit_scale.errors import ConfigError, DataError
from translit_scale.extras import install_command
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


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The columns of every row, as strings."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("reading .parquet needs a package", install_command("parquet")) from None
    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            if missing := [name for name in columns if name not in table.schema_arrow.names]:
                raise DataError(f"{path} has no column {missing[0]!r}", f"it has {', '.join(table.schema_arrow.names)}")
            cells = table.read(columns=list(columns)).to_pydict()
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {error}", "is the file complete?") from error
    rows = zip(*(cells[name] for name in columns), strict=True)
    return [tuple("" if cell is None else str(cell) for cell in row) for row in rows]
