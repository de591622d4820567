"""Keeps the bars and prints of libraries out of our own few lines, for the time of one call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and its table of unused weights (the head of a model); errors still raise."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


@contextmanager
def quiet_prints() -> Iterator[None]:
    """Without what a library prints; its bars are left where they can be seen, on a terminal.

    Import the library before: a log handler made inside would write to nowhere for ever.
    """
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(StringIO()))
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(StringIO()))
        yield
