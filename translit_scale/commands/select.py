"""`translit-scale select`: ranks the checkpoints of a run by retrieval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import (
    add_command,
    add_device,
    add_embedding,
    add_test_set,
    embedding_settings,
    read_test_set,
)
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.testsets.task import MEASURES


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "select",
        "rank the checkpoints of a run by retrieval",
        "Measures every complete checkpoint of a run, ranks them by the average over all directions (with --source: "
        "over those with its queries) and writes RUN/best.json, which `export --step best` reads. Checkpoints that "
        "were measured before are not measured again.",
        "translit-scale select --run runs/pol-ukr-model5 --task sr_b --data DIR --languages pol_Latn,ukr_Cyrl",
    )
    usual = ", ".join(f"{task.measure} for {name}" for name, task in retrieval_tasks().items())
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, metavar="DIR", help="run folder; required")
    parser.add_argument(
        "--measure", choices=list(MEASURES),
        help=f"what is averaged; mean: of top-1, 5 and 10 (default: {usual})",
    )  # fmt: skip
    parser.add_argument(
        "--holdout",
        action="store_true",
        help="choose on one half of the items and report the chosen checkpoint on the other half",
    )
    add_test_set(parser)
    embeddings = parser.add_argument_group("embeddings")
    add_device(embeddings)
    add_embedding(embeddings)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    texts, notes = read_test_set(args)
    from translit_scale.evaluate.retrieval.model_selection import Criterion, select

    embedding = embedding_settings(args)
    measure = args.measure or retrieval_tasks()[args.task].measure
    print(select(args.run_dir, Criterion(args.task, texts, args.source, embedding, measure), args.holdout))
    for note in notes:
        print(f"note: {note}")
    print(f"\nwritten to {args.run_dir / 'best.json'}")
