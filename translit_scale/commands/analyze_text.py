"""`translit-scale analyze vocabulary` and `analyze words`: what tokenizers and encoders do to text and its
transliteration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import (
    add_command,
    add_embedding,
    add_encoders,
    code,
    codes,
    embedding_settings,
    file_name,
    positive,
    raise_skipped,
)
from translit_scale.commands.parser import Parser


def add(kinds: Any) -> None:
    """Declares `analyze vocabulary` and `analyze words`."""
    _add_vocabulary(kinds)
    _add_words(kinds)


def _add_vocabulary(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "vocabulary",
        "token types shared by languages, tokens per word and unknown tokens, in original and Latin script",
        "Tokenizes sentences of every language and their transliterations. Prints how many token types two languages "
        "share (paper A, Table 1), how many a group of languages uses (paper B, Table 6), and for each language tokens "
        "per character and word, unknown tokens, and sentences cut at a length; for many languages the nearest "
        "neighbours of each. Writes DIR/NAME/LABEL.vocabulary.json, .npz (the matrix of all pairs), CSV files and "
        "charts.",
        "translit-scale analyze vocabulary --tokenizer shards/demo-tokenizer --shards shards/demo",
    )
    parser.add_argument(
        "--tokenizer", action="append", required=True, metavar="TOKENIZER",
        help="DIR or LABEL=DIR: folder or hub id of a tokenizer or of a model with its tokenizer, or a run; required, "
        "repeat for several",
    )  # fmt: skip
    _add_text(parser, 10_000)
    group = parser.add_argument_group("counting")
    group.add_argument(
        "--max-length", type=positive, metavar="N",
        help="count the sentences that have more tokens than this, special ones included (default: the tokenizer's own "
        "length, else 512)",
    )  # fmt: skip
    group.add_argument(
        "--group", type=_group, action="append", default=[], metavar="NAME=CODES",
        help="also count the unique tokens of these languages together: turkic=tur_Latn,aze_Latn; repeat for several "
        "(default: all languages, and the groups of paper B)",
    )  # fmt: skip
    _add_results(parser, "vocabulary")
    parser.set_defaults(run=_vocabulary)


def _add_words(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "words",
        "how well words of a sentence find those of its transliteration, without gold data",
        "Word i of a sentence corresponds to word i of its transliteration. Embeds words (the mean of the hidden "
        "states of their tokens in the whole sentence), matches them by cosine in both directions, and prints the "
        "accuracy of each direction and F1 of words that choose each other, with 95 % intervals over sentences, beside "
        "chance. Languages whose script has no white space between words are named and not measured. Writes "
        "DIR/NAME/LABEL.words.json, .npz (counts of every sentence) and a chart.",
        "translit-scale analyze words --model mlm=runs/mlm/export --model tcm=runs/tcm/export --shards shards/demo",
    )
    add_embedding(add_encoders(parser), special=False)
    _add_text(parser, 500)
    _add_results(parser, "words")
    parser.set_defaults(run=_words, exclude_special=True)


def _add_text(parser: Parser, sentences: int) -> None:
    group = parser.add_argument_group("text")
    group.add_argument(
        "--shards",
        type=Path,
        metavar="DIR",
        help="shard set made by prepare, with its transliterations (default: --text)",
    )
    group.add_argument(
        "--text", nargs="+", default=[], metavar="LANGUAGE:FILE",
        help="text files with one sentence a line, or a folder with files such as pol_Latn.txt; they are cleaned and "
        "romanized as for training",
    )  # fmt: skip
    group.add_argument(
        "--languages", type=codes, metavar="CODES", help="only these languages: pol_Latn,ukr_Cyrl (default: all)"
    )
    group.add_argument(
        "--sentences", type=_sentences, default=sentences, metavar="N",
        help="sentences of each language, drawn at random without replacement, or 'all' (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draw (default: %(default)s)")


def _add_results(parser: Parser, name: str) -> None:
    group = parser.add_argument_group("results")
    group.add_argument("--name", type=file_name, default=name, help="name of the folder (default: %(default)s)")
    group.add_argument(
        "--out", type=Path, default=Path("analysis"), metavar="DIR", help="write to DIR/NAME (default: %(default)s)"
    )
    group.add_argument("--no-figure", action="store_true", help="write no charts")
    group.add_argument(
        "--force", action="store_true",
        help="replace earlier results under this name that have other models, settings or text (default: they are an "
        "error)",
    )  # fmt: skip


def _sentences(text: str) -> int | None:
    return None if text == "all" else positive(text)


def _group(text: str) -> tuple[str, list[str]]:
    name, equals, members = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=CODES, for example turkic=tur_Latn,aze_Latn, found {text!r}")
    return name, [code(member) for member in members.split(",")]


def _vocabulary(args: argparse.Namespace) -> None:
    from translit_scale.analyze.text_sample import open_sample
    from translit_scale.analyze.vocabulary_run import VocabularySettings, run_vocabulary
    from translit_scale.evaluate.models import name_models

    sample = open_sample(args.shards, args.text, args.sentences, args.seed, args.languages)
    settings = VocabularySettings(args.sentences, args.seed, args.max_length, dict(args.group))
    tables, skipped = run_vocabulary(
        name_models(args.tokenizer), sample, settings, args.name, args.out, not args.no_figure, args.force
    )
    print(f"{tables}\n\nwritten to {args.out / args.name}")
    raise_skipped(skipped)


def _words(args: argparse.Namespace) -> None:
    from translit_scale.analyze.text_sample import open_sample
    from translit_scale.analyze.words_run import run_words
    from translit_scale.evaluate.models import name_models

    sample = open_sample(args.shards, args.text, args.sentences, args.seed, args.languages)
    table, skipped = run_words(
        name_models(args.model),
        sample,
        embedding_settings(args),
        {"sentences": args.sentences, "seed": args.seed},
        args.name,
        args.out,
        not args.no_figure,
        args.force,
    )
    print(f"{table}\n\nwritten to {args.out / args.name}")
    raise_skipped(skipped)
