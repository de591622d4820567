"""`translit-scale configs`: lists and prints the settings files that the project ships."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import WIDTH, add_command
from translit_scale.errors import ConfigError
from translit_scale.shipped_files import FOLDERS, names_of, shipped_folder
from translit_scale.text_table import format_table

TITLES = {
    "configs": "experiments: train --config NAME ...",
    "configs/study": "studies: reproduce NAME",
    "ds_configs": "DeepSpeed configurations: train --ds_config NAME",
    "shards": "recipes: prepare NAME",
    "scripts/slurm": "batch scripts of SLURM: sbatch FILE",
}


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "configs",
        "list the experiments, DeepSpeed configurations, recipes and batch scripts, or print one",
        "Lists the names of the shipped files with the first sentence of each. With a name, prints the file, so that "
        "you can start your own from it. Every command that takes a name also takes a path, and prefers a file NAME in "
        "the folder configs, ds_configs or shards of the working directory to the shipped one.",
        "translit-scale configs paper_a/pol-ukr > my-experiment.yaml",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the file to print (default: list all)")
    parser.add_argument("--kind", choices=list(TITLES), help="of the file, if several have this NAME (default: any)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    kinds = [args.kind] if args.kind else list(TITLES)
    if args.name is None:
        print("\n\n".join(_list(kind) for kind in kinds))
        return
    paths = {kind: shipped_folder(kind) / f"{args.name}{FOLDERS[kind]}" for kind in kinds}
    existing = {kind: path for kind, path in paths.items() if path.is_file()}
    if not existing:
        raise ConfigError(f"no file {args.name!r} is shipped", "translit-scale configs lists the names")
    if len(existing) > 1:
        raise ConfigError(f"{args.name!r} is in {' and in '.join(existing)}", f"add --kind {next(iter(existing))}")
    print(next(iter(existing.values())).read_text(encoding="utf-8"), end="")


def _list(kind: str) -> str:
    folder = shipped_folder(kind)
    names = names_of(kind, folder)
    width = WIDTH - max(map(len, names)) - 2
    texts = {name: _summary(folder / f"{name}{FOLDERS[kind]}") for name in names}
    rows = [[name, textwrap.shorten(text, width, placeholder=" …")] for name, text in texts.items()]
    return f"{TITLES[kind]}\n{format_table(['name', 'contents'], rows, left=2)}"


def _summary(path: Path) -> str:
    """The first sentence of the comment at the beginning of a YAML file; ZeRO stage and offload of a JSON file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        zero = json.loads(text)["zero_optimization"]
        moved = [name.removeprefix("offload_") for name in zero if name.startswith("offload_")]
        return f"ZeRO-{zero['stage']}{', offloads ' if moved else ''}{' and '.join(moved)}"
    lines = text.removeprefix("#!/usr/bin/env bash\n").split("\n")
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return re.split(r"(?<=[.]) ", " ".join(line.lstrip("# ") for line in comment))[0]
