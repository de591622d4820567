"""Writes filled tables as Markdown, LaTeX or CSV: value, 95 % interval, the paper's value, the difference to it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from translit_scale.escaping import escape_csv, escape_markdown
from translit_scale.report import paper_latex
from translit_scale.report.paper_latex import Details
from translit_scale.report.published import Column
from translit_scale.report.tables import Cell, Filled
from translit_scale.testsets.registry import TASKS

MISSING = "-"
CSV_COLUMNS = (
    "table", "task", "metric", "model", "source", "target", "value", "low", "high", "seeds", "languages",
    "paper", "difference", "bold", "underlined",
)  # fmt: skip


def markdown(blocks: Sequence[Filled], details: Details) -> str:
    """One table of a paper, a Markdown table for each of its tasks."""
    parts = [
        f"## {_title(blocks[0])}",
        escape_markdown(_explained(details)) + ".",
        *map(escape_markdown, _notes(blocks)),
    ]
    for title, names, columns, rows in _tables(blocks, details):
        lines = [names + columns, ["---"] * len(names) + ["---:"] * len(columns), *rows]
        parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def tex(blocks: Sequence[Filled], details: Details) -> str:
    """One table of a paper as the paper prints it."""
    return paper_latex.tex(blocks, details, [_title(blocks[0]), *_notes(blocks)])


def comma_separated(blocks: Sequence[Filled], details: Details) -> str:
    """One table of a paper, a row for each cell with everything; numbers in percent, empty where there is none."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for block in blocks:
        for cell in (cell for row in block.rows for cell in row if not cell.is_source):
            value, where = cell.value, cell.column
            numbers = (None,) * 3 if value is None else (value.value, value.low, value.high)
            percents = ["" if number is None else f"{100 * number:.2f}" for number in numbers]
            counts = ["", ""] if value is None else [value.seeds, len(value.languages)]
            texts = [block.table.name, where.task, where.metric, cell.line.model, where.source, cell.target]
            paper = ["" if cell.printed is None else f"{cell.printed:.1f}"]
            difference = ["" if cell.difference is None else f"{cell.difference:.2f}"]
            marks = [int(cell.bold), int(cell.underlined)]
            writer.writerow([*map(escape_csv, texts), *percents, *counts, *paper, *difference, *marks])
    return file.getvalue()


FORMATS: dict[str, Callable[[Sequence[Filled], Details], str]] = {"md": markdown, "tex": tex, "csv": comma_separated}


def _title(block: Filled) -> str:
    return f"{block.table.name}: {block.table.title} ({_source(block)})"


def _source(block: Filled) -> str:
    return f"{block.table.paper}, Table {block.table.number}"


def _notes(blocks: Sequence[Filled]) -> list[str]:
    """What readers should know about the test sets."""
    tasks = dict.fromkeys(column.task for block in blocks for column in block.columns)
    return [f"{TASKS[task].title}: {TASKS[task].note}." for task in tasks if TASKS[task].note]


def _explained(details: Details) -> str:
    """What stands in a cell."""
    paper = [
        *(["the paper's value"] if details.published else []),
        *(["difference to it in points" if details.published else "difference to the paper's value in points"]
          if details.differences else []),
    ]  # fmt: skip
    interval, brackets = " [95 % interval]" * details.intervals, f" ({', '.join(paper)})" if paper else ""
    return f"value{interval}{brackets}; n/N: an average over n of the paper's N languages, without a difference"


def _tables(blocks: Sequence[Filled], details: Details) -> Iterator[tuple[str, list[str], list[str], list[list[str]]]]:
    """For each task of each block: its title, the heads of the columns with names and with numbers, and the rows."""
    for block in blocks:
        for task in dict.fromkeys(column.task for column in block.columns):
            indices = [index for index, column in enumerate(block.columns) if column.task == task]
            names = ["model"] if block.rows[0][0].line.target is None else ["model", "target"]
            columns = [escape_markdown(_head(block.columns[index])) for index in indices]
            rows = []
            for row in block.rows:
                line = [escape_markdown(name) for name in (row[0].line.model, row[0].line.target) if name is not None]
                rows.append(line + [_cell(row[index], details) for index in indices])
            yield TASKS[task].title, names, columns, rows


def _head(column: Column) -> str:
    """`top-10 pol_Latn → ukr_Cyrl`; for transfer the languages only."""
    metric = f"top-{column.metric[3:]} " if column.metric.startswith("top") else ""
    return f"{metric}{column.source}" + (f" → {column.target}" if column.target else "")


def _details(cell: Cell, details: Details) -> str:
    """What follows the value: its interval, the number of languages, the printed number and the difference to it."""
    value, parts = cell.value, []
    if value is not None:
        if details.intervals and value.low is not None and value.high is not None:
            parts.append(f"[{100 * value.low:.1f}, {100 * value.high:.1f}]")
        if cell.languages and value.languages != cell.languages:
            parts.append(f"{len(value.languages)}/{len(cell.languages)}")
    paper = [f"{cell.printed:.1f}"] if details.published and cell.printed is not None else []
    if details.differences and cell.difference is not None:
        paper.append(f"{cell.difference:+.1f}")
    return " ".join([*parts, *([f"({', '.join(paper)})"] if paper else [])])


def _cell(cell: Cell, details: Details) -> str:
    if cell.is_source:
        return "src"
    number = MISSING if cell.shown is None else f"{cell.shown:.1f}"
    number = f"<u>{number}</u>" if cell.underlined else number
    number = f"**{number}**" if cell.bold else number
    return f"{number} {_details(cell, details)}".rstrip()
