"""Columns of Parquet files, and of Arrow files and streams; `datasets` writes streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from translit_scale.corpus.lines import check_is_data, decode
from translit_scale.errors import ConfigError, DataError
from translit_scale.extras import install_command
from translit_scale.progress import Advance

ARROW_FILES = (".parquet", ".arrow")
_FILE_MAGIC = b"ARROW1"
_HEAD_BYTES = 100
_AGAIN = "is the file complete? If not, download or copy it again"


def arrow_header(path: Path) -> list[str]:
    """Names of all columns; `translation.pl` is the field `pl` of the column `translation`.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: missing, damaged or unreadable file.
    """
    with _opened(path) as (schema, _):
        return [name for field in schema for name in _names(field)]


def arrow_cells(path: Path, columns: Sequence[str], advance: Advance) -> Iterator[Sequence[object]]:
    """The values of columns, row by row; errors are those of `arrow_header`."""
    with _opened(path) as (_, batches):
        for batch in batches(columns):
            yield from zip(*(_strings(_column(batch, name)) for name in columns), strict=True)
        advance(path.stat().st_size)


def arrow_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, object]]:
    """All columns of a file, or at least some of them, row by row; errors are those of `arrow_header`."""
    with _opened(path) as (schema, batches):
        for batch in batches(columns or schema.names):
            yield from batch.to_pylist()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Callable[[Sequence[str]], Iterator[Any]]]]:
    """The schema of a file, and a function that reads batches with some of its columns."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        suffix = path.suffix.lower()
        raise ConfigError(f"reading {suffix} needs a package", install_command("parquet")) from None
    try:
        with path.open("rb") as file:
            check_is_data(path, file.peek(_HEAD_BYTES), _AGAIN)
            if path.suffix.lower() == ".parquet":
                parquet = pyarrow.parquet.ParquetFile(file)
                yield parquet.schema_arrow, lambda names: parquet.iter_batches(columns=list(names))
            else:
                reader = _arrow_reader(file)
                yield reader.schema, lambda names: _batches(reader)
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, MemoryError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error) or 'out of memory'}", _AGAIN) from None


def _arrow_reader(file: IO[bytes]) -> Any:
    import pyarrow

    is_file = file.read(len(_FILE_MAGIC)) == _FILE_MAGIC
    file.seek(0)
    return pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file)


def _batches(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "get_batch"):
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        yield from reader


def _names(field: Any) -> Iterator[str]:
    """The name of a column, or those of its fields with points between."""
    import pyarrow

    if pyarrow.types.is_struct(field.type):
        yield from (f"{field.name}.{name}" for inner in field.type for name in _names(inner))
    else:
        yield field.name


def _column(batch: Any, name: str) -> Any:
    import pyarrow.compute

    if name in batch.schema.names:
        return batch.column(name)
    top, *inner = name.split(".")
    return pyarrow.compute.struct_field(batch.column(top), inner)


def _strings(cells: Any) -> Iterator[object]:
    """The values of an Arrow array. Arrow does not check that strings are valid UTF-8, as the file claims."""
    import pyarrow

    binary = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}.get(cells.type)
    if binary is None:
        return iter(cells.to_pylist())
    cells = cells.view(binary)
    cells.validate(full=True)  # wrong offsets would be read as addresses
    return (cell if cell is None else decode(cell) for cell in cells.to_pylist())
