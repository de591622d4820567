"""The papers' tables, filled with the results of a study."""

from __future__ import annotations

from pathlib import Path

from translit_scale.report.paper_latex import Details
from translit_scale.report.published import published
from translit_scale.report.render import markdown
from translit_scale.report.results import Results
from translit_scale.report.tables import fill
from translit_scale.study.manifest import first_run
from translit_scale.study.settings import Scale, Study


def paper_tables(study: Study, scale: Scale, folder: Path) -> str:
    """What the study has measured of the papers' tables, beside their numbers, in Markdown; empty if there is nothing.

    Args:
        folder: of the study; the results of all its corpora are taken together.

    Raises:
        DataError: a result cannot be read.
    """
    if not study.paper_rows or not any((folder / "results").rglob("*.json")):
        return ""
    results = Results(folder / "results")
    labels = {row: first_run("", variant, scale).label for row, variant in study.paper_rows.items()
              if variant in scale.seeds}  # fmt: skip
    models = {row: label for row, label in labels.items() if label in results.labels}
    tables = []
    for table in published().values():
        if blocks := [block.kept(False) for block in fill(table, results, models) if block.models]:
            tables.append(markdown(blocks, Details(True, True, True)))
    if not tables:
        return ""
    rows = ", ".join(f"{row} = {label}" for row, label in models.items())
    return "\n".join(["# Beside the paper\n", f"One training fills a row: {rows}.\n", *tables])
