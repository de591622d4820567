"""A training of the tiny world, optionally with one rank killed (SIGKILL) at a chosen moment; see `run_ranks`.

usage: train_worker.py WORLD_DIR DS_JSON RESUME KILL [section__setting=value ...]
KILL: `never`, `step:RANK:T` (before step T's update) or `save:RANK:STEP` (in the middle of writing that checkpoint).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.tiny import make_config
from translit_scale.cli import run_guarded
from translit_scale.train.launch import Rank, leave_ranks, start_rank


def arm(kill: str, rank: Rank) -> None:
    """Installs the fault; nothing of the trainer knows about it."""
    if kill == "never":
        return
    moment, victim, when = kill.split(":")
    if rank.rank != int(victim):
        return
    if moment == "step":
        from translit_scale.train import loop

        take_step = loop.take_step

        def die_before(engine: Any) -> Any:
            if engine.global_steps == int(when):
                os.kill(os.getpid(), signal.SIGKILL)
            return take_step(engine)

        loop.take_step = die_before
    else:
        from translit_scale.train import saving

        save_file = saving.save_file

        def die_inside(tensors: Any, path: Path) -> None:
            if f"step_{int(when):06d}.tmp" in str(path):
                Path(path).write_bytes(b"half a file")
                os.kill(os.getpid(), signal.SIGKILL)
            save_file(tensors, path)

        saving.save_file = die_inside


def main() -> int:
    world, ds_config, resume, kill, *changes = sys.argv[1:]
    rank = start_rank()
    arm(kill, rank)
    from translit_scale.train.loop import train

    config = make_config(Path(world), **dict(change.split("=", 1) for change in changes))
    train(config, Path(ds_config), resume, rank)
    leave_ranks()
    return 0


if __name__ == "__main__":
    code = run_guarded(main)
    if code:
        os._exit(code)
