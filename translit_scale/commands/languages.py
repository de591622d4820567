"""`translit-scale languages`: looks up language codes."""

from __future__ import annotations

import argparse
from typing import Any

from translit_scale.commands.arguments import add_command
from translit_scale.errors import DataError


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "languages",
        "look up language codes and what Glot500-c has of each language",
        "Prints code, number of sentences in Glot500-c, name, and other codes that text in the same language and "
        "script has there (macrolanguage or its members). Takes codes of ISO 639-1, -2 or -3 and English names, "
        "with or without a script; without arguments, prints the whole inventory.",
        "translit-scale languages am pes-Arab zh-Hant Lahu",
    )
    parser.add_argument("language", nargs="*", metavar="LANGUAGE", help="code or English name (default: all)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.languages import inventory, language_name, related_languages, resolve_language

    codes = [(name, resolve_language(name)) for name in args.language] or [(code, code) for code in inventory()]
    for name, code in codes:
        if code is None:
            raise DataError(
                f"unknown language {name!r}", "write a code such as am, amh or amh_Ethi, or an English name"
            )
        sentences = f"{inventory()[code]:,}" if code in inventory() else "-"
        print(code, sentences, language_name(code), " ".join(related_languages(code)), sep="\t")
