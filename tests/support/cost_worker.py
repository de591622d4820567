"""Run by torchrun: bytes that engines hold and send in a step of the tiny world, to be compared with the cost model.

usage: cost_worker.py WORLD_DIR OUT.json
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.support.tiny import make_config
from tests.support.traffic import Traffic
from translit_scale.train.launching.ranks import Rank, leave_ranks, start_rank

BUCKET = 100_000
"""Elements of a bucket for reduction."""


NOT_KEPT = ("stage3_max_live_parameters", "stage3_max_reuse_distance", "stage3_prefetch_bucket_size")
"""Settings that are 0 where ZeRO-3 gathers parameters for each pass anew."""


class Case(NamedTuple):
    """An engine."""

    stage: int
    micro_batches: int
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    kept: bool = True
    """Whether ZeRO-3 keeps what it has gathered from forward to backward."""


CASES = [
    *(Case(stage, micro_batches=3) for stage in (0, 1, 2, 3)),
    Case(2, micro_batches=1),
    *(Case(stage, 1, "bf16_autocast") for stage in (1, 3)),
    Case(2, 2, "bf16"),
    Case(3, 3, gradient_checkpointing=True, kept=False),
]


def storages() -> dict[int, int]:
    """Bytes of all floating-point storages that Python can reach, by address."""
    gc.collect()
    tensors = [t for t in gc.get_objects() if type(t) in (torch.Tensor, torch.nn.Parameter)]  # not torch.compile's
    tensors += [t.grad for t in tensors if t.is_leaf and t.grad is not None]
    return {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in tensors
        if t.is_floating_point() and t.layout == torch.strided
    }


def held_since(before: dict[int, int]) -> int:
    """Bytes of the storages that were not there before."""
    return sum(size for address, size in storages().items() if address not in before)


def measure(case: Case, world: Path, rank: Rank) -> dict[str, Any]:
    """Builds the engine, takes a step, and counts in the second one."""
    from translit_scale.train.engine import take_step
    from translit_scale.train.setup import build_training, make_plan

    before = storages()
    zero: dict[str, Any] = {"stage": case.stage, "reduce_bucket_size": BUCKET}
    if case.stage == 3:
        zero |= {"stage3_param_persistence_threshold": 0}
        zero |= {} if case.kept else dict.fromkeys(NOT_KEPT, 0)
    ds_config = world / f"cost.{rank.rank}.json"
    micro = 12 // rank.world_size // case.micro_batches
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": micro, "zero_optimization": zero}))
    settings = {"train__precision": case.precision, "train__gradient_checkpointing": case.gradient_checkpointing}
    config = make_config(world, **settings)
    training = build_training(make_plan(config, ds_config, rank))
    for t in range(2):
        batch = training.stream.step(t)
        with Traffic() as passes:
            training.step.accumulate(t, batch)
        del batch
        accumulated = held_since(before)
        with Traffic() as update:
            take_step(training.engine, training.config.train.max_grad_norm)
    result = {
        "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in training.engine.module.parameters()),
        "before_update": accumulated,
        "between_steps": held_since(before),
        "calls": [(call.kind, call.payload, str(call.dtype)) for call in passes.calls + update.calls],
        "sent": passes.sent(rank.world_size) + update.sent(rank.world_size),
    }
    training.engine.destroy()
    return result


def main() -> None:
    rank = start_rank()
    results = [(case, measure(case, Path(sys.argv[1]), rank)) for case in CASES]
    if rank.is_first:
        Path(sys.argv[2]).write_text(json.dumps(results))
    leave_ranks()


if __name__ == "__main__":
    main()
