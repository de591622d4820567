"""Fields of JSON lines: one object on each line of a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from pathlib import Path

from translit_scale.corpus.lines import ignore, is_unicode, read_lines
from translit_scale.corpus.tables import column_indices
from translit_scale.progress import Advance

_HEAD_LINES = 1000
"""Lines that show which fields the objects of a file have."""


class Bad(Enum):
    """What stands in place of text that is none; the value is the reason under which it is counted."""

    UNDECODABLE = "undecodable"
    LONE_SURROGATE = "lone_surrogate"


def json_values(path: Path, advance: Advance = ignore, counts: Counter[str] | None = None) -> Iterator[object]:
    """The value on each line; None where it is not JSON, `Bad.UNDECODABLE` where it is not UTF-8.

    Args:
        counts: as in `read_lines`.

    Raises:
        DataError: missing, empty, damaged or unreadable file.
    """
    for line in read_lines(path, advance, counts):
        try:
            yield json.loads(line)
        except UnicodeDecodeError:
            yield Bad.UNDECODABLE
        except (ValueError, RecursionError):
            yield None


def json_cells(path: Path, fields: Sequence[str], advance: Advance, counts: Counter[str]) -> Iterator[Sequence[object]]:
    """Fields of the object on every line; None where there is none, or `Bad`.

    `translation.pl` is the field `pl` of the object in `translation`, unless a field has this name itself.

    Raises:
        DataError: as `json_values`, or no object has a field; the hint lists those of the first object.
    """
    occurred: dict[str, None] = {}
    for value in json_values(path, advance, counts):
        cells = [field_value(value, field) for field in fields]
        if not occurred and isinstance(value, dict):
            occurred = dict.fromkeys(field_names(value))
        occurred |= dict.fromkeys(field for field, cell in zip(fields, cells, strict=True) if cell is not None)
        yield [checked(cell) for cell in cells]
    column_indices(path, list(occurred), fields)


def json_header(path: Path) -> list[str]:
    """Names of the fields in the first objects of a file, those of inner objects with points between."""
    head = islice(json_values(path, counts=Counter()), _HEAD_LINES)
    return list(dict.fromkeys(name for value in head if isinstance(value, dict) for name in field_names(value)))


def field_names(value: Mapping[str, object]) -> Iterator[str]:
    """Names of all fields of an object, and of objects in it."""
    for name, inner in value.items():
        yield name
        if isinstance(inner, dict):
            yield from (f"{name}.{below}" for below in field_names(inner))


def field_value(value: object, field: str) -> object:
    """A field of an object; None if it has no such field, the value itself if it is `Bad`."""
    if isinstance(value, Bad):
        return value
    if not isinstance(value, dict):
        return None
    if field in value:
        return value[field]
    name, point, inner = field.partition(".")
    return field_value(value.get(name), inner) if point else None


def checked(cell: object) -> object:
    """The cell itself, or `Bad` for a string with half of a character."""
    return Bad.LONE_SURROGATE if isinstance(cell, str) and not is_unicode(cell) else cell
