"""What sections of the page consist of: paragraphs, tables and figures, independent of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from translit_scale.charts import Chart


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what counts, and smaller what explains it, such as an interval."""

    text: str
    details: str = ""
    mark: str = ""
    """`better` or `worse`, else empty."""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table: heads of columns, and rows whose first `names` cells are headers of the row."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    names: int = 1
    note: str = ""
    closed: bool = False
    """Whether the table is folded until a reader opens it."""


@dataclass
class Section:
    """A part of the page with its heading and anchor."""

    anchor: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: str = ""
    """What would fill an empty section, with the command."""

    @property
    def has_content(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.paragraphs or self.charts or self.tables or self.missing)
