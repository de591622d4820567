"""`translit-scale tokenizer`: trains a vocabulary for a shard set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, positive


def share(text: str) -> float:
    """A part of the vocabulary, as an argument.

    Raises:
        argparse.ArgumentTypeError: it is no number from 0 to 0.9.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 0.9, found {text!r}")
    return value


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "tokenizer",
        "train a SentencePiece unigram vocabulary on a shard set",
        "Trains on the original script only (paper A), or also on transliterations, and writes a Hugging Face fast "
        "tokenizer with XLM-R's ids, checked against SentencePiece on real lines. You can use any pretrained tokenizer "
        "instead.",
        "translit-scale tokenizer --shards shards/pol-ukr --out shards/pol-ukr-tokenizer",
    )
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="set made by prepare; required")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; required")
    parser.add_argument(
        "--vocab-size", type=positive, default=30_000, metavar="N", help="SentencePiece pieces (default: %(default)s)"
    )
    parser.add_argument(
        "--max-sentences", type=positive, default=1_000_000, metavar="N",
        help="maximal number of sentences, equal for all languages (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--latn-share", type=share, default=0.0, metavar="F",
        help="part of the pieces that is learned from the transliterations instead, from 0 to 0.9 (default: 0)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sample (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace the tokenizer in OUT")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.corpus.tokenizer_training import report_table, train_from_shards

    report = train_from_shards(
        args.shards, args.out, args.vocab_size, args.max_sentences, args.seed, args.force, args.latn_share
    )
    print(report_table(report))
    print(f"\ntokenizer: {args.out}")
