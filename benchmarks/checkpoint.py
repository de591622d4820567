"""Measures how long training waits for a checkpoint, how long writing it takes, and how long loading it takes.

    python benchmarks/checkpoint.py --dir DIR [--hidden 768 --layers 12 --vocabulary 401145 --repeats 3]

One rank, ZeRO stage 0: a model from scratch and both Adam moments, as after a step. The time without the writer thread
is that until the checkpoint is published. Prints Markdown.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from report import heading

from translit_scale.config import ModelConfig, RunConfig
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.train.checkpointing.checkpoint import CheckpointInfo
from translit_scale.train.checkpointing.restoring import CheckpointState, load_checkpoint
from translit_scale.train.checkpointing.saving import CheckpointWriter
from translit_scale.train.checkpointing.state import load_weights
from translit_scale.train.launching.ranks import start_rank


def make_engine(hidden: int, layers: int, vocabulary: int) -> Any:
    """The parts of an engine that a checkpoint needs: the module, and AdamW with allocated moments."""
    settings = ModelConfig(
        tokenizer="none", hidden_size=hidden, num_layers=layers, num_heads=hidden // 64, intermediate_size=4 * hidden
    )
    module = PairEncoder(build_model(settings, vocabulary, 1, 0, 2), layers)
    optimizer = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        moments = {name: torch.rand_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(1.0), **moments}
    return SimpleNamespace(
        module=module, optimizer=optimizer, device=torch.device("cpu"), global_steps=1, skipped_steps=0,
        zero_optimization_stage=lambda: 0, fp16_enabled=lambda: False,
    )  # fmt: skip


class Pauses(threading.Thread):
    """Longest time in which another Python thread could not run, because the writer delayed it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest, self.running = 0.0, True

    def run(self) -> None:
        """Wakes up every millisecond."""
        last = time.monotonic()
        while self.running:
            time.sleep(0.001)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now


def measure_saving(engine: Any, checkpoints: CheckpointWriter, step: int) -> tuple[float, float, float]:
    """Seconds that training waits, seconds until the checkpoint is published, and the longest pause meanwhile."""
    began = time.monotonic()
    checkpoints.save(engine, CheckpointInfo(step, 1, 0, {}, "", "", {}))
    still = time.monotonic() - began
    pauses = Pauses()
    pauses.start()
    checkpoints.finish()
    published = time.monotonic() - began
    pauses.running = False
    pauses.join()
    return still, published, pauses.longest


def measure_loading(engine: Any, checkpoint: Path) -> tuple[float, float]:
    """Seconds to verify the sha256, and to load the state into module and optimizer."""
    began = time.monotonic()
    saved = CheckpointState(checkpoint)
    saved.verify()
    verified = time.monotonic()
    load_weights(engine.module, saved.read)
    load_checkpoint(engine, saved)
    return verified - began, time.monotonic() - verified


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, metavar="DIR", help="temporary folder for the checkpoints")
    for name, default in (("hidden", 768), ("layers", 12), ("vocabulary", 401145), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    rank = start_rank()
    engine = make_engine(args.hidden, args.layers, args.vocabulary)
    run = RunConfig(name="checkpoint", dir=args.dir, keep_checkpoints=1)
    with CheckpointWriter(run, rank) as checkpoints:
        first, *later = (measure_saving(engine, checkpoints, step) for step in range(1, args.repeats + 1))
    del checkpoints  # frees the copy of the state in memory
    still, published, pause = (sorted(column)[len(column) // 2] for column in zip(*later, strict=True))
    checkpoint = run.path / "checkpoints" / f"step_{args.repeats:06d}"
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    verified, loaded = measure_loading(engine, checkpoint)
    shutil.rmtree(run.path)
    parameters = sum(p.numel() for p in engine.module.parameters())
    print(heading("Checkpoints", ("torch", "safetensors")))
    print(
        f"h{args.hidden} L{args.layers} V{args.vocabulary:,}: {parameters:,} parameters, {size / 1e9:.2f} GB; ", end=""
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.1f} GB; the first checkpoint, and the median of {len(later)} more.\n")
    print("| seconds | first | later |\n|---|---|---|")
    print(f"| training waits | {first[0]:.2f} | {still:.2f} |")
    print(f"| training would wait without the writer thread | {first[1]:.2f} | {published:.2f} |")
    print(f"| longest pause of another thread while the files are written | {first[2]:.3f} | {pause:.3f} |")
    print(f"| verifying the sha256 of the files | {verified:.2f} | |")
    print(f"| loading the state | {loaded:.2f} | |")


if __name__ == "__main__":
    main()
