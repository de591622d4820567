"""Gradients of effective batches at this world size, for several ZeRO stages and micro-batch sizes; see `run_ranks`.

usage: gradient_worker.py WORLD_DIR OUT.pt STAGE,STAGE,… STEP MICRO,MICRO,… [section__setting=value ...]
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path

import torch

from tests.tiny import make_config
from translit_scale.train.launch import leave_ranks, start_rank


def main() -> None:
    world, out, stages, t, micros, *changes = sys.argv[1:]
    rank = start_rank()
    from deepspeed.utils import safe_get_full_grad

    from translit_scale.train.build import build_training, make_plan

    config = make_config(Path(world), **dict(change.split("=", 1) for change in changes))
    results = {}
    for stage, micro in product(stages.split(","), micros.split(",")):
        ds_config = Path(f"{out}.{rank.rank}.{stage}.{micro}.json")
        ds_config.write_text(
            json.dumps({"train_micro_batch_size_per_gpu": int(micro), "zero_optimization": {"stage": int(stage)}})
        )
        training = build_training(make_plan(config, ds_config, rank))
        result = training.step.accumulate(int(t), training.stream.step(int(t)))
        gradients = {
            name.removeprefix("lm."): safe_get_full_grad(p).clone()
            for name, p in training.engine.module.named_parameters()
        }
        micro_batches = training.hardware.deal.micro_batches
        results[int(stage), micro_batches] = (gradients, result.losses, result.contrastive)
    if rank.is_first:
        torch.save(results, out)
    leave_ranks()


if __name__ == "__main__":
    main()
