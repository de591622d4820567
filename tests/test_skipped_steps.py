"""Steps that are not finite: skipped on every ZeRO stage, counted, described, and too many of them stop the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed.utils import safe_get_full_grad, safe_set_full_grad

from tests.support.gradient_worker import weights_of
from tests.support.tiny import make_config
from translit_scale.batch.token_counts import TokenCounts
from translit_scale.errors import NumericError
from translit_scale.train.engine import Update, take_step
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.setup import Training, build_training, make_plan
from translit_scale.train.skipped_steps import SkippedSteps
from translit_scale.train.step import StepResult

FINE = StepResult({"total": 1.0}, np.zeros((2, 2)), TokenCounts(100, 900, 15, 140, 900, 140), 110, 1.0, 12, 12, 0)
BAD = replace(FINE, losses={"total": float("nan")})
MADE, LEFT = Update(True, 0.1, 1.0), Update(False, 0.1, float("inf"))


@pytest.fixture
def training(tiny_world: Path, tmp_path: Path) -> Callable[[int], Training]:
    def build(stage: int) -> Training:
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": stage}}))
        return build_training(make_plan(make_config(tiny_world), ds_config, start_rank()))

    return build


def spoil(training: Training, value: float) -> None:
    """Puts a value into the reduced gradient."""
    parameter = next(p for name, p in training.engine.module.named_parameters() if "position_embeddings" in name)
    if training.hardware.zero_stage:
        safe_set_full_grad(parameter, torch.full_like(safe_get_full_grad(parameter), value))
    else:
        parameter.grad.fill_(value)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_update_that_is_not_finite_is_skipped_and_training_goes_on(
    stage: int, value: float, training: Callable[[int], Training]
) -> None:
    run = training(stage)
    weights = weights_of(run)
    applied = []
    for t in range(3):
        run.step.accumulate(t, run.stream.step(t))
        if t == 1:
            before = weights_of(run)
            spoil(run, value)
        applied.append(take_step(run.engine, run.config.train.max_grad_norm).applied)
        if t == 1:
            assert all(map(torch.equal, weights_of(run), before))
    assert applied == [True, False, True]
    after = weights_of(run)
    assert all(torch.isfinite(p).all() for p in after)
    assert not all(map(torch.equal, after, weights))


def test_few_are_forgiven_and_counted(tmp_path: Path) -> None:
    skipped = SkippedSteps(2, overflow_is_normal=False, run=tmp_path)
    stream: Any = None
    for result, update in ((BAD, LEFT), (BAD, LEFT), (FINE, MADE), (FINE, LEFT), (FINE, LEFT)):
        skipped.count(0, result, update, stream)
    assert (skipped.total, skipped.in_a_row) == (4, 2)
    assert not list(tmp_path.iterdir())


def test_too_many_in_a_row_stop_with_a_description(tmp_path: Path, training: Callable[[int], Training]) -> None:
    skipped, stream = SkippedSteps(1, overflow_is_normal=False, run=tmp_path), training(1).stream
    skipped.count(6, BAD, LEFT, stream)
    with pytest.raises(
        NumericError, match=r"step 7: the loss is not finite \(total nan\), 2 times in a row; the batch is"
    ):
        skipped.count(7, BAD, LEFT, stream)
    found = json.loads((tmp_path / "nonfinite_step_000007.json").read_bytes())
    assert found["losses"] == {"total": "nan"} and found["grad_norm"] == "inf"
    assert sum(map(len, found["rows"].values())) == 12
    assert all(" block " in block for block in found["blocks"])


def test_an_update_made_from_a_loss_that_is_not_finite_stops_at_once() -> None:
    stream: Any = None
    with pytest.raises(NumericError, match="step 3: the loss is not finite"):
        SkippedSteps(9, overflow_is_normal=True, run=None).count(3, BAD, MADE, stream)


def test_overflow_of_fp16_is_no_reason_to_stop() -> None:
    skipped, stream = SkippedSteps(0, overflow_is_normal=True, run=None), None
    for t in range(20):
        skipped.count(t, FINE, LEFT, stream)  # type: ignore[arg-type]
    assert skipped.total == 20
