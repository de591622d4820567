"""Training, preparing and the whole chain under a real SLURM (tests/support/slurm.py), with its faults."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.hosts import Hosts, wait_until
from tests.support.labelled_world import write_sib200
from tests.support.ranks import ROOT, Ranks
from tests.support.slurm import Slurm
from tests.support.small_corpus import contents, run, write_corpus
from tests.support.tiny import make_config

pytestmark = [pytest.mark.hosts, pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPTS = ROOT / "scripts" / "slurm"
VARIABLES = {
    "VENV": sys.prefix, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
STEPS = 100
SECONDS_TO_END = 60
"""From a fault until all ranks have ended."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Hosts(tmp_path_factory.mktemp("cluster")) as hosts, Slurm(hosts) as cluster:
        yield cluster


def losses(run_folder: Path) -> dict[int, float]:
    """The loss of each step that is logged; a step that was taken again has its last one."""
    path = run_folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return {record["step"]: record["train/loss"] for record in records if "train/loss" in record}


class Training:
    """A training with a rank on each of two nodes, submitted as docs/launching.md says."""

    def __init__(self, slurm: Slurm, world: Path, folder: Path) -> None:
        self.slurm, self.folder, self.run, self.log = slurm, folder, folder / "runs/tiny", folder / "train.log"
        config = make_config(
            world, train__max_steps=STEPS, train__batch_pairs=48, run__dir=folder / "runs", run__log_every=1,
            run__checkpoint_every=20, run__lost_seconds=20,
        )  # fmt: skip
        (folder / "tiny.yaml").write_text(config.to_yaml())
        self.job = ""

    @property
    def words(self) -> list[str]:
        return ["--ds_config", str(ROOT / "ds_configs/zero1.json"), "--config", "tiny.yaml"]

    def submit(self, **variables: str) -> None:
        options = ["--nodes=2", "--ntasks-per-node=1", f"--output={self.log}"]
        script = SCRIPTS / "train.sbatch"
        self.job = self.slurm.submit(*options, script, *self.words, cwd=self.folder, env=VARIABLES | variables)

    def wait_for_steps(self, number: int) -> None:
        """Returns when training has taken so many more steps in this start of the job."""
        self.slurm.wait_for(self.job, ["RUNNING"])
        before = max(losses(self.run), default=0)
        what = f"step {before + number} (see {self.log})"
        wait_until(lambda: max(losses(self.run), default=0) >= before + number, 240, what)

    def seconds_to_end(self, fault: Callable[[], object]) -> float:
        """From the fault to the end of all ranks."""
        began = time.monotonic()
        fault()
        wait_until(lambda: not self.slurm.ranks("translit-scale train"), SECONDS_TO_END, "the end of all ranks")
        return time.monotonic() - began

    @property
    def starts(self) -> list[int]:
        """The steps at which training has started."""
        return [json.loads(line)["step"] for line in (self.run / "starts.jsonl").read_text().splitlines()]


def test_a_training_goes_on_after_every_end(slurm: Slurm, tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """The time limit, `scontrol requeue`, preemption and the loss of a node, all in one job."""
    training = Training(slurm, tiny_world, tmp_path)
    training.submit()
    job, seconds = training.job, {}

    def limit_time() -> None:
        minutes = int(slurm.fields(job)["RunTime"].split(":")[1])
        slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 2}")
        # SLURM looks at time limits every 30 seconds, in which a quick machine would take all steps.
        deadline = time.monotonic() + SECONDS_TO_END
        while "asked to stop" not in training.log.read_text() and time.monotonic() < deadline:
            for sent, pause in ((signal.SIGSTOP, 5), (signal.SIGCONT, 0.5)):
                for pid in slurm.hosts.pids("host2", "translit-scale train"):
                    with suppress(ProcessLookupError):
                        os.kill(pid, sent)
                time.sleep(pause)

    def preempt() -> None:
        slurm.submit("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "srun true")

    faults: dict[str, Callable[[], object]] = {
        "time limit": limit_time,
        "requeue": lambda: slurm.run("scontrol", "requeue", job),
        "preemption": preempt,
        "node loss": lambda: slurm.power_off("host2"),
    }
    for number, (name, fault) in enumerate(faults.items(), 1):
        training.wait_for_steps(3)
        seconds[name] = training.seconds_to_end(fault)
        slurm.wait_for(job, ["PENDING"], 60)
        assert slurm.restarts(job) == number, name
        slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
        if name == "node loss":
            slurm.power_on("host2")
    assert slurm.wait_for(job) == "COMPLETED", training.log.read_text()[-3000:]
    print("seconds until all ranks have ended:", {name: round(value, 1) for name, value in seconds.items()})

    starts = training.starts
    assert len(starts) == 5 and starts[0] == 0 < starts[1] < starts[2] < starts[3] <= starts[4]
    assert training.log.read_text().count("asked to stop: checkpoint") == 3  # the lost node had no time for it
    reference = [*training.words[:-1], str(tmp_path / "tiny.yaml"), f"run.dir={tmp_path / 'reference'}"]
    run_ranks(2, ROOT / "scripts/train.py", *reference)
    assert losses(training.run) == losses(tmp_path / "reference/tiny")
    assert len(losses(training.run)) == STEPS


def test_restarts_are_limited_and_cancelled_jobs_stay_cancelled(slurm: Slurm, tiny_world: Path, tmp_path: Path) -> None:
    training = Training(slurm, tiny_world, tmp_path)
    training.submit(MAX_RESTARTS="1")
    training.wait_for_steps(2)
    seconds = training.seconds_to_end(lambda: slurm.run("scancel", "--signal=USR1", training.job))
    print(f"signal: all ranks have ended after {seconds:.1f} s")
    slurm.wait_for(training.job, ["PENDING"], 60)
    training.wait_for_steps(2)
    assert slurm.restarts(training.job) == 1
    killed = slurm.hosts.pids("host2", "translit-scale train")
    seconds = training.seconds_to_end(lambda: [os.kill(pid, signal.SIGKILL) for pid in killed])
    print(f"rank killed: all ranks have ended after {seconds:.1f} s")
    assert slurm.wait_for(training.job) == "FAILED"
    assert "after 1 restarts: not queued again" in training.log.read_text()

    training.submit()  # the same command resumes
    training.wait_for_steps(2)
    seconds = training.seconds_to_end(lambda: slurm.run("scancel", training.job))
    assert slurm.wait_for(training.job) == "CANCELLED"
    wait_until(lambda: "so it is left to SLURM" in training.log.read_text(), 30, "the message")
    assert slurm.state(training.job) == "CANCELLED" and slurm.restarts(training.job) == 0
    assert len(training.starts) == 3 and training.starts[-1] > 0


def lose_node(slurm: Slurm, task: str, command: str) -> None:
    """Takes the power from the node of a task of an array, while it runs this command; SLURM queues the task again."""
    slurm.wait_for(task, ["RUNNING"])
    node = slurm.fields(task)["NodeList"]
    wait_until(lambda: slurm.hosts.pids(node, command), 60, f"the start of {command}")
    for pid in slurm.hosts.pids(node, command):
        os.kill(pid, signal.SIGSTOP)  # or it might finish before its end
    slurm.power_off(node)
    slurm.wait_for(task, ["PENDING"], 60)
    assert slurm.restarts(task) == 1
    slurm.power_on(node)


def test_lost_array_tasks_are_made_again(slurm: Slurm, tmp_path: Path) -> None:
    """A task is cancelled, and so is the job that waits for all; the same commands again make the same set.

    The second time a node is lost while a task runs there: SLURM does this task again.
    """
    data, out = write_corpus(tmp_path / "data"), tmp_path / "set"
    words = [data / "recipe.yaml", "--out", out]

    def submit(*options: str) -> tuple[str, str]:
        log = f"--output={tmp_path}/%x-%A_%a.log"
        array = slurm.submit("--array=0-2", log, *options, SCRIPTS / "prepare_array.sbatch", *words, env=VARIABLES)
        after = [f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"]
        return array, slurm.submit(log, *after, SCRIPTS / "prepare_finalize.sbatch", *words, env=VARIABLES)

    array, finalize = submit("--hold")
    slurm.run("scancel", f"{array}_1")
    slurm.run("scontrol", "release", array)
    assert slurm.wait_for(finalize) == "CANCELLED"
    assert not (out / "manifest.json").exists()
    array, finalize = submit()
    lose_node(slurm, f"{array}_1", "translit-scale prepare")
    assert slurm.wait_for(finalize) == "COMPLETED"
    run(data, tmp_path / "plain")
    assert contents(out) == contents(tmp_path / "plain")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A working directory with text, test sets and an experiment, and nothing made of them."""
    write_corpus(tmp_path / "data")
    write_sib200(tmp_path / "tests", ("pol_Latn", "ukr_Cyrl"))
    config = make_config(
        tmp_path, data__shards="shards/small", model__tokenizer="shards/tokenizer", train__max_steps=8, run__dir="runs"
    )
    (tmp_path / "tiny.yaml").write_text(config.to_yaml())
    return tmp_path


def test_the_whole_chain_from_text_to_the_report(slurm: Slurm, project: Path) -> None:
    """One command; a job of it fails because a test set is missing in its folder, and the same command does the rest.

    A node is lost while it evaluates: SLURM does this task of the array again.
    """
    scratch = project / "scratch"
    command = [
        sys.executable, "-m", "translit_scale.cli", "submit", "--config", "tiny.yaml", "--ds_config", "zero1",
        "--nodes", "2", "--prepare", "data/recipe.yaml --data data", "--tokenizer", "--vocab-size 90",
        "--evaluate", "--data tests --task sib200 --task sr_f --source pol_Latn --epochs 1 --num-seeds 2",
        "--report", "--table a2", "--stage", f"{scratch}/$SLURM_JOB_NUM_NODES", "--sbatch=--mem-per-cpu=1G",
        "--sbatch", "prepare:--array=0-1", "--sbatch", "finetune:--array=0-1", "--sbatch=--time=5",
    ]  # fmt: skip

    def submit(*more: str) -> dict[str, str]:
        out = slurm.run(*command, *more, cwd=project, env=VARIABLES)
        return dict(re.findall(r"^(\w+) +job (\d+)$", out, re.MULTILINE))

    (project / "tests").rename(project / "elsewhere")
    with pytest.raises(AssertionError, match="there is no folder tests"):
        submit()
    (project / "tests").mkdir()
    jobs = submit()
    with pytest.raises(AssertionError, match="in the queue already"):
        submit()
    assert slurm.wait_for(jobs["report"]) == "FAILED"
    assert [slurm.state(jobs[name]) for name in ("export", "evaluate")] == ["COMPLETED", "FAILED"], _logs(project)
    assert len(list(scratch.glob("2/shards-*/manifest.json"))) == 1
    (project / "tests").rmdir()
    (project / "elsewhere").rename(project / "tests")
    jobs = submit()
    assert list(jobs) == ["finetune", "evaluate", "report"]
    lose_node(slurm, f"{jobs['finetune']}_0", "translit-scale evaluate")
    assert slurm.wait_for(jobs["report"]) == "COMPLETED", _logs(project)
    table = (project / "results/tables/a2.md").read_text()
    assert "tiny" in table
    assert submit() == {}


def _logs(project: Path) -> str:
    return _texts(project / "runs/tiny/slurm")


def _texts(logs: Path) -> str:
    paths = sorted(logs.glob("*.log"))
    return "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in paths)


def test_a_study_as_jobs(slurm: Slurm, tmp_path: Path) -> None:
    """Jobs wait for those that they need; what is done is not submitted again, and one process finds it done, too."""
    shipped = (ROOT / "configs/study/paper_a.yaml").read_text()
    variants = "    seeds: {model1: [0], model2: [0, 1], model3: [0, 1], model4: [0], model5: [0]}\n"
    assert variants in shipped and "train.max_steps=40" in shipped
    shipped = shipped.replace(variants, "    seeds: {model3: [0]}\n", 1).replace(
        "train.max_steps=40", "train.max_steps=8", 1
    )
    (tmp_path / "small.yaml").write_text(shipped)
    command = [sys.executable, "-m", "translit_scale.cli", "reproduce", "small.yaml"]
    only = ["--only", "text", "--only", "prepare", "--only", "tokenizer", "--only", "train", "--only", "retrieval"]
    options = ["--slurm", "--nodes", "2", "--sbatch=--mem-per-cpu=1G", "--sbatch=--time=5"]

    def submit() -> dict[str, str]:
        out = slurm.run(*command, *only, *options, cwd=tmp_path, env=VARIABLES)
        return dict(re.findall(r"^(\S+) +job (\d+)$", out, re.MULTILINE))

    jobs = submit()
    assert [name.partition("/")[0] for name in jobs] == ["text", "prepare", "tokenizer", "train", "retrieval"]
    logs = tmp_path / "studies/small-minutes/slurm"
    assert slurm.wait_for(jobs["retrieval/pol-ukr"]) == "COMPLETED", _texts(logs)
    assert submit() == {}
    out = slurm.run(*command, *only, cwd=tmp_path, env=VARIABLES)
    assert "done      " not in out
    metrics = tmp_path / "studies/small-minutes/runs/pol-ukr/model3-seed0/environment.json"
    assert json.loads(metrics.read_text())["world_size"] == 2
