"""`translit-scale doctor` on ranks of this machine; test_hosts.py starts it on several hosts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.ranks import Ranks

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys
from translit_scale.cli import main
from translit_scale.train.launching import agreement

agreement.SHARED_SECONDS = 1.0
if int(os.environ["RANK"]) == 1:
    os.chdir(sys.argv[1])
sys.exit(main(["doctor", *sys.argv[2:]]))
"""


def diagnose(run_ranks: Ranks, tmp_path: Path, *words: object) -> tuple[int, str, str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run_ranks(2, script, *words, check=False, timeout=100)
    return done.returncode, done.stdout, done.stderr


def test_all_is_well(experiment: Path, run_ranks: Ranks, tmp_path: Path) -> None:
    code, table, errors = diagnose(run_ranks, tmp_path, tmp_path, "--config", experiment)
    assert (code, errors) == (0, ""), table + errors
    checks = [line.split("  ")[0] for line in table.splitlines() if line.startswith(("ok", "warning", "error"))]
    assert set(checks) == {"ok"} and len(checks) == 14 and table.endswith("\nready to train\n"), table
    assert max(map(len, table.splitlines())) <= 80
    for words in ("2 × cpu", "all-reduce ", "ZeRO-2", "from scratch", "a second job in the run directory is refused"):
        assert words in table, table
    assert not list(tmp_path.rglob("*.lock-probe"))


def test_every_fault_is_named_at_once(experiment: Path, tiny_world: Path, run_ranks: Ranks, tmp_path: Path) -> None:
    """Another folder at the relative path of shards and runs; a tokenizer that one rank lacks; a micro-batch of 0."""
    for name in ("here", "there"):
        shutil.copytree(tiny_world / "shards", tmp_path / name / "shards")
    shutil.copytree(tiny_world / "tokenizer", tmp_path / "here/tokenizer")
    manifest = tmp_path / "there/shards/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": "another set"}))
    start = f"import os; os.chdir({str(tmp_path / 'here')!r})\n"
    script = tmp_path / "script.py"
    script.write_text(start + SCRIPT)
    words = [
        "--config",
        experiment,
        "data.shards=shards",
        "run.dir=runs",
        "model.tokenizer=tokenizer",
        "train.batch_pairs=1",
        "selection={task: sr_b, data: nowhere, languages: [ukr_Cyrl, bul_Cyrl]}",
    ]
    done = run_ranks(2, script, tmp_path / "there", *words, check=False, timeout=100)
    assert done.returncode == 2 and "5 of 14 checks failed" in done.stderr, done.stdout + done.stderr
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("error")}
    assert set(rows) == {"run", "shards", "tokenizer", "hardware", "selection"}, done.stdout
    assert "not all hosts share the run directory" in done.stdout and "2 ranks cannot share a batch of 1" in done.stdout
    assert "selection.data=DIR" in done.stdout
    assert "differ: " in rows["shards"] and "cannot load a tokenizer" in rows["tokenizer"]
