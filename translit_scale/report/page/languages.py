"""The table of all languages: what was trained on each, every score, and the differences to the first model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.languages import is_head, language_name, listed, matching_codes
from translit_scale.report.differences import UNCLEAR, WORSE, DifferenceBlock, Judged
from translit_scale.report.differences_page import summary
from translit_scale.report.families import family_of, read_families
from translit_scale.report.language_scores import Measures, Scores
from translit_scale.report.page.elements import Cell
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.scores import Measured, estimate_cell, main_measure, title_of


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
    blocks: dict[tuple[str, str, str, str], list[DifferenceBlock]] = {}
    for block in measured.differences if measured else []:
        blocks.setdefault((block.task, block.source, block.measure, block.model), []).append(block)
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
            for block in blocks.get((task, source, measure, model), []):
                columns.append(Column(f"{model} minus {block.minus}", len(groups)))
                judged = {found.difference.language: found for found in block.languages}
                for code, row in zip(codes, rows, strict=True):
                    row.append(_difference(judged.get(code)))
    shown = [block for found in blocks.values() for block in found if _is_shown(block, scores)]
    several = [block for block in shown if len(block.languages) > 1]  # of one, the means say the same
    return LanguageTable(groups, columns, rows, [sentence(block) for block in several])


def _is_shown(block: DifferenceBlock, scores: Scores) -> bool:
    """Whether the table has the block's measure."""
    by_language = scores.get((block.task, block.source), {}).get(block.model) or {}
    measures = next(iter(by_language.values()), None)
    return measures is not None and block.measure == main_measure(list(measures))


def sentence(block: DifferenceBlock) -> str:
    """For how many languages a model is better or worse, and which are worse."""
    worse = [found.difference.language for found in block.languages if found.verdict == WORSE]
    return summary(block) + (f"; worse: {listed(worse, 6)}." if worse else ".")


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


def _difference(judged: Judged | None) -> Cell | str:
    if judged is None:
        return "–"
    compared = judged.difference.comparison
    if compared is None:
        return Cell(f"{100 * judged.difference.difference:+.1f}")
    return estimate_cell(compared.estimate, "+", "" if judged.verdict == UNCLEAR else judged.verdict)
