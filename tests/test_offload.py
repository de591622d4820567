"""Parameters and optimizer in host memory: the same training, and its checkpoints; nothing of it is compiled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.gradient_worker import Gradients, gradients_of, save
from tests.support.one_graph import relative_difference
from tests.support.tiny import make_config
from translit_scale.train.checkpointing.restoring import CheckpointState
from translit_scale.train.checkpointing.state import gathered
from translit_scale.train.engine import take_step
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.setup import Training, build_training, make_plan

SHIPPED = Path(__file__).resolve().parents[1] / "ds_configs"


def build(name: str, world: Path, folder: Path, saved: Path | None = None) -> Training:
    """A training with a shipped JSON, but three micro-batches a step."""
    path = folder / "ds.json"
    path.write_text(json.dumps(json.loads((SHIPPED / name).read_text()) | {"train_micro_batch_size_per_gpu": 4}))
    plan = make_plan(make_config(world, model__dropout=0.1), path, start_rank())
    return build_training(plan, CheckpointState(saved) if saved else None)


def step(training: Training, t: int) -> Gradients:
    training.step.accumulate(t, training.stream.step(t))
    gradients = gradients_of(training.engine)
    assert take_step(training.engine, training.config.train.max_grad_norm).applied
    return gradients


def state(training: Training) -> dict[str, torch.Tensor]:
    return {f"{kind}/{name}": tensor.clone() for kind, name, tensor in gathered(training.engine)}


@pytest.mark.parametrize("name", ["zero2_offload.json", "zero3_offload.json"])
def test_offload_changes_nothing(name: str, tiny_world: Path, tmp_path: Path) -> None:
    """Gradient, weights and moments of two steps, and two more after a checkpoint."""
    plain, offloaded = build("zero2.json", tiny_world, tmp_path), build(name, tiny_world, tmp_path)
    assert offloaded.engine.zero_use_cpu_optimizer() and not plain.engine.zero_use_cpu_optimizer()
    assert (offloaded.engine.zero_offload_param() is not None) == name.startswith("zero3")
    for t in range(2):
        assert relative_difference(step(offloaded, t), step(plain, t)) < 1e-5
    assert relative_difference(state(offloaded), state(plain)) < 1e-6
    resumed = build(name, tiny_world, tmp_path, save(offloaded, tmp_path, 2))
    for t in range(2, 4):
        for training in (offloaded, resumed):
            step(training, t)
    found, expected = state(resumed), state(offloaded)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
