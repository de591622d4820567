"""Text in WebDataset tars: a sample is the files that share a name, and a column is what follows the first point of it.

The tar is read from front to back, as it may be compressed or lie on a slow disk. Nothing in it is executed: files are
bytes, which are decoded as UTF-8 text or JSON only.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from translit_scale.corpus.compression import decompressed
from translit_scale.corpus.json_lines import checked, field_names, field_value
from translit_scale.corpus.lines import MAX_LINE_BYTES, check_is_data, decode
from translit_scale.corpus.tables import column_indices
from translit_scale.errors import DataError
from translit_scale.progress import Advance

TAR = ".tar"
_HEAD_SAMPLES = 100
"""Samples that show which columns a tar has."""
_BLOCK = 512
_JSON = "json"

Sample = Mapping[str, Any]
"""The files of a sample by their endings, such as `txt` or `orig.txt`, and `__key__`."""


def tar_header(path: Path) -> list[str]:
    """The columns of the first samples; `json.text` is the field `text` of the object in the file `….json`.

    Raises:
        DataError: missing, empty, damaged or unreadable file.
    """
    return list(dict.fromkeys(name for sample in islice(_samples(path), _HEAD_SAMPLES) for name in _columns(sample)))


def tar_cells(path: Path, columns: Sequence[str], advance: Advance, counts: Counter[str]) -> Iterator[Sequence[object]]:
    """The columns of every sample; a file of text is a sentence on each line, and None stands for what is missing.

    Args:
        counts: a file of more than `MAX_LINE_BYTES` is skipped and adds to `read` and `too_long`.

    Raises:
        DataError: as `tar_header`, or no sample has a column; the hint lists those of the first sample.
    """
    occurred: dict[str, None] = {}
    for sample in _samples(path, counts):
        if not occurred:
            occurred = dict.fromkeys(_columns(sample))
        objects = _objects(sample, columns)
        cells = [_cell(sample, objects, column) for column in columns]
        occurred |= dict.fromkeys(name for name, cell in zip(columns, cells, strict=True) if cell != [None])
        yield from zip_longest(*cells)
    column_indices(path, list(occurred), columns)
    advance(path.stat().st_size)


def _samples(path: Path, counts: Counter[str] | None = None) -> Iterator[Sample]:
    from webdataset.tariterators import group_by_keys

    try:
        with path.open("rb") as raw:
            check_is_data(path, raw.peek(_BLOCK))
            file = decompressed(raw, path.suffix.lower())
            with tarfile.open(fileobj=file, mode="r|", errorlevel=2) as tar:
                yield from group_by_keys(_members(path, tar, counts))
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"cannot read {path}: {error}", f"tar -tf {path} tests it; is the file complete?") from None
    except ValueError as error:  # of group_by_keys
        raise DataError(f"{path}: {error.args[0]}", "each file of a tar needs a name of its own") from None


def _members(path: Path, tar: tarfile.TarFile, counts: Counter[str] | None) -> Iterator[dict[str, object]]:
    """Names and contents of the files of a tar; folders, links and the like are passed over."""
    for member in tar:
        content = tar.extractfile(member) if member.isreg() else None
        if content is not None and member.size <= MAX_LINE_BYTES:
            yield {"fname": member.name, "data": content.read(), "__url__": str(path)}
        elif content is not None and counts is not None:
            counts.update(("read", "too_long"))
        tar.members = []  # type: ignore[attr-defined]  # or tarfile would remember all of them


def _columns(sample: Sample) -> Iterator[str]:
    for name, data in sample.items():
        if not name.startswith("__"):
            yield name
            if _is_json(name) and isinstance(value := _parsed(data), dict):
                yield from (f"{name}.{field}" for field in field_names(value))


def _objects(sample: Sample, columns: Sequence[str]) -> dict[str, object]:
    """The values of the JSON files of a sample that have one of the columns, each parsed once."""
    needed = [name for name in sample if _is_json(name) and any(column.startswith(f"{name}.") for column in columns)]
    return {name: _parsed(sample[name]) for name in needed}


def _cell(sample: Sample, objects: Mapping[str, object], column: str) -> list[object]:
    """The sentences of a column of a sample; `[None]` if it does not have it.

    Args:
        objects: as from `_objects`.
    """
    if column in sample and not _is_json(column):
        lines: list[bytes] = sample[column].removesuffix(b"\n").split(b"\n")
        return [decode(line.removesuffix(b"\r")) for line in lines]
    for name, value in objects.items():
        if column.startswith(f"{name}."):
            return [checked(field_value(value, column.removeprefix(f"{name}.")))]
    return [None]


def _is_json(name: str) -> bool:
    return name.rsplit(".", 1)[-1] == _JSON


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
