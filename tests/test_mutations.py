"""The proofs of the step prove something: with a defect in the code, the gradient is far off or the step is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.gradient_worker import Case, on_ranks
from tests.support.one_graph import relative_difference, whole_batch
from tests.support.ranks import Ranks
from tests.support.tiny import make_config
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.setup import build_training, make_plan

pytestmark = pytest.mark.slow
RANKS, MICRO, STEP = 2, 4, 3
DROPOUT = (("train__batch_pairs", 16), ("model__dropout", 0.2))
OFF = {
    "other_dropout": (0.3, 0.7),  # 0.50
    "mean_over_ranks": (0.499, 0.501),  # 1 - 1/W
    "detached_columns": (0.6, 1.2),  # 0.89
    "own_columns_only": (1.1, 2.1),  # 1.57
    "mean_of_means": (0.02, 0.08),  # 0.042
}
"""Between what the relative error of the gradient must lie; beside it what was found. Without a defect it is 4e-7."""
REFUSED = {
    "other_dropout_guarded": "NumericError: step 3: embeddings of the second pass differ from those of the first",
    "engine_accumulates": "AssertionError: DeepSpeed took no optimizer step",
}


def test_defects_are_found(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    cases = {name: Case(2, MICRO, DROPOUT, name) for name in (*OFF, *REFUSED)} | {"none": Case(2, MICRO, DROPOUT)}
    found = on_ranks(run_ranks, RANKS, list(cases.values()), tiny_world, tmp_path, STEP)
    (tmp_path / "ds.json").write_text(json.dumps({"train_micro_batch_size_per_gpu": MICRO * RANKS}))
    training = build_training(make_plan(make_config(tiny_world, **dict(DROPOUT)), tmp_path / "ds.json", start_rank()))
    expected, _ = whole_batch(training, RANKS, STEP)
    error = {
        name: one if isinstance(one := found[case], str) else relative_difference(one.gradients, expected)
        for name, case in cases.items()
    }
    assert error["none"] < 1e-5
    for name, (low, high) in OFF.items():
        assert low < error[name] < high, error
    for name, message in REFUSED.items():
        assert str(error[name]).startswith(message), error
