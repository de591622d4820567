"""The papers' tables in LaTeX, laid out as the papers print them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from translit_scale.escaping import escape_latex
from translit_scale.report.latex import PACKAGES, Panel, Row, float_tables
from translit_scale.report.published import AVERAGE, Column
from translit_scale.report.tables import Cell, Filled
from translit_scale.testsets.registry import TASKS

BY_COLUMN = "Bold (underlined): best (second-best) result of a column."
BY_SOURCE = (
    "Bold: the better model for a source and target. Underlined: the best source of a model for a target and task. "
    "src: the language is the source."
)


@dataclass(frozen=True)
class Details:
    """What a cell shows beside its value."""

    intervals: bool
    """95 % intervals."""
    published: bool
    """The numbers that the paper prints, and rows that only the paper has."""
    differences: bool
    """Differences to these numbers, in points."""


def tex(blocks: Sequence[Filled], details: Details, comments: Sequence[str]) -> str:
    """One table of a paper as `table*` floats, as wide as the text of a page at most. It needs the package booktabs.

    Rows and tasks without a result are left out unless the published numbers are shown.

    Args:
        comments: written above it.
    """
    notes = "\n".join(f"% {' '.join(comment.split())}" for comment in (*comments, PACKAGES))
    kept = [block.kept(details.published) for block in blocks]
    panels = [_panel(block, details) for block in kept if block.rows and block.columns]
    if not panels:
        return f"{notes}\n% no result fills this table\n"
    return f"{notes}\n{float_tables(panels, _caption(kept, details), blocks[0].table.name)}\n"


def _panel(block: Filled, details: Details) -> Panel:
    rows: list[Row] = []
    model = None
    for cells in block.rows:
        line = cells[0].line
        label = escape_latex(line.target or line.model)
        if line.target is not None and line.model != model:
            rows.append(Row(f"\\textbf{{{escape_latex(line.model)}}}"))
        model = line.model
        if line.target == AVERAGE:
            label = "\\textbf{Average}"
        rows.append(Row(label, [_number(cell) for cell in cells]))
        for more in zip(*(_lines(cell, details) for cell in cells), strict=True):
            if any(more):
                rows.append(Row("", more, follows=True))
    return Panel([_heads(column) for column in block.columns], rows, align="c" if _has_lines(details) else "r")


def _has_lines(details: Details) -> bool:
    return details.intervals or details.published or details.differences


def _number(cell: Cell) -> str:
    if cell.is_source:
        return "src"
    number = "--" if cell.shown is None else f"{cell.shown:.1f}"
    number = f"\\underline{{{number}}}" if cell.underlined else number
    return f"\\textbf{{{number}}}" if cell.bold else number


def _lines(cell: Cell, details: Details) -> tuple[str, str, str]:
    """What stands below a number: its interval, the paper's number and the difference, the number of languages."""
    interval = paper = ""
    value = cell.value
    if details.intervals and value is not None and value.low is not None and value.high is not None:
        interval = f"{100 * value.low:.1f}--{100 * value.high:.1f}"
    parts = []
    if details.published and cell.printed is not None:
        parts.append(f"{cell.printed:.1f}")
    if details.differences and cell.difference is not None:
        parts.append(f"{cell.difference:+.1f}".replace("-", "$-$"))
    paper = f"({', '.join(parts)})" if parts else ""
    partial = value is not None and cell.languages and value.languages != cell.languages
    return interval, paper, f"{len(value.languages)}/{len(cell.languages)}" if value is not None and partial else ""


def _heads(column: Column) -> tuple[str, ...]:
    """As in the papers: paper A names directions, paper B the script of the source."""
    title = escape_latex(TASKS[column.task].title)
    if column.target is None or column.target == AVERAGE:
        return title, escape_latex(_script(column.source))
    source, target = (escape_latex(code[:3]) for code in (column.source, column.target))
    if column.metric.startswith("top"):
        return f"{title} ({source} $\\to$ {target})", f"top-{column.metric[3:]}"
    return title, f"\\textbf{{{source}}}", f"$\\to$ {target}"


def _script(code: str) -> str:
    return code.partition("_")[2] or code


def _caption(blocks: Sequence[Filled], details: Details) -> str:
    """What the table shows, what its heads and marks mean, and what stands below the numbers."""
    table = blocks[0].table
    cells = [cell for block in blocks for row in block.rows for cell in row]
    sentences = [f"{escape_latex(table.title)}, in percent, with the rows and columns of Table {table.number} of "
                 f"\\emph{{{escape_latex(table.paper)}}}."]  # fmt: skip
    sources: dict[str, list[str]] = {}
    for column in (column for block in blocks for column in block.columns):
        if column.target in (None, AVERAGE) and column.source not in sources.setdefault(_script(column.source), []):
            sources[_script(column.source)].append(column.source)
    if sources:
        scripts = "; ".join(f"{script}: {', '.join(codes)}" for script, codes in sources.items())
        sentences.append(escape_latex(f"Columns are scripts of source languages ({scripts})."))
    sentences.append(escape_latex(BY_SOURCE if table.by_source else BY_COLUMN))
    below = []
    if details.intervals and any(_lines(cell, details)[0] for cell in cells):
        below.append("the 95\\,\\% interval")
    shown = ["the paper's number"] if details.published else []
    shown += ["the difference to the paper's number in points"] if details.differences else []
    if any(_lines(cell, details)[1] for cell in cells):
        below.append(f"in brackets {' and '.join(shown)}")
    if any(_lines(cell, details)[2] for cell in cells):
        below.append("n/N if only n of the paper's N languages are in the average")
    return " ".join([*sentences, *([f"Below a number: {'; '.join(below)}."] if below else [])])
