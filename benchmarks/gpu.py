"""Compares speed and memory of the training step on one GPU with the planner, and profiles it; of Glot500-base's shape.

    python benchmarks/gpu.py [--shards DIR --tokenizer DIR] [--micro 64 256] [--batches 4096] [--compile]

Runs `TrainStep` on its DeepSpeed engine: bf16 autocast, all four losses, random weights and tokens. Lengths are drawn
from shards, or from the distribution in benchmarks/synthetic.py. It measures each micro-batch size with a step of one
micro-batch, then each effective batch with the last micro-batch size, and profiles a step of the last size. Prints
Markdown, with the predictions of `translit-scale plan`. benchmarks/gpu.sh measures all that gpu.md asks for.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from profiled import profile_step
from report import heading
from synthetic import MAX_LENGTH, Lengths, log_normal_lengths, make_batch, make_config, make_step

from translit_scale.batch.order import PairOrder
from translit_scale.batch.reader import PairReader
from translit_scale.batch.stream import RankBatch
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.deepspeed_json import MICRO
from translit_scale.model.devices import DEVICES, device_of, peak_flops
from translit_scale.model.flops import Shape, contrastive_flops, training_flops
from translit_scale.plan.machine import cpu_machine, gpu_machine, measure_cpu
from translit_scale.plan.step import step_memory, step_seconds
from translit_scale.plan.workload import PairTokens, Workload
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.preflight import check_tokenizer

SAMPLE = 20_000
"""Number of pairs of the shards from which lengths are drawn."""
WARM_UP = 2
"""Steps of one micro-batch before the timed ones."""


class Measured(NamedTuple):
    """Time and memory of a step."""

    seconds: float
    """Wall time, mean of all timed steps."""
    memory: int
    """Peak bytes: allocated on the GPU, or resident on CPU."""


def shard_lengths(shards: Path, tokenizer: Path) -> Lengths:
    """Draws lengths from the pairs of a shard set."""
    opened, loaded = ShardSet.open(shards), load_tokenizer(str(tokenizer))
    order = PairOrder({language: opened.rows(language) for language in opened.languages})
    check = check_tokenizer(opened, loaded, order.languages, "transliteration", max_unknown_fraction=1.0)
    encoder = TextEncoder(loaded, check.use_sentencepiece)
    texts = PairReader(opened, order.languages).texts(order.batch(0, min(SAMPLE, order.total)))
    found = np.minimum(np.stack([encoder(side).lengths for side in texts]), MAX_LENGTH - 2)
    return lambda rng, pairs: found[:, rng.integers(0, found.shape[1], pairs)]


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def matmul_rate(device: torch.device) -> float:
    """FLOP/s of a large bf16 matrix product, as the reachable rate of this device."""
    n, repeats = (8192, 50) if device.type == "cuda" else (512, 2)
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize(device)
    began = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize(device)
    return 2 * n**3 * repeats / (time.perf_counter() - began)


def measure(step: Any, batch: RankBatch, steps: int, rank: Rank, warm_up: int = WARM_UP) -> Measured:
    """Runs complete steps, from the batch in host memory to the update."""
    from translit_scale.train.engine import take_step

    for t in range(warm_up + steps):
        if t == warm_up:
            synchronize(rank.device)
            began = time.perf_counter()
            if rank.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
        step.accumulate(t, batch)
        take_step(step.engine, max_grad_norm=1.0)
    synchronize(rank.device)
    seconds = (time.perf_counter() - began) / steps
    if rank.device.type == "cuda":
        return Measured(seconds, torch.cuda.max_memory_allocated())
    return Measured(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def operations(shape: Shape, batch: RankBatch) -> int:
    """Necessary FLOPs of the step."""
    useful = contrastive_flops(shape, batch.pairs)
    return useful + sum(training_flops(shape, micro.token_counts) for micro in batch.micro)


def workload(shape: Shape, batch: RankBatch, dropout: float, zero: dict[str, Any], **train: Any) -> Workload:
    """What the planner knows of a batch."""
    micro = -(-batch.pairs // len(batch.micro))
    config = make_config(shape, batch.pairs, dropout, **train)
    parts = [[part.token_counts for m in batch.micro for part in m.parts[i : i + 1]] for i in range(2)]
    sums = [[sum(c[i] for c in part) / batch.pairs for i in range(6)] if part else [0.0] * 6 for part in parts]
    tokens = PairTokens(tuple(sums[0]), tuple(sums[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ds.json"
        path.write_text(json.dumps({MICRO: micro, "zero_optimization": zero}))
        gpu = None if config.train.precision == "fp32" else DEVICES["h100"]
        return Workload.of(config, path, gpu, shape, MAX_LENGTH + 2, 1, tokens)


class Report:
    """Prints the rows of the table."""

    def __init__(self, shape: Shape, rank: Rank, zero: dict[str, Any], train: dict[str, Any]) -> None:
        self.shape, self.zero, self.train, self.has_head = shape, zero, train, False
        self.device = torch.cuda.get_device_name() if rank.device.type == "cuda" else "CPU"
        self.matmul, self.peak = matmul_rate(rank.device), peak_flops(self.device)
        name = device_of(self.device)
        self.machine = gpu_machine(name, 1, None) if name else cpu_machine(1, 1, measure_cpu(1), None)

    def predicted(self, batch: RankBatch, dropout: float) -> tuple[float, float]:
        """Seconds and bytes of a step by the formulas of `translit-scale plan`."""
        w = workload(self.shape, batch, dropout, self.zero, **self.train)
        return step_seconds(w, self.machine, 1).total, step_memory(w, self.machine, 1).total

    def head(self, batch: RankBatch) -> None:
        """Prints device, shape and the head of the table."""
        self.has_head = True
        peak = f"{self.peak / 1e12:.0f}" if self.peak else "unknown"
        options = ", ".join(f"{name}={value}" for name, value in self.train.items())
        print(f"{self.device}, ZeRO {self.zero['stage']}, {options}: bf16 matmul ", end="")
        print(f"{self.matmul / 1e12:.3g} TFLOP/s measured, ", end="")
        print(f"{peak} by its datasheet. {described(self.shape, batch)}\n")
        print("| effective batch | micro-batches | dropout | pairs/s | tokens/s | useful TFLOP/s ", end="")
        print(
            "| of measured | of datasheet | s per step | predicted | GB | predicted |\n" + "|---" * 12 + "|", flush=True
        )

    def line(self, batch: RankBatch, dropout: float, found: Measured) -> None:
        """Prints a case."""
        useful = operations(self.shape, batch)
        seconds, memory = self.predicted(batch, dropout)
        rate, tokens = useful / found.seconds, sum(micro.tokens for micro in batch.micro)
        share = f"{100 * rate / self.peak:.1f} %" if self.peak else "–"
        print(f"| {batch.pairs:,} | {len(batch.micro)} | {dropout:g} | {batch.pairs / found.seconds:,.0f} ", end="")
        print(f"| {tokens / found.seconds:,.0f} | {rate / 1e12:.3g} | {100 * rate / self.matmul:.1f} % ", end="")
        print(f"| {share} | {found.seconds:.3g} | {seconds:.3g} ", end="")
        print(f"| {found.memory / 1e9:.2f} | {memory / 1e9:.2f} |", flush=True)


def described(shape: Shape, batch: RankBatch) -> str:
    """Shape of the model and mean length of pairs."""
    tokens = sum(micro.tokens for micro in batch.micro) / batch.pairs
    return f"h{shape.hidden} L{shape.layers} V{shape.vocabulary:,}, {tokens:.0f} tokens per pair."


def cases_of(args: argparse.Namespace) -> list[tuple[int, int]]:
    """Effective batch and micro-batch of each case."""
    return [(micro, micro) for micro in args.micro] + [(batch, args.micro[-1]) for batch in args.batches]


def run(args: argparse.Namespace, lengths: Lengths) -> None:
    """Measures all cases."""
    rank = start_rank()
    shape = Shape(args.hidden, 4 * args.hidden, args.layers, args.vocabulary)
    train = {"precision": "bf16_autocast" if rank.device.type == "cuda" else "fp32", "compile": args.compile}
    train |= {"low_precision_layernorm": True} if args.low_precision_layernorm else {}
    zero = {"stage": args.stage, "reduce_bucket_size": 500_000_000}  # DeepSpeed's default, for the predictions
    report = Report(shape, rank, zero, train)
    cases = cases_of(args)
    for dropout in args.dropout:
        config = make_config(shape, cases[0][0], dropout, **train)
        step = make_step(config, shape.vocabulary, zero, cases[0][1], rank)
        for pairs, micro in cases:
            batch = make_batch(make_config(shape, pairs), shape.vocabulary, micro, 1, lengths)
            if not report.has_head:
                report.head(batch)
            try:
                found = measure(step, batch, args.steps, rank, WARM_UP if len(batch.micro) == 1 else 0)
            except torch.OutOfMemoryError:
                step.engine.zero_grad()
                _, predicted = report.predicted(batch, dropout)
                print(f"| {pairs:,} | {len(batch.micro)} | {dropout:g} | out of memory, predicted ", end="")
                print(f"{predicted / 1e9:.2f} GB |" + " |" * 8, flush=True)
                continue
            report.line(batch, dropout, found)
        batch = make_batch(make_config(shape, args.micro[-1]), shape.vocabulary, args.micro[-1], 1, lengths)
        print(f"\n{batch.pairs:,} pairs in one micro-batch, profiled:\n")
        print(profile_step(partial(measure, step, batch, 1, rank, warm_up=0), rank.device) + "\n", flush=True)
        step.engine.destroy()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, metavar="DIR", help="source of lengths (default: a distribution)")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR")
    for name, default in (("hidden", 768), ("layers", 12), ("vocabulary", 401_145), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    parser.add_argument("--micro", type=int, nargs="+", default=[64, 128, 256, 512], metavar="N")
    parser.add_argument("--batches", type=int, nargs="*", default=[4096], metavar="N")
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.1], metavar="P")
    parser.add_argument("--stage", type=int, default=0, metavar="N", help="ZeRO stage (default: 0, for one GPU)")
    parser.add_argument("--low-precision-layernorm", action="store_true", help="with train.low_precision_layernorm")
    parser.add_argument("--compile", action="store_true", help="with train.compile")
    args = parser.parse_args()
    if bool(args.shards) != bool(args.tokenizer):
        parser.error("--shards and --tokenizer must be given together")
    print(heading("Training step on one device", ("torch", "deepspeed", "transformers")))
    lengths = shard_lengths(args.shards, args.tokenizer) if args.shards else log_normal_lengths
    run(args, lengths)


if __name__ == "__main__":
    main()
