"""Retrieval and transfer: means over languages with intervals, differences to the first model, the papers' tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from translit_scale.charts import Axes, Chart, Row, interval_chart, same_marks
from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.report.averages import Average, AverageBlock
from translit_scale.report.averages_page import FEWEST
from translit_scale.report.averages_table import make_averages
from translit_scale.report.differences import DifferenceBlock, difference_blocks
from translit_scale.report.language_scores import EACH_OTHER, Scores, language_scores
from translit_scale.report.page.elements import Cell, Section, Table
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.published import published
from translit_scale.report.results import Results
from translit_scale.report.tables import Cell as TableCell
from translit_scale.report.tables import Filled, fill
from translit_scale.testsets.registry import TASKS

GROUPS = {
    "head or tail": "head or tail",
    "training": "seen and unseen in training",
    "pairs": "number of pairs of text",
    "family": "family",
    "script": "script",
}
"""What languages are grouped by in charts, and how their titles say it."""
MOST_GROUPS = 12
"""Scripts in a chart, those with most languages; tables have all."""
EXPLAINED = (
    "Values are percent, with 95 % intervals in brackets. A mean over languages is unweighted, and its interval is "
    "over languages, and too narrow if there are fewer than about ten; the interval of a single language is over its "
    "test items. Differences are between models on the "
    f"same languages; ▲ and ▼ mark those of at least {FEWEST} languages whose interval does not contain 0."
)


@dataclass(frozen=True)
class Measured:
    """All scores of the page."""

    by_language: Scores
    blocks: list[AverageBlock]
    notes: list[str]
    differences: list[DifferenceBlock]
    """Of every language, to the first model."""
    first: str
    """The model that others are compared with."""


def measure(inputs: Inputs, profile: str, families: Path | None, seen: Path | None) -> Measured | None:
    """Scores of all languages and their means; None without results.

    Raises:
        DataError: `families` or `seen` cannot be read.
    """
    if inputs.results is None:
        return None
    by_language, _ = language_scores(inputs.results, inputs.models, profile, inputs.damaged)
    if not any(of_model for by_model in by_language.values() for of_model in by_model.values()):
        return None
    averages = make_averages(inputs.results, inputs.models, profile, families, seen, [])
    differences, notes = difference_blocks(inputs.results, inputs.models, profile, [])
    blocks = [_with_items(block, inputs.results, inputs.models, differences) for block in averages.blocks]
    return Measured(by_language, blocks, [*averages.notes, *notes], differences, next(iter(inputs.models)))


def _with_items(
    block: AverageBlock, results: Results, models: Mapping[str, str], differences: Sequence[DifferenceBlock]
) -> AverageBlock:
    """The block with intervals over test items where a mean is of one language, which has none over languages."""
    of_language = {
        (found.model, found.measure, judged.difference.language): judged.difference.comparison
        for found in differences
        if (found.task, found.source) == (block.task, block.source)
        for judged in found.languages
    }

    def interval(average: Average, measure: str) -> Estimate:
        (language,), estimate = average.languages, average.estimates[measure]
        if average.minus:
            compared = of_language.get((average.model, measure, language))
            return compared.estimate if compared else estimate
        result = results.retrieval.get((block.task, models[average.model]))
        for test in result.tests if result else []:
            if (test["query"], test["candidates"]) == (block.source, language) and measure in test.get("ci95", {}):
                return Estimate(estimate.value, *test["ci95"][measure])
        return estimate

    averages = [
        replace(average, estimates={name: interval(average, name) for name in average.estimates})
        if len(average.languages) == 1
        else average
        for average in block.averages
    ]
    return replace(block, averages=averages)


def main_measure(names: Sequence[str]) -> str:
    """Top-10 of retrieval, as in the papers' tables, or the first measure of a transfer task."""
    return "top10" if "top10" in names else names[0]


def title_of(task: str, source: str, measure: str, targets: Sequence[str] = ()) -> str:
    """`SR-B from eng_Latn, top-10`; with the languages of a mean `SR-B from eng_Latn to 8 languages (mean), top-10`."""
    title = TASKS[task].title if task in TASKS else task
    several = f"{len(targets)} languages (mean)" if len(targets) > 1 else "".join(targets)
    if source == EACH_OTHER:
        origin = f"between {several or 'all languages'}"
    else:
        origin = f"from {source}{f' to {several}' if several else ''}"
    name = f"top-{measure[3:]}" if measure.startswith("top") else measure.replace("_", " ")
    return f"{title} {origin}, {name}"


def mark(estimate: Estimate, languages: int = FEWEST) -> str:
    """`better`, `worse`, or nothing if the interval contains 0 or is of too few languages."""
    if languages < FEWEST:
        return ""
    return "better" if estimate.low > 0 else "worse" if estimate.high < 0 else ""


def estimate_cell(estimate: Estimate, sign: str = "", marked: str = "") -> Cell:
    """Percent with its interval; without one if both ends are the value."""
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return Cell(value, "" if estimate.low == estimate.high else f"[{low}, {high}]", marked)


def overall(block: AverageBlock) -> list[Average]:
    """The means over all languages of a block, and the differences."""
    return [average for average in block.averages if average.by == "all"]


def scores(inputs: Inputs, measured: Measured | None) -> Section:
    """Charts and tables of all results."""
    section = Section("scores", "Retrieval and transfer")
    if measured is None:
        section.missing = (
            "There are no results. Make them with `translit-scale evaluate all --model base=BASE_MODEL --model "
            f"RUN@best --data TEST_SETS --source eng_Latn --out {inputs.runs[0].path}/results`."
        )
        return section
    section.paragraphs += [EXPLAINED, *_chance(inputs), *(f"{note[0].upper()}{note[1:]}." for note in measured.notes)]
    section.charts += _charts(measured)
    section.tables += [_averages(block) for block in measured.blocks]
    return section


def _chance(inputs: Inputs) -> Iterator[str]:
    """What retrieval would give by chance: k of n sentences."""
    numbers: dict[str, set[int]] = {}
    for (task, label), result in inputs.results.retrieval.items() if inputs.results else []:
        if label in inputs.models.values():
            numbers.setdefault(task, set()).update(int(test["n"]) for test in result.tests if test.get("n"))
    for task, sizes in numbers.items():
        if sizes:
            n = " to ".join(f"{n:,}" for n in sorted({min(sizes), max(sizes)}))
            chance = " to ".join(f"{min(100, 1000 / n):.1f}" for n in sorted({min(sizes), max(sizes)}, reverse=True))
            title = TASKS[task].title if task in TASKS else task
            yield f"By chance, top-10 of {title} would be {chance} %: there are {n} sentences to choose from."


def papers(inputs: Inputs, profile: str) -> Section:
    """The papers' tables of which at least one cell has a result."""
    section = Section("papers", "Beside the papers")
    section.tables += [] if inputs.results is None else _papers(inputs.results, inputs, profile)
    if section.tables:
        section.paragraphs.append(
            "Our value [95 % interval]; the number that the paper prints there and the difference to it follow in "
            "brackets. Papers and results may differ in more than the model: the papers' verses and models are not "
            "published."
        )
    elif inputs.results is not None:
        section.missing = (
            "No result fills a cell of the papers' tables; `translit-scale docs tables` says which tasks, sources and "
            "languages they have."
        )
    return section


def _charts(measured: Measured) -> Iterator[Chart]:
    rows = list(_rows(measured.blocks, "all"))
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    axes = Axes("percent", "test", "model", low="low", high="high", x_title="percent")
    yield interval_chart("scores", "Means over languages, with 95 % intervals", by_kind(rows, False), axes)
    if differences := by_kind(rows, True):
        title = f"Differences to {measured.first} in points, with 95 % intervals"
        yield same_marks(interval_chart("differences", title, differences, _points(axes), zero=True), models)
    for by, group in GROUPS.items():
        grouped = list(_rows(measured.blocks, by))
        sizes: dict[str, int] = {}
        for row in grouped:
            sizes[str(row["group"])] = max(sizes.get(str(row["group"]), 0), int(row["languages"] or 0))
        kept = sorted(sizes, key=lambda group: -sizes[group])[:MOST_GROUPS]
        shown = [row for row in grouped if row["group"] in kept]
        if len(kept) < 2:
            continue
        several = Axes("percent", "group", "model", panel="test", low="low", high="high", x_title="percent", columns=3)
        some = f", the {MOST_GROUPS} with most languages" if len(sizes) > len(kept) else ""
        name = f"scores.{by.replace(' ', '-')}"
        yield interval_chart(name, f"Means by {group}{some}", by_kind(shown, False), several)
        if differences := by_kind(shown, True):
            title = f"Differences to {measured.first} by {group}{some}"
            chart = interval_chart(f"{name}.differences", title, differences, _points(several), zero=True)
            yield same_marks(chart, models)


def _points(axes: Axes) -> Axes:
    return replace(axes, x_title="points")


def by_kind(rows: Sequence[Row], differences: bool) -> list[Row]:
    """Either the scores or the differences of rows that have both."""
    return [
        {name: value for name, value in row.items() if name != "minus" or differences}
        for row in rows
        if bool(row["minus"]) == differences
    ]


def _rows(blocks: Sequence[AverageBlock], by: str) -> Iterator[Row]:
    for block in blocks:
        name = main_measure(block.measures)
        for average in block.averages:
            estimate = average.estimates.get(name)
            if average.by == by and estimate is not None:
                yield {
                    "test": title_of(block.task, block.source, name), "group": average.group, "model": average.model,
                    "minus": average.minus, "percent": 100 * estimate.value, "low": 100 * estimate.low,
                    "high": 100 * estimate.high, "languages": len(average.languages),
                }  # fmt: skip


def _averages(block: AverageBlock) -> Table:
    """All means of a task and source, those of scripts and families included."""
    heads = ["languages", "n", "model"]
    heads += [title_of(block.task, block.source, name).rpartition(", ")[2] for name in block.measures]
    rows: list[list[Cell | str]] = []
    for average in block.averages:
        model = f"{average.model} minus {average.minus}" if average.minus else average.model
        cells: list[Cell | str] = []
        for name in block.measures:
            estimate = average.estimates.get(name)
            if estimate is None:
                cells.append("–")
            elif average.minus:
                cells.append(estimate_cell(estimate, "+", mark(estimate, len(average.languages))))
            else:
                cells.append(estimate_cell(estimate))
        rows.append([average.title, str(len(average.languages)), model, *cells])
    title = title_of(block.task, block.source, block.measures[0]).rpartition(", ")[0]
    return Table(f"{title}: means over groups of languages", heads, rows, names=3, closed=True)


def _papers(results: Results, inputs: Inputs, profile: str) -> Iterator[Table]:
    for table in published().values():
        try:
            blocks = fill(table, results, inputs.models, profile)
        except DataError as error:
            inputs.damaged.append(error)
            continue
        for block in blocks:
            for task in dict.fromkeys(column.task for column in block.columns):
                indices = [index for index, column in enumerate(block.columns) if column.task == task]
                rows = [[row[index] for index in indices] for row in block.rows]
                if any(cell.value is not None for row in rows for cell in row):
                    yield _paper_table(block, task, rows)


def _paper_table(block: Filled, task: str, cells: Sequence[Sequence[TableCell]]) -> Table:
    """One task of a block of a table: rows with a result, and all rows that the paper prints."""
    with_target = cells[0][0].line.target is not None
    rows = [
        [row[0].line.model, *([str(row[0].line.target)] if with_target else []), *map(_paper_cell, row)]
        for row in cells
        if any(cell.value is not None or cell.printed is not None for cell in row)
    ]
    heads = ["model", *(["target"] if with_target else [])]
    for column in (cell.column for cell in cells[0]):
        metric = f"top-{column.metric[3:]} " if column.metric.startswith("top") else ""
        heads.append(f"{metric}{column.source}{f' → {column.target}' if column.target else ''}")
    paper = f"Paper {block.table.name[0].upper()}"
    note = f" {TASKS[task].note[0].upper()}{TASKS[task].note[1:]}." if TASKS[task].note else ""
    return Table(
        f"{paper}, Table {block.table.number}, {TASKS[task].title}: {block.table.title}", heads, rows,
        names=1 + with_target, closed=True,
        note=f"{paper} is “{block.table.paper}”.{note}",
    )  # fmt: skip


def _paper_cell(cell: TableCell) -> Cell | str:
    if cell.is_source:
        return "source"
    details = []
    value = cell.value
    if value is not None and value.low is not None and value.high is not None:
        details.append(f"[{100 * value.low:.1f}, {100 * value.high:.1f}]")
    if value is not None and cell.languages and value.languages != cell.languages:
        details.append(f"{len(value.languages)} of {len(cell.languages)} languages")
    if cell.printed is not None:
        difference = "" if cell.difference is None else f", {cell.difference:+.1f}"
        details.append(f"(paper {cell.printed:.1f}{difference})")
    return Cell("–" if cell.shown is None else f"{cell.shown:.1f}", " ".join(details), best=cell.bold)
