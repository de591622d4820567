"""`translit-scale vocabulary`: changes the vocabulary of a pretrained model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, add_kinds, positive

MERGES = ("mean", "transmi-max", "transmi-min", "transmi-average")


def add(commands: Any) -> None:
    """Declares the command."""
    kinds = add_kinds(commands, "vocabulary", "give a pretrained model pieces for transliterations")
    parser = add_command(
        kinds,
        "extend",
        "add pieces that are learned from transliterations",
        "Learns Latin pieces from the transliterations of a shard set, gives each the mean embedding of the pieces "
        "that its text consisted of before, and writes model and tokenizer as a Hugging Face folder, from which "
        "training can start. New pieces that would change how an original is segmented are left out. Prints the tokens "
        "of a sentence before and after, for every language.",
        "translit-scale vocabulary extend --model cis-lmu/glot500-base --shards shards/mediterranean --pieces 8000 "
        "--out models/glot500-latn",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="folder or hub id of a masked language model")
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="set made by prepare; required")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; required")
    parser.add_argument(
        "--pieces", type=positive, default=8000, metavar="N", help="new pieces, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--merge", choices=MERGES, default="mean",
        help="embeddings of new pieces: mean of the pieces that their text consisted of, or, where there are pieces of "
        "other scripts that uroman writes like them, the one with the best or worst score or the mean of these, as in "
        "TransMI (default: mean)",
    )  # fmt: skip
    parser.add_argument(
        "--max-sentences", type=positive, default=200_000, metavar="N",
        help="sentences that are read, equally many of each language where there are enough (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sample (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace the model in OUT")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.export.vocabulary import extend_model, figures_table

    found = extend_model(
        args.model, args.shards, args.out, args.pieces, args.merge, args.max_sentences, args.seed, args.force
    )
    print(figures_table(found))
    print(f"\n{found.pieces:,} new pieces; {found.rejected:,} others would have changed how originals are segmented")
    if args.merge != "mean":
        print(f"{found.merged:,} of them have embeddings of pieces of other scripts, the others a mean")
    print(f"written to {args.out}")
