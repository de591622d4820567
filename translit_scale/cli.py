"""The console script `translit-scale`: one sub-command per stage.

Each command is one `_add_*` function (its arguments) and one `_run_*` function (a thin call into a room).
Rooms are imported inside the `_run_*` functions: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale import __version__
from translit_scale.errors import DataError, UserError

if TYPE_CHECKING:
    from translit_scale.evaluate.parallel import ParallelText


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; every handler is in `args.run`."""
    parser = argparse.ArgumentParser(
        prog="translit-scale",
        description="Train multilingual encoders on sentences together with their Latin transliterations. "
        "The stages in order: prepare, tokenizer, train (scripts/train.py), export, evaluate, analyze.",
    )
    parser.add_argument("--version", action="version", version=f"translit-scale {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_embedded(commands)
    _add_prepare(commands)
    _add_shards(commands)
    _add_tokenizer(commands)
    _add_export(commands)
    _add_evaluate(commands)
    _add_analyze(commands)
    _add_demo(commands)
    return parser


def _add_embedded(commands: Any) -> None:
    parser = commands.add_parser(
        "embedded",
        help="write the demo's text, which pip packages carry: monolingual files and held-out pairs",
        description="Reads Django's message catalogues and Babel's CLDR names (extra `demo`). Writes "
        "OUT/text/LANGUAGE.txt for training, OUT/heldout/A-B.tsv for retrieval (no string of it is in any of "
        "the texts) and OUT/counts.json.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--pairs", nargs="+", type=_pair, default=["pol-ukr", "hin-urd"], metavar="PAIR",
        help="pol-ukr, hin-urd, or two codes such as deu_Latn-ell_Grek (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="FRACTION", help="of the keys (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the held-out choice (default: %(default)s)")
    parser.set_defaults(run=_run_embedded)


def _pair(text: str) -> tuple[str, str]:
    from translit_scale.languages import PAIRS

    if text in PAIRS:
        return PAIRS[text]
    first, _, second = text.partition("-")
    if not second:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(PAIRS)} or A-B, two lang_Script codes")
    return first, second


def _run_embedded(args: argparse.Namespace) -> None:
    from translit_scale.corpus.embedded import counts_table, write_embedded

    pairs = [_pair(pair) if isinstance(pair, str) else pair for pair in args.pairs]
    print(counts_table(write_embedded(args.out, pairs, args.held_out, args.seed)))
    print(f"\nwritten to {args.out}")


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser(
        "prepare",
        help="make a shard set: read, clean, leave out held-out text, sample, romanize, pack",
        description="Makes the shard set of a recipe. Can be interrupted or killed at any time: the same command "
        "goes on. Prints how many sentences of each language were read, left out (and why) and kept.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, see shards/*.yaml")
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="what the recipe's paths are relative to (default: the recipe's folder)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the set (default: a folder named like the set beside the recipe)"
    )
    parser.add_argument(
        "--workers", type=_positive, default=len(os.sched_getaffinity(0)), metavar="N",
        help="processes; does not change the result (default: all cores, here %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace a set made from another recipe or input")
    parser.set_defaults(run=_run_prepare)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return int(text)


def _run_prepare(args: argparse.Namespace) -> None:
    from translit_scale.corpus.prepare import prepare
    from translit_scale.corpus.recipe import load_recipe
    from translit_scale.corpus.summary import preparation_table

    folder = args.recipe.parent
    out = args.out or folder / load_recipe(args.recipe).name
    print(preparation_table(prepare(args.recipe, args.data or folder, out, args.workers, args.force)))
    print(f"\nwritten to {out}")


def _add_shards(commands: Any) -> None:
    kinds = commands.add_parser("shards", help="look into a shard set: verify, stats, cat").add_subparsers(
        dest="kind", metavar="KIND", required=True
    )
    verify = kinds.add_parser("verify", help="compare all shards with the manifest (exit code 3 if they differ)")
    verify.add_argument("--deep", action="store_true", help="decode every block too, and name the damaged ones")
    stats = kinds.add_parser("stats", help="blocks, pairs, bytes and lengths of each language")
    cat = kinds.add_parser("cat", help="print pairs: language, original and transliteration, tab-separated")
    cat.add_argument("--language", metavar="CODE", help="default: all languages, one after the other")
    cat.add_argument("--limit", type=_positive, metavar="N", help="pairs of each language (default: all)")
    for parser, run in ((verify, _run_shards_verify), (stats, _run_shards_stats), (cat, _run_shards_cat)):
        parser.add_argument("directory", type=Path, metavar="DIR", help="shard set made by prepare")
        parser.set_defaults(run=run)


def _run_shards_verify(args: argparse.Namespace) -> None:
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


def _run_shards_stats(args: argparse.Namespace) -> None:
    from translit_scale.corpus.shards import ShardSet
    from translit_scale.corpus.summary import statistics_table

    print(statistics_table(ShardSet.open(args.directory).manifest))


def _run_shards_cat(args: argparse.Namespace) -> None:
    from itertools import islice

    from translit_scale.corpus.shards import ShardSet

    shard_set = ShardSet.open(args.directory)
    for language in [args.language] if args.language else shard_set.languages:
        for orig, latn in islice(shard_set.pairs(language), args.limit):
            print(language, orig, latn, sep="\t")
    sys.stdout.flush()  # here, where a closed pipe is still handled


def _add_tokenizer(commands: Any) -> None:
    parser = commands.add_parser(
        "tokenizer",
        help="train a SentencePiece unigram vocabulary on the originals of a shard set",
        description="Trains on the original script only (paper A) and writes a Hugging Face fast tokenizer with "
        "XLM-R's ids, checked against SentencePiece on real lines. Any pretrained tokenizer does instead.",
    )
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="set made by prepare")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--vocab-size", type=int, default=30_000, metavar="N", help="SentencePiece pieces (default: %(default)s)"
    )
    parser.add_argument(
        "--max-sentences", type=int, default=1_000_000, metavar="N",
        help="train on at most so many, equal shares of all languages (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace the tokenizer in OUT")
    parser.set_defaults(run=_run_tokenizer)


def _run_tokenizer(args: argparse.Namespace) -> None:
    from translit_scale.corpus.tokenizer_training import report_table, train_from_shards

    report = train_from_shards(args.shards, args.out, args.vocab_size, args.max_sentences, args.seed, args.force)
    print(report_table(report))
    print(f"\ntokenizer: {args.out}")


def _add_export(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="write a trained model as a Hugging Face folder with a model card",
        description="Gathers the weights of a checkpoint from all its ranks. Loading a checkpoint runs pickled code: "
        "export only runs of your own; the exported folder holds safetensors and text only.",
    )
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, metavar="DIR", help="for example runs/demo")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint to export (default: the newest)")
    parser.add_argument("--to", type=Path, metavar="DIR", help="default: DIR/export")
    parser.add_argument("--licence", metavar="ID", help="for the card, such as apache-2.0 (default: unknown)")
    parser.add_argument("--force", action="store_true", help="replace an earlier export")
    parser.set_defaults(run=_run_export)


def _run_export(args: argparse.Namespace) -> None:
    from translit_scale.export import export_run

    out = args.to or args.run_dir / "export"
    step = export_run(args.run_dir, args.step, out, args.licence, args.force)
    print(f"step {step} of {args.run_dir} written to {out}")


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="run every stage on text that pip packages carry, minutes on two CPU cores",
        description="Makes shards and a tokenizer, trains an MLM-only and a contrastive encoder with the same budget, "
        "exports both and compares them on held-out retrieval. Prints each command before it runs.",
    )
    parser.add_argument("--ranks", type=_positive, default=2, metavar="N", help="processes (default: %(default)s)")
    parser.set_defaults(run=_run_demo)


def _run_demo(args: argparse.Namespace) -> None:
    from translit_scale.demo import run_demo

    run_demo(args.ranks)


def _add_evaluate(commands: Any) -> None:
    kinds = commands.add_parser(
        "evaluate", help="measure any Hugging Face encoder on parallel or labelled text"
    ).add_subparsers(dest="kind", metavar="KIND", required=True)
    parser = kinds.add_parser(
        "retrieval",
        help="sentence retrieval top-1/5/10 in both directions, several models side by side",
        description="Finds the translation of every sentence among all sentences of the other language by "
        "cosine of mean-pooled hidden states, in both directions, with 95 % bootstrap intervals. Writes "
        "OUT/NAME/LABEL.json and LABEL.items.npz (the rank of every item) for each model, and "
        "comparison.json with the paired differences to the first model.",
        epilog="example: translit-scale evaluate retrieval --model mlm=runs/mlm/export --model tcm=runs/tcm/export "
        "--parallel pol_Latn:flores.pol ukr_Cyrl:flores.ukr --name sr_f",
    )
    _add_model_arguments(parser)
    _add_parallel_arguments(parser)
    _add_result_arguments(parser, name="retrieval", out="results")
    parser.set_defaults(run=_run_evaluate_retrieval)


def _run_evaluate_retrieval(args: argparse.Namespace) -> None:
    texts = _read_texts(args)
    from translit_scale.evaluate.run import run_retrieval

    _measure(args, texts, run_retrieval)


def _add_analyze(commands: Any) -> None:
    kinds = commands.add_parser("analyze", help="look inside any Hugging Face encoder: similarities").add_subparsers(
        dest="kind", metavar="KIND", required=True
    )
    parser = kinds.add_parser(
        "similarity",
        help="the four similarities of paper A, matched against random pairs",
        description="Cosine of a sentence s, its translation t and their romanizations r_s and r_t: "
        "sim(s, r_s), sim(s, t), sim(r_s, t), sim(r_s, r_t), for matched pairs and for random pairs (one "
        "seeded derangement for all models). The first language of --parallel is s. Writes "
        "OUT/NAME/LABEL.similarity.json and .npz (the values of every pair).",
        epilog="example: translit-scale analyze similarity --model runs/tcm/export "
        "--parallel ukr_Cyrl:flores.ukr pol_Latn:flores.pol --name sr_f",
    )
    _add_model_arguments(parser)
    _add_parallel_arguments(parser)
    _add_result_arguments(parser, name="similarity", out="analysis")
    parser.set_defaults(run=_run_analyze_similarity)


def _run_analyze_similarity(args: argparse.Namespace) -> None:
    texts = _read_texts(args)
    from translit_scale.analyze.similarity import run_similarity

    _measure(args, texts, run_similarity)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model", action="append", required=True, metavar="[LABEL=]DIR_OR_ID",
        help="folder or hub id of an encoder with its tokenizer; repeat for several (HF_HUB_OFFLINE=1 is honoured)",
    )  # fmt: skip
    group.add_argument(
        "--layer", type=_layer, metavar="INDEX_OR_FRACTION",
        help="whose states are averaged: 8 is hidden_states[8] (0 the embeddings), 0.667 a fraction of the "
        "depth (default: 2/3, layer 8 of 12)",
    )  # fmt: skip
    group.add_argument(
        "--exclude-special", action="store_true",
        help="leave <s> and </s> out of the mean (default: they are in it, as in the papers' evaluation)",
    )  # fmt: skip
    group.add_argument(
        "--batch-tokens", type=_positive, default=8192, metavar="N",
        help="tokens with padding in one forward pass; does not change results (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )


def _add_parallel_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("parallel text (.txt, .tsv, .csv; each option can be repeated)")
    group.add_argument(
        "--parallel", nargs=2, action="append", default=[], metavar="LANGUAGE:FILE",
        help="two files with one sentence a line, line i translating line i: pol_Latn:a.txt ukr_Cyrl:b.txt; "
        "quoted globs are read in name order",
    )  # fmt: skip
    group.add_argument(
        "--id-column", metavar="COLUMN",
        help="the files of --parallel are tables to be joined on this column: a name of the header line, or a "
        "number from 1 if there is none",
    )  # fmt: skip
    group.add_argument("--text-column", metavar="COLUMN", help="the column with the sentences, with --id-column")
    group.add_argument(
        "--table", nargs=3, action="append", default=[], metavar=("FILE", "LANGUAGE:COLUMN", "LANGUAGE:COLUMN"),
        help="one table with a column for each language: pairs.tsv pol_Latn:pl ukr_Cyrl:uk",
    )  # fmt: skip


def _add_result_arguments(parser: argparse.ArgumentParser, name: str, out: str) -> None:
    group = parser.add_argument_group("results")
    group.add_argument(
        "--name", type=_file_name, default=name, help="of the test set, for files and tables (default: %(default)s)"
    )
    group.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help="default: %(default)s")
    group.add_argument("--seed", type=int, default=0, help="of resampling and random pairs (default: %(default)s)")


def _layer(text: str) -> int | float:
    if text.isdecimal():
        return int(text)
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0
    if not 0 < fraction <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an index such as 8 nor a fraction such as 0.667")
    return fraction


def _file_name(text: str) -> str:
    if "/" in text or text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be the name of a folder")
    return text


def _read_texts(args: argparse.Namespace) -> list[ParallelText]:
    from translit_scale.evaluate.parallel import read_all

    return read_all(args.parallel, args.table, args.id_column, args.text_column)


def _measure(args: argparse.Namespace, texts: list[ParallelText], measure: Callable[..., str]) -> None:
    from translit_scale.evaluate.results import EmbeddingSettings, name_models

    embedding = EmbeddingSettings(args.layer, not args.exclude_special, args.batch_tokens, args.device)
    print(measure(name_models(args.model), texts, embedding, args.name, args.out, args.seed))
    print(f"\nwritten to {args.out / args.name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see `translit_scale.errors`)."""
    args = build_parser().parse_args(argv)
    return run_guarded(lambda: args.run(args))


def run_guarded(run: object) -> int:
    """Calls `run()`; turns what the user can mend into one message and an exit code."""
    assert callable(run)
    try:
        return run() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted: finished parts are kept; run the same command to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
