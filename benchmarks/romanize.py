"""Compares speed and exactness of the romanizer with uroman and with uroman's own cache, in one process.

    python benchmarks/romanize.py FILE... [--sample 20] [--each]

FILE is UTF-8 text with one sentence per line; of a .tsv, the last column is used. Duplicate lines are used once. Every
line is romanized starting from an empty cache (first pass) and then again (second pass). Plain uroman romanizes every
n-th line (`--sample n`, 1 for all); its speed and the comparison refer to those lines. With `--each` every file is
measured by itself, from an empty cache.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uroman

from translit_scale.romanize.exact import ExactUroman, Memory, load_uroman


def read(paths: Sequence[Path]) -> list[str]:
    """Distinct lines of all files."""
    lines: dict[str, None] = {}
    for path in paths:
        for line in path.read_bytes().decode(errors="replace").split("\n"):
            text = line.rpartition("\t")[2] if path.suffix == ".tsv" else line
            lines[text.removesuffix("\r")] = None
    lines.pop("", None)
    return list(lines)


def romanize(function: Callable[[str], str], lines: Sequence[str]) -> tuple[list[str | None], float]:
    """Romanizations (None where uroman fails) and seconds of CPU time."""
    found: list[str | None] = []
    begin = time.process_time()
    for line in lines:
        try:
            found.append(function(line))
        except Exception:
            found.append(None)
    return found, time.process_time() - begin


def measure_each(paths: Sequence[Path], sample: int) -> None:
    """Prints the speed of every file by itself, from an empty cache."""
    source, plain = load_uroman(), uroman.Uroman()
    print("| | lines | characters per line | plain uroman, lines/s | lines/s | differing |\n|---|---|---|---|---|---|")
    for path in paths:
        lines = read([path])
        found, seconds = romanize(ExactUroman(Memory(source)).romanize, lines)
        expected, seconds_plain = romanize(plain.romanize_string, lines[::sample])
        differing = sum(a != b for a, b in zip(found[::sample], expected, strict=True))
        print(f"| {path.stem} | {len(lines):,} | {sum(map(len, lines)) / len(lines):.0f} ", end="")
        print(f"| {len(expected) / seconds_plain:,.0f} | {len(lines) / seconds:,.0f} ", end="")
        print(f"| {differing:,} of {len(expected):,} |", flush=True)


def measure_together(paths: Sequence[Path], sample: int) -> None:
    """Prints speed and memory for all files, read one after the other."""
    lines = read(paths)
    chosen = lines[::sample]
    print(f"{len(lines):,} lines of {len(paths)} files, {sum(map(len, lines)):,} characters, ", end="")
    print(f"{sum(map(str.isascii, lines)):,} of the lines ASCII; plain uroman on {len(chosen):,}\n")

    expected, seconds = romanize(uroman.Uroman().romanize_string, chosen)
    plain = len(chosen) / seconds
    cached, seconds_cached = romanize(uroman.Uroman(cache_size=65536).romanize_string, chosen)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = Memory(load_uroman())
    exact = ExactUroman(memory)
    first, seconds_first = romanize(exact.romanize, lines)
    second, seconds_second = romanize(exact.romanize, lines)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    def differing(found: Sequence[str | None]) -> int:
        return sum(a != b for a, b in zip(found, expected, strict=True))

    rows = [
        ("plain uroman", plain, 0),
        ("uroman, cache_size=65536", len(chosen) / seconds_cached, differing(cached)),
        ("first pass", len(lines) / seconds_first, differing(first[::sample])),
        ("second pass", len(lines) / seconds_second, differing(second[::sample])),
    ]
    print("| | lines/s | times plain | lines that differ from plain |\n|---|---|---|---|")
    for name, speed, number in rows:
        print(f"| {name} | {speed:,.0f} | {speed / plain:,.1f} | {number:,} of {len(chosen):,} |")
    print(f"\nThe two passes differ on {sum(a != b for a, b in zip(first, second, strict=True))} lines; ", end="")
    print(f"uroman fails on {expected.count(None)} lines. Memory: {grown:,.0f} MB more at the end ", end="")
    print(f"(tables included), {memory.held / 2**20:,.0f} MB of them counted.")


def main() -> None:
    """Prints the table of speeds and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="plain uroman on every N-th line")
    parser.add_argument("--each", action="store_true", help="every file by itself")
    args = parser.parse_args()
    if args.each:
        measure_each(args.files, args.sample)
    else:
        measure_together(args.files, args.sample)


if __name__ == "__main__":
    main()
