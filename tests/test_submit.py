"""`submit`: the jobs that it makes, what it skips, and what it refuses, with programs in place of SLURM's."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.tiny import make_config, make_shards
from translit_scale.cli import main
from translit_scale.files import write_json
from translit_scale.shipped_files import shipped_folder

EVALUATION = "--data tests --task sib200 --source ukr_Cyrl --out results"
FAKE = """#!/bin/sh
echo "$(basename $0) $*" >>{log}
case $0 in *sbatch) ;; *) cat {queue}; exit;; esac
test ! -e {refuse} || {{ echo 'invalid account' >&2; exit 1; }}
echo $(wc -l <{log})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an experiment whose shards are still to be made."""
    monkeypatch.chdir(tmp_path)
    config = make_config(Path("world"), run__dir="runs", run__name="two/tiny")
    Path("tiny.yaml").write_text(config.to_yaml())
    for name in ("text", "tests"):
        Path(name).mkdir()
    Path("recipe.yaml").write_text("name: x\nlanguages: {ukr_Cyrl: [x.txt]}\n")
    return tmp_path


@pytest.fixture
def calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs named as SLURM's, which write their arguments to this file."""
    (folder / "bin").mkdir()
    (folder / "queue").touch()
    for name in ("sbatch", "squeue", "scancel"):
        text = FAKE.format(log=folder / "calls", refuse=folder / "refuse", queue=folder / "queue")
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    return folder / "calls"


def submit(*words: str, prepare: str | None = "recipe.yaml --data text") -> int:
    return main(["submit", "--config", "tiny.yaml", *(["--prepare", prepare] if prepare else []), *words])


def script(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[str]]:
    """The words of each job of --dry-run by name of the stage."""
    assert submit(*words, "--dry-run") == 0
    out = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=out, text=True, check=True)
    jobs = [line.partition("=$(") for line in out.splitlines() if "=$(" in line]
    return {name: shlex.split(command.removesuffix(")")) for name, _, command in jobs}


def finish_training(folder: Path) -> Path:
    run = folder / "runs/two/tiny"
    make_shards(folder / "world/shards", {"ukr_Cyrl": 20})
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text((folder / "tiny.yaml").read_text())
    write_json(run / "STATUS.json", {"state": "finished"})
    return run


def test_every_stage_waits_for_the_one_before(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = script(
        capsys, "--tokenizer", "--vocab-size 99", "--select", "--task sr_b --data tests --languages a,b", "--export",
        "--license mit", "--evaluate", EVALUATION, "--report", "", "--nodes", "3", "--gpus-per-node", "4",
        "--partition", "gpu", "--sbatch", "prepare,export:--partition=cpu", "--sbatch=--qos=low", "train.seed=7",
    )  # fmt: skip
    assert list(jobs) == [
        "prepare", "finalize", "tokenizer", "train", "select", "export", "finetune", "evaluate", "report",
    ]  # fmt: skip
    before = ""
    for name, words in jobs.items():
        expected = {"evaluate": "afterok:$export,afterany:$finetune", "report": "afterok:$export,afterany:$evaluate"}
        dependency = expected.get(name, f"afterok:${before}")
        assert (f"--dependency={dependency}" in words) == bool(before)
        assert ("--kill-on-invalid-dep=yes" in words) == bool(before)
        assert f"--job-name=runs-two-tiny.{name}" in words and "--qos=low" in words
        assert ("--partition=cpu" in words) == (name in ("prepare", "export"))
        assert Path(next(word for word in words if word.endswith(".sbatch"))).is_file()
        before = name
    assert {"--nodes=3", "--ntasks-per-node=4", "--gpus-per-node=4"} <= set(jobs["train"])
    assert jobs["train"][-5:] == ["--ds_config", "zero2", "--config", "tiny.yaml", "train.seed=7"]
    assert jobs["export"][-8:] == [
        "export", "--run", "runs/two/tiny", "--step", "best", "--force", "--license", "mit",
    ]  # fmt: skip
    assert jobs["finetune"][-2:] == ["--model", "tiny=runs/two/tiny/export"] == jobs["evaluate"][-2:]
    assert "--gpus=1" in jobs["evaluate"] and "--gpus=1" not in jobs["export"]
    assert jobs["report"][-6:] == ["report", "tables", "--results", "results", "--out", "results/tables"]
    page = script(capsys, "--evaluate", EVALUATION, "--report", "page --profile strict")["report"]
    assert page[-7:] == ["report", "page", "runs/two/tiny", "--results", "results", "--profile", "strict"]


def test_what_is_done_is_skipped_and_what_follows_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ("--evaluate", EVALUATION, "--report", "")
    assert next(iter(script(capsys, *rest))) == "prepare"
    make_shards(folder / "world/shards", {"ukr_Cyrl": 20})
    assert list(script(capsys, *rest)) == ["train", "export", "finetune", "evaluate", "report"]
    run = finish_training(folder)
    assert list(script(capsys, *rest)) == ["export", "finetune", "evaluate", "report"]
    (run / "export").mkdir()
    (run / "export/config.json").touch()
    (folder / "results").mkdir()
    (folder / "results/evaluation.txt").write_text("…\n\nfailed:\nsib200\n")
    assert list(script(capsys, *rest)) == ["finetune", "evaluate", "report"]
    (folder / "results/evaluation.txt").write_text("…\n\nnot there:\nsr_b: …\n")
    assert list(script(capsys, *rest)) == ["report"]
    (folder / "results/tables").mkdir()
    (folder / "results/tables/b2.md").touch()
    assert list(script(capsys, *rest)) == []
    assert list(script(capsys, *rest, "train.max_steps=9")) == ["train", "export", "finetune", "evaluate", "report"]


def test_jobs_are_submitted_once(folder: Path, calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit() == 0
    lines = calls.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["squeue", *["sbatch"] * 4]
    assert "--dependency=afterok:3" in lines[3] and "train.sbatch" in lines[3]
    out = capsys.readouterr().out
    assert "train     job 4" in out and "scancel 2 3 4 5" in out and "runs/two/tiny/slurm" in out
    (folder / "queue").write_text("17 runs-two-tiny.train\n18 other\n")
    assert submit() == 2
    assert "in the queue already: 17 (runs-two-tiny.train)\n  → wait for them, or cancel them: scancel 17" in (
        capsys.readouterr().err
    )
    assert submit("run.name=other") == 0


def test_a_chain_is_submitted_whole_or_not_at_all(
    folder: Path, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "bin/sbatch").open("a") as program:  # it refuses what comes after the training
        program.write(f'case "$*" in *train.sbatch*) touch {folder}/refuse;; esac\n')
    assert submit() == 2
    assert calls.read_text().splitlines()[-1] == "scancel 2 3 4"
    error = capsys.readouterr().err
    assert "invalid account" in error and "nothing is left in the queue" in error


@pytest.mark.parametrize(
    ("words", "prepare", "message"),
    [
        ([], None, "the shards world/shards do not exist"),
        ([], "recipe.yaml --dta text", "unrecognized arguments: --dta"),
        ([], "recipe.yaml --out other", "--out differs from data.shards"),
        (["--report", ""], "recipe.yaml", "--report needs results"),
        (["--evaluate", "--data x"], "recipe.yaml", "--source"),
        (["--sbatch", "trian:--qos=low"], "recipe.yaml", r"--sbatch trian:--qos=low: expected \[STAGE\[,STAGE\]:\]"),
        (["--evaluate", "--data nowhere --source ukr_Cyrl"], "recipe.yaml", "--evaluate: there is no folder nowhere"),
        ([], "recipe.yaml --data nowhere", "--prepare: there is no folder nowhere"),
        (
            ["selection={task: sr_b, data: nowhere, languages: [a]}"],
            "recipe.yaml",
            "selection.data: there is no",
        ),
        (["monitor={task: sr_b, data: nowhere, languages: [a]}"], "recipe.yaml", "monitor.data: there is no folder"),
        (["--config", "nowhere.yaml"], "recipe.yaml", "nowhere.yaml: there is no such file"),
        (["train.steps=3"], "recipe.yaml", "train.steps"),
    ],
)
def test_mistakes_are_found_before_anything_is_submitted(
    words: list[str], prepare: str | None, message: str, folder: Path, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(*words, prepare=prepare) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not calls.exists()


def test_without_slurm_the_error_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert submit() == 2
    assert "squeue is not installed on this host\n  → submit from a login node" in capsys.readouterr().err


REQUEUE = """#!/bin/sh
echo "$(basename $0) $*" >>{log}
case $0 in *srun) exit 76;; *scontrol) [ $(grep -c scontrol {log}) -gt {failures} ];; esac
"""


@pytest.mark.parametrize(("failures", "is_queued"), [(0, True), (3, True), (10, False)])
def test_a_training_is_queued_again_although_the_controller_does_not_answer_at_once(
    failures: int, is_queued: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while its backup takes over; `exec sleep 300` is where SLURM ends the job."""
    log = tmp_path / "calls"
    for name in ("srun", "squeue", "scontrol", "sleep"):
        (tmp_path / name).write_text(REQUEUE.format(log=log, failures=failures))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("VENV", "/nowhere")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    script = shipped_folder("scripts/slurm") / "train.sbatch"
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    calls = [line for line in log.read_text().splitlines() if line.startswith(("scontrol", "sleep"))]
    again = ["scontrol requeue 7", "sleep 30"] * failures
    assert calls == again + (["scontrol requeue 7", "sleep 300"] if is_queued else [])
    assert done.stdout.count("scontrol requeue has failed") == failures
    assert ("not queued again" in done.stdout, done.returncode) == ((False, 0) if is_queued else (True, 76))
