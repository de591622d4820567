"""Writes the differences in single languages as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from translit_scale.errors import DataError
from translit_scale.escaping import escape_csv, escape_latex, escape_markdown
from translit_scale.languages import language_name
from translit_scale.report.differences import BETTER, UNCLEAR, WORSE, DifferenceBlock, Judged
from translit_scale.report.latex import PACKAGES, Panel, Row, float_tables
from translit_scale.report.paired import MEASURES
from translit_scale.testsets.registry import TASKS
from translit_scale.text_table import markdown_table

EXPLAINED = (
    "scores and differences in percent [paired 95 % interval of this language alone, over items and seeds]; worse and "
    "better: the difference stands after correction for the number of languages, so of the languages called worse or "
    "better in a table about 5 % at most are expected to be so by chance; unclear: it may be chance"
)
CSV_COLUMNS = (
    "task", "source", "measure", "model", "minus", "language", "name", "items", "seeds", "first", "value",
    "difference", "low", "high", "p", "q", "verdict",
)  # fmt: skip


def markdown(blocks: Sequence[DifferenceBlock], notes: Sequence[str], measure: str) -> str:
    """A summary line and a table for each task, source and model; of retrieval in the chosen measure only."""
    shown = list(chosen(blocks, measure))
    parts = ["## Differences in every language", *(escape_markdown(f"{note}.") for note in (EXPLAINED, *notes))]
    parts.append("\n".join(f"- {escape_markdown(summary(block))}" for block in shown))
    for block in shown:
        heads = ["language", "n", escape_markdown(block.minus), escape_markdown(block.model), "difference", "verdict"]
        rows = [_row(judged, escape_markdown) for judged in block.languages]
        table = markdown_table(heads, rows, left=(0, 5))
        parts.append(f"**{escape_markdown(_title(block))}**\n\n{table}")
    return "\n\n".join(parts) + "\n"


def tex(blocks: Sequence[DifferenceBlock], notes: Sequence[str], measure: str) -> str:
    """Tables as wide as a column for each task, source and model, with as many rows as a page has.

    They need the package booktabs.
    """
    shown = list(chosen(blocks, measure))
    parts = [f"% {' '.join(comment.split())}" for comment in (EXPLAINED, *notes, *map(summary, shown), PACKAGES)]
    for number, block in enumerate(shown, 1):
        rows = [Row(name, cells) for name, *cells in (_row(judged, escape_latex) for judged in block.languages)]
        names = ["$n$", escape_latex(block.minus), escape_latex(block.model), "difference", "verdict"]
        caption = escape_latex(f"{summary(block)}. {EXPLAINED[0].upper()}{EXPLAINED[1:]}.")
        panel = Panel([(name,) for name in names], rows, labels=("language",))
        parts.append(float_tables([panel], caption, f"languages-{number}", narrow=True))
    return "\n".join(parts) + "\n"


def comma_separated(blocks: Sequence[DifferenceBlock], notes: Sequence[str], measure: str) -> str:
    """A row for each language, in all measures; scores and differences in percent. Notes are left out."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for block in blocks:
        for judged in block.languages:
            found, tested = judged.difference, judged.difference.comparison
            names = [block.task, block.source, block.measure, block.model, block.minus, found.language]
            numbers = [found.first, found.value, found.difference]
            numbers += [tested.estimate.low, tested.estimate.high] if tested else []
            percents = [f"{100 * number:.2f}" for number in numbers]
            rates = [f"{tested.p:.2g}", f"{judged.q:.2g}"] if tested and judged.q is not None else [""] * 4
            texts = map(escape_csv, (*names, name_of(found.language)))
            writer.writerow([*texts, found.items or "", found.seeds, *percents, *rates, judged.verdict])
    return file.getvalue()


FORMATS: dict[str, Callable[[Sequence[DifferenceBlock], Sequence[str], str], str]] = {
    "md": markdown,
    "tex": tex,
    "csv": comma_separated,
}


def chosen(blocks: Sequence[DifferenceBlock], measure: str) -> Iterator[DifferenceBlock]:
    """Blocks of transfer, and those of retrieval in one measure."""
    return (block for block in blocks if block.measure == measure or block.measure not in MEASURES)


def summary(block: DifferenceBlock) -> str:
    """`SR-B from eng_Latn, top-10, tcm minus base: 310 better, 12 worse, 259 unclear of 581 languages, mean +2.1`."""
    n = len(block.languages)
    counts = ", ".join(f"{block.count(verdict)} {verdict}" for verdict in (BETTER, WORSE, UNCLEAR))
    return f"{_title(block)}: {counts} of {n} language{'s' * (n != 1)}, mean {100 * block.mean:+.1f}"


def name_of(code: str) -> str:
    """The English name of a language, or its code if it is unknown."""
    try:
        return language_name(code)
    except DataError:
        return code


def _title(block: DifferenceBlock) -> str:
    task = TASKS[block.task].title if block.task in TASKS else block.task
    measure = f"top-{block.measure[3:]}" if block.measure in MEASURES else block.measure
    return f"{task} from {block.source}, {measure}, {block.model} minus {block.minus}"


def _row(judged: Judged, escape: Callable[[str], str]) -> list[str]:
    """Language, items (and seeds, if there are several), both scores, the difference with its interval, verdict."""
    found = judged.difference
    n = f"{found.items:,}" if found.items else "-"
    items = f"{n} x {found.seeds}" if found.seeds > 1 else n
    scores = [f"{100 * score:.1f}" for score in (found.first, found.value)]
    cell = f"{100 * found.difference:+.1f}"
    if found.comparison is not None:
        estimate = found.comparison.estimate
        cell += f" [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
    return [escape(found.language), items, *scores, cell, judged.verdict]
