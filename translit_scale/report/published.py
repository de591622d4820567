"""The papers' tables as data: their cells and the numbers printed there (published.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

AVERAGE = "average"
"""As a target language: the mean over the others of the table."""


@dataclass(frozen=True)
class Column:
    """A column of a table; `target` is None where rows are target languages."""

    task: str
    metric: str
    source: str
    target: str | None


@dataclass(frozen=True)
class Line:
    """A row of a table: a model, and the target language where columns have none."""

    model: str
    target: str | None = None


@dataclass(frozen=True)
class TableBlock:
    """A part of a table with its own columns, and the printed values (percent; None if nothing is printed)."""

    columns: tuple[Column, ...]
    printed: Mapping[Line, tuple[float | None, ...]]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order of the rows."""
        return tuple(dict.fromkeys(line.model for line in self.printed))

    @property
    def targets(self) -> tuple[str | None, ...]:
        """Target languages of each model's rows."""
        return tuple(dict.fromkeys(line.target for line in self.printed))


@dataclass(frozen=True)
class Table:
    """A table of a paper. `by_source`: it marks the best model and the best source instead of the best rows."""

    name: str
    paper: str
    number: int
    title: str
    by_source: bool
    blocks: tuple[TableBlock, ...]
    averages_of: str | None
    """The table whose rows are the languages that this one averages over."""


@lru_cache(maxsize=1)
def published() -> Mapping[str, Table]:
    """All tables by name: `a2` is Table 2 of paper A."""
    text = files("translit_scale.report").joinpath("published.yaml").read_text(encoding="utf-8")
    return MappingProxyType({name: _table(name, value) for name, value in yaml.safe_load(text).items()})


def averaged(table: Table, task: str, source: str) -> tuple[str, ...]:
    """The target languages that the paper averages over: those for which it prints a number."""
    origin = published()[table.averages_of] if table.averages_of else table
    (block,) = origin.blocks
    index = next(i for i, column in enumerate(block.columns) if (column.task, column.source) == (task, source))
    printed = [line.target for line, values in block.printed.items() if values[index] is not None]
    return tuple(dict.fromkeys(target for target in printed if target is not None and target != AVERAGE))


def _table(name: str, value: dict[str, Any]) -> Table:
    return Table(
        name,
        value["paper"],
        value["table"],
        value["title"],
        value["marks"] == "models and sources",
        tuple(_block(block) for block in value["blocks"]),
        value.get("averages_of"),
    )


def _block(value: dict[str, Any]) -> TableBlock:
    columns = []
    for text in value["columns"]:
        task, metric, source, target = text.split()
        columns.append(Column(task, metric, source, None if target == "*" else target))
    printed: dict[Line, tuple[float | None, ...]] = {}
    for model, rows in value["rows"].items():
        if isinstance(rows, dict):
            printed |= {Line(model, target): tuple(values) for target, values in rows.items()}
        else:
            printed[Line(model)] = tuple(rows)
    return TableBlock(tuple(columns), printed)
