"""`translit-scale analyze`: looks inside encoders."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from translit_scale.commands import analyze_text
from translit_scale.commands.arguments import (
    add_command,
    add_kinds,
    add_measurement,
    raise_skipped,
    read_texts,
    run_and_print,
)


def add(commands: Any) -> None:
    """Declares `analyze similarity`, `analyze vocabulary` and `analyze words`."""
    kinds = add_kinds(commands, "analyze", "look inside any Hugging Face encoder: similarity, vocabulary, words")
    parser = add_command(
        kinds,
        "similarity",
        "the four similarities of paper A, for matched and random pairs",
        "Cosine of a sentence s, its translation t and their romanizations r_s and r_t: sim(s, t), sim(s, r_s), "
        "sim(r_s, t), sim(r_s, r_t), for matched pairs and for random pairs (one seeded derangement for all models). "
        "The first language of --parallel is s. Writes DIR/NAME/LABEL.similarity.json and .npz (the values of every "
        "pair) for each model, and histograms of all models, similarity.S-T.png and .pdf (extra `plots`).",
        "translit-scale analyze similarity --model runs/tcm/export \\\n"
        "    --parallel ukr_Cyrl:flores.ukr pol_Latn:flores.pol --name sr_f",
    )
    results = add_measurement(parser, name="similarity", out="analysis")
    results.add_argument("--no-figure", action="store_true", help="write no histograms")
    parser.set_defaults(run=_similarity)
    analyze_text.add(kinds)


def _similarity(args: argparse.Namespace) -> None:
    texts, notes, skipped = read_texts(args)
    from translit_scale.analyze.run import run_similarity

    run_and_print(args, texts, notes, partial(run_similarity, figures=not args.no_figure))
    raise_skipped(skipped)
