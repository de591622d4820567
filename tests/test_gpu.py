"""What only a GPU can show; skipped elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.gradient_worker import gradients_of, save
from tests.support.one_graph import relative_difference, whole_batch
from tests.support.tiny import make_config
from translit_scale.batch.segments import Segments
from translit_scale.files import read_json
from translit_scale.model.attention import flash_attention, grouped_attention
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.train.checkpointing.restoring import CheckpointState
from translit_scale.train.checkpointing.state import WEIGHTS, gathered
from translit_scale.train.engine import parameter_groups, take_step
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.micro_batch import LIMIT, OutOfMemoryError, halve_when_memory_ends
from translit_scale.train.setup import Training, build_training, make_plan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SHIPPED = Path(__file__).resolve().parents[1] / "ds_configs"
LENGTHS = np.array([3, 90, 1, 33, 34, 128])


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    shape = int(LENGTHS.sum()), 4, 64
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("window", [None, 4, 64])
def test_flash_kernel_equals_grouped_attention(window: int | None) -> None:
    segments, qkv = Segments.from_lengths(LENGTHS).to(torch.device("cuda")), inputs()
    found = flash_attention(*qkv, segments, 0.125, 0.0, window)
    expected = grouped_attention(*(x.float() for x in qkv), segments, 0.125, 0.0, window)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    weights = torch.randn_like(expected)
    gradients = (torch.autograd.grad((x.float() * weights).sum(), qkv) for x in (found, expected))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=5e-2, atol=5e-2)


def test_dropout_of_the_kernel_is_repeated_under_the_same_seed() -> None:
    segments, qkv = Segments.from_lengths(LENGTHS).to(torch.device("cuda")), inputs()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.set_grad_enabled(bool(outputs)):
            outputs.append(flash_attention(*qkv, segments, 0.125, dropout=0.1))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def build(
    world: Path, folder: Path, stage: int = 1, shipped: str = "", saved: Path | None = None, **changes: Any
) -> Training:
    """A training on the GPU that accumulates over three micro-batches.

    Args:
        shipped: name of a shipped JSON, whose settings are used instead of a stage alone; saved: a checkpoint.
    """
    zero = {"zero_optimization": {"stage": stage}}
    given = json.loads((SHIPPED / f"{shipped}.json").read_text()) if shipped else zero
    ds_config = folder / "ds.json"
    ds_config.write_text(json.dumps(given | {"train_micro_batch_size_per_gpu": 4}))
    plan = make_plan(make_config(world, **changes), ds_config, start_rank())
    return build_training(plan, CheckpointState(saved) if saved else None)


def train(training: Training, steps: range) -> None:
    for t in steps:
        training.step.accumulate(t, training.stream.step(t))
        assert take_step(training.engine, training.config.train.max_grad_norm).applied


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.float().cpu().clone() for kind, name, tensor in gathered(training.engine) if kind == WEIGHTS}


def encoder_on_cpu(training: Training) -> PairEncoder:
    """The encoder that a training begins with: the same seed gives the same weights."""
    torch.manual_seed(training.config.train.seed)
    tokenizer = training.tokenizer
    special = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    model = build_model(training.config.model, len(tokenizer), *special)
    return PairEncoder(model, training.engine.module.pool_layer)


@pytest.mark.parametrize(
    ("stage", "precision", "bound"),
    [*((stage, "fp32", 1e-4) for stage in range(4)), (1, "bf16_autocast", 3e-2), (3, "bf16_autocast", 3e-2)],
)
def test_gradient_of_a_step_is_that_of_one_graph_on_a_cpu(
    stage: int, precision: str, bound: float, tiny_world: Path, tmp_path: Path
) -> None:
    """The gradient of three micro-batches, as the engine holds it, and the loss."""
    training = build(tiny_world, tmp_path, stage, train__precision=precision)
    expected, loss = whole_batch(training, ranks=1, t=0, encoder=encoder_on_cpu(training))
    result = training.step.accumulate(0, training.stream.step(0))
    found = {name: gradient.cpu() for name, gradient in gradients_of(training.engine).items()}
    assert relative_difference(found, expected) < bound
    assert result.losses["total"] == pytest.approx(loss, rel=bound)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("bf16_autocast", 3e-2)])
def test_dropout_of_accumulated_micro_batches_is_replayed(
    precision: str, bound: float, tiny_world: Path, tmp_path: Path
) -> None:
    """With dropout the gradient of cached rows is that of one graph on the same GPU under the same seeds."""
    training = build(tiny_world, tmp_path, train__precision=precision, model__dropout=0.1)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision != "fp32"):
        expected, _ = whole_batch(training, ranks=1, t=0)
    training.step.accumulate(0, training.stream.step(0))
    assert relative_difference(gradients_of(training.engine), expected) < bound


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_an_update_is_that_of_a_cpu(stage: int, tiny_world: Path, tmp_path: Path) -> None:
    """Fused AdamW with clipping, against AdamW in a loop on a CPU with the gradient of one graph."""
    training = build(tiny_world, tmp_path, stage)
    before, reference, settings = weights_of(training), encoder_on_cpu(training), training.config.train
    gradients, _ = whole_batch(training, ranks=1, t=0, encoder=reference)
    for name, parameter in reference.named_parameters():
        parameter.grad = gradients[name.removeprefix("lm.")]
    torch.nn.utils.clip_grad_norm_(reference.parameters(), settings.max_grad_norm)
    groups = parameter_groups(reference, settings.weight_decay)
    torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, foreach=False).step()
    train(training, range(1))
    moved = {name: weight - before[name] for name, weight in weights_of(training).items()}
    expected = {name: parameter.detach() - before[name] for name, parameter in reference.named_parameters()}
    assert relative_difference(moved, expected) < 1e-2  # Adam's first step is ± lr, also where a gradient is all but 0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_training_goes_on_from_its_checkpoint(stage: int, tiny_world: Path, tmp_path: Path) -> None:
    training = build(tiny_world, tmp_path, stage, model__dropout=0.1)
    train(training, range(2))
    resumed = build(tiny_world, tmp_path, stage, saved=save(training, tmp_path, 2), model__dropout=0.1)
    assert weights_of(resumed).keys() == weights_of(training).keys()
    for one in (training, resumed):
        train(one, range(2, 4))
    assert relative_difference(weights_of(resumed), weights_of(training)) < 1e-5


@pytest.mark.parametrize("name", ["zero2_offload", "zero3_offload"])
def test_offloaded_states_are_updated_alike(name: str, tiny_world: Path, tmp_path: Path) -> None:
    plain, offloaded = build(tiny_world, tmp_path, 2), build(tiny_world, tmp_path, shipped=name)
    for training in (plain, offloaded):
        train(training, range(3))
    assert relative_difference(weights_of(offloaded), weights_of(plain)) < 1e-4


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("bf16_autocast", 3e-2)])
def test_compiled_layers_have_the_same_gradient(precision: str, bound: float, tiny_world: Path, tmp_path: Path) -> None:
    """Also with dropout: the step compares the embeddings of both passes, compiled with and without gradients."""
    plain, compiled = (
        build(tiny_world, tmp_path, train__precision=precision, train__compile=compile) for compile in (False, True)
    )
    for training in (plain, compiled):
        training.step.accumulate(0, training.stream.step(0))
    assert relative_difference(gradients_of(compiled.engine), gradients_of(plain.engine)) < bound
    dropping = build(tiny_world, tmp_path, train__precision=precision, train__compile=True, model__dropout=0.1)
    train(dropping, range(2))


def test_low_precision_layernorm(tiny_world: Path, tmp_path: Path) -> None:
    exact = build(tiny_world, tmp_path, train__precision="fp32")
    rounded = build(tiny_world, tmp_path, train__precision="bf16_autocast", train__low_precision_layernorm=True)
    for training in (exact, rounded):
        training.step.accumulate(0, training.stream.step(0))
    assert 1e-4 < relative_difference(gradients_of(rounded.engine), gradients_of(exact.engine)) < 5e-2


def test_fp16_finds_its_loss_scale(tiny_world: Path, tmp_path: Path) -> None:
    exact = build(tiny_world, tmp_path, train__precision="fp32")
    half = build(tiny_world, tmp_path, train__precision="fp16")
    for t in range(30):
        half.step.accumulate(t, half.stream.step(t))
        if take_step(half.engine, half.config.train.max_grad_norm).applied:
            break
    else:
        pytest.fail("no update in 30 steps")
    fresh = build(tiny_world, tmp_path, train__precision="fp16")
    fresh.engine.optimizer.loss_scaler.cur_scale = half.engine.optimizer.loss_scaler.cur_scale
    for training in (exact, fresh):
        training.step.accumulate(0, training.stream.step(0))
    scale = fresh.engine.optimizer.loss_scale
    found = {name: gradient / scale for name, gradient in gradients_of(fresh.engine).items()}
    assert relative_difference(found, gradients_of(exact.engine)) < 2e-2


def test_the_micro_batch_is_chosen_by_memory_and_halved_when_that_ends(tiny_world: Path, tmp_path: Path) -> None:
    ds_config = tmp_path / "auto.json"
    ds_config.write_text((SHIPPED / "zero1.json").read_text())
    training = build_training(make_plan(make_config(tiny_world), ds_config, start_rank()))
    layout = training.hardware.layout
    assert layout.micro_batches == 1 and "all that a rank has: " in training.hardware.notes[-1]
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(OutOfMemoryError), halve_when_memory_ends(training.hardware, tmp_path):
            torch.empty(1 << 28, device="cuda")
            training.step.accumulate(0, training.stream.step(0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert read_json(tmp_path / LIMIT, "limit")["at_most"] == layout.micro_batch_pairs // 2
