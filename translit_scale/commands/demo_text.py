"""`translit-scale demo-text`: writes the demo's text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, code, codes
from translit_scale.languages import PAIRS


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "demo-text",
        "write the demo's text from installed pip packages: monolingual files and held-out pairs",
        "Reads Django's message catalogues and Babel's CLDR names (extra `demo`). Writes OUT/text/LANGUAGE.txt for "
        "training, OUT/heldout/A-B.tsv for retrieval (none of its strings is in a training text) and OUT/counts.json.",
        "translit-scale demo-text --out shards/demo-text --pairs pol-ukr deu_Latn-ell_Grek",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; required")
    parser.add_argument(
        "--languages", type=codes, metavar="CODES",
        help="instead, write text of these languages, such as pl,uk, or of `all` (more than 800), with nothing held "
        "out (default: the demo's text)",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", nargs="+", type=_pair, default=list(PAIRS.values()), metavar="PAIR",
        help=f"pol-ukr, hin-urd, or two codes such as deu_Latn-ell_Grek (default: {' '.join(PAIRS)})",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="FRACTION",
        help="fraction of the strings that are held out, between 0 and 1 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the choice of held-out strings (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _pair(text: str) -> tuple[str, str]:
    if text in PAIRS:
        return PAIRS[text]
    first, _, second = text.partition("-")
    if not second:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(PAIRS)} or A-B, two languages")
    return code(first), code(second)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.demo.many_languages import summary_line, write_many_languages
    from translit_scale.demo.text import counts_table, write_demo_text

    if args.languages:
        print(summary_line(write_many_languages(args.out, [] if args.languages == ["all"] else args.languages)))
    else:
        print(counts_table(write_demo_text(args.out, args.pairs, args.held_out, args.seed)) + "\n")
    print(f"written to {args.out}")
