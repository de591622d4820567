"""The whole path with every real component: packages → text → shards → tokenizer → DeepSpeed → export → retrieval."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from translit_scale.corpus.clean import fold
from translit_scale.corpus.shards import ShardSet
from translit_scale.languages import PAIRS

pytest.importorskip("django", reason="the demo's text needs the extra `demo`")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that commands read from the project folder, so that nothing is written into it."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "ds_configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "shards").mkdir()
    for recipe in (ROOT / "shards").glob("*.yaml"):
        shutil.copy(recipe, folder / "shards")
    return folder


def command(project: Path, *words: object) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        list(map(str, words)), cwd=project, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(project: Path) -> Path:
    """Trains the default experiment without any prepared data."""
    out = command(
        project, "deepspeed", "--num_gpus", 2, "scripts/train.py", "--ds_config", "ds_configs/zero2.json",
        "train.max_steps=3", "run.log_every=1",
    )  # fmt: skip
    assert "step 3/3 loss" in out and "2 CPU ranks (no GPU found), fp32" in out
    return project


@pytest.mark.slow
def test_default_experiment_makes_its_own_data_and_trains(trained: Path) -> None:
    records = [json.loads(line) for line in (trained / "runs/demo/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    assert records[0]["train/loss_mlm_orig"] == pytest.approx(math.log(2502), abs=0.4)  # vocabulary, nothing learned
    assert list((trained / "runs/demo/tb").glob("events.*"))


@pytest.mark.slow
def test_no_held_out_sentence_in_training(trained: Path) -> None:
    shards = ShardSet.open(trained / "shards/demo")
    training = {fold(orig) for language in shards.languages for orig, _ in shards.pairs(language)}
    for a, b in PAIRS.values():
        lines = (trained / f"shards/demo-text/heldout/{a}-{b}.tsv").read_text().split("\n")
        assert lines[0] == f"{a}\t{b}"
        cells = [cell for line in lines[1:-1] for cell in line.split("\t")]
        assert len(cells) > 400
        assert not [cell for cell in cells if fold(cell) in training]


@pytest.mark.slow
def test_export_and_retrieval(trained: Path) -> None:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    command(trained, "translit-scale", "export", "--run", "runs/demo")
    model = AutoModelForMaskedLM.from_pretrained(trained / "runs/demo/export").eval()
    tokenizer = AutoTokenizer.from_pretrained(trained / "runs/demo/export")
    with torch.no_grad():
        logits = model(**tokenizer("dzień dobry", return_tensors="pt")).logits
    assert logits.shape[-1] == len(tokenizer) and torch.isfinite(logits).all()
    out = command(
        trained, "translit-scale", "evaluate", "retrieval", "--model", "demo=runs/demo/export",
        "--table", "shards/demo-text/heldout/pol_Latn-ukr_Cyrl.tsv", "pol_Latn:pol_Latn", "ukr_Cyrl:ukr_Cyrl",
    )  # fmt: skip
    assert "pol_Latn -> ukr_Cyrl" in out and "ukr_Cyrl -> pol_Latn" in out
    assert list((trained / "results").rglob("*.json"))
