"""Shows progress as a bar on a terminal and as plain lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

Advance = Callable[[int], object]
"""`Progress.advance`, or another function that receives the amount of work done since its last call."""


class Progress:
    """Counts work towards a known total and shows the rate and the remaining time on standard error.

    A terminal shows a tqdm bar; otherwise a plain line is printed every `interval` seconds and at the end.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0, interval: float = 10.0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.start_done = done
        self.started = self.last_line = time.monotonic()
        self.interval = interval
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # imported here: `--help` does not wait for it

            self.bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", unit_scale=True)

    def advance(self, amount: int) -> None:
        """Adds an amount of finished work."""
        self.done += amount
        if self.bar is not None:
            self.bar.update(amount)
        elif time.monotonic() - self.last_line >= self.interval:
            self._print()

    def _print(self) -> None:
        self.last_line = time.monotonic()
        elapsed = max(self.last_line - self.started, 1e-9)
        rate = (self.done - self.start_done) / elapsed
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        speed = f"{rate:,.0f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        eta = "" if self.done >= self.total else f", {duration(left)} left"
        print(
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit} ({speed}{eta})",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._print()


def duration(seconds: float) -> str:
    """Formats a duration with its two largest units: `75` → `1m15s`."""
    if seconds == float("inf"):
        return "unknown time"
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"
