"""`translit-scale prepare`: from text files to a shard set."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, positive


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "prepare",
        "make a shard set: read, clean, leave out held-out text, sample, romanize, pack",
        "Makes the shard set of a recipe. Can be interrupted or killed at any time: the same command goes on. Prints "
        "how many sentences of each language were read, left out (and why) and kept.",
        "translit-scale prepare shards/pol-ukr.yaml --data GLOT500C_DIR --workers 8",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, see shards/*.yaml")
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="what the recipe's paths are relative to (default: the recipe's folder)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the set (default: a folder named like the set beside the recipe)"
    )
    parser.add_argument(
        "--workers", type=positive, default=_cores(), metavar="N",
        help="processes; does not change the result (default: all cores, here %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace a set made from another recipe or input")
    parser.set_defaults(run=_run)


def _cores() -> int:
    """Those this process may use, where the system tells (Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(args: argparse.Namespace) -> None:
    from translit_scale.corpus.prepare import prepare
    from translit_scale.corpus.recipe import load_recipe
    from translit_scale.corpus.summary import preparation_table

    folder = args.recipe.parent
    out = args.out or folder / load_recipe(args.recipe).name
    print(preparation_table(prepare(args.recipe, args.data or folder, out, args.workers, args.force)))
    print(f"\nwritten to {out}")
