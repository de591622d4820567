"""`translit-scale report association`: how transfer goes with alignment and lexical overlap."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command
from translit_scale.errors import DataError


def add(kinds: Any) -> None:
    """Declares `report association`."""
    parser = add_command(
        kinds,
        "association",
        "how transfer goes with alignment and lexical overlap, and which source language the data advise",
        "Reads results of evaluate (retrieval and transfer) and of analyze (similarity, vocabulary, words). Prints "
        "Pearson's and Spearman's correlation of F1 of transfer with top-10 of retrieval, gap of similarity, lexical "
        "overlap and word alignment, over languages, and over models and checkpoints for the same languages, with 95 % "
        "intervals over target languages. With several sources it also prints, for each target, the source that the "
        "data advise, and how good each rule of advice would have been for languages that it does not know.",
        "translit-scale report association --results results --analysis analysis --out tables",
    )
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="where evaluate wrote; required")
    parser.add_argument(
        "--analysis", type=Path, action="append", default=[], metavar="DIR",
        help="where analyze wrote; repeat for several (default: none, so that only retrieval is associated)",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", default=[], metavar="ROW=LABEL",
        help="a name and the label of its results; repeat for several (default: all labels)",
    )  # fmt: skip
    parser.add_argument(
        "--profile", choices=["paper", "strict"], default="paper",
        help="transfer scores as the papers' code computes them, or as the metrics' names say (default: paper)",
    )  # fmt: skip
    parser.add_argument(
        "--families", type=Path, metavar="FILE",
        help="Glottolog's languages.csv, or a table with the columns language and family, for a rule by family "
        "(default: no such rule)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write DIR/association.json, .csv and charts (default: print only)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.charts import can_draw, comma_separated, write_chart
    from translit_scale.files import write_bytes, write_json
    from translit_scale.report import association_page as page
    from translit_scale.report.association import correlations
    from translit_scale.report.association_data import analysis_files, read_observations
    from translit_scale.report.results import Results
    from translit_scale.report.source_advice import advise, rule_groups, without_advice
    from translit_scale.report.tables import name_rows

    damaged: list[DataError] = []
    results = Results(args.results, damaged)
    models = name_rows(args.model, results.labels)
    groups = rule_groups(args.families)
    analyses = analysis_files(args.analysis, damaged)
    observations, notes = read_observations(results, analyses, models, args.profile, damaged)
    if not observations:
        raise DataError(
            f"no score of transfer from a single source in {args.results}", "translit-scale evaluate transfer"
        )
    found = correlations(observations)
    advice = advise(observations, groups)
    print("\n\n".join([page.correlation_table(found), *page.advice_tables(advice)]))
    for note in [*notes, *without_advice(observations, advice)]:
        print(f"note: {note}")
    if args.out is not None:
        write_bytes(args.out / "association.csv", comma_separated(page.csv_rows(observations)).encode())
        if can_draw():
            for chart in page.association_charts(observations, found):
                write_chart(chart, args.out)
        content = {"schema": 1, "profile": args.profile, **page.record(observations, found, advice)}
        write_json(args.out / "association.json", content)
        print(f"\nwritten to {args.out}")
    if damaged:
        raise DataError("\n".join(["these results are left out:", *map(str, damaged)]))
