"""A killed run that goes on equals one that was never interrupted, bit for bit (CPU, same number of ranks)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

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


@pytest.mark.parametrize(("stage", "kill"), [(2, "step:1:5"), (1, "save:1:4"), (3, "step:0:3")])
def test_kill_and_resume_equals_uninterrupted(
    stage: int, kill: str, tiny_world: Path, tmp_path: Path, torchrun: Any
) -> None:
    """Dropout on, accumulation on, two ranks; killed at a step, and in the middle of writing a checkpoint."""
    changes = [
        f"run__dir={tmp_path}", "model__dropout=0.1", f"train__max_steps={STEPS}",
        "run__checkpoint_every=2", "run__log_every=1",
    ]  # fmt: skip
    worker = ("tests/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", stage, 3))
    torchrun(2, *worker, "auto", "never", *changes, "run__name=whole")
    killed = torchrun(2, *worker, "auto", kill, *changes, "run__name=broken", check=False)
    assert killed.returncode != 0
    left = complete_checkpoints(tmp_path / "broken/checkpoints")
    assert left and left[-1].name < f"step_{STEPS:06d}"
    assert (tmp_path / "broken/checkpoints/latest").read_text().strip() == left[-1].name
    torchrun(2, *worker, "auto", "never", *changes, "run__name=broken")

    final = f"checkpoints/step_{STEPS:06d}"
    whole, resumed = (consolidated_weights(tmp_path / name / final) for name in ("whole", "broken"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert records(tmp_path / "broken") == records(tmp_path / "whole")
    assert [record["step"] for record in records(tmp_path / "whole")] == list(range(1, STEPS + 1))
