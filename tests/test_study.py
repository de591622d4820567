"""Studies: the shipped ones, the order of their steps, what is done and what is run again, and their tables."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from translit_scale.cli import main
from translit_scale.config import load_config
from translit_scale.errors import ConfigError, DataError, UserError
from translit_scale.files import write_json
from translit_scale.shipped_files import find_file, names_of, shipped_folder
from translit_scale.study import steps as steps_module
from translit_scale.study.curves import training_table, write_curves
from translit_scale.study.manifest import runs_of, steps_of
from translit_scale.study.overview import overview
from translit_scale.study.runner import Runner
from translit_scale.study.settings import FOLDER, Study, read_study, scale_of
from translit_scale.study.steps import Place, Step, await_inputs, done_steps, unfinished_seconds, write_marker
from translit_scale.study.tables import over_seeds, study_tables

ROOT = Path(__file__).resolve().parents[1]
STUDIES = names_of(FOLDER, shipped_folder(FOLDER))
SCALES = [(name, scale) for name in STUDIES for scale in read_study(name).scales]
STUDY = """
title: a study
corpora:
  ab: {experiment: [paper_a/pol-ukr], recipe: pol-ukr, languages: [pol_Latn, ukr_Cyrl]}
variants: {one: [paper_a/model1], two: [paper_a/model3, train.lr=1.0e-3]}
comparisons: [[one, two]]
scales:
  tiny:
    about: nothing
    needs_tests: false
    seeds: {one: [0, 1], two: [0]}
    measurements: {page: {command: "report page {runs}"}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "study", tmp_path / "text", tmp_path / "tests")


def train_words(step: Step) -> tuple[list[Path], list[str]]:
    """Files and settings of a training."""
    words = [word for word in step.words[step.words.index("--config") + 1 :] if not word.startswith("--")]
    return [find_file("configs", word) for word in words if "=" not in word], [word for word in words if "=" in word]


@pytest.mark.parametrize(("name", "scale_name"), SCALES)
def test_every_step_of_a_shipped_study_can_be_read(name: str, scale_name: str, place: Place) -> None:
    """Trainings have settings that load, other steps are commands, and each stands behind those that it needs."""
    from translit_scale.cli import build_parser

    study = read_study(name)
    steps = steps_of(study, scale_of(study, scale_name), place)
    seen: set[str] = set()
    for step in steps:
        assert seen.issuperset(step.after), step
        assert step.name not in seen
        seen.add(step.name)
        build_parser().parse_args(list(step.words))
        if step.is_training:
            config = load_config(*train_words(step))
            assert config.run.path == place.run(
                next(
                    run
                    for run in runs_of(study, study.scales[scale_name])
                    if step.name == f"train/{run.corpus}/{run.label}"
                )
            )
    made = (
        {"prepare", "train", "retrieval"}
        if study.scales[scale_name].pretrained
        else {"prepare", "tokenizer", "train", "retrieval"}
    )
    assert {step.kind for step in steps} >= made


def test_the_most_important_trainings_come_first() -> None:
    study = read_study("paper_a")
    runs = [run for run in runs_of(study, study.scales["gpu"]) if run.corpus == "pol-ukr"]
    assert [run.label for run in runs] == [
        *(f"model{number}-seed0" for number in range(1, 6)),
        "model2-seed1", "model3-seed1", "model2-seed2", "model3-seed2",
        "model1-seed1", "model5-seed1", "model1-seed2", "model5-seed2",
    ]  # fmt: skip


def test_a_pretrained_model_is_measured_and_others_start_from_it(place: Place) -> None:
    """It has no training and no tokenizer of its own; --pretrained replaces the model that the scale names."""
    study = read_study("paper_b")
    for given, model in ((None, "cis-lmu/glot500-base"), ("/models/mine", "/models/mine")):
        steps = {step.name: step for step in steps_of(study, study.scales["paper"], replace(place, pretrained=given))}
        training, name = steps["train/mediterranean/mlm-seed0"], "mediterranean"
        assert training.after == (f"prepare/{name}",) and f"model.pretrained={model}" in training.words
        assert not [word for word in training.words if word.startswith("model.tokenizer")]
        measured = steps[f"retrieval/{name}/base-seed0"]
        assert f"base-seed0={model}" in measured.words and measured.after == (f"prepare/{name}",)
        assert f"mlm-seed0={place.study}/runs/{name}/mlm-seed0@best" in steps[f"retrieval/{name}/mlm-seed0"].words
        assert "selection.data=" + str(place.tests) in training.words
        assert f"train/{name}/base-seed0" not in steps and f"tokenizer/{name}" not in steps
        page = steps[f"page/{name}"]
        assert [word for word in page.words if "base-seed0" in word] == ["base-seed0=base-seed0"]
        assert {f"sib200/{name}", f"retrieval/{name}/mlm-seed2"} <= set(page.after)


def test_a_chain_of_trainings_from_a_pretrained_model(place: Place) -> None:
    study = read_study("paper_b")
    steps = {step.name: step for step in steps_of(study, study.scales["e5-cpu"], place)}
    base, mlm = (steps[f"train/mediterranean/{name}-seed0"] for name in ("base", "mlm"))
    assert "model.pretrained=intfloat/multilingual-e5-small" in base.words
    assert f"model.pretrained={place.study}/runs/mediterranean/base-seed0/export" in mlm.words
    assert mlm.after == ("export/mediterranean/base-seed0",)
    scratch = {step.name: step for step in steps_of(study, study.scales["cpu"], place)}
    assert not [word for word in scratch["train/mediterranean/base-seed0"].words if "pretrained" in word]


def test_variants_with_a_tokenizer_of_their_own(place: Place) -> None:
    """It is trained once for all that have it, and measurements of text wait for all tokenizers."""
    study = read_study("beyond")
    steps = {step.name: step for step in steps_of(study, study.scales["cpu"], place)}
    made = steps["tokenizer/hin-urd-latn25"]
    assert made.words[-2:] == ("--latn-share", "0.25") and made.after == ("prepare/hin-urd",)
    assert "--latn-share" not in steps["tokenizer/hin-urd"].words
    folder = f"{place.study}/tokenizers/hin-urd"
    for variant, name in (("model3", "hin-urd"), ("pieces", "hin-urd-latn25"), ("pieces_time", "hin-urd-latn25")):
        training = steps[f"train/hin-urd/{variant}-seed0"]
        assert training.after == (f"tokenizer/{name}",)
        assert f"model.tokenizer={place.study}/tokenizers/{name}" in training.words
    vocabulary = steps["vocabulary/hin-urd"]
    assert f"papers={folder}" in vocabulary.words and f"latn25={folder}-latn25" in vocabulary.words
    assert vocabulary.after == ("tokenizer/hin-urd", "tokenizer/hin-urd-latn25")


def test_a_report_waits_for_the_measurements_before_it(place: Place) -> None:
    study = read_study("wide")
    steps = {step.name: step for step in steps_of(study, study.scales["cpu"], place)}
    assert set(steps["averages/wide"].after) >= {"retrieval/wide/mlm-seed0", "retrieval/wide/mlm_seq-seed0"}
    assert "--families" not in steps["averages/wide"].words
    given = replace(place, families=Path("my families.csv"))
    steps = {step.name: step for step in steps_of(study, study.scales["cpu"], given)}
    for report in ("averages/wide", "page/wide"):
        words = steps[report].words
        assert words[words.index("--families") + 1] == "my families.csv"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{runs}", "{run}", "report page {run}: 'run' in braces, expected one of models, rows"),
        ("[[one, two]]", "[[one, three]]", "three: none of the variants, one, two"),
        ("needs_tests: false", "corpora: [cd]", "cd is none of the corpora, ab"),
        ("needs_tests: false", "pretrained: {three: m}", "pretrained: expected one of the variants that have seeds"),
        ("comparisons:", "tokenizer_of: {one: none}\ncomparisons:", "tokenizer_of: none: none of the tokenizers, "),
        (
            "comparisons:",
            "paper_rows: {Model-9: one}\ncomparisons:",
            "paper_rows: Model-9: no table has this row, only Mod",
        ),
        ("title", "titel", "titel: unknown setting; did you mean 'title'?"),
    ],
)
def test_mistakes_in_a_study_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(ConfigError) as error:
        read_study(str(path))
    assert message in str(error.value) and str(path) in str(error.value)


def test_arguments_that_are_missing_or_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["paper_a", "--scale", "huge"], "--scale huge: this study has no such scale\n  → minutes: "),
        (["paper_a", "--scale", "cpu"], "--scale cpu needs --text DIR"),
        (["paper_a", "--scale", "cpu", "--text", "t"], "--scale cpu needs --tests DIR"),
        (["paper_a", "--pretrained", "m"], "--scale minutes starts from no pretrained model"),
        (["paper_a", "--nodes", "2", "--sbatch=--qos=low"], "--nodes, --sbatch: these are options of jobs"),
        (["paper_a", "--families", "f.csv"], "--scale minutes has no averages over families"),
        (["paper_x"], "paper_x: there is no such file"),
        (
            ["paper_a", "--only", "trian"],
            "--only trian: no step has this kind or name\n  → kinds of steps: text, prepare",
        ),
    ):
        assert main(["reproduce", *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["reproduce", "wide", "--scale", "cpu", "--text", "t", "--tests", "t", "--families", "no.csv"]) == 3
    assert "cannot read the families in no.csv" in capsys.readouterr().err


def command(*words: str, after: tuple[str, ...] = (), name: str = "") -> Step:
    """A step that runs a quick command."""
    return Step(name or words[0], words, after)


LIST = ("configs", "demo", "--kind", "configs")


def run(steps: list[Step], place: Place, jobs: int = 2, only: set[str] | None = None) -> list[str]:
    """Runs what is missing, and returns which steps were run."""
    before = {step.name: place.marker(step).stat().st_mtime_ns for step in steps if place.marker(step).exists()}
    Runner(steps, done_steps(steps, place), place, jobs, 1).run(only or {step.name for step in steps})
    after = {step.name: place.marker(step).stat().st_mtime_ns for step in steps if place.marker(step).exists()}
    return [name for name in after if after[name] != before.get(name)]


def test_a_failing_step_ends_no_other_and_the_next_call_runs_what_is_missing(place: Place) -> None:
    place.study.mkdir()
    broken = place.study / "missing.yaml"
    steps = [
        command(*LIST, name="a/1"),
        command("configs", "no-such", name="b/1", after=("a/1",)),
        command(*LIST, name="c/1", after=("a/1",)),
        command(*LIST, name="d/1", after=("b/1", "c/1")),
    ]
    with pytest.raises(UserError) as error:
        run(steps, place)
    assert "1 of 4 steps failed, and 1 need them" in str(error.value)
    assert f"{place.log(steps[1])}: no file 'no-such' is shipped" in str(error.value)
    assert set(done_steps(steps, place)) == {"a/1", "c/1"} and not broken.exists()
    steps[1] = replace(steps[1], words=LIST)
    assert run(steps, place) == ["b/1", "d/1"]
    assert run(steps, place) == []
    assert place.log(steps[3]).read_text().startswith(f"$ {sys.executable} -m translit_scale configs demo")


@pytest.mark.parametrize(("times", "is_done"), [(3, True), (4, False)])
def test_a_step_that_ends_with_76_is_started_again_three_times(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int, is_done: bool
) -> None:
    """As a training does that has lost a rank, or has lowered its micro-batch after running out of memory."""
    place.study.mkdir()
    count = place.study / "starts"
    script = f"echo >> {count}; [ $(wc -l < {count}) -gt {times} ] || exit 76"
    monkeypatch.setattr(Runner, "_command", lambda self, step: ["sh", "-c", script])
    steps = [command(*LIST, name="a/1")]
    if is_done:
        assert run(steps, place) == ["a/1"]
    else:
        with pytest.raises(UserError, match="1 of 1 steps failed"):
            run(steps, place)
    assert len(count.read_text().splitlines()) == 4
    assert (capsys.readouterr().out.count("resumes   a/1 after"), "a/1" in done_steps(steps, place)) == (3, is_done)


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path

def kill(run):
    while not list(run.glob("checkpoints/step_*")):
        time.sleep(0.05)
    if not (run / "killed").exists():
        (run / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ.get("RANK") == "1" and "translit_scale" in sys.orig_argv:
    threading.Thread(target=kill, args=[Path(os.environ["KILLED_RUN"])], daemon=True).start()
"""


@pytest.mark.slow
def test_a_training_that_has_lost_a_rank_is_resumed(
    place: Place, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two ranks is killed, of which torchrun says only that it has failed; the training goes on by itself."""
    place.study.mkdir()
    run_directory = tmp_path / "runs/tiny"
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("KILLED_RUN", str(run_directory))
    words = ("train", "--config", str(experiment), "run.name=tiny", "train.max_steps=40")
    step = Step("train/ab/one-seed0", words, (), is_training=True)
    Runner([step], {}, place, jobs=1, ranks=2).run({step.name})
    assert capsys.readouterr().out.count("resumes   train/ab/one-seed0 after") == 1
    assert (run_directory / "killed").exists() and step.name in done_steps([step], place)
    assert len((run_directory / "starts.jsonl").read_text().splitlines()) == 2
    status = json.loads((run_directory / "STATUS.json").read_text())
    assert (status["state"], status["step"], status["exit_code"]) == ("finished", 40, 0)


@pytest.mark.parametrize(
    ("status", "resumes"),
    [
        ({"state": "running"}, True),
        ({"state": "failed", "exit_code": 76}, True),
        ({"state": "failed", "exit_code": 4}, False),
        ({"state": "stopped", "exit_code": 75}, False),
        (None, False),
    ],
)
def test_what_a_training_says_of_its_end_decides_whether_it_is_resumed(
    place: Place, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], status: dict[str, Any] | None, resumes: bool,
) -> None:  # fmt: skip
    """Not what an earlier start has said; and a loss that is not finite would only come again."""
    place.study.mkdir()
    path = tmp_path / "runs/tiny/STATUS.json"
    path.parent.mkdir(parents=True)
    write_json(path, {"state": "running"})
    os.utime(path, (0, 0))
    said = f"echo {shlex.quote(json.dumps(status))} > {path};" if status else ""
    monkeypatch.setattr(Runner, "_command", lambda self, step: ["sh", "-c", f"sleep 0.1; {said} exit 1"])
    step = Step("train/ab/one-seed0", ("train", "--config", str(experiment), "run.name=tiny"), (), is_training=True)
    with pytest.raises(UserError, match="1 of 1 steps failed"):
        Runner([step], {}, place, jobs=1, ranks=2).run({step.name})
    assert capsys.readouterr().out.count("resumes") == (3 if resumes else 0)


def test_a_step_is_run_again_if_its_command_or_what_it_reads_has_changed(place: Place) -> None:
    steps = [command(*LIST, name="a/1"), command(*LIST, name="b/1", after=("a/1",)), command(*LIST, name="c/1")]
    assert run(steps, place) == ["a/1", "b/1", "c/1"]
    steps[0] = replace(steps[0], words=("configs",))
    assert run(steps, place) == ["a/1", "b/1"]


def test_clocks_of_two_hosts_are_not_compared(place: Place) -> None:
    """The host of the first step is a minute ahead; markers without their inputs are from an earlier version."""
    steps = [command(*LIST, name="a/1"), command(*LIST, name="b/1", after=("a/1",))]
    write_marker(steps[0], place, 1.0, ended=time.time() + 60)
    assert run(steps, place) == ["b/1"] and run(steps, place) == []
    write_marker(steps[0], place, 1.0, ended=time.time() - 60)  # repeated on another host
    assert run(steps, place) == ["b/1"]
    for ended, is_done in ((7.0, True), (6.9, False)):
        write_marker(steps[0], place, 1.0, ended=7.0)
        write_marker(steps[1], place, 1.0, ended)
        assert ("b/1" in done_steps(steps, place)) == is_done


def test_a_job_waits_until_it_sees_what_another_host_has_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [command(*LIST, name="a/1"), command(*LIST, name="b/1", after=("a/1",)), command(*LIST, name="c/1")]
    monkeypatch.setattr(steps_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Path, "is_file", lambda path: False)  # what a network file system may remember
    writer = threading.Timer(0.2, write_marker, [steps[0], place, 1.0, 7.0])
    writer.start()
    assert set(await_inputs(steps, place, {"b/1"})) == {"a/1"}
    monkeypatch.setattr(steps_module, "SHARED_SECONDS", 0.05)
    assert set(await_inputs(steps, place, {"b/1", "c/1"})) == {"a/1"}
    writer.join()
    place.marker(steps[0]).unlink()
    began = time.monotonic()
    assert await_inputs(steps, place, {"b/1"}) == {} and time.monotonic() - began >= 0.05


def test_a_job_of_a_step_awaits_its_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    awaited: list[set[str]] = []
    monkeypatch.setattr(steps_module, "await_inputs", lambda steps, place, chosen: awaited.append(chosen) or {})
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert main(["reproduce", "paper_a", "--only=prepare/pol-ukr"]) == 2
    assert awaited == [{"prepare/pol-ukr"}]


def test_tables_that_cannot_be_made_do_not_hide_the_error_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor do they fail a job whose step is done."""
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / "out/results/pol-ukr/sr_b/model1-seed0.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    ends: list[type[BaseException] | None] = [UserError, None]
    for end, code in zip(ends, (2, 0), strict=True):
        error = end("the step has failed") if end else None
        monkeypatch.setattr(Runner, "run", MagicMock(side_effect=error))
        assert main(["reproduce", "paper_a", "--out", "out"]) == code
        said = capsys.readouterr().err
        assert "note: out/tables.md and curves.csv beside it are not up to date: " in said and damaged.name in said
        assert ("error: the step has failed" in said) == (end is not None)


def test_only_some_steps(place: Place) -> None:
    steps = [command(*LIST, name="a/1"), command(*LIST, name="b/1", after=("a/1",))]
    with pytest.raises(UserError, match="b/1 needs steps that are not done: a/1"):
        run(steps, place, only={"b/1"})
    assert run(steps, place, only={"a/1"}) == ["a/1"]
    assert run(steps, place, only={"b/1"}) == ["b/1"]


def test_a_training_shows_that_it_is_done_itself(tmp_path: Path, place: Place) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(STUDY)
    study = read_study(str(path))
    steps = steps_of(study, study.scales["tiny"], place)
    one = next(step for step in steps if step.name == "train/ab/one-seed0")
    for step in steps[:2]:
        write_json(place.marker(step), {"command": list(step.words), "seconds": 1.0, "ended": 1.0})
    assert one.name not in done_steps(steps, place)
    config = load_config(*train_words(one))
    config.run.path.mkdir(parents=True)
    (config.run.path / "config.yaml").write_text(config.to_yaml())
    write_json(config.run.path / "STATUS.json", {"state": "finished"})
    done = done_steps(steps, place)
    assert one.name in done
    table = overview(study, study.scales["tiny"], steps, done, 1)
    assert "\ntrain        3     1        2         ?" in table and "3 of 6 steps are missing" in table
    other = [replace(step, words=(*step.words, "train.lr=0.5")) if step is one else step for step in steps]
    assert one.name not in done_steps(other, place)
    with (config.run.path / "config.yaml").open("a") as file:
        file.write("no_longer_there: 1\n")  # by another version
    assert one.name not in done_steps(steps, place)


STOPPED = """
import sys
from pathlib import Path
from translit_scale.study.runner import Runner
from translit_scale.study.steps import Place, Step
class Sleeping(Runner):
    def _command(self, step):
        return ["sleep", "60"]
Sleeping([Step("a", (), ()), Step("b", (), ())], {}, Place(Path(sys.argv[1]), None, None), 2, 1).run({"a", "b"})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_running_steps(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "logs/b.log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    process.send_signal(number)
    process.wait(20)
    assert process.returncode != 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    place, step = Place(tmp_path, None, None), Step("a", (), ())
    assert not done_steps([step], place)
    so_far = unfinished_seconds(step, place)
    assert so_far > 0 and unfinished_seconds(replace(step, words=("train",)), place) == 0.0


def test_the_time_of_a_step_is_that_of_all_calls(place: Place) -> None:
    """A training that is killed and resumed would otherwise look quicker than it was."""
    step = command(*LIST, name="a/1")
    write_marker(step, place, 1000.0, ended=None)
    assert run([step], place) == ["a/1"]
    assert 1000 < done_steps([step], place)["a/1"]["seconds"] < 1060
    write_marker(step, place, 500.0, ended=1.0)
    Runner([step], {}, place, 1, 1).run({"a/1"})
    assert done_steps([step], place)["a/1"]["seconds"] < 60


def test_jobs_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step waits for those that it needs and are not done; trainings get the GPUs of their nodes."""
    monkeypatch.chdir(tmp_path)
    words = ["paper_a", "--slurm", "--dry-run", "--nodes", "2", "--gpus-per-node", "4", "--sbatch", "measure:--mem=9G"]
    assert main(["reproduce", *words]) == 0
    out = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=out, text=True, check=True)
    jobs = {line.partition("=$(")[0]: shlex.split(line.partition("=$(")[2].removesuffix(")"))
            for line in out.splitlines() if "=$(" in line}  # fmt: skip
    training, page = jobs["train_pol_ukr_model3_seed1"], jobs["page_pol_ukr"]
    assert {"--dependency=afterok:$tokenizer_pol_ukr", "--nodes=2", "--gpus-per-node=4"} <= set(training)
    assert training[training.index("--ds_config") :][:3] == ["--ds_config", "zero2", "--config"]
    assert "--job-name=studies-paper_a-minutes.train-pol-ukr-model3-seed1" in training
    assert page[-5:] == [
        "reproduce",
        "paper_a",
        "--scale=minutes",
        "--out=studies/paper_a-minutes",
        "--only=page/pol-ukr",
    ]
    needed = next(word for word in page if word.startswith("--dependency=")).removeprefix("--dependency=afterok:")
    assert set(needed.split(":")) >= {"$train_pol_ukr_model1_seed0", "$retrieval_pol_ukr", "$dynamics_pol_ukr"}
    assert "--mem=9G" in page and "--mem=9G" not in training and not any("dependency" in word for word in jobs["text"])


Write = Callable[..., None]


@pytest.fixture
def write_result(tmp_path: Path) -> Write:
    """Writes a result of retrieval with given ranks."""

    def write(label: str, ranks: Any, ids: Any = None, pairs: Any = (("pol_Latn", "ukr_Cyrl"),)) -> None:
        """`ranks` of each direction: one list for all, or a list for each."""
        folder = tmp_path / "results/ab/sr_b"
        folder.mkdir(parents=True, exist_ok=True)
        head = {"schema": 1, "task_name": "sr_b", "task_type": "retrieval", "model": {"label": label}, "settings": {}}
        lists = ranks if isinstance(ranks[0], list) else [ranks] * len(pairs)
        tests, arrays = [], {}
        for (query, candidates), of_pair in zip(pairs, lists, strict=True):
            tops = {f"top{k}": float(np.mean(np.array(of_pair) <= k)) for k in (1, 5, 10)}
            tests.append({"query": query, "candidates": candidates, "n": len(of_pair), **tops})
            arrays[f"ids:{query}->{candidates}"] = np.array(ids or [str(index) for index in range(len(of_pair))])
            arrays[f"rank:{query}->{candidates}"] = np.array(of_pair)
        (folder / f"{label}.json").write_text(json.dumps({**head, "scores": {"test": tests}}))
        np.savez(folder / f"{label}.items.npz", **arrays)

    return write


def tiny_study(tmp_path: Path) -> Study:
    path = tmp_path / "own.yaml"
    path.write_text(STUDY)
    return read_study(str(path))


def test_tables_of_variants_and_of_their_differences(write_result: Write, tmp_path: Path) -> None:
    """By hand: of four queries, those whose translation is among the first ten; differences over common seeds only."""
    study = tiny_study(tmp_path)
    (tmp_path / "results/ab").mkdir(parents=True)  # a measurement that was killed at its start
    assert "|" not in study_tables(study, study.scales["tiny"], tmp_path)
    write_result("one-seed0", [1, 11, 12, 13])
    write_result("one-seed1", [1, 2, 12, 13])
    write_result("two-seed0", [1, 10, 3, 13])
    rows = rows_of(study_tables(study, study.scales["tiny"], tmp_path))
    assert rows["one"][0] == "2" and rows["one"][1].startswith("37.5 [")
    assert rows["two"][0] == "1" and rows["two"][1].startswith("75.0 [")
    assert rows["two − one"][0] == "1" and rows["two − one"][1].startswith("+50.0 [")
    write_result("two-seed0", [1, 10, 3, 13], ids=["0", "1", "2", "other"])
    with pytest.raises(DataError, match="different sentences"):
        study_tables(study, study.scales["tiny"], tmp_path)


def rows_of(text: str) -> dict[str, list[str]]:
    """First cell → other cells of all rows of Markdown tables."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in cells}


def test_many_directions_are_averaged_over_languages(write_result: Write, tmp_path: Path) -> None:
    """Of four languages beside one source there are two columns; if all are sources, one for each."""
    study, others = tiny_study(tmp_path), [f"{code}_Latn" for code in ("aaa", "bbb", "ccc", "ddd")]
    star = [("eng_Latn", code) for code in others] + [(code, "eng_Latn") for code in others]
    right, wrong, half = [1, 1], [11, 11], [1, 11]
    write_result("one-seed0", [wrong, wrong, wrong, half, *[half] * 4], pairs=star)
    write_result("two-seed0", [right, wrong, half, half, *[half] * 4], pairs=star)
    rows = rows_of(study_tables(study, study.scales["tiny"], tmp_path))
    assert rows[""] == ["seeds", "top-10 %, eng_Latn → 4 languages", "top-10 %, 4 languages → eng_Latn"]
    assert [cell.split(" ")[0] for cell in rows["one"]] == ["1", "12.5", "50.0"]
    assert [cell.split(" ")[0] for cell in rows["two"]] == ["1", "50.0", "50.0"]
    assert rows["two − one"][1].startswith("+37.5 [") and rows["chance"] == ["", "100.0", "100.0"]
    first = study.scales["tiny"].model_copy(update={"top": 1})
    write_result("one-seed0", [[1, 2]] * 8, pairs=star)
    assert rows_of(study_tables(study, first, tmp_path))["one"][1].startswith("50.0 [")
    every = [(a, b) for a in others for b in others if a != b]
    write_result("one-seed0", half, pairs=every)
    write_result("two-seed0", half, pairs=every)
    rows = rows_of(study_tables(study, study.scales["tiny"], tmp_path))
    assert rows[""][1:] == [f"top-10 %, {code} → 3 languages" for code in others]


@pytest.mark.parametrize(("languages", "end"), [(5, "]"), (6, "] *")])
def test_differences_of_a_few_languages_are_not_marked(
    write_result: Write, tmp_path: Path, languages: int, end: str
) -> None:
    """However much they agree, five languages of one sign are no evidence (as `report tables --table averages`)."""
    study = tiny_study(tmp_path)
    others = [f"{letter}aa_Latn" for letter in "abcdef"[:languages]]
    pairs = [pair for code in others for pair in (("eng_Latn", code), (code, "eng_Latn"))]
    write_result("one-seed0", [[11, 11]] * len(pairs), pairs=pairs)
    write_result("two-seed0", [[1, 1]] * len(pairs), pairs=pairs)
    difference = rows_of(study_tables(study, study.scales["tiny"], tmp_path))["two − one"][1]
    assert difference == f"+100.0 [+100.0, +100.0{end}"


def test_intervals_over_seeds_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    values = [rng.integers(-1, 2, 40) for _ in range(3)]
    found = over_seeds([value.astype(np.float64) for value in values])
    draws = []
    for _ in range(4000):
        items, seeds = rng.integers(0, 40, 40), rng.integers(0, 3, 3)
        draws.append(np.mean([values[seed][items].mean() for seed in seeds]))
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.02)


@pytest.mark.parametrize(
    ("name", "scale_name", "number"),
    [
        ("paper_a", "gpu", 14),
        ("paper_a", "cpu", 14),
        ("wide", "cpu", 3),
        ("beyond", "cpu", 5),
        ("contrast", "cpu", 5),
        ("paper_b", "cpu", 7),
        ("paper_b", "e5-cpu", 5),
    ],
)
def test_the_tables_of_the_document_are_those_of_the_committed_results(name: str, scale_name: str, number: int) -> None:
    folder = ROOT / "docs/study" / f"{name}-{scale_name}"
    study, document = read_study(name), (ROOT / "docs/study.md").read_text()
    tables = [part for part in study_tables(study, study.scales[scale_name], folder).split("\n\n") if part[0] == "|"]
    assert len(tables) == number
    assert not [table for table in tables if table.strip() not in document]


def test_the_dynamics_in_the_document_are_those_of_the_committed_analysis() -> None:
    document = (ROOT / "docs/study.md").read_text()
    (table,) = (part for part in document.split("\n\n") if part.startswith("| sim(s, t), mean / AUC %"))
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert len(lines) == 10
    for name, *cells in lines:
        pair, run = name.split("/")
        with (ROOT / f"docs/study/paper_a-cpu/analysis/{pair}/sr_b/dynamics.csv").open() as file:
            values = {
                (row["step"], row["measure"]): float(row["value"])
                for row in csv.DictReader(file)
                if (row["run"], row["what"]) == (run, "sim(s, t)")
                and row["direction"] == {"hin-urd": "urd_Arab-hin_Deva", "pol-ukr": "ukr_Cyrl-pol_Latn"}[pair]
            }
        for step, cell in zip([text.removeprefix("step ") for text in head[1:]], cells, strict=True):
            assert cell == f"{values[step, 'matched']:.2f} / {100 * values[step, 'separability']:.0f}"


def test_the_averages_in_the_document_are_those_of_the_committed_table() -> None:
    """A row of the document has two models and their difference from English, and the difference from Hindi."""
    averages = (ROOT / "docs/study/wide-cpu/averages.txt").read_text()
    found = [cells_of_averages(part) for part in averages.split("**SR-B from ")[1:]]
    document = (ROOT / "docs/study.md").read_text()
    (table,) = (part for part in document.split("\n\n") if part.startswith("| languages") and "hin_Deva: diff" in part)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert len(rows) > 15
    for group, *cells in rows:
        assert cells == [*found[0][group], found[1][group][-1]], group


def cells_of_averages(part: str) -> dict[str, list[str]]:
    """Group → number of languages, and the last column (top-10) of both models and of their difference."""
    cells: dict[str, list[str]] = {}
    group = ""
    for line in part.splitlines():
        if line.startswith("|"):
            first, n, *_, last = (cell.strip() for cell in line.strip("|").split("|"))
            group = first or group
            cells.setdefault(group, [n]).append(last)
    return cells


def test_the_numbers_of_single_trainings_in_the_document() -> None:
    """Its rows that begin with the name of a run and a step are those of the committed curves."""
    curves: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for scale in ("gpu", "cpu"):
        with (ROOT / f"docs/study/paper_a-{scale}/curves.csv").open() as file:
            for row in csv.DictReader(file):
                curves.setdefault((row["run"], row["step"]), []).append(row)
    rows = [
        ([float(cell) for cell in line.split("|")[3:6]], curves[key])
        for line in (ROOT / "docs/study.md").read_text().splitlines()
        if line.count("|") > 6 and (key := tuple(cell.strip() for cell in line.split("|")[1:3])) in curves
    ]
    assert len(rows) == 10
    for cells, found in rows:
        of_runs = [[float(row[name] or "nan") for name in ("top1", "loss_tcm", "loss_mlm_orig")] for row in found]
        assert any(cells == pytest.approx(values, abs=0.0051) for values in of_runs)


def test_curves_are_written_and_summarized(place: Place, tmp_path: Path) -> None:
    """By hand: a mean over the last five records, the median of the speed; a line that a kill cut off is left out."""
    path = tmp_path / "own.yaml"
    path.write_text(STUDY)
    study = read_study(str(path))
    runs = runs_of(study, study.scales["tiny"])
    two = next(run for run in runs if run.label == "two-seed0")
    place.run(two).mkdir(parents=True)
    records = [
        {
            "step": 10 * i,
            "train/loss_mlm_orig": float(i),
            "train_tcm/top1": 0.1 * i,
            "train_speed/pairs_per_sec": 8.0 * i,
        }
        for i in range(1, 7)
    ]
    lines = [json.dumps(record) for record in records] + ['{"step": 70, "validation/loss": 3}', '{"step": 80, "tra']
    (place.run(two) / "metrics.jsonl").write_text("\n".join(lines))
    assert training_table(place.study, runs) == ""
    write_curves(runs, place)
    rows = (place.study / "curves.csv").read_text().splitlines()
    assert len(rows) == 7 and rows[-1] == "ab/two-seed0,60,6,,,,,0.6,48,"
    (place.run(two) / "metrics.jsonl").unlink()
    write_curves(runs, place)
    assert (place.study / "curves.csv").read_text().splitlines() == rows
    table = rows_of(training_table(place.study, runs))
    assert table["two-seed0"] == ["60", "4.00", "–", "–", "–", "40", "28"] and "one-seed0" not in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "corpus", "steps", "run_name", "row"),
    [
        ("paper_a", "pol-ukr", 15, "model3-seed0", "| model3 − model2 |     2 |"),
        ("paper_b", "demo", 10, "mlm_seq-seed0", "| mlm_seq − mlm "),
        ("wide", "demo", 7, "mlm_seq-seed0", "| mlm_seq − mlm "),
        ("contrast", "pol-ukr", 10, "model3-seed0", "| micro16 − model3 "),
        ("beyond", "pol-ukr", 9, "pieces-seed0", "| pieces − model3 "),
    ],
)
def test_the_minutes_scale_from_text_to_page_and_tables(
    name: str, corpus: str, steps: int, run_name: str, row: str, tmp_path: Path
) -> None:
    """A shipped study as a user runs it, killed once in the middle."""
    words = [sys.executable, "-m", "translit_scale", "reproduce", name, "--jobs", "2", "--out", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("done      train"):
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    rest = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    done = [line for line in rest.stdout.splitlines() if line.startswith("done")]
    assert len(done) == len({line.split()[1] for line in done}) < steps
    page, tables = (tmp_path / f"{corpus}.html").read_text(), (tmp_path / "tables.md").read_text()
    assert run_name in page and row in tables
    listed = subprocess.run([*words, "--list"], capture_output=True, text=True)
    assert f"all {steps} steps are done" in listed.stdout
