"""Lines that show progress: in a file few of them, on a terminal never wider than it, and with a believable end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.ranks import ROOT
from tests.test_metrics import RESULT, SHAPE, UPDATE
from translit_scale.batch.sizes import BatchSizes
from translit_scale.progress import LONGEST_INTERVAL, Progress, fit
from translit_scale.train.meter import MeterContext
from translit_scale.train.metrics import MetricLogger

BAR = """
import time
from translit_scale.progress import Progress
with Progress("romanizing sentences", 100_000, "sentences") as progress:
    for _ in range(5):
        time.sleep(0.15)
        progress.advance(20_000)
"""


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("translit_scale.progress.time.monotonic", lambda: self.now)


def test_time_left_does_not_count_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 s until the first of 500 pieces of 0.1 s each is done: the whole takes a minute, not an hour and a half."""
    clock = Clock(monkeypatch)
    with Progress("select", 500, "files") as progress:
        clock.now = 12
        progress.advance(1)
        for _ in range(499):
            clock.now += 0.1
            progress.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "select: 1/500 files (5.0/min)"
    left = [re.search(r"(\d+)s left", line) for line in lines[1:-1]]
    assert [int(found[1]) for found in left if found] == [35, 12]
    assert lines[-1] == "select: 500/500 files (8/s)"


def test_a_file_gets_few_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    with Progress("romanize", 86_400, "sentences") as progress:
        for clock.now in range(86_400):  # a day
            progress.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert 86_400 / LONGEST_INTERVAL < len(lines) < 86_400 / LONGEST_INTERVAL + 15


def test_fit_gives_space_to_the_lowest_ranks_first() -> None:
    parts = [(0, "step 1/9"), (1, "loss 2.5"), (3, "lr 1e-3"), (2, "eta 5s")]
    assert fit(parts, 80) == "step 1/9 loss 2.5 lr 1e-3 eta 5s"
    assert fit(parts, 31) == "step 1/9 loss 2.5 eta 5s"
    assert fit(parts, 17) == "step 1/9 loss 2.5"
    assert fit(parts, 3) == ""
    long = [(0, "step 1/9"), (1, "x" * 40), (2, "eta 5s")]
    assert fit(long, 39) == "step 1/9 eta 5s"  # a long part does not push out what fits beside it


@pytest.mark.parametrize("width", [40, 80, 120])
def test_training_line_fits_the_terminal(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    losses = {"total": 21.125, "mlm_orig": 7.25, "mlm_latn": 7.5, "tcm": 3.25, "tlm": 3.125}
    metrics = {"train_tcm/top1": 0.125}
    context = MeterContext(
        ("ukr_Cyrl", "bul_Cyrl", "hin_Deva"), SHAPE, 2, peak_flops=1e12, unpadded=False, sizes=BatchSizes(10)
    )
    with MetricLogger(tmp_path, context, start=0, total_steps=10_000, every=1) as logger:
        for step in range(1, 4):
            logger.step(step, replace(RESULT, losses=losses, metrics=metrics), UPDATE, waited=0.0)
    first, *later = capsys.readouterr().out.split("\r\x1b[2K")[1:]
    assert all(len(line.rstrip("\n")) < width for line in (first, *later))
    assert "eta" not in first and all("eta" in line and "step" in line and "loss 21.125" in line for line in later)
    assert ("mlm_latn 7.500" in later[0]) == (width == 120)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_bar_fits_the_terminal(width: int) -> None:
    """On a real terminal of this width; a longer line would leave torn rows."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    subprocess.run([sys.executable, "-c", BAR], cwd=ROOT, stderr=secondary, check=True, env=variables)
    os.close(secondary)
    shown = b""
    while chunk := _read(primary):
        shown += chunk
    os.close(primary)
    rows = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode()))
    assert max(map(len, rows)) <= width
    assert any("100%" in row for row in rows)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""
