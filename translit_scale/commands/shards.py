"""`translit-scale shards`: a look into a shard set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, add_kinds, positive
from translit_scale.errors import DataError


def add(commands: Any) -> None:
    """Declares `shards verify`, `shards stats` and `shards cat`."""
    kinds = add_kinds(commands, "shards", "look into a shard set: verify, stats, cat")
    verify = add_command(
        kinds,
        "verify",
        "compare all shards with the manifest (exit code 3 if they differ)",
        "Compares size and sha256 of every shard with the manifest and prints each difference. Exit code 3 if there "
        "is one.",
        "translit-scale shards verify shards/pol-ukr --deep",
    )
    verify.add_argument("--deep", action="store_true", help="decode every block too, and name the damaged ones")
    stats = add_command(
        kinds,
        "stats",
        "blocks, pairs, bytes and lengths of each language",
        "Prints blocks, pairs, bytes and lengths of each language, from the manifest.",
        "translit-scale shards stats shards/pol-ukr",
    )
    cat = add_command(
        kinds,
        "cat",
        "print pairs: language, original and transliteration, tab-separated",
        "Prints the pairs of a set, one a line: language, original and transliteration, tab-separated.",
        "translit-scale shards cat shards/pol-ukr --language ukr_Cyrl --limit 10",
    )
    cat.add_argument("--language", metavar="CODE", help="such as ukr_Cyrl (default: all, one after the other)")
    cat.add_argument("--limit", type=positive, metavar="N", help="pairs of each language (default: all)")
    for parser, run in ((verify, _verify), (stats, _stats), (cat, _cat)):
        parser.add_argument("directory", type=Path, metavar="DIR", help="shard set made by prepare")
        parser.set_defaults(run=run)


def _verify(args: argparse.Namespace) -> None:
    from translit_scale.corpus.manifest import read_manifest
    from translit_scale.corpus.verify import verify
    from translit_scale.progress import Progress

    manifest, _ = read_manifest(args.directory)
    with Progress("verify", sum(shard.bytes for shard in manifest.shards), "bytes") as progress:
        problems = verify(args.directory, args.deep, progress.advance)
    if problems:
        print(*problems, sep="\n")
        raise DataError(
            f"{len(problems)} problems in {args.directory}",
            "remove the damaged shards and make the set again: translit-scale prepare RECIPE",
        )
    rows = sum(counts.rows for counts in manifest.languages.values())
    print(f"{len(manifest.shards):,} shards with {rows:,} pairs are what the manifest says")


def _stats(args: argparse.Namespace) -> None:
    from translit_scale.corpus.shards import ShardSet
    from translit_scale.corpus.summary import statistics_table

    print(statistics_table(ShardSet.open(args.directory).manifest))


def _cat(args: argparse.Namespace) -> None:
    from itertools import islice

    from translit_scale.corpus.shards import ShardSet

    shard_set = ShardSet.open(args.directory)
    for language in [args.language] if args.language else shard_set.languages:
        for orig, latn in islice(shard_set.pairs(language), args.limit):
            print(language, orig, latn, sep="\t")
