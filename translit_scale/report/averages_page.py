"""Writes means over languages as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from translit_scale.escaping import escape_csv, escape_latex, escape_markdown
from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.report.averages import Average, AverageBlock
from translit_scale.report.latex import PACKAGES, Panel, Row, float_tables
from translit_scale.testsets.registry import TASKS
from translit_scale.text_table import markdown_table

FEWEST = 6
"""Languages from which differences are marked. Five differences of one sign have p = 0.06 in a two-sided sign test,
although their bootstrap interval never contains 0."""
EXPLAINED = (
    "unweighted means over languages in percent [95 % interval over languages]; n: number of languages; minus: "
    "difference of the model above over the languages that both have; *: there are at least "
    f"{FEWEST} languages, and the interval of the difference does not contain 0"
)
NAMES = ("languages", "n", "model")
CSV_COLUMNS = ("task", "source", "measure", "by", "group", "model", "minus", "languages", "value", "low", "high")


def markdown(blocks: Sequence[AverageBlock], notes: Sequence[str]) -> str:
    """A table for each task and source. Its columns are aligned, so it can be read in a terminal, too."""
    parts = ["## Averages over languages", *(escape_markdown(f"{note}.") for note in (EXPLAINED, *notes))]
    for block in blocks:
        heads = [*NAMES, *map(escape_markdown, _heads(block))]
        table = markdown_table(heads, list(_rows(block, escape_markdown)), left=(0, 2))
        parts.append(f"**{escape_markdown(_title(block))}**\n\n{table}")
    return "\n\n".join(parts) + "\n"


def tex(blocks: Sequence[AverageBlock], notes: Sequence[str]) -> str:
    """A `table*` for each task and source, or several if a page has too few rows. It needs the package booktabs."""
    parts = [f"% {' '.join(note.split())}" for note in (EXPLAINED, *notes, PACKAGES)]
    for number, block in enumerate(blocks, 1):
        rows = [Row(group, cells) for group, *cells in _rows(block, escape_latex)]
        heads = [(head,) for head in (*NAMES[1:], *map(escape_latex, _heads(block)))]
        caption = escape_latex(f"{_title(block)}. {EXPLAINED[0].upper()}{EXPLAINED[1:]}.")
        parts.append(float_tables([Panel(heads, rows, labels=NAMES[:1])], caption, f"averages-{number}"))
    return "\n".join(parts) + "\n"


def comma_separated(blocks: Sequence[AverageBlock], notes: Sequence[str]) -> str:
    """A row for each mean, numbers in percent; `minus` is empty except for differences. Notes are left out."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for block in blocks:
        for average in block.averages:
            for measure, estimate in average.estimates.items():
                texts = [
                    block.task,
                    block.source,
                    measure,
                    average.by,
                    average.group,
                    average.model,
                    average.minus or "",
                ]
                n = len(average.languages)
                numbers = (estimate.value, estimate.low, estimate.high) if n > 1 else (estimate.value,)
                percents = [f"{100 * number:.2f}" for number in numbers]
                writer.writerow([*map(escape_csv, texts), n, *percents, *[""] * (3 - len(percents))])
    return file.getvalue()


FORMATS: dict[str, Callable[[Sequence[AverageBlock], Sequence[str]], str]] = {
    "md": markdown,
    "tex": tex,
    "csv": comma_separated,
}


def _title(block: AverageBlock) -> str:
    title = TASKS[block.task].title if block.task in TASKS else block.task
    return f"{title} from {block.source}"


def _heads(block: AverageBlock) -> list[str]:
    return [f"top-{name[3:]}" if name.startswith("top") else name for name in block.measures]


def _rows(block: AverageBlock, escape: Callable[[str], str]) -> Iterator[list[str]]:
    """Group, number of languages, model, and a cell for each measure; the group only in its first row."""
    before = None
    for average in block.averages:
        model = f"minus {average.minus}" if average.minus else average.model
        names = ["" if average.title == before else escape(average.title), str(len(average.languages)), escape(model)]
        yield names + [_cell(average, average.estimates.get(measure)) for measure in block.measures]
        before = average.title


def _cell(average: Average, estimate: Estimate | None) -> str:
    """`76.4 [73.8, 79.0]`, or `+5.1 [+3.0, +7.2] *`; a single language has no interval."""
    if estimate is None:
        return "-"
    sign = "+" if average.minus else ""
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (estimate.value, estimate.low, estimate.high))
    if len(average.languages) == 1:
        return value
    marked = average.minus and len(average.languages) >= FEWEST and (estimate.low > 0 or estimate.high < 0)
    return f"{value} [{low}, {high}]{' *' if marked else ''}"
