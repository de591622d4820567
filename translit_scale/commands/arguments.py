"""What the commands' parsers share: their layout, the types of arguments, and the options of several commands."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.parser import Parser
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import language_code
from translit_scale.prepare.array import array_task
from translit_scale.testsets.parallel import ParallelText, read_all
from translit_scale.testsets.registry import retrieval_tasks

if TYPE_CHECKING:
    from translit_scale.evaluate.models import EmbeddingSettings

WIDTH = 79


def add_command(commands: Any, name: str, summary: str, description: str, example: str) -> Parser:
    """Adds a command and returns its parser.

    Args:
        commands: the return value of `add_subparsers`.
        summary: line in the list of commands.
        example: shown verbatim at the end of the help.
    """
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, WIDTH),
        epilog="example:\n" + textwrap.indent(example, "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_kinds(commands: Any, name: str, summary: str) -> Any:
    """Adds a command that has subcommands (`shards verify`, `shards stats`, ...) and returns where they are added."""
    parser = commands.add_parser(name, help=summary, description=summary)
    return subcommands(parser, "kind", "KIND")


def subcommands(parser: argparse.ArgumentParser, dest: str, metavar: str) -> Any:
    """Lets `parser` have subcommands; if none is given, it prints its help and returns exit code 2."""

    def print_help(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    parser.set_defaults(run=print_help)
    return parser.add_subparsers(dest=dest, metavar=metavar)


def positive(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return int(text)


def add_array_task(task_id: argparse._ActionsContainer, num_tasks: argparse._ActionsContainer) -> None:
    """Declares which part of the work is done, as options of one or two groups; `own_part` reads them."""
    task_id.add_argument(
        "--task-id", metavar="I",
        help="do part I of the work, from 0; 'slurm': the number of this task in the job array (default: all parts)",
    )  # fmt: skip
    num_tasks.add_argument(
        "--num-tasks", type=positive, metavar="N",
        help="number of parts; does not change the result (default with --task-id slurm: N if the array is 0-(N-1))",
    )  # fmt: skip


def own_part(args: argparse.Namespace) -> tuple[int, int] | None:
    """(I, N) from --task-id and --num-tasks; None if there is only one task.

    Raises:
        ConfigError: as `array_task`, or there is no --task-id.
    """
    if args.num_tasks and not args.task_id:
        raise ConfigError("--num-tasks needs --task-id", "give the number of this task, or --task-id slurm")
    return array_task(args.task_id, args.num_tasks, os.environ) if args.task_id else None


def names(text: str) -> list[str]:
    """Names separated by commas."""
    parts = [name.strip() for name in text.split(",")]
    if "" in parts:
        raise argparse.ArgumentTypeError(f"expected names separated by commas, found {text!r}")
    return parts


def code(text: str) -> str:
    """The code of a language that may be written in another way, such as `pl` or `Polish`.

    What is no known language is kept: a test set or shard set may have it, and else names those that it has.
    """
    try:
        return language_code(text)
    except DataError:
        return text


def codes(text: str) -> list[str]:
    """Languages separated by commas, as codes."""
    return [code(name) for name in names(text)]


def joined_codes(text: str) -> str:
    """Languages separated by +, as codes."""
    return "+".join(code(name) for name in text.split("+"))


def alias(text: str) -> tuple[str, str]:
    """`zho_Hani=zho_Hans`: a language, and a test set's own name for it."""
    language, _, name = text.partition("=")
    if not language or not name:
        raise argparse.ArgumentTypeError(f"expected CODE=NAME, for example zho_Hani=zho_Hans, found {text!r}")
    return code(language), name


def add_aliases(group: argparse._ActionsContainer) -> None:
    """Declares the names that test sets have for languages; `args.aliases` has them as pairs."""
    group.add_argument(
        "--as", dest="aliases", type=alias, action="append", default=[], metavar="CODE=NAME",
        help="the test set's own name for a language: zho_Hani=zho_Hans reads the files of zho_Hans and calls the "
        "result zho_Hani; repeat for several (default: the same code, or a synonym; translit-scale docs test-sets)",
    )  # fmt: skip


def file_name(text: str) -> str:
    """Name of a folder or file, without a path."""
    if "/" in text or text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be the name of a folder")
    return text


def add_encoders(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declares the encoders and their device; more options may be added to the group that is returned."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model", action="append", required=True, metavar="MODEL",
        help="DIR or LABEL=DIR: folder or hub id of an encoder with its tokenizer (HF_HUB_OFFLINE=1 is honoured), or "
        "checkpoints of a run: RUN (the newest), RUN@2000, RUN@best, RUN@all; required, repeat for several",
    )  # fmt: skip
    add_device(group)
    return group


def add_device(group: argparse._ArgumentGroup) -> None:
    """Declares the device."""
    devices = ["auto", "cpu", "cuda"]
    group.add_argument("--device", choices=devices, default="auto", help="auto: a GPU if there is one (default: auto)")


def add_embedding(group: argparse._ArgumentGroup, special: bool = True) -> None:
    """Declares how sentences are embedded.

    Args:
        special: lets the user choose whether special tokens belong to the mean.
    """
    group.add_argument(
        "--layer", type=_layer, metavar="INDEX_OR_FRACTION",
        help="layer whose hidden states are averaged: 8 is hidden_states[8] (0: the embedding layer), 0.667 is a "
        "fraction of the depth (default: 2/3, layer 8 of 12)",
    )  # fmt: skip
    if special:
        group.add_argument(
            "--exclude-special", action="store_true",
            help="leave <s> and </s> out of the mean (default: they are included, as in the papers' evaluation)",
        )  # fmt: skip
    group.add_argument(
        "--batch-tokens", type=positive, default=8192, metavar="N",
        help="tokens in one forward pass, counted as if padded; does not change results (default: %(default)s)",
    )  # fmt: skip


def embedding_settings(args: argparse.Namespace) -> EmbeddingSettings:
    """Reads the options of `add_device` and `add_embedding`."""
    from translit_scale.evaluate.models import EmbeddingSettings

    return EmbeddingSettings(args.layer, not args.exclude_special, args.batch_tokens, args.device)


def add_measurement(parser: argparse.ArgumentParser, name: str, out: str) -> argparse._ArgumentGroup:
    """Declares what is measured on parallel text: encoders, files or a test set, and results.

    Args:
        name: of the results, unless the command line has one.
        out: folder of the results, unless the command line has one.

    Returns:
        The group of the results, to which more options may be added.
    """
    add_embedding(add_encoders(parser))
    add_texts(parser)
    group = add_results(parser, name, out)
    group.add_argument(
        "--force", action="store_true",
        help="replace earlier results under this name that have other models, settings or texts (default: they are an "
        "error)",
    )  # fmt: skip
    return group


def add_texts(parser: argparse.ArgumentParser) -> None:
    """Declares parallel text: files or a test set. `read_texts` reads it."""
    group = parser.add_argument_group("parallel text (.txt, .tsv, .csv; each option can be repeated)")
    group.add_argument(
        "--parallel", nargs="+", action="append", default=[], metavar="LANGUAGE:FILE",
        help="two files with one sentence a line, line i translates line i: pol_Latn:a.txt ukr_Cyrl:b.txt (of more "
        "than two, every two are a pair); quoted globs are read in the order of file names",
    )  # fmt: skip
    group.add_argument(
        "--id-column", metavar="COLUMN",
        help="treat the files of --parallel as tables and join them on this column: a name of the header line, or a "
        "number from 1 if there is no header",
    )  # fmt: skip
    group.add_argument("--text-column", metavar="COLUMN", help="with --id-column: the column with the sentences")
    group.add_argument(
        "--table", nargs="+", action="append", default=[], metavar=("FILE", "LANGUAGE:COLUMN"),
        help="one table with a column for each language: pairs.tsv pol_Latn:pl ukr_Cyrl:uk (of more than two columns, "
        "every two are a pair; pairs.tsv alone stands for all columns whose names are codes such as pol_Latn)",
    )  # fmt: skip
    add_test_set(parser)


def add_results(parser: argparse.ArgumentParser, name: str, out: str) -> argparse._ArgumentGroup:
    """Declares where results go, and the seed; arguments and return value as `add_measurement`."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--name", type=file_name, help=f"name of the test set in files and tables (default: the task, else {name})"
    )
    parser.set_defaults(default_name=name)
    group.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help="write files to DIR/NAME (default: %(default)s)"
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of resampling and random pairs (default: %(default)s)"
    )
    return group


def add_test_set(parser: argparse.ArgumentParser) -> None:
    """Declares a test set, instead of files."""
    tasks = retrieval_tasks()
    group = parser.add_argument_group("or a test set in the layout of its authors (translit-scale docs test-sets)")
    group.add_argument(
        "--task", choices=list(tasks), help=f"{', '.join(task.title for task in tasks.values())} (default: files)"
    )
    group.add_argument("--data", type=Path, metavar="DIR", help="folder of the test set, or its parent (no default)")
    group.add_argument(
        "--languages", type=codes, metavar="CODES",
        help="pol_Latn,ukr_Cyrl: every two of them are a pair, or each with --source (no default)",
    )  # fmt: skip
    group.add_argument("--source", type=code, metavar="CODE", help="pair it with each of --languages (default: all)")
    add_aliases(group)
    group.add_argument(
        "--limit", type=positive, metavar="N",
        help="the first N pairs, in the order of the source's file (papers: 450, 500; default: all)",
    )  # fmt: skip


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


def read_texts(args: argparse.Namespace) -> tuple[list[ParallelText], list[str], list[DataError]]:
    """The parallel texts of the command line, notes about them, and errors of those that a test set does not have.

    Called before torch is imported, so that a wrong path fails immediately.

    Raises:
        ConfigError: both files and a test set are given, or options are missing.
    """
    if args.task is None:
        for name in ("data", "languages", "source", "limit"):
            if getattr(args, name) is not None:
                raise ConfigError(f"--{name} belongs to a test set", f"give --task: {', '.join(retrieval_tasks())}")
        if args.aliases:
            raise ConfigError("--as belongs to a test set", "with --parallel, state the language of each file")
        return read_all(args.parallel, args.table, args.id_column, args.text_column), [], []
    if args.parallel or args.table:
        raise ConfigError("--task cannot be combined with --parallel or --table: give one of them")
    skipped: list[DataError] = []
    return *read_test_set(args, skipped), skipped


def raise_skipped(skipped: Sequence[DataError | str]) -> None:
    """Ends a command that has measured what it could.

    Raises:
        DataError: with the messages of what it could not measure, if there are any.
    """
    if skipped:
        raise DataError("\n".join(["everything else is measured, but not:", *map(str, skipped)]))


def read_test_set(
    args: argparse.Namespace, skipped: list[DataError] | None = None
) -> tuple[list[ParallelText], list[str]]:
    """The parallel texts of the options of `add_test_set`, and notes about them.

    Args:
        skipped: as in `RetrievalTask.read`.

    Raises:
        ConfigError: options are missing.
    """
    if missing := [f"--{name}" for name in ("task", "data", "languages") if getattr(args, name) is None]:
        raise ConfigError(
            f"a test set needs {' and '.join(missing)}", "--task sr_b --data DIR --languages pol_Latn,ukr_Cyrl"
        )
    return retrieval_tasks()[args.task].read(
        args.data, args.languages, args.source, args.limit, tuple(args.aliases), skipped
    )


def run_and_print(
    args: argparse.Namespace, texts: list[ParallelText], notes: list[str], run: Callable[..., str]
) -> None:
    """Runs an evaluation of all models and prints its table."""
    from translit_scale.evaluate.models import name_models

    embedding = embedding_settings(args)
    name = args.name or args.task or args.default_name
    print(run(name_models(args.model), texts, embedding, name, args.out, args.seed, force=args.force))
    for note in notes:
        print(f"note: {note}")
    print(f"\nwritten to {args.out / name}")
