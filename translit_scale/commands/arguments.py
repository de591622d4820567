"""What the commands' parsers have in common: their layout, and types of arguments."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from typing import Any

from translit_scale.errors import ConfigError

WIDTH = 79


def add_command(commands: Any, name: str, summary: str, description: str, example: str) -> argparse.ArgumentParser:
    """A sub-command.

    Args:
        commands: what `add_subparsers` returned.
        summary: its line in the list of commands.
        example: shown as it stands, ready to be copied.
    """
    return commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, WIDTH),
        epilog="example:\n" + textwrap.indent(example, "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_kinds(commands: Any, name: str, summary: str) -> Any:
    """A command that has sub-commands of its own (`shards verify`, `shards stats`, ...)."""
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    return subcommands(parser, "kind", "KIND")


def subcommands(parser: argparse.ArgumentParser, dest: str, metavar: str) -> Any:
    """Where sub-commands of `parser` are added; without one it prints its help and ends with exit code 2."""

    def print_help(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    parser.set_defaults(run=print_help)
    return parser.add_subparsers(dest=dest, metavar=metavar)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return int(text)


def cores() -> int:
    """Those this process may use, where the system tells (Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_part(args: argparse.Namespace) -> tuple[int, int] | None:
    """(I, N) of --task-id and --num-tasks; None where all of the work is one part.

    Raises:
        ConfigError: as `array_task`, or there is no --task-id.
    """
    from translit_scale.prepare.array import array_task

    if args.num_tasks and not args.task_id:
        raise ConfigError("--num-tasks needs --task-id", "which of the tasks is it?")
    return array_task(args.task_id, args.num_tasks, os.environ) if args.task_id else None


def codes(text: str) -> list[str]:
    """Language codes, separated by commas."""
    found = [code.strip() for code in text.split(",")]
    if "" in found:
        raise argparse.ArgumentTypeError(f"expected codes separated by commas, found {text!r}")
    return found


def file_name(text: str) -> str:
    """A name for one folder or file, not a path."""
    if "/" in text or text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be the name of a folder")
    return text
