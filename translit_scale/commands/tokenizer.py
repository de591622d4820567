"""`translit-scale tokenizer`: trains a vocabulary for a shard set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, positive


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "tokenizer",
        "train a SentencePiece unigram vocabulary on the originals of a shard set",
        "Trains on the original script only (paper A) and writes a Hugging Face fast tokenizer with XLM-R's ids, "
        "checked against SentencePiece on real lines. You can use any pretrained tokenizer instead.",
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
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sample (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace the tokenizer in OUT")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.corpus.tokenizer_training import report_table, train_from_shards

    report = train_from_shards(args.shards, args.out, args.vocab_size, args.max_sentences, args.seed, args.force)
    print(report_table(report))
    print(f"\ntokenizer: {args.out}")
