"""`translit-scale evaluate`: measures encoders by retrieval and transfer."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from translit_scale.commands import evaluate_all, transfer
from translit_scale.commands.arguments import add_command, add_kinds
from translit_scale.commands.options import (
    add_models,
    add_parallel_text,
    add_results,
    add_test_set,
    read_texts,
    run_and_print,
)


def add(commands: Any) -> None:
    """Declares `evaluate retrieval`, `evaluate transfer` and `evaluate all`."""
    kinds = add_kinds(commands, "evaluate", "measure any Hugging Face encoder: retrieval, zero-shot transfer")
    parser = add_command(
        kinds,
        "retrieval",
        "sentence retrieval (top-1/5/10) in both directions, with several models side by side",
        "Ranks all sentences of the other language for every sentence, by cosine of mean-pooled hidden states, in both "
        "directions, with 95 % bootstrap intervals. Writes DIR/NAME/LABEL.json and "
        "LABEL.items.npz (the rank of every item) for each model, and comparison.json with the paired differences to "
        "the first model.",
        "translit-scale evaluate retrieval --model mlm=runs/mlm/export --model tcm=runs/tcm/export \\\n"
        "    --parallel pol_Latn:flores.pol ukr_Cyrl:flores.ukr --name sr_f",
    )
    add_models(parser)
    add_parallel_text(parser)
    add_test_set(parser)
    add_results(parser, name="retrieval", out="results")
    parser.set_defaults(run=_retrieval)
    transfer.add(kinds)
    evaluate_all.add(kinds)


def _retrieval(args: argparse.Namespace) -> None:
    texts, notes = read_texts(args)
    from translit_scale.evaluate.retrieval.run import run_retrieval

    run_and_print(args, texts, notes, partial(run_retrieval, notes=notes))
