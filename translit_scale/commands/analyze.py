"""`translit-scale analyze`: looks inside encoders."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from translit_scale.commands import analyze_text
from translit_scale.commands.arguments import (
    add_command,
    add_device,
    add_embedding,
    add_kinds,
    add_measurement,
    add_results,
    add_texts,
    embedding_settings,
    raise_skipped,
    read_texts,
    run_and_print,
)


def add(commands: Any) -> None:
    """Declares the kinds of `analyze`."""
    summary = "look inside any Hugging Face encoder: similarity, dynamics, vocabulary, words"
    kinds = add_kinds(commands, "analyze", summary)
    _add_similarity(kinds)
    _add_dynamics(kinds)
    analyze_text.add(kinds)


def _add_similarity(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "similarity",
        "the four similarities of paper A, for matched and random pairs",
        "Cosine of a sentence s, its translation t and their romanizations r_s and r_t: sim(s, t), sim(s, r_s), "
        "sim(r_s, t), sim(r_s, r_t), for matched pairs and for random pairs (one seeded derangement for all models), "
        "their gap and separability (AUC), and retrieval from s to t; both directions of every pair of languages. "
        "Writes DIR/NAME/LABEL.similarity.json and .npz (the values of every pair) for each model, and with the extra "
        "`plots` charts of all models as PNG, PDF and CSV: similarity.S-T (histograms) and comparison.S-T.",
        "translit-scale analyze similarity --model runs/tcm/export \\\n"
        "    --parallel ukr_Cyrl:flores.ukr pol_Latn:flores.pol --name sr_f",
    )
    results = add_measurement(parser, name="similarity", out="analysis")
    results.add_argument("--no-figure", action="store_true", help="write no charts")
    parser.set_defaults(run=_similarity)


def _add_dynamics(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "dynamics",
        "the four similarities and retrieval at every checkpoint of runs",
        "Measures every complete checkpoint of runs, without exporting, as `analyze similarity` measures a model. The "
        "record of a checkpoint is kept in RUN/analysis/NAME, with its histograms, so a second call measures only new "
        "checkpoints, and checkpoints that training has removed since are shown too. Writes DIR/NAME/dynamics.json and "
        ".csv, and with the extra `plots` line charts over steps with a line for each run, as PNG, PDF and CSV.",
        "translit-scale analyze dynamics --run runs/hin-urd-model1 --run runs/hin-urd-model5 \\\n"
        "    --task sr_b --data DIR --languages urd_Arab,hin_Deva --limit 450",
    )
    group = parser.add_argument_group("runs")
    group.add_argument(
        "--run", dest="runs", action="append", required=True, metavar="RUN",
        help="DIR or LABEL=DIR: folder of a run; required, repeat for several",
    )  # fmt: skip
    add_device(group)
    add_embedding(group)
    add_texts(parser)
    results = add_results(parser, name="dynamics", out="analysis")
    results.add_argument("--no-figure", action="store_true", help="write no charts")
    parser.set_defaults(run=_dynamics)


def _similarity(args: argparse.Namespace) -> None:
    texts, notes, skipped = read_texts(args)
    from translit_scale.analyze.run import run_similarity

    run_and_print(args, texts, notes, partial(run_similarity, figures=not args.no_figure))
    raise_skipped(skipped)


def _dynamics(args: argparse.Namespace) -> None:
    texts, notes, skipped = read_texts(args)
    from translit_scale.analyze.dynamics import name_runs, run_dynamics

    name = args.name or args.task or args.default_name
    tables, problems = run_dynamics(
        name_runs(args.runs), texts, embedding_settings(args), name, args.out, args.seed, not args.no_figure
    )
    print(tables)
    for note in notes:
        print(f"note: {note}")
    print(f"\nwritten to {args.out / name}")
    raise_skipped([*skipped, *problems])
