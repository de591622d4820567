"""The GPU benchmark runs where there is no GPU, on a tiny model, so that it will run where there is one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ranks import ROOT


@pytest.mark.slow
def test_benchmark_prints_a_line_for_each_case(tiny_world: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--hidden", "64", "--layers", "2", "--vocabulary", "300"]
    command += ["--micro", "2", "4", "--batches", "8", "--dropout", "0", "0.1", "--steps", "1"]
    command += ["--shards", str(tiny_world / "shards"), "--tokenizer", str(tiny_world / "tokenizer")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [(line[0], line[1]) for line in lines] == [("| 2", "1"), ("| 4", "1"), ("| 8", "2")] * 2
    assert all(float(line[3].replace(",", "")) > 0 for line in lines)


@pytest.mark.slow
def test_a_step_is_predicted_from_its_operations() -> None:
    """Compiling and low-precision layer normalisation each remove kernels and time, and change no matrix product."""
    command = [sys.executable, "benchmarks/trace.py", "--pairs", "64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines() if "(" in line]
    cells = {row[0]: row[1:] for row in rows}
    products, totals = cells["matrix products"], [re.findall(r"[\d.]+", cell) for cell in cells["together"]]
    eager, compiled, low, both = ((float(ms), int(kernels)) for ms, kernels in totals)
    assert len(set(products)) == 1 and float(products[0].split()[0]) > 10
    assert eager > low > both and eager > compiled > both
