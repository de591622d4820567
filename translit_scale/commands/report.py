"""`translit-scale report`: the papers' tables, filled with results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.arguments import add_command, add_kinds
from translit_scale.errors import DataError
from translit_scale.testsets.registry import TASKS

if TYPE_CHECKING:
    from translit_scale.report.results import Results

TABLES = sorted({table for task in TASKS.values() for table in task.tables}, key=lambda name: (name[0], int(name[1:])))


def add(commands: Any) -> None:
    """Declares `report tables`."""
    kinds = add_kinds(commands, "report", "results beside the numbers that the papers print: tables")
    parser = add_command(
        kinds,
        "tables",
        "fill the papers' tables with results, intervals and the printed values",
        "Fills Tables 2 and 3 of paper A (a2, a3) and Tables 2 to 5 and 7 to 12 of paper B (b2 to b5, b7 to b12) with "
        "the results under a folder: value, 95 % interval, the paper's value and the difference. A cell without a "
        "result is `-`. A model that no table shows, and a table that no result fills, are an error.",
        "translit-scale report tables --results results --table a2 --model model1=mlm --model model5=all --out tables",
    )
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="where evaluate wrote; required")
    parser.add_argument("--table", choices=[*TABLES, "all"], default="all", help="which table (default: all)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="ROW=LABEL",
        help="a row and the label of its results: model1=mlm, Glot500=base, or a new row such as random=r0; repeat for "
        "several (default: every label is a row)",
    )  # fmt: skip
    parser.add_argument(
        "--profile", choices=["paper", "strict"], default="paper",
        help="transfer scores as the papers' code computes them, or as the metrics' names say (default: paper)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=["md", "tex", "csv"], default="md", help="Markdown, LaTeX or CSV (default: md)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/TABLE.FORMAT (default: print)")
    parser.set_defaults(run=_tables)


def _tables(args: argparse.Namespace) -> None:
    from translit_scale.files import write_bytes
    from translit_scale.report.published import published
    from translit_scale.report.render import FORMATS
    from translit_scale.report.results import Results
    from translit_scale.report.tables import fill, name_rows

    results = Results(args.results)
    models = name_rows(args.model, results.labels)
    shown: dict[str, set[str]] = {}
    for name in TABLES if args.table == "all" else [args.table]:
        blocks = fill(published()[name], results, models, args.profile, every_row=args.table != "all")
        shown[name] = {model for block in blocks for model in block.models}
        text = FORMATS[args.format](blocks)
        if args.out is None:
            print(text)
        else:
            write_bytes(args.out / f"{name}.{args.format}", text.encode())
    if args.out is not None:
        print(f"written to {args.out}")
    _check_shown(shown, models, results)


def _check_shown(shown: Mapping[str, set[str]], models: Mapping[str, str], results: Results) -> None:
    """Names the tables that no result fills; of all tables some may stay empty, but no model.

    Args:
        shown: table → rows that have a result there.
        models: row → label of results.

    Raises:
        DataError: the only table has no result, or a model is in none of the tables.
    """
    empty = [name for name, rows in shown.items() if not rows]
    if empty and len(empty) < len(shown):
        print(f"note: no result fills {', '.join(empty)}", file=sys.stderr)
    absent = [row for row in models if not any(row in rows for rows in shown.values())]
    if absent:
        named = ", ".join(row if row == models[row] else f"{row} ({models[row]})" for row in absent)
        raise DataError(
            f"no cell of {', '.join(shown)} has a result of {named}; the results are {results.summary}",
            "translit-scale docs tables says what fills a cell; evaluate the tables' tasks, sources and languages",
        )
