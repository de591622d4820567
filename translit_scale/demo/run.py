"""The demo: every stage of the project on text that pip packages carry, as the commands a user would type.

Two encoders get the same budget: paper A's Model-1 (MLM only) and Model-3 (MLM + TCM). The held-out retrieval of
both ends the demo. `scripts/train.py` without `--config` uses the same data.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from translit_scale.errors import ConfigError, UserError
from translit_scale.progress import duration

TEXT, SHARDS, TOKENIZER = Path("shards/demo-text"), Path("shards/demo"), Path("shards/demo-tokenizer")
RUNS = {"mlm": "configs/paper_a/model1.yaml", "tcm": "configs/paper_a/model3.yaml"}
"""Name of each run and the variant that is laid over configs/demo.yaml."""
PAIRS = (("pol_Latn", "ukr_Cyrl"), ("hin_Deva", "urd_Arab"))
SIMILARITY_PAIRS = tuple((b, a) for a, b in PAIRS)
"""s is Ukrainian and Urdu, t their translation, as in paper A, section 5.1."""

Command = tuple[str, Sequence[str]]
"""What it is for, and its words."""

DATA: tuple[Command, ...] = (
    ("text out of installed packages", ["translit-scale", "demo-text", "--out", str(TEXT)]),
    (
        "clean, deduplicate, romanize, pack",
        ["translit-scale", "prepare", "shards/demo.yaml", "--data", str(TEXT), "--out", str(SHARDS)],
    ),
    (
        "tokenizer on the original scripts",
        ["translit-scale", "tokenizer", "--shards", str(SHARDS), "--out", str(TOKENIZER), "--vocab-size", "2500"],
    ),
)


def make_demo_data() -> None:
    """Makes shards and tokenizer of the demo; finished parts are kept.

    Raises:
        ConfigError: not started in the project folder, whose recipes and configurations it reads.
    """
    if not Path("shards/demo.yaml").is_file():
        raise ConfigError(
            f"the demo's recipe shards/demo.yaml is not in {Path.cwd()}", "start the command in the project folder"
        )
    for purpose, words in DATA:
        _run(purpose, words)


def run_demo(ranks: int) -> None:
    """Data, two trainings, export, evaluation, similarities; prints each command before it runs."""
    started = time.monotonic()
    make_demo_data()
    for name, variant in RUNS.items():
        _run(f"train: {name}", _training(ranks, name, variant))
        _run(f"export: {name}", ["translit-scale", "export", "--run", f"runs/demo/{name}", "--force"])
    models = [word for name in RUNS for word in ("--model", f"{name}=runs/demo/{name}/export")]
    _run("held-out retrieval, both directions", ["translit-scale", "evaluate", "retrieval", *models, *_tables(PAIRS)])
    _run("the four similarities", ["translit-scale", "analyze", "similarity", *models, *_tables(SIMILARITY_PAIRS)])
    print(_summary(time.monotonic() - started), flush=True)


def _tables(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Arguments that name the held-out set of each pair."""
    words = ["--name", "demo", "--out", "runs/demo/results"]
    for a, b in pairs:
        file = next(str(TEXT / "heldout" / f"{x}-{y}.tsv") for x, y in PAIRS if {x, y} == {a, b})
        words += ["--table", file, f"{a}:{a}", f"{b}:{b}"]
    return words


def _training(ranks: int, name: str, variant: str) -> list[str]:
    return [
        "deepspeed", "--num_gpus", str(ranks), "scripts/train.py", "--ds_config", "ds_configs/zero2.json",
        "--config", "configs/demo.yaml", variant, f"run.name=demo/{name}",
    ]  # fmt: skip


def _run(purpose: str, words: Sequence[str]) -> None:
    """Prints and runs one command with the tools of this environment.

    Raises:
        UserError: it failed; its own message stands above.
    """
    print(f"\n== {purpose}\n$ {shlex.join(words)}", flush=True)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(words, env=environment)
    if done.returncode:
        raise UserError(f"the command above ended with exit code {done.returncode}", "mend it and run the demo again")


def _summary(seconds: float) -> str:
    return f"""
== demo finished in {duration(seconds)}
shards        {SHARDS}/ (readable with tar and webdataset; `translit-scale shards cat {SHARDS}`)
held-out text {TEXT}/heldout/
runs          runs/demo/mlm, runs/demo/tcm (config.yaml, metrics.jsonl, checkpoints/)
curves        tensorboard --logdir runs/demo
results       runs/demo/results/demo/ (*.json; similarity.*.png draws the similarities of both)
model         AutoModelForMaskedLM.from_pretrained("runs/demo/tcm/export")"""
