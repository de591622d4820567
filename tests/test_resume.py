"""A killed run that goes on equals one never interrupted: bit for bit on as many ranks, else up to rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks import Ranks
from translit_scale.train.checkpoint import complete_checkpoints, consolidated_weights

pytestmark = pytest.mark.slow
STEPS = 6


def ds_json(path: Path, stage: int, micro: int) -> Path:
    path.write_text(json.dumps({"train_micro_batch_size_per_gpu": micro, "zero_optimization": {"stage": stage}}))
    return path


def records(run: Path) -> list[dict[str, Any]]:
    """Metric records without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k.startswith("train/") or k == "step"} for line in lines]


@pytest.mark.parametrize(("stage", "kill"), [(2, "step:1:5"), (1, "save:1:4"), (3, "step:0:3"), (0, "save:0:4")])
def test_kill_and_resume_equals_uninterrupted(
    stage: int, kill: str, tiny_world: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    """Dropout on, accumulation on, two ranks; killed at a step, and in the middle of writing a checkpoint."""
    changes = [
        f"run__dir={tmp_path}", "model__dropout=0.1", f"train__max_steps={STEPS}",
        "run__checkpoint_every=2", "run__log_every=1",
    ]  # fmt: skip
    worker = ("tests/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", stage, 3))
    run_ranks(2, *worker, "auto", "never", *changes, "run__name=whole")
    killed = run_ranks(2, *worker, "auto", kill, *changes, "run__name=broken", check=False)
    assert killed.returncode != 0
    left = complete_checkpoints(tmp_path / "broken/checkpoints")
    assert left and left[-1].name < f"step_{STEPS:06d}"
    assert (tmp_path / "broken/checkpoints/latest").read_text().strip() == left[-1].name
    run_ranks(2, *worker, "auto", "never", *changes, "run__name=broken")

    final = f"checkpoints/step_{STEPS:06d}"
    whole, resumed = (consolidated_weights(tmp_path / name / final) for name in ("whole", "broken"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert records(tmp_path / "broken") == records(tmp_path / "whole")
    assert [record["step"] for record in records(tmp_path / "whole")] == list(range(1, STEPS + 1))


def test_ranks_and_zero_stage_may_change_on_the_way(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """2 ranks at stage 2, then 1 at stage 3, then 4 at stage 1: the curve and the weights of 2 undisturbed ranks."""
    changes = [
        f"run__dir={tmp_path}", f"train__max_steps={STEPS}", "run__checkpoint_every=2", "run__log_every=1",
    ]  # fmt: skip
    worker = "tests/train_worker.py", tiny_world
    files = {stage: ds_json(tmp_path / f"ds{stage}.json", stage, 3) for stage in (1, 2, 3)}
    run_ranks(2, *worker, files[2], "auto", "never", *changes, "run__name=whole")
    for ranks, stage, kill in ((2, 2, "step:0:2"), (1, 3, "step:0:4"), (4, 1, "never")):
        run_ranks(ranks, *worker, files[stage], "auto", kill, *changes, "run__name=moved", check=kill == "never")
    whole, moved = records(tmp_path / "whole"), records(tmp_path / "moved")
    assert len(whole) == len(moved) == STEPS
    for a, b in zip(whole, moved, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    final = f"checkpoints/step_{STEPS:06d}"
    weights, others = (consolidated_weights(tmp_path / name / final) for name in ("whole", "moved"))
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-6)
