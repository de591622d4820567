"""A SLURM job that starts again and again at the same step is ended; starts.jsonl records all starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from translit_scale.errors import DataError
from translit_scale.train.launching.starts import MAX_STARTS, STARTS, record_start


def start(run: Path, step: int, job: str = "77") -> None:
    record_start(run, step, {"world_size": 16}, {"SLURM_JOB_ID": job})


def test_a_job_without_progress_ends(tmp_path: Path) -> None:
    for _ in range(MAX_STARTS):
        start(tmp_path, 340)
    with pytest.raises(DataError, match=f"job 77 has started {MAX_STARTS} times at step 340") as caught:
        start(tmp_path, 340)
    assert str(tmp_path / STARTS) in caught.value.hint
    start(tmp_path, 340, job="78")  # submitted again
    lines = [json.loads(line) for line in (tmp_path / STARTS).read_text().splitlines()]
    assert [line["job"] for line in lines] == ["77"] * MAX_STARTS + ["78"]
    assert lines[0] | {"time": ""} == {"time": "", "step": 340, "job": "77", "world_size": 16}


def test_any_progress_counts(tmp_path: Path) -> None:
    for step in range(0, 400, 100):
        for _ in range(MAX_STARTS):
            start(tmp_path, step)


def test_outside_of_slurm_nothing_is_limited(tmp_path: Path) -> None:
    for _ in range(2 * MAX_STARTS):
        start(tmp_path, 5, job="")


def test_a_torn_line_is_no_error(tmp_path: Path) -> None:
    start(tmp_path, 5)
    with (tmp_path / STARTS).open("a") as file:
        file.write('{"time": "2026-')
    for _ in range(MAX_STARTS - 1):
        start(tmp_path, 5)
