"""16 bits on CPU: gradients close to fp32's, resumed runs bit for bit, fp16's loss scaling."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from deepspeed.accelerator import get_accelerator

from tests.support.gradient_worker import Case, Gradients, gradients_of, on_ranks, save
from tests.support.one_graph import relative_difference
from tests.support.ranks import Ranks
from tests.support.tiny import make_config
from translit_scale.model.norms import LayerNorm
from translit_scale.objectives.masked_lm import masked_lm_losses
from translit_scale.train import loop
from translit_scale.train.checkpointing.restoring import CheckpointState
from translit_scale.train.checkpointing.state import adam_updates, gathered
from translit_scale.train.engine import Update, take_step
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.setup import Training, build_training, make_plan
from translit_scale.train.skipped_steps import SkippedSteps

STEP = 3
Build = Callable[..., Training]


@pytest.fixture
def build(tiny_world: Path, tmp_path: Path) -> Build:
    """A training of the tiny world in this process, three micro-batches a step."""

    def make(
        stage: int, precision: str = "auto", saved: Path | None = None, given: dict[str, Any] | None = None, **more: Any
    ) -> Training:
        path = tmp_path / "ds.json"
        path.write_text(
            json.dumps({"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": stage}} | (given or {}))
        )
        plan = make_plan(make_config(tiny_world, train__precision=precision, **more), path, start_rank())
        return build_training(plan, CheckpointState(saved) if saved else None)

    return make


@pytest.fixture
def fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 in earnest, although this is a CPU."""
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
    monkeypatch.setattr("translit_scale.train.engine.resolve_precision", lambda *_: ("fp16", []))


def weights_and_moments(training: Training) -> dict[tuple[str, str], torch.Tensor]:
    return {(kind, name): tensor.clone() for kind, name, tensor in gathered(training.engine)}


def parameters_of(training: Training) -> list[torch.Tensor]:
    return [getattr(p, "ds_tensor", p).detach().clone() for p in training.engine.module.parameters()]


def assert_same(one: Training, other: Training) -> None:
    a, b = weights_and_moments(one), weights_and_moments(other)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert all(map(torch.equal, parameters_of(one), parameters_of(other)))


def train(training: Training, steps: range) -> list[Update]:
    updates = []
    for t in steps:
        training.step.accumulate(t, training.stream.step(t))
        updates.append(take_step(training.engine, training.config.train.max_grad_norm))
    return updates


def gradient(training: Training) -> Gradients:
    training.step.accumulate(STEP, training.stream.step(STEP))
    scale = getattr(training.engine.optimizer, "loss_scale", 1.0)
    return {name: g / scale for name, g in gradients_of(training.engine).items()}


@pytest.mark.parametrize(
    ("precision", "low", "high", "stages"),
    [("bf16_autocast", 2e-4, 5e-3, (0, 1, 2, 3)), ("bf16", 5e-3, 5e-2, (1, 2, 3))],  # found: 0.0021, 0.031
)
def test_gradient_is_close_to_that_of_fp32(
    precision: str, low: float, high: float, stages: tuple[int, ...], build: Build
) -> None:
    expected = gradient(build(1, "fp32"))
    for stage in stages:
        training = build(stage, precision)
        held = torch.bfloat16 if precision == "bf16" else torch.float32
        assert {p.dtype for p in training.engine.module.parameters()} == {held}
        assert low < relative_difference(gradient(training), expected) < high, stage


def test_gradient_with_low_precision_layernorm_is_close_to_that_of_fp32(build: Build) -> None:
    """Results of LayerNorm are bf16 under autocast, and without it nothing changes."""
    exact = gradient(build(1, "fp32"))
    training = build(1, "bf16_autocast", train__low_precision_layernorm=True)
    assert 5e-3 < relative_difference(gradient(training), exact) < 2e-2  # found: 0.011
    norms = [module for module in training.engine.module.modules() if isinstance(module, LayerNorm)]
    assert len(norms) == 2 * training.engine.module.lm.config.num_hidden_layers + 2
    x = torch.randn(3, *norms[0].normalized_shape)
    assert torch.equal(norms[0](x), F.layer_norm(x, x.shape[1:], norms[0].weight, norms[0].bias, norms[0].eps))
    with torch.autocast("cpu", torch.bfloat16):
        assert norms[0](x).dtype == torch.bfloat16
    same = build(1, "fp32", train__low_precision_layernorm=True)
    assert relative_difference(gradient(same), exact) == 0


@pytest.mark.slow
def test_gradient_of_two_ranks_is_close_to_that_of_fp32(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    def case(stage: int, precision: str) -> Case:
        return Case(stage, 2, (("train__precision", precision),))

    limits = {"bf16_autocast": 5e-3, "bf16": 5e-2}
    cases = {case(stage, precision): limit for precision, limit in limits.items() for stage in (1, 2, 3)}
    exact = case(1, "fp32")
    found = on_ranks(run_ranks, 2, [exact, *cases], tiny_world, tmp_path, STEP)
    for one, limit in cases.items():
        error = relative_difference(found[one].gradients, found[exact].gradients)
        assert limit / 50 < error < limit, (one, error)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradient_of_fp16_is_close_to_that_of_fp32(
    stage: int, build: Build, fp16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = build(stage, given={"fp16": {"enabled": True, "initial_scale_power": 12}})
    assert found.engine.fp16_enabled()
    gradients = gradient(found)
    monkeypatch.undo()
    assert 3e-4 < relative_difference(gradients, gradient(build(1, "fp32"))) < 1e-2  # found: 0.0029


def test_head_in_fp16_keeps_gradients_that_are_tiny_before_loss_scaling() -> None:
    """Weights of 1e-7, as with ten million masked tokens a step: in fp16 nothing of the gradient would be left."""
    torch.manual_seed(0)
    tensors = [torch.randn(6, 8), torch.randn(11, 8), torch.randn(11)]
    labels, weight = torch.randint(11, (6,)), torch.full((6,), 1e-7)
    results = []
    for dtype in (torch.float32, torch.float16):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in tensors]
        loss, _ = masked_lm_losses(*leaves, labels, weight)
        (loss * 65536).backward()
        results.append({str(number): leaf.grad.float() for number, leaf in enumerate(leaves)})
    assert relative_difference(results[1], results[0]) < 5e-3


def test_temperature_is_not_rounded_with_the_model(build: Build) -> None:
    """log 1/0.07 = 2.6593; in bf16 it would be 2.6562. A learned change of it trains at every stage."""
    for stage, learned in [(2, False), (1, True), (2, True), (3, True)]:
        cosine = {"objectives__tcm__similarity": "cosine", "objectives__tcm__temperature": 0.07}
        run = build(stage, "bf16", objectives__tcm__learn_temperature=learned, **cosine)
        part = run.stream.step(0).micro[0]
        assert run.engine(part).parameters.logit_scale.item() == pytest.approx(-math.log(0.07), rel=1e-6)
        train(run, range(1))
        moved = abs(run.engine(part).parameters.logit_scale.item() + math.log(0.07))
        assert moved == pytest.approx(
            1e-3 if learned else 0, rel=0.01, abs=1e-6
        )  # Adam's first update is the learning rate


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_resumed_bf16_equals_uninterrupted(stage: int, build: Build, tmp_path: Path) -> None:
    changes = {"model__dropout": 0.1, "objectives__tcm__learn_temperature": True}
    whole = build(stage, "bf16", **changes)
    train(whole, range(2))
    checkpoint = save(whole, tmp_path, 2)
    norms = [float(update.grad_norm) for update in train(whole, range(2, 4))]
    resumed = build(stage, "bf16", saved=checkpoint, **changes)
    assert [float(update.grad_norm) for update in train(resumed, range(2, 4))] == norms
    assert_same(resumed, whole)
    masters = [tensor for (kind, _), tensor in weights_and_moments(resumed).items() if kind == "weights"]
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in masters)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_fp16_that_raises_its_loss_scale_trains_alike(stage: int, build: Build, fp16: None) -> None:
    """DeepSpeed by itself divides the gradient by the raised scale; clipping would hide most of it."""
    runs = []
    for window in (1000, 1):
        given = {"fp16": {"enabled": True, "initial_scale_power": 10, "loss_scale_window": window}}
        run = build(stage, given=given, train__max_grad_norm=1000)
        norms = [float(update.grad_norm) for update in train(run, range(3))]
        runs.append((norms, run.engine.optimizer.loss_scale, weights_and_moments(run)))
    (norms, scale, tensors), (raised_norms, raised_scale, raised) = runs
    assert (scale, raised_scale) == (2**10, 2**12)
    assert raised_norms == pytest.approx(norms, rel=1e-2)
    firsts = [{name: tensor for (kind, name), tensor in of.items() if kind == "exp_avg"} for of in (raised, tensors)]
    assert relative_difference(*firsts) < 1e-2


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_fp16_finds_its_loss_scale(stage: int, build: Build, fp16: None, tmp_path: Path) -> None:
    """From 2^17 down: overflows are skipped and counted and halve the scale; the rest trains; all of it is resumed."""
    given = {"fp16": {"enabled": True, "initial_scale_power": 17, "hysteresis": 1, "loss_scale_window": 3}}
    run = build(stage, given=given)
    skipped, t = SkippedSteps(0, overflow_is_normal=True, run=None), 0
    while True:
        assert run.engine.optimizer.loss_scale == 2.0 ** (17 - t)
        weights = parameters_of(run)
        result = run.step.accumulate(t, run.stream.step(t))
        update = take_step(run.engine, run.config.train.max_grad_norm)
        skipped.count(t, result, update, run.stream)
        assert result.is_finite
        if update.applied:
            break
        assert all(map(torch.equal, parameters_of(run), weights))
        t += 1
    assert t >= 2 and skipped.total == run.engine.skipped_steps == t and adam_updates(run.engine) == 1
    assert not all(map(torch.equal, parameters_of(run), weights))
    assert 0 < update.grad_norm < 100

    resumed = build(stage, given=given, saved=save(run, tmp_path, t + 1))
    assert resumed.engine.optimizer.loss_scale == 2.0 ** (17 - t) and resumed.engine.skipped_steps == t
    more = range(t + 1, t + 6)
    applied = [update.applied for update in train(run, more)]
    assert [update.applied for update in train(resumed, more)] == applied
    assert resumed.engine.optimizer.loss_scale == run.engine.optimizer.loss_scale > 2.0 ** (17 - t)  # it grows again
    assert_same(resumed, run)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_checkpoint_before_the_first_update_resumes(stage: int, build: Build, fp16: None, tmp_path: Path) -> None:
    """A run asked to stop while fp16 still looks for its loss scale: AdamW has no moments yet."""
    given = {"fp16": {"enabled": True, "initial_scale_power": 17, "hysteresis": 1}}
    whole, cut = build(stage, given=given), build(stage, given=given)
    assert not any(update.applied for run in (whole, cut) for update in train(run, range(1)))
    resumed = build(stage, given=given, saved=save(cut, tmp_path, 1))
    applied = [update.applied for update in train(whole, range(1, 8))]
    assert any(applied) and [update.applied for update in train(resumed, range(1, 8))] == applied
    assert_same(resumed, whole)


def test_loss_scale_and_skipped_steps_are_on_record(tiny_world: Path, tmp_path: Path, fp16: None) -> None:
    ds_config = tmp_path / "ds.json"
    scaling = {"initial_scale_power": 16, "hysteresis": 1}
    ds_config.write_text(
        json.dumps({"train_micro_batch_size_per_gpu": 12, "zero_optimization": {"stage": 2}, "fp16": scaling})
    )
    config = make_config(tiny_world, run__dir=tmp_path, run__log_every=1)
    loop.train(config, ds_config, "none", start_rank())
    found = [json.loads(line) for line in (config.run.path / "metrics.jsonl").read_text().splitlines()]
    skipped, scale = ([r[f"train_optimizer/{name}"] for r in found] for name in ("skipped_steps", "loss_scale"))
    overflows = int(skipped[-1])
    assert 1 <= overflows < len(found)
    assert skipped == [min(t, overflows) for t in range(1, len(found) + 1)]
    assert scale == [2.0 ** (16 - n) for n in skipped]
