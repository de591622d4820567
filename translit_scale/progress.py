"""Shows progress as a bar on a terminal and as plain lines in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any

Advance = Callable[[int], object]
"""`Progress.advance`, or another function that receives the amount of work done since its last call."""


LONGEST_INTERVAL = 600.0
"""Seconds between two lines in a file, at most: the intervals grow, so that a job of days leaves hundreds of lines."""


def say(text: str, end: str = "\n", error: bool = False) -> None:
    """Prints for whoever looks. It is no error if nobody can: the `tee` behind it was killed, the disk is full.

    Args:
        error: on standard error.
    """
    stream: IO[str] = sys.stderr if error else sys.stdout
    try:
        print(text, end=end, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # also for what Python flushes when it exits
    except OSError:
        return


class Progress:
    """Counts work towards a known total and shows the rate and the remaining time on standard error.

    A terminal shows a tqdm bar that fits its width; otherwise plain lines are printed, the first after `interval`
    seconds, later ones more rarely, and one at the end. The remaining time follows from the work since the first
    `advance`, because the time before it is mostly that of starting; until the second one there is none.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0, interval: float = 10.0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.start_done = done
        self.started = self.last_line = time.monotonic()
        self.interval = interval
        self.measured_from: tuple[float, int] | None = None
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # imported here: `--help` does not wait for it

            self.bar = tqdm(
                total=total, initial=done, desc=label, unit=f" {unit}", unit_scale=True, dynamic_ncols=True, smoothing=0
            )

    def advance(self, amount: int) -> None:
        """Adds an amount of finished work."""
        self.done += amount
        if self.bar is not None:
            self.bar.update(amount)
        if self.measured_from is None:
            self.measured_from = (time.monotonic(), self.done)
            if self.bar is not None:
                self.bar.initial, self.bar.start_t = self.bar.n, self.bar.last_print_t
        if self.bar is None and time.monotonic() - self.last_line >= self.interval:
            self._print()
            self.interval = min(1.5 * self.interval, LONGEST_INTERVAL)

    def _print(self) -> None:
        self.last_line = time.monotonic()
        rate = (self.done - self.start_done) / max(self.last_line - self.started, 1e-9)
        speed = f"{rate:,.0f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        eta = "" if self.done >= self.total else self._time_left()
        print(
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit} ({speed}{eta})",
            file=sys.stderr,
            flush=True,
        )

    def _time_left(self) -> str:
        begin, done = self.measured_from or (self.last_line, self.done)
        if self.done == done:
            return ""
        return f", {duration((self.total - self.done) * (self.last_line - begin) / (self.done - done))} left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._print()


def fit(parts: Sequence[tuple[int, str]], width: int) -> str:
    """Joins the parts of a line by spaces; what does not fit into the width is left out.

    Args:
        parts: (rank, text) in the order in which they are shown; the lowest ranks take the space first.
    """
    kept: set[int] = set()
    for _, number in sorted((rank, number) for number, (rank, _) in enumerate(parts)):
        if len(_joined(parts, kept | {number})) <= width:
            kept.add(number)
    return _joined(parts, kept)


def _joined(parts: Sequence[tuple[int, str]], numbers: set[int]) -> str:
    return " ".join(parts[number][1] for number in sorted(numbers))


def duration(seconds: float) -> str:
    """Formats a duration with its two largest units: `75` → `1m15s`."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"
