"""`translit-scale report`: the papers' tables, filled with results, and one HTML page about runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands import report_association
from translit_scale.commands.arguments import add_command, add_kinds
from translit_scale.errors import ConfigError, DataError
from translit_scale.testsets.registry import TASKS
from translit_scale.testsets.task import TOP_K

if TYPE_CHECKING:
    from translit_scale.report.results import Results

AVERAGES, LANGUAGES = "averages", "languages"
DETAILS = {
    "intervals": "95 %% intervals",
    "published": "the numbers that the paper prints",
    "differences": "differences to the numbers that the paper prints",
}
MEASURES = [f"top{k}" for k in TOP_K]
TABLES = sorted({table for task in TASKS.values() for table in task.tables}, key=lambda name: (name[0], int(name[1:])))


def add(commands: Any) -> None:
    """Declares `report tables`, `report association` and `report page`."""
    kinds = add_kinds(
        commands,
        "report",
        "results beside the numbers that the papers print, averages over languages, and one HTML page about runs: "
        "tables, association, page",
    )
    _add_tables(kinds)
    report_association.add(kinds)
    _add_page(kinds)


def _add_tables(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "tables",
        "fill the papers' tables with results and intervals, average over languages, or compare every language",
        "Fills Tables 2 and 3 of paper A (a2, a3) and Tables 2 to 5 and 7 to 12 of paper B (b2 to b5, b7 to b12) with "
        "the results under a folder: value, 95 % interval, the paper's value and the difference. A cell without a "
        "result is `-`. A model that no table shows, and a table that no result fills, are an error. The table "
        "`averages` has the means of all results over languages by script, family, head and tail, seen and unseen, and "
        "the differences of the other models to the first one. The table `languages` has the differences in every "
        "language, those that became worse first.",
        "translit-scale report tables --results results --table a2 --model model1=mlm --model model5=all --out tables",
    )
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="where evaluate wrote; required")
    parser.add_argument(
        "--table", choices=[*TABLES, "all", AVERAGES, LANGUAGES], default="all",
        help="which table (default: all, which means all tables of the papers)",
    )  # fmt: skip
    _add_scores(parser, "every label is a row")
    parser.add_argument(
        "--format", choices=["md", "tex", "csv"], default="md", help="Markdown, LaTeX or CSV (default: md)"
    )
    for option, what in DETAILS.items():
        parser.add_argument(
            f"--{option}", action=argparse.BooleanOptionalAction,
            help=f"show {what} in the papers' tables (default: md yes, tex no; csv always has them)",
        )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/TABLE.FORMAT (default: print)")
    parser.add_argument(
        "--families", type=Path, metavar="FILE",
        help="of averages: Glottolog's languages.csv, or a table with the columns language and family (default: no "
        "groups by family)",
    )  # fmt: skip
    parser.add_argument(
        "--seen", type=Path, metavar="DIR",
        help="of averages: shards or run whose languages count as seen (default: the run that the models come from)",
    )  # fmt: skip
    parser.add_argument(
        "--measure", choices=MEASURES, default=MEASURES[-1],
        help="of languages: the measure of retrieval in md and tex; csv has all of them (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _add_scores(parser: argparse.ArgumentParser, rows: str) -> None:
    """Declares the models and the profile of scores.

    Args:
        rows: what the rows are without --model.
    """
    parser.add_argument(
        "--model", action="append", default=[], metavar="ROW=LABEL",
        help="a row and the label of its results: model1=mlm, Glot500=base, or a new row such as random=r0; repeat for "
        f"several (default: {rows})",
    )  # fmt: skip
    parser.add_argument(
        "--profile", choices=["paper", "strict"], default="paper",
        help="transfer scores as the papers' code computes them, or as the metrics' names say (default: paper)",
    )  # fmt: skip


def _add_page(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "page",
        "one HTML page about runs: training, results with intervals, similarities, every language, provenance",
        "Writes one page that needs no network and can be sent as a file: what was trained on what, curves, retrieval "
        "and transfer beside the papers' values, similarities, a table of all languages, settings and provenance, of "
        "one run or of several side by side. Its figures are also written as PDF, PNG and CSV, to a folder of the same "
        "name beside it. Without options it finds what evaluate and analyze wrote in RUN/results and RUN/analysis, in "
        "these folders beside RUN and in the working directory, and says what it used.",
        "translit-scale report page runs/demo/mlm runs/demo/tcm --out demo.html",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory; several are compared")
    parser.add_argument(
        "--results", type=Path, action="append", default=[], metavar="DIR",
        help="where evaluate wrote; repeat for several (default: look for results of RUN)",
    )  # fmt: skip
    parser.add_argument(
        "--analysis", type=Path, action="append", default=[], metavar="DIR",
        help="where analyze wrote; repeat for several (default: look for analyses of RUN)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the page; figures go to a folder of its name (default: report.html in the first RUN)",
    )  # fmt: skip
    _add_scores(parser, "every label is a row, those of no RUN first; the first one is what others are compared with")
    parser.add_argument(
        "--families", type=Path, metavar="FILE",
        help="Glottolog's languages.csv, or a table with the columns language and family (default: no families)",
    )  # fmt: skip
    parser.add_argument(
        "--seen", type=Path, metavar="DIR",
        help="shards or run whose languages count as seen (default: the run that the models come from)",
    )  # fmt: skip
    parser.set_defaults(run=_page)


def _page(args: argparse.Namespace) -> None:
    """Writes the page; damaged files are left out and listed at the end, with exit code 3."""
    from translit_scale.report.page.build import Options, write_page
    from translit_scale.report.page.inputs import read_inputs

    out = args.out or args.runs[0] / "report.html"
    if out.suffix != ".html":
        raise ConfigError(f"--out {out} is not the name of an HTML file", f"--out {out}.html")
    inputs = read_inputs(args.runs, args.results, args.analysis, args.model)
    size = write_page(inputs, Options(out, args.profile, args.families, args.seen, args.command_line))
    print(f"results and analyses: {', '.join(inputs.used) or 'none were found; the page says how to make them'}")
    if len(inputs.models) > 1:
        print(f"differences are to {next(iter(inputs.models))}; --model ROW=LABEL chooses another order")
    print(f"written to {out} ({size / 1e6:.1f} MB) and {out.with_suffix('')}/ (figures as PDF, PNG and CSV)")
    if inputs.damaged:
        raise DataError("\n".join(["the page is made without:", *map(str, inputs.damaged)]))


def _run(args: argparse.Namespace) -> None:
    if args.table == AVERAGES:
        _averages(args)
        return
    if args.families or args.seen:
        name = "--families" if args.families else "--seen"
        raise ConfigError(f"{name} is an option of --table {AVERAGES} only, not of {args.table}", f"--table {AVERAGES}")
    if args.table == LANGUAGES:
        _languages(args)
    else:
        _tables(args)


def _averages(args: argparse.Namespace) -> None:
    """Means over languages; damaged results are left out and listed at the end, with exit code 3."""
    from translit_scale.report.averages_page import FORMATS
    from translit_scale.report.averages_table import make_averages
    from translit_scale.report.results import Results
    from translit_scale.report.tables import name_rows

    damaged: list[DataError] = []
    results = Results(args.results, damaged)
    models = name_rows(args.model, results.labels)
    table = make_averages(results, models, args.profile, args.families, args.seen, damaged)
    _write(args, AVERAGES, FORMATS[args.format](table.blocks, table.notes))
    _finish(args, table.notes, damaged)


def _languages(args: argparse.Namespace) -> None:
    """Differences in every language; damaged results are left out and listed at the end, with exit code 3."""
    from translit_scale.report.differences import difference_blocks
    from translit_scale.report.differences_page import FORMATS, chosen, summary
    from translit_scale.report.results import Results
    from translit_scale.report.tables import name_rows

    damaged: list[DataError] = []
    results = Results(args.results, damaged)
    models = name_rows(args.model, results.labels)
    blocks, notes = difference_blocks(results, models, args.profile, damaged)
    if not blocks:
        problems = "".join(f"\n{error}" for error in damaged)
        first, *others = models
        raise DataError(
            f"no language has results of {first} and of another model ({', '.join(others) or 'there is none'})"
            f"{problems}",
            "evaluate both models on the same test sets; the others are compared with the first --model",
        )
    _write(args, LANGUAGES, FORMATS[args.format](blocks, notes, args.measure))
    if args.out is not None:
        print("\n".join(map(summary, chosen(blocks, args.measure))))
    _finish(args, notes, damaged)


def _finish(args: argparse.Namespace, notes: list[str], damaged: list[DataError]) -> None:
    if args.format == "csv":  # the other formats have the notes themselves
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    if args.out is not None:
        print(f"written to {args.out}")
    if damaged:
        raise DataError("\n".join(["these results are left out:", *dict.fromkeys(map(str, damaged))]))


def _write(args: argparse.Namespace, name: str, text: str) -> None:
    from translit_scale.files import write_bytes

    if args.out is None:
        print(text)
    else:
        write_bytes(args.out / f"{name}.{args.format}", text.encode())


def _tables(args: argparse.Namespace) -> None:
    from translit_scale.report.paper_latex import Details
    from translit_scale.report.published import published
    from translit_scale.report.render import FORMATS
    from translit_scale.report.results import Results
    from translit_scale.report.tables import fill, name_rows

    results = Results(args.results)
    models = name_rows(args.model, results.labels)
    chosen = (getattr(args, name) for name in DETAILS)
    details = Details(*(args.format != "tex" if shown is None else shown for shown in chosen))
    shown: dict[str, set[str]] = {}
    for name in TABLES if args.table == "all" else [args.table]:
        blocks = fill(published()[name], results, models, args.profile, every_row=args.table != "all")
        shown[name] = {model for block in blocks for model in block.models}
        _write(args, name, FORMATS[args.format](blocks, details))
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
