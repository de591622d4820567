"""Shared parts of the commands' parsers: their layout and the types of arguments."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from typing import Any

from translit_scale.errors import ConfigError

WIDTH = 79


def add_command(commands: Any, name: str, summary: str, description: str, example: str) -> argparse.ArgumentParser:
    """Adds a command and returns its parser.

    Args:
        commands: the return value of `add_subparsers`.
        summary: line in the list of commands.
        example: shown verbatim at the end of the help.
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
    """Adds a command that has subcommands (`shards verify`, `shards stats`, ...) and returns where they are added."""
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
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


def cores() -> int:
    """Number of CPU cores that this process may use (of the machine, where the system does not say)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_part(args: argparse.Namespace) -> tuple[int, int] | None:
    """(I, N) from --task-id and --num-tasks; None if there is only one task.

    Raises:
        ConfigError: as `array_task`, or there is no --task-id.
    """
    from translit_scale.prepare.array import array_task

    if args.num_tasks and not args.task_id:
        raise ConfigError("--num-tasks needs --task-id", "give the number of this task, or --task-id slurm")
    return array_task(args.task_id, args.num_tasks, os.environ) if args.task_id else None


def codes(text: str) -> list[str]:
    """Language codes separated by commas."""
    parts = [code.strip() for code in text.split(",")]
    if "" in parts:
        raise argparse.ArgumentTypeError(f"expected codes separated by commas, found {text!r}")
    return parts


def file_name(text: str) -> str:
    """Name of a folder or file, without a path."""
    if "/" in text or text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be the name of a folder")
    return text
