"""Losses of ten steps of the tiny world with all objectives, which must only change on purpose.

    python -m tests.support.golden_losses

writes golden_losses.jsonl again; the commit must say why the numbers have changed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.support.tiny import make_config, make_world

GOLDEN = Path(__file__).with_suffix(".jsonl")
STEPS = 10
KEPT = ("step", "train/loss", "train_optimizer/grad_norm", "train/lr")


def golden_records(folder: Path, **changes: Any) -> list[dict[str, float]]:
    """Losses, gradient norm and learning rate of each step: one rank, three micro-batches, fp32, no dropout.

    Args:
        folder: empty; gets a world and a run.
        changes: settings as in `make_config`.
    """
    from translit_scale.train.launching.ranks import start_rank
    from translit_scale.train.loop import train

    rank, world = start_rank(), make_world(folder)
    ds_config = folder / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 2}}))
    fixed = {
        "train__max_steps": STEPS,
        "train__warmup_steps": 2,
        "train__lr": 1e-2,
        "run__log_every": 1,
        "data__workers": 0,
    }
    config = make_config(world, **fixed | changes)
    train(config, ds_config, "none", rank)
    lines = (config.run.path / "metrics.jsonl").read_text().splitlines()
    return [
        {name: float(f"{value:.7g}") for name, value in json.loads(line).items() if name.startswith(KEPT)}
        for line in lines
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        found = golden_records(Path(empty))
    GOLDEN.write_text("".join(json.dumps(record) + "\n" for record in found))
