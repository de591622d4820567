"""Measures the memory of a training step for effective batches of different sizes, with the same micro-batch size.

    python benchmarks/memory.py --shards DIR --tokenizer DIR [--pairs 512 8192 --micro 64 --hidden 128 --layers 2]

Each case is a separate process with one CPU rank and ZeRO-1 that runs one complete training step, from reading to the
optimizer; its memory is the peak resident set. Dropout is off: torch has no fused attention with dropout on CPU.
The table adds the cost model's prediction for the tensors that the step adds. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import heading

from translit_scale.config import load_config
from translit_scale.model.flops import Shape
from translit_scale.plan import memory as cost
from translit_scale.train.launching.ranks import start_rank


def peak() -> int:
    """Peak resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(args: argparse.Namespace) -> dict[str, int]:
    """Runs one step of `args.case` pairs in this process."""
    rank = start_rank()
    from translit_scale.train.engine import take_step
    from translit_scale.train.setup import build_training, make_plan

    settings = {
        "data.shards": args.shards, "model.tokenizer": args.tokenizer, "model.hidden_size": args.hidden,
        "model.num_layers": args.layers, "model.num_heads": args.hidden // 64,
        "model.intermediate_size": 4 * args.hidden, "model.dropout": 0,
        "objectives.tcm.weight": 1, "objectives.tcm.layer": 0.667, "objectives.tlm.weight": 1,
        "train.batch_pairs": args.case, "train.max_steps": 1, "run.name": "memory",
    }  # fmt: skip
    config = load_config([], [f"{name}={value}" for name, value in settings.items()])
    with tempfile.TemporaryDirectory() as folder:
        ds_config = Path(folder) / "zero1.json"
        hardware = {"train_micro_batch_size_per_gpu": args.micro, "zero_optimization": {"stage": 1}}
        ds_config.write_text(json.dumps(hardware))
        training = build_training(make_plan(config, ds_config, rank))
    vocabulary = len(training.tokenizer)
    before, began = peak(), time.process_time()
    (batch,) = training.prefetcher.batches(0, 1)
    training.step.accumulate(0, batch)
    take_step(training.engine, training.config.train.max_grad_norm)
    largest = max(batch.micro, key=lambda micro: micro.tokens)
    return {
        "before": before, "peak": peak(), "seconds": round(time.process_time() - began),
        "micro_batches": len(batch.micro), "tokens": largest.tokens, "masked": sum(largest.masked),
        "all_tokens": sum(micro.tokens for micro in batch.micro), "vocabulary": vocabulary,
        "all_masked": sum(sum(micro.masked) for micro in batch.micro),
    }  # fmt: skip


def predicted(args: argparse.Namespace, pairs: int, found: dict[str, int]) -> dict[str, int]:
    """Predicted bytes of the tensors that the step adds to model and optimizer at its peak, by kind."""
    shape = Shape(args.hidden, 4 * args.hidden, args.layers, found["vocabulary"])
    parameters = cost.count_parameters(shape, positions=514)
    states = cost.model_states(parameters.total, 1, 1, "fp32", bucket=0)
    tokens, masked = found["tokens"], found["masked"]
    passes = {
        "batch": cost.batch_bytes(found["all_tokens"], found["all_masked"], grouped=True),
        "rows": cost.embedding_bytes(shape, pairs, 1),
        "gradient": states.local_gradients,
        "activations": cost.activation_bytes(shape, tokens, masked, "fp32"),
        "logits": cost.head_bytes(shape, masked, "fp32", fused=False),
    }
    contrast = passes["batch"] + passes["rows"] + cost.contrastive_bytes(shape, pairs, 1)
    return passes | {"all": sum(passes.values()), "contrast": contrast}


def line(args: argparse.Namespace, pairs: int, first: dict[str, int], found: dict[str, int]) -> str:
    """A case as a row of the table."""
    model = predicted(args, pairs, found)
    numbers = [found["peak"], found["before"], found["peak"] - found["before"], *model.values()]
    megabytes = [f"{number / 2**20:,.0f}" for number in numbers]
    megabytes.insert(1, f"{found['peak'] / first['peak']:.3f}")
    return f"| {pairs:,} | {found['micro_batches']} | " + " | ".join(megabytes) + f" | {found['seconds']} |"


def main() -> None:
    """Starts a process for each case and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pairs", type=int, nargs="+", default=[512, 8192], metavar="N", help="effective batches")
    for name, default in (("micro", 64), ("hidden", 128), ("layers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    parser.add_argument("--case", type=int, metavar="N", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args)))
        return
    print(heading("Memory of a step", ("torch", "deepspeed")))
    print(f"h{args.hidden} L{args.layers}, micro-batches of {args.micro} pairs; MB.\n")
    print("| pairs | K | peak | peak / first | before the step | the step | predicted: batch | embeddings ", end="")
    print("| gradient | activations | logits | sum | contrastive loss | CPU s |\n" + "|---" * 14 + "|", flush=True)
    cases: list[dict[str, int]] = []
    for pairs in args.pairs:
        command = [sys.executable, *sys.argv, "--case", str(pairs)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cases.append(json.loads(done.stdout.splitlines()[-1]))
        print(line(args, pairs, cases[0], cases[-1]), flush=True)


if __name__ == "__main__":
    main()
