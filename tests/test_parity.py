"""The settings that reproduce the papers' code, against its formulae, on 1, 2 and 4 ranks with accumulation.

Paper B's code (`ppa`): negatives are the pairs of one micro-batch of all ranks; half the mean loss; every rank puts
only its own rows into the graph of the whole loss, and the average over ranks leaves a W-th of the gradient; token
losses are means of micro-batches of ranks. Its predecessor (`translico`): every rank contrasts its own micro-batch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.ranks import Ranks
from tests.test_step import STEP, Gradients, relative_difference
from tests.tiny import make_config
from translit_scale.batch.deal import Deal
from translit_scale.batch.pack import MicroBatch
from translit_scale.batch.stream import BatchStream
from translit_scale.train.build import Training, build_training, make_plan
from translit_scale.train.launch import start_rank

TCM, TLM = 0.7, 1.3
"""Weights in tests/tiny.py."""


def build(world: Path, folder: Path, **changes: Any) -> Training:
    """A training in this process, for its weights and its stream."""
    ds_config = folder / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 12, "zero_optimization": {"stage": 1}}))
    return build_training(make_plan(make_config(world, **changes), ds_config, start_rank()))


def micro_batches_of_all(stream: BatchStream, ranks: int, micro: int) -> list[list[MicroBatch]]:
    """[W][K], as the ranks of another world would make them."""
    found = []
    for rank in range(ranks):
        one = BatchStream(
            stream.order, stream.reader, stream.encoder, stream.packer, Deal(12, ranks, micro), rank,
            stream.token_rates, stream.second, in_order=True,
        )  # fmt: skip
        found.append(one.step(STEP).micro)
    return found


def info_nce(orig: torch.Tensor, latn: torch.Tensor) -> torch.Tensor:
    """Mean over 2n rows; row i of orig and latn are each other's positives."""
    z = torch.cat([orig, latn])
    logits = (z @ z.T).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))


def by_formula(training: Training, parity: str, ranks: int, micro: int) -> Gradients:
    """Gradient that the papers' code would give, all ranks' micro-batches in one graph."""
    encoder, batches = training.engine.module, micro_batches_of_all(training.stream, ranks, micro)
    steps = len(batches[0])
    total = torch.zeros(())
    for k in range(steps):
        rows = []
        for of_rank in batches:
            part = of_rank[k]
            means = torch.tensor([1.0, 1.0, TLM]) / torch.tensor(part.masked).clamp(min=1)
            passed = encoder(part, means)
            total = total + passed.loss / (steps * ranks)
            rows.append(passed.rows.split(part.pairs))
        if parity == "ppa":
            loss = info_nce(torch.cat([orig for orig, _ in rows]), torch.cat([latn for _, latn in rows]))
        else:
            loss = torch.stack([info_nce(*own) for own in rows]).sum()
        total = total + TCM * 0.5 * loss / (steps * ranks)
    parameters = {name.removeprefix("lm."): p for name, p in encoder.named_parameters()}
    return dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("parity", ["ppa", "translico"])
def test_gradient_equals_the_formulae(
    parity: str, ranks: int, tiny_world: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    out = tmp_path / "gradients.pt"
    run_ranks(ranks, "tests/gradient_worker.py", tiny_world, out, 2, STEP, "3,2", f"objectives__parity={parity}")
    training = build(tiny_world, tmp_path, objectives__parity=parity)
    found = torch.load(out)
    assert set(found) == {(2, Deal(12, ranks, micro).micro_batches) for micro in (3, 2)}
    for micro in (3, 2):
        gradients, _, _ = found[2, Deal(12, ranks, micro).micro_batches]
        assert relative_difference(gradients, by_formula(training, parity, ranks, micro)) < 1e-5


def test_the_papers_code_halves_the_gradient_and_divides_it_by_the_ranks(tiny_world: Path, tmp_path: Path) -> None:
    """With one micro-batch and one rank, only the factor is left: 0.5 of the exact contrastive gradient."""
    only = {"objectives__tlm_weight": 0, "objectives__masking__probability": 1e-9}
    exact, theirs = (build(tiny_world, tmp_path, **only, **more) for more in ({}, {"objectives__parity": "ppa"}))
    norms = []
    for training in (exact, theirs):
        training.step.accumulate(STEP, training.stream.step(STEP))
        from deepspeed.utils import safe_get_full_grad

        word = training.engine.module.lm.base_model.embeddings.word_embeddings.weight
        norms.append(safe_get_full_grad(word).norm().item())
    assert norms[1] / norms[0] == pytest.approx(0.5, rel=1e-5)
