"""The processor cores that this process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Number of CPU cores that this process may use (of the machine, where the system does not say)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
