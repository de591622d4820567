"""The processor cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> set[int]:
    """Numbers of the CPU cores that this process may use (of all of the machine, where the system does not say)."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores() -> int:
    """How many they are."""
    return len(usable_cores())
