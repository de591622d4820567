"""What only a GPU can show; skipped elsewhere."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import make_config
from translit_scale.batch.segments import Segments
from translit_scale.model.attention import flash_attention, grouped_attention
from translit_scale.train.build import build_training, make_plan
from translit_scale.train.launch import start_rank

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


@pytest.mark.parametrize("precision", ["fp32", "bf16_autocast"])
def test_gradient_of_a_step_is_that_of_a_cpu(precision: str, tiny_world: Path, tmp_path: Path) -> None:
    """The whole step with accumulation and dropout replay; the weights of the engine, the arithmetic of the CPU."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 1}}))
    config = make_config(tiny_world, train__precision=precision)
    run = build_training(make_plan(config, ds_config, start_rank()))
    reference = copy.deepcopy(run.engine.module).float().cpu()
    result = run.step.accumulate(0, run.stream.step(0))
    batch = run.stream.step(0)
    counts = torch.tensor([m.masked for m in batch.micro]).sum(0)
    passed = [reference(micro, torch.tensor([1.0, 1.0, 1.3]) / counts) for micro in batch.micro]
    expected = float(sum(p.loss for p in passed).detach()) + 0.7 * result.losses["tcm"]
    tolerance = 1e-4 if precision == "fp32" else 1e-2
    assert result.losses["total"] == pytest.approx(expected, rel=tolerance)
    rows = torch.cat([p.rows for p in passed]).detach()
    assert torch.isfinite(rows).all()
