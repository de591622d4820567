"""`translit-scale shards`: inspects or copies a shard set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, add_kinds, code, positive
from translit_scale.commands.parser import Parser
from translit_scale.errors import DataError


def add(commands: Any) -> None:
    """Declares `shards verify`, `shards stats`, `shards cat`, `shards contamination` and `shards stage`."""
    kinds = add_kinds(commands, "shards", "inspect or copy a shard set: verify, stats, cat, contamination, stage")
    verify = add_command(
        kinds,
        "verify",
        "compare all shards with the manifest (exit code 3 if they differ)",
        "Compares size and sha256 of every shard with the manifest and prints each difference. With --deep it also "
        "decodes every block and romanizes some of its rows again, to check that transliterations belong to their "
        "originals, except in languages with transliterations of their own. With --data it looks for some rows of "
        "every block in the input files and romanizes their lines with uroman. Exit code 3 if something is wrong.",
        "translit-scale shards verify shards/pol-ukr --deep",
    )
    verify.add_argument("--deep", action="store_true", help="also check every block, and name the bad ones")
    verify.add_argument(
        "--data", type=Path, metavar="DIR",
        help="also compare some rows of every block with the input files below DIR, the --data of prepare "
        "(default: no)",
    )  # fmt: skip
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
    cat.add_argument("--language", type=code, metavar="CODE", help="such as uk or ukr_Cyrl (default: all languages)")
    cat.add_argument("--limit", type=positive, metavar="N", help="number of pairs of each language (default: all)")
    handlers = {
        verify: _verify, stats: _stats, cat: _cat, _add_contamination(kinds): _contamination, _add_stage(kinds): _stage,
    }  # fmt: skip
    for parser, run in handlers.items():
        parser.add_argument("directory", type=Path, metavar="DIR", help="shard set made by prepare")
        parser.set_defaults(run=run)


def _add_contamination(kinds: Any) -> Parser:
    parser = add_command(
        kinds,
        "contamination",
        "list training sentences that occur in evaluation files",
        "Prints every training sentence that occurs in one of the files, tab-separated: language, file, fraction, the "
        "sentence, and the evaluation sentence that it repeats. Letters, marks and digits are compared, casefolded; "
        "for --near without points and accents. "
        "`exclude` in a recipe leaves out the exact matches.",
        "translit-scale shards contamination shards/pol-ukr --files srb/*.tsv --near 0.8",
    )
    parser.add_argument(
        "--files", nargs="+", type=Path, required=True, metavar="FILE",
        help="evaluation files, required. Read are all fields of .csv and .tsv, all strings of .jsonl, .parquet and "
        ".arrow, and the lines of other files",
    )  # fmt: skip
    parser.add_argument(
        "--near", type=float, metavar="FRACTION",
        help="also list sentences with this fraction of an evaluation sentence's 5-grams (default: exact only)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes, each with its own index (default: 1)"
    )
    return parser


def _add_stage(kinds: Any) -> Parser:
    parser = add_command(
        kinds,
        "stage",
        "copy a set to a disk of this host, for data.staged of training",
        "Copies a set into DIR/shards-FINGERPRINT and compares the sha256 of every shard. Run it on every host. Of "
        "several processes one copies. A complete copy is kept, and one that was interrupted is completed. Training "
        "with data.staged=DIR reads the copy.",
        "translit-scale shards stage shards/pol-ukr --out /scratch",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of this host; required")
    return parser


def _verify(args: argparse.Namespace) -> None:
    from translit_scale.corpus.manifest import read_manifest
    from translit_scale.corpus.verify import verify
    from translit_scale.progress import Progress

    manifest, _ = read_manifest(args.directory)
    with Progress("verify", sum(shard.bytes for shard in manifest.shards), "bytes") as progress:
        problems = verify(args.directory, args.deep, progress.advance)
    if args.data and not problems:
        problems = _compare_with_source(args.directory, args.data)
    if problems:
        print(*problems, sep="\n")
        raise DataError(
            f"{len(problems)} problems in {args.directory}",
            "remove the damaged shards and make the set again: translit-scale prepare RECIPE",
        )
    rows = sum(counts.rows for counts in manifest.languages.values())
    print(f"{len(manifest.shards):,} shards with {rows:,} pairs agree with the manifest")


def _compare_with_source(directory: Path, data_dir: Path) -> list[str]:
    """Prints how many rows of each language are the lines of their files; returns what is wrong."""
    from translit_scale.prepare.source_check import compare_with_source

    of_language = compare_with_source(directory, data_dir)
    for language, rows in of_language.items():
        changed = f", {rows.changed:,} as cleaning changes them" if rows.changed else ""
        print(f"{language}: {rows.same:,} rows as in the files{changed}")
    return [problem for rows in of_language.values() for problem in rows.problems]


def _stats(args: argparse.Namespace) -> None:
    from translit_scale.corpus.shards import ShardSet
    from translit_scale.corpus.summary import statistics_table

    print(statistics_table(ShardSet.open(args.directory).manifest, args.directory))


def _stage(args: argparse.Namespace) -> None:
    import socket

    from translit_scale.corpus.staging import stage

    copy, size = stage(args.directory, args.out)
    print(f"{socket.gethostname()}: {copy} is complete ({size / 1e9:.3g} GB copied)")


def _cat(args: argparse.Namespace) -> None:
    from itertools import islice

    from translit_scale.corpus.shards import ShardSet

    shard_set = ShardSet.open(args.directory)
    for language in [args.language] if args.language else shard_set.languages:
        for sentence_and_transliterations in islice(shard_set.rows_of(language), args.limit):
            _print_row(language, *sentence_and_transliterations)


def _contamination(args: argparse.Namespace) -> None:
    from collections import Counter

    from translit_scale.corpus.contamination import find_matches
    from translit_scale.corpus.shards import ShardSet
    from translit_scale.progress import Progress

    shard_set = ShardSet.open(args.directory)
    rows = sum(shard_set.rows(language) for language in shard_set.languages)
    counts: Counter[str] = Counter()
    with Progress("contamination", rows, "pairs") as progress:
        matches = find_matches(shard_set, args.files, args.near, args.workers, progress.advance)
    for match in matches:
        _print_row(match.language, str(match.file), f"{match.fraction:.2f}", match.training, match.evaluation)
        counts[match.language] += 1
    of_each = ", ".join(f"{language} {number:,}" for language, number in counts.items())
    print(f"{counts.total():,} matches in {rows:,} pairs{': ' if of_each else ''}{of_each}", file=sys.stderr)


def _print_row(*cells: str) -> None:
    """One line of tab-separated data, in UTF-8 whatever the terminal's encoding is."""
    sys.stdout.buffer.write("\t".join(cells).encode(errors="backslashreplace") + b"\n")
