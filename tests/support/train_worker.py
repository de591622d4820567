"""A training of the tiny world, optionally killed (SIGKILL) at a chosen moment; see `run_ranks`.

usage: train_worker.py WORLD_DIR DS_JSON RESUME KILL [section__setting=value ...]

KILL is `never` or `MOMENT:RANK:WHEN`; RANK may be `all`. Moments:
    step:RANK:T        before the update of step T
    file:RANK:STEP     in the middle of the rank's file of checkpoint STEP
    record:RANK:STEP   when its file is there, but no record; of the first rank: when all records are
    rename:0:STEP      when the folder has its name, before `latest` names it
    measure:0:STEP     when that checkpoint is measured for early stopping
    after:RANK:SECONDS of training

or `full:RANK:STEP`: the disk is full in the middle of that file, and nothing is killed; or `memory:RANK:T`: as if this
were a GPU with 10 GB, whose memory is too small for more than three pairs at step T.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from tests.support.tiny import make_config
from translit_scale.cli import run_guarded
from translit_scale.evaluate.retrieval import model_selection
from translit_scale.train import loop, setup
from translit_scale.train.checkpointing import saving
from translit_scale.train.checkpointing.checkpoint import checkpoint_name
from translit_scale.train.launching.ranks import Rank, leave_ranks, start_rank
from translit_scale.train.step import TrainStep


def arm(kill: str, rank: Rank) -> None:
    """Installs the fault from outside; the trainer has no code for it."""
    if kill == "never":
        return
    moment, victim, when = kill.split(":")
    if moment == "memory":
        small_gpu()
    if victim not in ("all", str(rank.rank)):
        return

    def die() -> None:
        if moment == "full":
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        if moment == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if victim == "all":
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "after":
        timer = threading.Timer(float(when), die)
        timer.daemon = True
        run_steps = loop.run_steps
        loop.run_steps = lambda *arguments: (timer.start(), run_steps(*arguments))[1]
    elif moment == "step":
        before(loop, "take_step", lambda engine, *_: engine.global_steps == int(when), die)
    elif moment == "memory":
        too_large = lambda step, t, batch, *_: t == int(when) and max(m.pairs for m in batch.micro) > 3  # noqa: E731
        before(TrainStep, "accumulate", too_large, die)
    elif moment == "measure":
        before(model_selection, "trained_encoder", lambda run, path: path.name == checkpoint_name(int(when)), die)
    elif moment in ("file", "full"):
        before(saving, "save_file", lambda tensors, path: path.parent == temporary(path, when), die, b"half a file")
    elif moment == "record":
        name = "sha256_file" if rank.rank else "read_json"
        before(saving, name, lambda path, *_: path.parent == temporary(path, when), die)
    else:
        before(saving, "write_bytes", lambda path, data: data.decode().strip() == checkpoint_name(int(when)), die)


def small_gpu() -> None:
    """Makes the trainer choose the micro-batch of a CPU rank by memory, as on a GPU."""
    resolve, gather = setup.resolve_hardware, setup.gather_machines
    setup.resolve_hardware = lambda *arguments: replace(resolve(*arguments), micro_batch_is_open=True)
    setup.gather_machines = lambda *arguments: [replace(m, free_memory=10**10) for m in gather(*arguments)]


def temporary(file: Path, step: str) -> Path:
    """Folder in which a checkpoint is written."""
    return file.parent.with_name(f"{checkpoint_name(int(step))}.tmp")


def before(module: Any, name: str, applies: Callable[..., bool], die: Callable[[], None], half: bytes = b"") -> None:
    """Dies before a call of a function for which `applies` is true; first writes `half` as its file, if given."""
    function = getattr(module, name)

    def call(*arguments: Any) -> Any:
        if applies(*arguments):
            if half:
                Path(arguments[1]).write_bytes(half)
            die()
        return function(*arguments)

    setattr(module, name, call)


def main() -> int:
    world, ds_config, resume, kill, *changes = sys.argv[1:]
    rank = start_rank()
    arm(kill, rank)
    config = make_config(Path(world), **dict(change.split("=", 1) for change in changes))
    loop.train(config, Path(ds_config), resume, rank, model_selection.make_scorer)
    leave_ranks()
    return 0


if __name__ == "__main__":
    code = run_guarded(main)
    if code:
        os._exit(code)
