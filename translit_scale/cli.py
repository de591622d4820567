"""The program `translit-scale`, with one command per stage, and the error handling of all programs of the project."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from translit_scale import __version__
from translit_scale.commands import (
    analyze,
    configs,
    demo,
    demo_text,
    docs,
    doctor,
    evaluate,
    export,
    languages,
    plan,
    prepare,
    report,
    reproduce,
    romanize,
    select,
    shards,
    submit,
    tokenizer,
    train,
    vocabulary,
)
from translit_scale.commands.arguments import subcommands
from translit_scale.commands.parser import Parser
from translit_scale.errors import EXIT_DATA, UserError
from translit_scale.train.launching.failure import run_rank

COMMANDS = (
    languages, configs, docs, demo_text, romanize, prepare, shards, tokenizer, vocabulary, plan, doctor, train,
    select, export, evaluate, analyze, report, submit, reproduce, demo,
)  # fmt: skip
"""The commands in the order of the stages."""
OF_RANKS = ("doctor", "train")
"""Commands that launchers start several times, for ranks that work together."""


def build_parser() -> Parser:
    """The parser of all commands; it sets `args.run` to the command's handler."""
    parser = Parser(
        prog="translit-scale",
        description="Train multilingual encoders on sentences together with their Latin transliterations. "
        "The stages in order: prepare, tokenizer, train, select, export, evaluate, analyze, report.",
        epilog="translit-scale COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"translit-scale {__version__}")
    train.add_local_rank(parser)
    commands = subcommands(parser, "command", "COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `translit_scale.errors`).

    A command of several ranks that fails ends the process instead, because others wait for it (`run_rank`).
    """
    words = sys.argv[1:] if argv is None else list(argv)

    def parse_and_run() -> int | None:
        parser = build_parser()
        args = parser.parse_args(words)
        args.command_line = shlex.join([parser.prog, *words])  # for messages that suggest a longer command
        return args.run(args)

    if next((word for word in words if not word.startswith("-")), "") not in OF_RANKS:
        gc.set_threshold(50_000)  # or importing torch and transformers takes a third longer
        return run_guarded(parse_and_run)

    def run_as_rank() -> None:
        parse_and_run()
        from translit_scale.train.launching.ranks import leave_ranks

        leave_ranks()

    run_rank(run_as_rank)
    return 0


def run_guarded(run: Callable[[], int | None]) -> int:
    """Calls `run()`; turns errors that the user can fix into one message and an exit code."""
    try:
        try:
            return _reported(run)
        finally:
            sys.stdout.flush()  # here, because a closed pipe is handled below
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _reported(run: Callable[[], int | None]) -> int:
    try:
        return run() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        print(f"error: {error.strerror}: {error.filename}\n  → choose another place", file=sys.stderr, flush=True)
        return EXIT_DATA
    except KeyboardInterrupt:
        print("\ninterrupted: finished parts are kept; run the same command again to resume", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
