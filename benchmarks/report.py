"""Heading of a benchmark page: date, machine and command of its figures."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path


def heading(title: str, packages: tuple[str, ...]) -> str:
    """Title, date, machine, versions and command, as Markdown."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "CPU")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    words = [Path(sys.argv[0]).name, *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])]
    return (
        f"# {title}\n\n{time.strftime('%d %B %Y')}; {len(os.sched_getaffinity(0))} cores ({model}), Python "
        f"{platform.python_version()}, {versions}.\n\n```bash\npython benchmarks/{shlex.join(words)}\n```\n"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").split("\n")
    except OSError:
        return []
