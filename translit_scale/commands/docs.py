"""`translit-scale docs`: lists and prints the pages of the documentation."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

from translit_scale.commands.arguments import add_command
from translit_scale.errors import ConfigError
from translit_scale.shipped_files import FOLDERS, names_of, shipped_folder
from translit_scale.text_table import format_table


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "docs",
        "list the pages of the documentation, or print one",
        "Lists the pages of the documentation, which messages and helps refer to. With a name, prints the page, which "
        "is Markdown.",
        "translit-scale docs test-sets",
    )
    parser.add_argument("page", nargs="?", metavar="PAGE", help="the page to print (default: list all)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    names = names_of("docs", shipped_folder("docs"))
    if args.page is None:
        titles = [[name, _text(name).partition("\n")[0].lstrip("# ")] for name in names]
        print(format_table(["page", "title"], titles, left=2))
        return
    if args.page not in names:
        near = difflib.get_close_matches(args.page, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "list the pages: translit-scale docs"
        raise ConfigError(f"there is no page {args.page!r}", hint)
    print(_text(args.page), end="")


def _text(page: str) -> str:
    return (shipped_folder("docs") / f"{page}{FOLDERS['docs']}").read_text(encoding="utf-8")
