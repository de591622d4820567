"""The table of all languages: what was trained on each, every score, and the differences to the first model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import Estimate, paired_difference
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.languages import is_head, language_name, listed, matching_codes
from translit_scale.report.families import family_of, read_families
from translit_scale.report.language_scores import Measures
from translit_scale.report.page.elements import Cell
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.scores import Measured, estimate_cell, main_measure, mark, title_of


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    head: str
    group: int = 0
    """Number of its test from 1; 0 for what is known about the language itself."""


@dataclass(frozen=True)
class LanguageTable:
    """All languages of the runs and results."""

    groups: list[str]
    """Titles of the tests, of which the page shows one at a time."""
    columns: list[Column]
    rows: list[list[Cell | str]]
    sentences: list[str]
    """For which languages a model is better or worse than the first one."""


def language_table(inputs: Inputs, measured: Measured | None, families: Path | None) -> LanguageTable | None:
    """A row for each language; None if neither runs nor results name one.

    Raises:
        DataError: `families` cannot be read.
    """
    of_family = read_families(families) if families else None
    scores = measured.by_language if measured else {}
    codes = sorted(
        {code for run in inputs.runs for code in run.pairs}
        | {code for by_model in scores.values() for of_model in by_model.values() for code in of_model}
    )
    if not codes:
        return None
    columns = [Column("language"), Column("name"), Column("script")]
    columns += [Column("family")] if of_family is not None else []
    columns += [Column("head/tail")]
    trained = _trained(inputs)
    columns += [Column(f"training pairs{f' of {name}' if len(trained) > 1 else ''}") for name in trained]
    rows = [_about(code, of_family, trained.values()) for code in codes]
    groups: list[str] = []
    for (task, source), by_model in scores.items():
        if not (first := next((next(iter(of_model.values())) for of_model in by_model.values() if of_model), None)):
            continue
        measure = main_measure(list(first))
        groups.append(title_of(task, source, measure))
        for model, of_model in by_model.items():
            columns.append(Column(model, len(groups)))
            for code, row in zip(codes, rows, strict=True):
                row.append(_score(of_model.get(code), measure))
            if measured is None or model == measured.first or measured.first not in by_model:
                continue
            columns.append(Column(f"{model} minus {measured.first}", len(groups)))
            of_first = by_model[measured.first]
            for code, row in zip(codes, rows, strict=True):
                row.append(_difference(inputs, (task, source, code), (measured.first, model), measure,
                                       of_first.get(code), of_model.get(code)))  # fmt: skip
    return LanguageTable(groups, columns, rows, list(_sentences(groups, columns, rows)))


def _sentences(groups: Sequence[str], columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]]) -> Iterator[str]:
    for index, column in enumerate(columns):
        if not column.group or " minus " not in column.head:
            continue
        model, _, first = column.head.rpartition(" minus ")
        cells = [(str(row[0]), cell) for row in rows if isinstance(cell := row[index], Cell)]
        better, worse = ([code for code, cell in cells if cell.mark == kind] for kind in ("better", "worse"))
        if any(cell.details for _, cell in cells):
            yield (
                f"{groups[column.group - 1]}: of {len(cells)} languages, {model} is better than {first} for "
                f"{len(better)}{f' ({listed(better, 6)})' if better else ''} and worse for "
                f"{len(worse)}{f' ({listed(worse, 6)})' if worse else ''}; the intervals of the others contain 0."
            )


def _trained(inputs: Inputs) -> Mapping[str, Mapping[str, int]]:
    """Run → pairs of each language; one entry if all runs have the same."""
    counts = {run.name: run.pairs for run in inputs.runs if run.pairs}
    different = {tuple(sorted(pairs.items())) for pairs in counts.values()}
    return counts if len(different) > 1 else dict(list(counts.items())[:1])


def _about(code: str, families: Mapping[str, str] | None, trained: Iterable[Mapping[str, int]]) -> list[Cell | str]:
    try:
        name, _, script = language_name(code).rpartition(" (")
        script = script.removesuffix(")")
    except DataError:  # results may have other codes
        name, script = "", code.partition("_")[2]
    row: list[Cell | str] = [code, name, script]
    row += [family_of(code, families)] if families is not None else []
    row.append("head" if is_head(code) else "tail")
    for pairs in trained:
        names = [match for match in matching_codes(code, sorted(pairs)) if pairs[match]]
        row.append(f"{sum(pairs[match] for match in names):,}" if names else "unseen")
    return row


def _score(measures: Measures | None, measure: str) -> Cell | str:
    return "–" if measures is None or measure not in measures else Cell(f"{100 * measures[measure]:.1f}")


def _difference(
    inputs: Inputs, where: tuple[str, str, str], models: tuple[str, str], measure: str,
    of_first: Measures | None, of_model: Measures | None,
) -> Cell | str:  # fmt: skip
    if of_first is None or of_model is None:
        return "–"
    difference = of_model[measure] - of_first[measure]
    estimate = _paired(inputs, where, models, measure)
    if estimate is None:
        return Cell(f"{100 * difference:+.1f}")
    return estimate_cell(estimate, "+", mark(estimate))


def _paired(inputs: Inputs, where: tuple[str, str, str], models: tuple[str, str], measure: str) -> Estimate | None:
    """The paired difference of a direction of retrieval, from the ranks of the same items."""
    task, source, target = where
    assert inputs.results is not None
    found = [inputs.results.retrieval.get((task, inputs.models[model])) for model in models]
    try:
        arrays = [None if result is None else result.arrays for result in found]
    except DataError as error:
        inputs.damaged.append(error)
        return None
    name = f"{source}->{target}"
    a, b = arrays
    if a is None or b is None or f"rank:{name}" not in a or f"rank:{name}" not in b:
        return None
    if not np.array_equal(a[f"ids:{name}"], b[f"ids:{name}"]):
        return None
    k = int(measure.removeprefix("top"))
    return paired_difference(hits(a[f"rank:{name}"], k), hits(b[f"rank:{name}"], k))
