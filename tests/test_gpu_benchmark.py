"""The GPU benchmark runs where there is no GPU, on a tiny model, so that it will run where there is one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.profiled import covered
from tests.support.ranks import ROOT


@pytest.mark.slow
def test_benchmark_prints_a_line_for_each_case(tiny_world: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--hidden", "64", "--layers", "2", "--vocabulary", "300"]
    command += ["--micro", "2", "4", "--batches", "8", "--dropout", "0", "0.1", "--steps", "1"]
    command += ["--shards", str(tiny_world / "shards"), "--tokenizer", str(tiny_world / "tokenizer")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [
        cells for line in done.stdout.splitlines() if len(cells := line.split(" | ")) == 12 and "pairs/s" not in cells
    ]
    assert [(line[0], line[1]) for line in lines] == [("| 2", "1"), ("| 4", "1"), ("| 8", "2")] * 2
    assert all(float(line[3].replace(",", "")) > 0 for line in lines)
    assert done.stdout.count("4 pairs in one micro-batch, profiled:\n\n| operation") == 2
    assert re.search(r"^\| aten::addmm +\| +[\d.]+ \| +\d+ \|$", done.stdout, re.M)


def test_covered_time_counts_overlapping_kernels_once() -> None:
    assert covered([(5, 7), (0, 2), (1, 3), (6, 6.5)]) == 5
    assert covered([]) == 0


@pytest.mark.slow
def test_a_step_is_predicted_from_its_operations() -> None:
    """Each column removes kernels and time and changes no matrix product; the page shows what the code does today."""
    command = [sys.executable, "benchmarks/trace.py", "--pairs", "256"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines() if "(" in line]
    cells = {row[0]: row[1:] for row in rows}
    products, totals = cells["matrix products"], [re.findall(r"[\d.]+", cell) for cell in cells["together"]]
    assert len(set(products)) == 1 and float(products[0].split()[0]) > 10
    milliseconds, kernels = ([float(x) for x in column] for column in zip(*totals, strict=True))
    assert milliseconds == sorted(set(milliseconds), reverse=True) and kernels == sorted(set(kernels), reverse=True)
    assert milliseconds[-1] <= 120 and kernels[-1] <= 1400
    (together,) = (line for line in done.stdout.splitlines() if line.startswith("| together"))
    assert together in (ROOT / "benchmarks/gpu.md").read_text()
