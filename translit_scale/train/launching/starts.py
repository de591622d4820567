"""starts.jsonl of a run: every start of its training, and the end of a SLURM job that starts again and again in vain.

A batch script queues its job again when a rank was lost. Without a limit, a job whose ranks are always killed at the
same step (too little memory, a broken node) would do so for ever.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from translit_scale.errors import DataError

STARTS = "starts.jsonl"
MAX_STARTS = 5
"""How often a SLURM job may start at the same step."""


def record_start(run: Path, step: int, facts: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Adds a line to RUN/starts.jsonl: when and at which step training starts. The first rank calls it.

    Args:
        facts: what else may differ from one start to the next, such as the hosts.

    Raises:
        DataError: this SLURM job has started `MAX_STARTS` times in a row at this step.
    """
    path, job = run / STARTS, environment.get("SLURM_JOB_ID", "")
    before = list(takewhile(lambda start: start.get("job") == job and start.get("step") == step, _latest_first(path)))
    if job and len(before) >= MAX_STARTS:
        raise DataError(
            f"SLURM job {job} has started {len(before)} times at step {step} and has got no further; it is not "
            "started again",
            f"look in its log for how the ranks ended, and at {path} for when; then submit the same command again",
        )
    start = {"time": time.strftime("%Y-%m-%d %H:%M:%S %z"), "step": step, "job": job, **facts}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")


def _latest_first(path: Path) -> list[dict[str, Any]]:
    starts = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError):  # a line that was being written when the host lost power
            starts.append(json.loads(line))
    return starts[::-1]
