"""Runs the demo: the commands that a user would type for each stage, on text from installed pip packages.

It trains two encoders with the same budget, paper A's Model-1 (MLM only) and Model-3 (MLM + TCM), and compares them on
held-out retrieval. `translit-scale train` without `--config` uses the same data.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from translit_scale.errors import UserError
from translit_scale.extras import install_command
from translit_scale.languages import PAIRS
from translit_scale.progress import duration
from translit_scale.train.launching.environment import variables_of_one_process

TEXT, SHARDS, TOKENIZER = Path("shards/demo-text"), Path("shards/demo"), Path("shards/demo-tokenizer")
RUNS = {"mlm": "paper_a/model1", "tcm": "paper_a/model3"}
"""Name of each run, and the variant that is merged into the experiment `demo`."""

Command = tuple[str, Sequence[str]]
"""What the command does, and its arguments."""

DATA: tuple[Command, ...] = (
    ("text from installed packages", ["translit-scale", "demo-text", "--out", str(TEXT)]),
    (
        "clean, deduplicate, romanize, pack",
        ["translit-scale", "prepare", "demo", "--data", str(TEXT), "--out", str(SHARDS)],
    ),
    (
        "tokenizer on the original scripts",
        ["translit-scale", "tokenizer", "--shards", str(SHARDS), "--out", str(TOKENIZER), "--vocab-size", "2500"],
    ),
)


def make_demo_data() -> None:
    """Makes the demo's shards and tokenizer in the working directory; finished parts are kept."""
    for purpose, arguments in DATA:
        _run(purpose, arguments)


def run_demo(ranks: int) -> None:
    """Makes the data, trains and exports both encoders and compares them; prints each command before running it."""
    started = time.monotonic()
    make_demo_data()
    for name, variant in RUNS.items():
        _run(f"train: {name}", _training(ranks, name, variant))
        _run(f"export: {name}", ["translit-scale", "export", "--run", f"runs/demo/{name}", "--force"])
    models = [argument for name in RUNS for argument in ("--model", f"{name}=runs/demo/{name}/export")]
    _run(
        "held-out retrieval, both directions",
        ["translit-scale", "evaluate", "retrieval", *models, *_tables(is_reversed=False)],
    )
    # Paper A, section 5.1: s is Ukrainian or Urdu and t its translation.
    _run("the four similarities", ["translit-scale", "analyze", "similarity", *models, *_tables(is_reversed=True)])
    page = find_spec("vl_convert") is not None  # draws its charts
    if page:
        runs = [f"runs/demo/{name}" for name in RUNS]
        _run("one page about both", ["translit-scale", "report", "page", *runs, "--out", "runs/demo/report.html"])
    print(_summary(page, time.monotonic() - started), flush=True)


def _tables(is_reversed: bool) -> list[str]:
    """Arguments that name the held-out set of each language pair; if reversed, its second language is first."""
    arguments = ["--name", "demo", "--out", "runs/demo/results"]
    for pair in PAIRS.values():
        a, b = reversed(pair) if is_reversed else pair
        arguments += ["--table", f"{TEXT}/heldout/{'-'.join(pair)}.tsv", f"{a}:{a}", f"{b}:{b}"]
    return arguments


def _training(ranks: int, name: str, variant: str) -> list[str]:
    return [
        "deepspeed", *_free_port(), "--num_gpus", str(ranks), "--module", "translit_scale", "train",
        "--ds_config", "zero2", "--config", "demo", variant, f"run.name=demo/{name}",
    ]  # fmt: skip


def _free_port() -> list[str]:
    """Options of the deepspeed launcher: none, or another port if a job on this machine holds the usual one."""
    with socket.socket() as usual, socket.socket() as other:
        try:
            usual.bind(("", 29500))
        except OSError:
            other.bind(("", 0))
            return ["--master_port", str(other.getsockname()[1])]
    return []


def _run(purpose: str, command: Sequence[str]) -> None:
    """Prints one command and runs it with the programs of this Python environment; it must succeed."""
    print(f"\n== {purpose}\n$ {shlex.join(command)}", flush=True)
    environment = variables_of_one_process()
    if shutil.which("nvidia-smi") is None:
        environment.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed guesses, with a warning in every process
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    exit_code = subprocess.run(command, env=environment).returncode
    if exit_code:
        raise UserError(f"the command above ended with exit code {exit_code}", "fix the problem and run it again")


def _summary(page: bool, seconds: float) -> str:
    shown = "runs/demo/report.html (open it in a browser)" if page else f"needs {install_command('plots')}"
    return f"""
== demo finished in {duration(seconds)}
shards        {SHARDS}/ (readable with tar, webdataset and `translit-scale shards cat {SHARDS}`)
held-out text {TEXT}/heldout/
runs          runs/demo/mlm, runs/demo/tcm (config.yaml, metrics.jsonl, checkpoints/)
curves        tensorboard --logdir runs/demo
results       runs/demo/results/demo/ (*.json, and charts of the similarities if vl-convert is installed)
page          {shown}
model         AutoModelForMaskedLM.from_pretrained("runs/demo/tcm/export")"""
