"""Runs `scripts/train.py` under its launchers and reads its output, for tests from the user's point of view."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.ranks import ROOT, free_port

SCRIPT = ROOT / "scripts" / "train.py"
TOOLS = Path(sys.executable).parent
ZERO2 = ROOT / "ds_configs" / "zero2.json"
STEPS = 4
SPOILT = "train.lr=1e30 train.max_skipped_steps=0"
SECONDS_TO_END = 120
"""Upper limit from start to end of a job that fails; its start takes most of it on a busy machine."""
SECONDS_TO_REAP = 2.0
"""An orphaned process that has ended still exists until the init process has reaped it."""


def launch(launcher: str, *words: object, **environment: str) -> subprocess.Popen[str]:
    """Starts the script: `python` (one rank), or `deepspeed` or `torchrun` with two CPU ranks."""
    port = str(free_port())
    command = {
        "python": [sys.executable],
        "deepspeed": [str(TOOLS / "deepspeed"), "--master_port", port, "--num_gpus", "2"],
        "torchrun": [str(TOOLS / "torchrun"), "--master-port", port, "--nproc-per-node", "2"],
    }[launcher]

    return subprocess.Popen(
        [*command, str(SCRIPT), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
    )  # fmt: skip


def finish(job: subprocess.Popen[str], expected: int = 0) -> str:
    """Waits for a job and returns its output. None of its processes may be left."""
    try:
        output, _ = job.communicate(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)
        pytest.fail(f"still running after {SECONDS_TO_END} s: {job.communicate()[0]}")
    assert job.returncode == expected, output
    deadline = time.monotonic() + SECONDS_TO_REAP
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(job.pid, 0)
            time.sleep(0.01)
    return output


def launch_until_step_3(launcher: str, experiment: Path) -> subprocess.Popen[str]:
    """A job without end that has taken some steps."""
    job = launch(launcher, "--config", experiment, "train.max_steps=100000", "run.checkpoint_every=100000")
    assert job.stdout
    line = ""
    while not line.startswith("step 3/"):
        line = job.stdout.readline()
        assert line, "ended before step 3"
    return job


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_clock(run: Path) -> list[dict[str, Any]]:
    """Records without speed and memory, which differ from one training to the next."""
    return [
        {name: v for name, v in record.items() if not name.startswith(("train_speed/", "train_memory/"))}
        for record in records(run)
    ]


def assert_said_once(output: str, message: str) -> None:
    assert len(re.findall(message, output)) == 1, output
    assert_no_traceback(output)


def assert_no_traceback(output: str) -> None:
    """No traceback of this project; torchrun always shows one of its own."""
    assert f'File "{SCRIPT}' not in output and f'File "{ROOT}/translit_scale' not in output, output
