"""The console script `translit-scale`: one sub-command per stage.

Each command is one `_add_*` function (its arguments) and one `_run_*` function (a thin call into a room).
Rooms are imported inside the `_run_*` functions: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from translit_scale import __version__
from translit_scale.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; every handler is in `args.run`."""
    parser = argparse.ArgumentParser(
        prog="translit-scale",
        description="Train multilingual encoders on sentences together with their Latin transliterations. "
        "The stages in order: prepare, tokenizer, train (scripts/train.py), export, evaluate, analyze.",
    )
    parser.add_argument("--version", action="version", version=f"translit-scale {__version__}")
    parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    return parser


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
