"""What the readers of tagged text share: words, and blocks of lines that are sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.tables import read_records


class Word(NamedTuple):
    """A word with its tag in the file, and `file:line` for messages."""

    where: str
    text: str
    tag: str


Sentence = list[Word]


def blocks(path: Path) -> Iterator[list[tuple[int, list[str]]]]:
    """Blocks of lines between blank lines: the number and the fields of each line.

    Raises:
        DataError: the file is missing, empty, damaged or unreadable, or a line is too long.
    """
    block: list[tuple[int, list[str]]] = []
    for line, fields in read_records(path):
        if any(field.strip(" ") for field in fields):
            block.append((line, fields))
        elif block:
            yield block
            block = []
    if block:
        yield block
