"""What only a GPU can show; skipped elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.gradient_worker import gradients_of
from tests.support.one_graph import relative_difference, whole_batch
from tests.support.tiny import make_config
from translit_scale.batch.segments import Segments
from translit_scale.model.attention import flash_attention, grouped_attention
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.loop import Training, build_training, make_plan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LENGTHS = np.array([3, 90, 1, 33, 34, 128])


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    shape = int(LENGTHS.sum()), 4, 64
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]


def test_flash_kernel_equals_grouped_attention() -> None:
    segments, qkv = Segments.from_lengths(LENGTHS).to(torch.device("cuda")), inputs()
    found = flash_attention(*qkv, segments, 0.125, dropout=0.0)
    expected = grouped_attention(*(x.float() for x in qkv), segments, 0.125, dropout=0.0)
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


def build(world: Path, folder: Path, stage: int = 1, **changes: Any) -> Training:
    """A training on the GPU that accumulates over three micro-batches."""
    ds_config = folder / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": stage}}))
    return build_training(make_plan(make_config(world, **changes), ds_config, start_rank()))


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
