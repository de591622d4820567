"""Fills the papers' tables with results and marks the best values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from translit_scale.errors import ConfigError
from translit_scale.report.published import AVERAGE, Column, Line, Table, TableBlock, averaged, published
from translit_scale.report.results import Results, Value


@dataclass(frozen=True)
class Cell:
    """A number, its place in the table, and the number that the paper prints there."""

    column: Column
    line: Line
    value: Value | None = None
    printed: float | None = None
    """Percent."""
    languages: tuple[str, ...] = ()
    """Languages that the paper averages over; empty for a single language."""
    bold: bool = False
    underlined: bool = False

    @property
    def target(self) -> str:
        """Target language, or `average`."""
        return str(self.column.target or self.line.target)

    @property
    def is_source(self) -> bool:
        """Whether the row's language is the column's source, which papers print as `src`."""
        return self.column.target is None and self.line.target == self.column.source

    @property
    def shown(self) -> float | None:
        """Percent with one decimal; bold and underlined follow from it."""
        return None if self.value is None else round(100 * self.value.value, 1)

    @property
    def difference(self) -> float | None:
        """Difference to the printed number, in points; None for an average over other languages than the paper's."""
        if self.value is None or self.printed is None:
            return None
        if self.languages and self.value.languages != self.languages:
            return None
        return 100 * self.value.value - self.printed


@dataclass(frozen=True)
class Filled:
    """A block of a table with its cells, one row for each line."""

    table: Table
    columns: tuple[Column, ...]
    rows: list[list[Cell]]

    @property
    def models(self) -> set[str]:
        """Rows with a result."""
        return {cell.line.model for row in self.rows for cell in row if cell.value is not None}

    def kept(self, with_published: bool) -> Filled:
        """Without the models, targets and tasks that have no result, nor, if asked for, a number of the paper."""
        cells = [
            cell
            for row in self.rows
            for cell in row
            if cell.value is not None or (with_published and cell.printed is not None)
        ]
        models, targets = {cell.line.model for cell in cells}, {cell.line.target for cell in cells}
        tasks = {cell.column.task for cell in cells}
        indices = [index for index, column in enumerate(self.columns) if column.task in tasks]
        rows = [
            [row[index] for index in indices]
            for row in self.rows
            if row[0].line.model in models and row[0].line.target in targets
        ]
        return Filled(self.table, tuple(self.columns[index] for index in indices), rows)


def fill(
    table: Table, results: Results, models: Mapping[str, str], profile: str = "paper", every_row: bool = False
) -> list[Filled]:
    """Fills all blocks of a table.

    Args:
        models: row → label of results, as `name_rows` returns it; rows that no table has follow the table's own.
        profile: of transfer scores, `paper` or `strict`.
        every_row: rows of other tables follow, too.
    """
    return [_fill(table, block, results, models, profile, every_row) for block in table.blocks]


def name_rows(arguments: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Row of the tables → label of the results that fill it.

    `Model-1=mlm` (also `model1=mlm`) fills the row Model-1 with the results labelled `mlm`. A name that no table has
    becomes a new row. Without arguments every label is the name of its row.

    Raises:
        ConfigError: a row occurs twice, or a label has no results.
    """
    if not arguments:
        return {label: label for label in labels}
    known = {_plain(model): model for table in published().values() for b in table.blocks for model in b.models}
    rows: dict[str, str] = {}
    for argument in arguments:
        name, equals, label = argument.partition("=")
        label = label if equals else name
        if equals:  # a bare label such as `mlm` is not matched with a row of a paper
            name = known.get(_plain(name), name)
        if name in rows:
            raise ConfigError(f"--model: {name} occurs twice")
        if label not in labels:
            raise ConfigError(f"--model {argument}: no results of {label!r}", f"there are {', '.join(labels)}")
        rows[name] = label
    return rows


def _plain(name: str) -> str:
    """`Model-1`, `model1` and `MODEL 1` become equal; `MLM+SEQ` and `MLMSEQ` do not."""
    return re.sub(r"[^a-z0-9+]", "", name.lower())


def _fill(
    table: Table, block: TableBlock, results: Results, models: Mapping[str, str], profile: str, every_row: bool
) -> Filled:
    others = [block] if every_row else [b for other in published().values() for b in other.blocks]
    elsewhere = {model for other in others for model in other.models}
    names = [*block.models, *(name for name in models if name not in elsewhere)]
    rows = []
    for line in (Line(name, target) for name in names for target in block.targets):
        printed = block.printed.get(line, (None,) * len(block.columns))
        cells = [Cell(column, line, printed=number) for column, number in zip(block.columns, printed, strict=True)]
        rows.append([_filled(cell, table, results, models.get(line.model), profile) for cell in cells])
    return Filled(table, block.columns, mark_models_and_sources(rows) if table.by_source else mark_columns(rows))


def _filled(cell: Cell, table: Table, results: Results, label: str | None, profile: str) -> Cell:
    column = cell.column
    languages = averaged(table, column.task, column.source) if cell.target == AVERAGE else ()
    value = None
    if label is not None and not cell.is_source:
        targets = languages or (cell.target,)
        value = results.value(label, column.task, column.metric, column.source, targets, profile)
    return replace(cell, value=value, languages=languages)


def mark_columns(rows: list[list[Cell]]) -> list[list[Cell]]:
    """Bold and underlined: best and second best rounded value of each column; equal values are marked alike.

    A value that is alone in its column is the best of nothing.
    """
    marked = [list(row) for row in rows]
    for index in range(len(rows[0])):
        shown = [value for row in rows if (value := row[index].shown) is not None]
        values = sorted(set(shown), reverse=True) if len(shown) > 1 else []
        for row in marked:
            row[index] = replace(
                row[index], bold=row[index].shown in values[:1], underlined=row[index].shown in values[1:2]
            )
    return marked


def mark_models_and_sources(rows: list[list[Cell]]) -> list[list[Cell]]:
    """Bold: the best model for a source and target; underlined: a model's best source for a target and task.

    A model or source that is alone is the best of nothing.
    """
    of_pair: dict[tuple[Column, str | None], list[float]] = {}
    of_line: dict[tuple[Line, str], list[float]] = {}
    for cell in (cell for row in rows for cell in row):
        if cell.shown is not None:
            of_pair.setdefault((cell.column, cell.line.target), []).append(cell.shown)
            of_line.setdefault((cell.line, cell.column.task), []).append(cell.shown)

    def is_best(shown: float | None, others: list[float]) -> bool:
        return len(others) > 1 and shown == max(others)

    return [
        [
            replace(
                cell,
                bold=is_best(cell.shown, of_pair.get((cell.column, cell.line.target), [])),
                underlined=is_best(cell.shown, of_line.get((cell.line, cell.column.task), [])),
            )
            for cell in row
        ]
        for row in rows
    ]
