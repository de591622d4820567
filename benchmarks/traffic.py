"""Counts the bytes that a rank moves in an optimizer step, at every collective, and compares them with the cost model.

    python benchmarks/traffic.py [--hidden 64 --layers 4 --vocabulary 33000]

Two CPU ranks, every ZeRO stage, one and eight micro-batches; most parameters are in the embedding, as in Glot500-base.
The second step is counted, because ZeRO-3 traces the order of modules in the first. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from report import heading

from translit_scale.config import Precision
from translit_scale.model.flops import Shape
from translit_scale.plan.memory import Parameters, count_parameters
from translit_scale.plan.traffic import gathered_elements, gradient_payload, sent_bytes
from translit_scale.train.launching.ranks import Rank, leave_ranks, start_rank

ROOT = Path(__file__).resolve().parents[1]
RANKS, PAIRS, MICRO_BATCHES = 2, 32, (1, 8)
GLOT500 = Shape(hidden=768, intermediate=3072, layers=12, vocabulary=401_145)


def row(shape: Shape, stage: int, micro_batches: int, precision: Precision, setting: str, rank: Rank) -> str:
    """Runs two steps of an engine and returns a row of the table."""
    from synthetic import MAX_LENGTH, make_batch, make_config, make_step

    from tests.support.cost_worker import NOT_KEPT
    from tests.support.traffic import Traffic
    from translit_scale.train.engine import take_step

    zero = {"stage": stage, "reduce_bucket_size": 1_000_000, "stage3_param_persistence_threshold": 0}
    if setting == "nothing kept":
        zero |= dict.fromkeys(NOT_KEPT, 0)
    elif setting == "to owner":
        zero["use_multi_rank_bucket_allreduce"] = False
    config, micro = make_config(shape, PAIRS, precision=precision), PAIRS // RANKS // micro_batches
    step = make_step(config, shape.vocabulary, zero, micro, rank)
    batch = make_batch(config, shape.vocabulary, micro, RANKS)
    for t in range(2):
        with Traffic() as traffic:
            step.accumulate(t, batch)
            take_step(step.engine, config.train.max_grad_norm)
    parameters = count_parameters(shape, MAX_LENGTH + 2)
    pool_layer = step.engine.module.pool_layer
    step.engine.destroy()
    gathered = gathered_elements(parameters, micro_batches, pool_layer, True, False, setting != "nothing kept")
    rows = 2 * PAIRS * shape.hidden * 4
    model = sent_bytes(parameters, stage, RANKS, precision, gathered, rows, setting == "to owner")
    reduced = traffic.payload("all_reduce", "reduce_scatter", "reduce", least=1000) - rows  # not counts and sums
    collected = traffic.payload("all_gather", "broadcast") - rows
    payload = gradient_payload(parameters, stage, precision)
    sent = traffic.sent(RANKS)
    megabytes = " | ".join(f"{n / 1e6:.2f}" for n in (reduced, payload, collected, sent, model.total))
    name = f"{stage}, {setting}" if setting else f"{stage}"
    return f"| {name} | {micro_batches} | {precision} | {megabytes} | {model.total / sent:.3f} |"


def work(shape: Shape) -> None:
    """Measures all cases; runs on each rank."""
    rank = start_rank()
    cases: list[tuple[int, int, Precision, str]] = [
        (stage, k, "fp32", "") for stage in (0, 1, 2, 3) for k in MICRO_BATCHES
    ]
    cases += [(stage, 8, "fp32", "to owner") for stage in (1, 2)]
    cases += [(3, k, "fp32", "nothing kept") for k in MICRO_BATCHES]
    cases += [(stage, 8, "bf16_autocast", "") for stage in (1, 3)]
    for case in cases:
        line = row(shape, *case, rank)
        if rank.is_first:
            print(line, flush=True)
    leave_ranks()


def share_line(name: str, parameters: Parameters) -> str:
    """The fraction of a gradient that belongs to the word embedding."""
    percent = 100 * parameters.word_embedding_fraction
    return f"| {name} | {parameters.total:,} | {parameters.word_embedding:,} | {percent:.1f} % |"


def main() -> None:
    """Starts two ranks, which print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 64), ("layers", 4), ("vocabulary", 33_000)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    shape = Shape(args.hidden, 4 * args.hidden, args.layers, args.vocabulary)
    if "RANK" in os.environ:
        work(shape)
        return
    print(heading("Traffic of a step", ("torch", "deepspeed")))
    print("| | parameters | word embedding | share |\n|---|---|---|---|")
    print(share_line(f"here: h{shape.hidden} L{shape.layers} V{shape.vocabulary:,}", count_parameters(shape, 514)))
    print(share_line("Glot500-base: h768 L12 V401,145", count_parameters(GLOT500, 514)) + "\n")
    print(f"MB in a step of {PAIRS} pairs on {RANKS} ranks.\n")
    print("| ZeRO | K | precision | gradients reduced | predicted | parameters gathered | ", end="")
    print("sent by a rank | predicted | predicted / counted |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(RANKS), "--rdzv-backend", "c10d"]
    launch += ["--rdzv-endpoint", "127.0.0.1:0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launch, *sys.argv], env=environment, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
