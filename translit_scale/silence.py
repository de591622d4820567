"""Keeps the progress bars and warnings of libraries out of our own output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Hides transformers' progress bars, which every rank would print; its warnings are shown."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Hides transformers' progress bars and its list of unused weights (such as a model's head); errors still raise."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with hide_progress_bars():
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
