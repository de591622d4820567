"""Gradients of effective batches at this world size, one for each case; see `run_ranks`.

usage: gradient_worker.py WORLD_DIR OUT.pt STEP CASES.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.support.mutations import MUTATIONS
from tests.support.ranks import Ranks
from tests.support.tiny import make_config
from tests.support.traffic import Traffic
from translit_scale.train.checkpointing.checkpoint import checkpoint_name
from translit_scale.train.checkpointing.saving import CheckpointWriter
from translit_scale.train.engine import take_step
from translit_scale.train.launching.ranks import Rank, leave_ranks, start_rank
from translit_scale.train.setup import Training, build_training, make_plan

Gradients = dict[str, torch.Tensor]


class Case(NamedTuple):
    """A gradient to compute; hashable, so that results can be looked up by it."""

    stage: int
    micro: int
    changes: tuple[tuple[str, Any], ...] = ()
    """Settings other than in tests/support/tiny.py, dots as `__`."""
    mutation: str | None = None
    """Name of a defect in tests/support/mutations.py that is put into the code."""


class Found(NamedTuple):
    """Results of a case."""

    gradients: Gradients
    losses: dict[str, float]
    reduced: list[int]
    """Bytes of each reduction over ranks, sums and scattered sums, before the optimizer's step."""


def run_case(case: Case, world: Path, folder: Path, t: int, rank: Rank) -> Found:
    """Gradient of step t, with the optimizer's step taken. Every rank must call it."""
    ds_config = folder / f"ds.{rank.rank}.json"
    zero = {"stage": case.stage, "use_multi_rank_bucket_allreduce": False}  # as the shipped JSONs
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": case.micro, "zero_optimization": zero}))
    plan = make_plan(make_config(world, **dict(case.changes)), ds_config, rank)
    mutated: AbstractContextManager[None] = MUTATIONS[case.mutation](plan) if case.mutation else nullcontext()
    with mutated:
        training = build_training(plan)
        batch = training.stream.step(t)
        with Traffic() as traffic:
            result = training.step.accumulate(t, batch)
        reduced = [call.payload for call in traffic.calls if "reduce" in call.kind]
        found = Found(gradients_of(training.engine), result.losses, reduced)
        take_step(training.engine, training.config.train.max_grad_norm)
    return found


def gradients_of(engine: Any) -> Gradients:
    """Whole gradients in the engine after their reduction, by the parameter names of the Hugging Face model."""
    from deepspeed.utils import safe_get_full_grad

    return {name.removeprefix("lm."): safe_get_full_grad(p).clone() for name, p in engine.module.named_parameters()}


def weights_of(training: Training) -> list[torch.Tensor]:
    """Whole weights in fp32, in the order of the module."""
    from deepspeed.utils import safe_get_full_fp32_param

    parameters = training.engine.module.parameters()
    if not training.hardware.zero_stage:
        return [p.detach().clone() for p in parameters]
    return [safe_get_full_fp32_param(p).clone() for p in parameters]


def save(training: Training, folder: Path, step: int) -> Path:
    """Writes a checkpoint; returns its folder."""
    run = training.config.run.model_copy(update={"dir": folder})
    with CheckpointWriter(run, training.rank) as checkpoints:
        checkpoints.save(training.engine, training.info(step))
        checkpoints.finish()
    return run.path / "checkpoints" / checkpoint_name(step)


def on_ranks(
    run_ranks: Ranks, ranks: int, cases: Sequence[Case], world: Path, folder: Path, t: int
) -> dict[Case, Found | str]:
    """Results of all cases from one launch; of a case that raised, the error."""
    (folder / "cases.json").write_text(json.dumps(cases))
    out = folder / "gradients.pt"
    run_ranks(ranks, "tests/support/gradient_worker.py", world, out, t, folder / "cases.json")
    found: list[Any] = torch.load(out)
    return {case: one if isinstance(one, str) else Found(*one) for case, one in zip(cases, found, strict=True)}


def main() -> None:
    world, out, t, cases = sys.argv[1:]
    rank = start_rank()
    results: list[Any] = []
    for stage, micro, changes, mutation in json.loads(Path(cases).read_text()):
        case = Case(stage, micro, tuple(map(tuple, changes)), mutation)
        try:
            results.append(tuple(run_case(case, Path(world), Path(out).parent, int(t), rank)))
        except Exception as error:
            if case.mutation is None:
                raise
            results.append(f"{type(error).__name__}: {error}")
    if rank.is_first:
        torch.save(results, out)
    leave_ranks()


if __name__ == "__main__":
    main()
