"""`translit-scale prepare`: makes a shard set from text files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_array_task, add_command, own_part, positive
from translit_scale.cores import cores
from translit_scale.shipped_files import find_file


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "prepare",
        "make a shard set: read, clean, exclude held-out text, sample, romanize, pack",
        "Makes the shard set of a recipe. It can be interrupted or killed at any time: the same command resumes. "
        "Prints how many sentences of each language were read, left out (and why) and kept. With --task-id it does one "
        "part of the work, on any number of hosts, and --finalize makes a set of the parts: translit-scale docs "
        "preparing.",
        "translit-scale prepare pol-ukr --data GLOT500C_DIR --workers 8",
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", help="YAML file, or a name that `translit-scale configs` lists, such as pol-ukr"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder that the recipe's paths are relative to (default: the recipe's folder; a shipped "
        "recipe has none)",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the set (default: its name, beside the recipe; for a shipped recipe shards/NAME)",
    )
    parser.add_argument(
        "--workers", type=positive, default=cores(), metavar="N",
        help="number of processes; does not change the result (default: all cores, here %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace a set that was made from another recipe or input")
    part = parser.add_mutually_exclusive_group()
    add_array_task(part, parser)
    part.add_argument("--finalize", action="store_true", help="only make the set from the finished parts")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.corpus.summary import preparation_table
    from translit_scale.prepare.recipe import load_recipe
    from translit_scale.prepare.run import prepare, prepare_array_task

    recipe = find_file("shards", args.recipe)
    folder = recipe.parent if recipe == Path(args.recipe) else Path("shards")
    task = own_part(args)
    out = args.out or folder / load_recipe(recipe).name
    data = args.data or folder
    if task:
        result = prepare_array_task(recipe, data, out, args.workers, *task, args.force)
        print(f"task {task[0]} of {task[1]}: {result or 'nothing to do, the set is finished'}")
        return
    print(preparation_table(prepare(recipe, data, out, args.workers, args.force, args.finalize), out))
    print(f"\nwritten to {out}")
