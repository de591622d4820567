"""`translit-scale demo`: every stage at once."""

from __future__ import annotations

import argparse
from typing import Any

from translit_scale.commands.arguments import add_command, positive


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "demo",
        "run every stage on text that pip packages carry, minutes on two CPU cores",
        "Makes shards and a tokenizer, trains an MLM-only and a contrastive encoder with the same budget, exports both "
        "and compares them on held-out retrieval. Prints each command before it runs.",
        "translit-scale demo --ranks 2",
    )
    parser.add_argument(
        "--ranks", type=positive, default=2, metavar="N", help="processes in training (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.demo.run import run_demo

    run_demo(args.ranks)
