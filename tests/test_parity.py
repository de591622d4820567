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

from tests.support.gradient_worker import Case, Gradients, on_ranks, run_case
from tests.support.one_graph import gradient_of, info_nce, micro_batches_of_all, relative_difference
from tests.support.ranks import Ranks
from tests.support.tiny import make_config
from translit_scale.batch.layout import BatchLayout
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.setup import Training, build_training, make_plan

STEP = 3
TCM, TLM = 0.7, 1.3
"""Weights in tests/support/tiny.py."""


def build(world: Path, folder: Path, **changes: Any) -> Training:
    """A training in this process, for its weights and its stream."""
    ds_config = folder / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 12, "zero_optimization": {"stage": 1}}))
    return build_training(make_plan(make_config(world, **changes), ds_config, start_rank()))


def by_formula(training: Training, parity: str, ranks: int, micro: int) -> Gradients:
    """Gradient that the papers' code would give, all ranks' micro-batches in one graph."""
    encoder = training.engine.module
    batches = micro_batches_of_all(training.stream, BatchLayout(12, ranks, micro), STEP, equal_split=True)
    steps = len(batches[0])
    total = torch.zeros(())
    for k in range(steps):
        rows = []
        for of_rank in batches:
            part = of_rank[k]
            means = torch.tensor([1.0, 1.0, TLM]) / torch.tensor(part.masked).clamp(min=1)
            passed = encoder(part, means)
            total = total + passed.loss / (steps * ranks)
            rows.append(passed.embeddings.split(part.pairs))
        if parity == "ppa":
            loss = info_nce(torch.cat([orig for orig, _ in rows]), torch.cat([latn for _, latn in rows]))
        else:
            loss = torch.stack([info_nce(*own) for own in rows]).sum()
        total = total + TCM * 0.5 * loss / (steps * ranks)
    return gradient_of(total, encoder)


def with_scope_of_micro_batches(training: Training, ranks: int, micro: int) -> Gradients:
    """Gradient whose negatives are those of all ranks' micro-batches of the same number, all in one graph."""
    encoder = training.engine.module
    batches = micro_batches_of_all(training.stream, BatchLayout(12, ranks, micro), STEP, equal_split=True)
    masked = torch.tensor([part.masked for of_rank in batches for part in of_rank]).sum(0)
    weights = torch.tensor([1.0, 1.0, TLM]) / masked
    total = torch.zeros(())
    for number in range(len(batches[0])):
        outputs = [encoder(of_rank[number], weights) for of_rank in batches]
        sides = [out.embeddings.split(of_rank[number].pairs) for out, of_rank in zip(outputs, batches, strict=True)]
        loss = info_nce(torch.cat([orig for orig, _ in sides]), torch.cat([latn for _, latn in sides]))
        total = total + sum(out.loss for out in outputs) + TCM * loss / len(batches[0])
    return gradient_of(total, encoder)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_scope_of_micro_batches(ranks: int, tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    scope = (("objectives__tcm__scope", "micro_batch"),)
    case = Case(2, 3, scope)
    found = on_ranks(run_ranks, ranks, [case], tiny_world, tmp_path, STEP)[case]
    expected = with_scope_of_micro_batches(build(tiny_world, tmp_path, **dict(scope)), ranks, 3)
    assert relative_difference(found.gradients, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_gradient_equals_the_formulae(ranks: int, tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    cases = [Case(2, micro, (("objectives__parity", code),)) for code in ("ppa", "translico") for micro in (3, 2)]
    if ranks == 1:
        found = {case: run_case(case, tiny_world, tmp_path, STEP, start_rank()) for case in cases}
    else:
        found = on_ranks(run_ranks, ranks, cases, tiny_world, tmp_path, STEP)
    for case in cases:
        changes = dict(case.changes)
        expected = by_formula(build(tiny_world, tmp_path, **changes), changes["objectives__parity"], ranks, case.micro)
        assert relative_difference(found[case].gradients, expected) < 1e-5, case


def test_the_papers_code_halves_the_gradient_and_divides_it_by_the_ranks(tiny_world: Path, tmp_path: Path) -> None:
    """With one micro-batch and one rank, only the factor is left: 0.5 of the exact contrastive gradient."""
    only = {"objectives__tlm__weight": 0, "objectives__masking__mlm_probability": 1e-9}
    exact, theirs = (build(tiny_world, tmp_path, **only, **more) for more in ({}, {"objectives__parity": "ppa"}))
    norms = []
    for training in (exact, theirs):
        training.step.accumulate(STEP, training.stream.step(STEP))
        from deepspeed.utils import safe_get_full_grad

        word = training.engine.module.lm.base_model.embeddings.word_embeddings.weight
        norms.append(safe_get_full_grad(word).norm().item())
    assert norms[1] / norms[0] == pytest.approx(0.5, rel=1e-5)
