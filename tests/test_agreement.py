"""Ranks that were started with other settings, data, code or folders than the others; each is a process of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.ranks import Ranks

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys
from translit_scale.cli import main
from translit_scale.train.launching import agreement

rank, case = int(os.environ["RANK"]), json.loads(sys.argv[1])
agreement.SHARED_SECONDS = 1.0
if rank and "version" in case:
    agreement.version = lambda name: case["version"]
if rank and "folder" in case:
    os.chdir(case["folder"])
sys.exit(main(["train", "--config", sys.argv[2], *case["words"], *(case["other"] if rank == 2 else [])]))
"""


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ({"other": ["train.lr=0.25"]}, ["train.lr: 0.001 (rank 0 on ", "rank 1 on ", "; 0.25 (rank 2 on "]),
        ({"other": ["train.seed=7", "objectives.masking.mlm_probability=0.3"]},
         ["mlm_probability: 0.15 (", "train.seed: ", "; 7 ("]),
        ({"other": ["run.log_every=3"]}, ["run.log_every: 1 (", "; 3 ("]),
        ({"other": ["--resume", "none"]}, ['--resume: auto (', "; none ("]),
        ({"other": ["--ds_config", "zero1"]}, ["--ds_config.zero_optimization.stage: 2 (", "; 1 ("]),
        ({"version": "0.0.1"}, ["version.deepspeed: ", "; 0.0.1 (rank 1 on ", "and 4 more differences"]),
    ],
)  # fmt: skip
def test_a_difference_is_named_with_both_values(
    case: dict[str, object], named: list[str], experiment: Path, run_ranks: Ranks, tmp_path: Path
) -> None:
    message = failure(run_ranks, tmp_path, experiment, case)
    assert "were not started with the same experiment" in message
    assert all(words in message for words in named), message
    assert not (tmp_path / "runs").exists()


def test_other_shards_at_the_same_path(
    experiment: Path, tiny_world: Path, run_ranks: Ranks, tmp_path: Path
) -> None:  # fmt: skip
    for name in ("here", "there"):
        shutil.copytree(tiny_world / "shards", tmp_path / name / "shards")
    manifest = tmp_path / "there/shards/manifest.json"
    record = json.loads(manifest.read_text())
    record["name"] = "another set"
    manifest.write_text(json.dumps(record))
    case = {"words": ["data.shards=shards"], "folder": str(tmp_path / "there")}
    message = failure(run_ranks, tmp_path, experiment, case, cwd=tmp_path / "here")
    assert "shards: " in message and "(rank 0 on " in message and "(rank 1 on " in message


def test_a_run_directory_that_is_not_shared(experiment: Path, run_ranks: Ranks, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    case = {"words": ["run.dir=runs"], "folder": str(tmp_path / "there")}
    message = failure(run_ranks, tmp_path, experiment, case)
    assert "not all hosts share the run directory" in message and "does not see what the first rank has" in message
    assert not list(tmp_path.rglob(".shared-*")) and not list(tmp_path.rglob(".writable-*"))


def failure(
    run_ranks: Ranks, tmp_path: Path, experiment: Path, case: dict[str, object], cwd: Path | None = None
) -> str:
    """What three ranks print that must all end with an error, which one of them states."""
    script = tmp_path / "script.py"
    start = f"import os; os.chdir({str(cwd)!r})\n" if cwd else ""
    script.write_text(start + SCRIPT)
    done = run_ranks(3, script, json.dumps({"words": [], "other": []} | case), experiment, check=False, timeout=120)
    assert done.returncode in (2, 3) and done.stderr.count("error") == 1, done.stderr
    return done.stderr
