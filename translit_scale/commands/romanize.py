"""`translit-scale romanize`: romanizes lines from standard input to standard output."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from translit_scale.commands.arguments import add_command, code

_NOT_UTF8 = re.compile("[\udc80-\udcff]")


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "romanize",
        "romanize lines of text with the output of uroman, many times faster",
        "Reads UTF-8 lines from standard input and writes the romanization of each to standard output. Only \\n ends "
        "a line. Each byte that is not UTF-8 becomes U+FFFD. Lines on which uroman fails are romanized word by word. "
        "Both are counted on standard error. Text is not cleaned, and `::lcode` prefixes have no meaning.",
        "translit-scale romanize --language uk < lines.txt > latin.txt",
    )
    parser.add_argument(
        "--language", type=code, metavar="CODE",
        help="such as uk, ukr or ukr_Cyrl, for uroman's rules of this language (default: no language)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.romanize.romanizer import Romanizer

    romanizer = Romanizer()
    exact = romanizer.exact(args.language and args.language.partition("_")[0])
    if args.language and exact is romanizer.exact(None):
        print(f"uroman has no rules for {args.language!r}: the same as without --language", file=sys.stderr)
    undecodable = fallbacks = 0
    for line in sys.stdin.buffer:
        text, bad = _NOT_UTF8.subn("\ufffd", line.removesuffix(b"\n").decode("utf-8", "surrogateescape"))
        latin, is_fallback = exact.romanize_always(text)
        undecodable += bad
        fallbacks += is_fallback
        sys.stdout.buffer.write(latin.encode() + b"\n")
    if undecodable:
        print(f"{undecodable:,} bytes that are not UTF-8 were replaced by U+FFFD", file=sys.stderr)
    if fallbacks:
        print(f"{fallbacks:,} lines on which uroman fails were romanized word by word", file=sys.stderr)
