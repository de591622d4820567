"""Training on several hosts: every launcher, ranks that differ, and everything that breaks while they train.

The hosts are namespaces of this machine with a network of their own (tests/support/hosts.py). docs/scaling.md has the
table of faults; the times that this file measures are printed with `pytest -s`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.host_ranks import HostRanks, Job
from tests.support.hosts import Hosts, reason_without, wait_until
from tests.support.ranks import ENVIRONMENT, ROOT
from tests.support.tiny import make_config, make_shards
from tests.support.train_script import SCRIPT, ZERO2, records
from translit_scale.errors import EXIT_LOST
from translit_scale.train.checkpointing.checkpoint import complete_checkpoints
from translit_scale.train.launching.preemption import EXIT_PREEMPTED

pytestmark = [pytest.mark.slow, pytest.mark.hosts, pytest.mark.timeout(600)]

LOST_SECONDS = 20
"""`run.lost_seconds` of the jobs, the least that is allowed."""
LIMIT_SECONDS = LOST_SECONDS + 30
"""Within which all ranks must have ended."""
BOTH = ["host1", "host2"]
TOOLS = Path(sys.executable).parent


@dataclass
class Place:
    """Two hosts, ranks that start quickly, and an experiment in a folder that both share."""

    hosts: Hosts
    ranks: HostRanks
    folder: Path

    def words(self, name: str, *words: object) -> list[object]:
        """Words of `translit-scale` for a run of this name."""
        return ["train", "--config", self.folder / "tiny.yaml", "--ds_config", ZERO2, f"run.name={name}", *words]

    def run(self, name: str) -> Path:
        """The run directory."""
        return self.folder / "runs" / name

    def losses(self, name: str) -> dict[int, float]:
        """The loss of each step."""
        return {record["step"]: record["train/loss"] for record in records(self.run(name)) if "train/loss" in record}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_world: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hosts")
    run = {"dir": folder / "runs", "log_every": 1, "checkpoint_every": 10, "lost_seconds": LOST_SECONDS}
    changes = {f"run__{name}": value for name, value in run.items()}
    config = make_config(tiny_world, train__max_steps=100_000, model__dropout=0.0, **changes)
    (folder / "tiny.yaml").write_text(config.to_yaml())
    with Hosts(folder) as hosts:
        yield Place(hosts, HostRanks(hosts, folder), folder)


# -- launchers ---------------------------------------------------------------------------------------------------------


def launcher_commands(place: Place, what: list[object]) -> dict[str, dict[str, list[object]]]:
    """For each launcher what to start on which host."""
    hostfile = place.folder / "hostfile"
    hostfile.write_text("host1 slots=1\nhost2 slots=1\n")
    torchrun = [TOOLS / "torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", "host1:29400", SCRIPT, *what, "run.name=torchrun"]
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", "--host", "host1,host2"]
    mpirun += ["--mca", "btl_tcp_if_include", "eth0", "--mca", "oob_tcp_if_include", "eth0", "-x", "MASTER_ADDR=host1"]
    mpirun += [word for name in ENVIRONMENT for word in ("-x", name)]
    deepspeed = [TOOLS / "deepspeed", "--hostfile", hostfile, "--master_addr", "host1", SCRIPT]
    return {
        "torchrun": dict.fromkeys(BOTH, torchrun),
        "deepspeed": {"host1": [*deepspeed, *what, "run.name=deepspeed"]},
        "mpirun": {"host1": [*mpirun, sys.executable, SCRIPT, *what, "run.name=mpirun"]},
    }


def test_every_launcher_makes_one_world(place: Place) -> None:
    """And the losses are those of one process. `srun` is tested in test_slurm.py."""
    if reason := reason_without({"pdsh": "pdsh", "mpirun": "openmpi-bin"}):
        pytest.skip(reason)
    what = [*place.words("")[1:-1], "train.max_steps=3"]
    commands = launcher_commands(place, what)
    environment = ENVIRONMENT | {"PATH": f"{TOOLS}:/usr/bin:/bin:/usr/sbin:/sbin"}
    alone = place.ranks.start(["host1"], place.words("alone", "train.max_steps=3"))
    started = {
        name: [place.hosts.start(host, command, environment, place.folder) for host, command in on_hosts.items()]
        for name, on_hosts in commands.items()
    }
    assert alone.wait(120) == [0], alone.output()
    expected = place.losses("alone")
    for name, processes in started.items():
        for process in processes:
            assert process.wait(240) == 0, process.output()
        record = json.loads((place.run(name) / "environment.json").read_text())
        assert [(host["host"], host["ranks"]) for host in record["hosts"]] == [("host1", [0]), ("host2", [1])]
        assert record["job"]["launcher"].startswith(name) or name == "torchrun", record["job"]
        losses = place.losses(name)
        np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)
        assert (place.run(name) / "logs/rank_0001.log").read_text().count(" on host2") == 1


def test_doctor_and_a_run_directory_that_is_not_shared(place: Place) -> None:
    """The doctor names all faults at once; a training ends with the first one."""
    place.hosts.mount_tmpfs("host2", Path("/mnt"))
    words = ["doctor", "--config", place.folder / "tiny.yaml"]
    fault = time.time()
    training = place.ranks.start(BOTH, place.words("private", "run.dir=/mnt/runs"))
    good = place.ranks.start(BOTH, words)
    bad = place.ranks.start(BOTH, [*words, "run.dir=/mnt/runs"], {1: ["train.lr=0.7"]})
    assert good.wait(120) == [0, 0] and "2 ranks of " in good.output() and "ready to train" in good.output()
    codes = [bad.wait(120)[0], *training.wait(120)]
    place.hosts.unmount("host2", Path("/mnt"))
    (frozen := place.folder / "frozen").mkdir()
    for host in BOTH:
        place.hosts.mount_read_only(host, frozen)
    nowhere = place.ranks.start(BOTH, [*words, f"run.dir={frozen}"])
    assert nowhere.wait(120)[0] == 2 and "host1 cannot write there: Read-only file system" in one_line(nowhere.output())
    for host in BOTH:
        place.hosts.unmount(host, frozen)
    shutil.rmtree("/mnt/runs", ignore_errors=True)
    assert codes[0] == 2 and 3 in codes[1:], bad.output() + training.output()
    print(f"\nrun directory not shared: {training.ended() - fault:.0f} s, exit codes {codes[1:]}")
    assert training.ended() - fault < 60
    assert "train.lr: 0.001 (rank 0 on host1); 0.7 (rank 1 on host2)" in one_line(bad.output())
    for job in (bad, training):
        assert "not all hosts share the run directory /mnt/runs" in one_line(job.output())
        assert "host2 does not see what the first rank has written there" in one_line(job.output())


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_an_error_that_only_the_first_rank_finds_is_that_of_all(place: Place) -> None:
    """Not a lost rank: a batch script would start the training again."""
    (run := place.run("taken")).mkdir(parents=True)
    with (run / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        job = place.ranks.start(BOTH, place.words("taken"))
        assert job.wait(120) == [3, 3], job.output()
    assert job.ranks[0].output.count("is in use") == 1 == job.ranks[1].output.count("is in use"), job.output()


# -- ranks that differ -------------------------------------------------------------------------------------------------


def test_hosts_that_differ_do_not_train(place: Place, tiny_world: Path) -> None:
    """Another setting, seed, code or shard set on one host."""
    other = make_shards(place.folder / "other", {"ukr_Cyrl": 96, "bul_Cyrl": 64})
    code = place.folder / "code/translit_scale"
    shutil.copytree(ROOT / "translit_scale", code)
    (code / "cores.py").open("a").write("# another version\n")
    expected = {
        "setting": "train.lr: 0.001 (rank 0 on host1); 0.5 (rank 1 on host2)",
        "seed": "train.seed: 0 (rank 0 on host1); 3 (rank 1 on host2)",
        "code": "version.translit-scale: ",
        "shards": "shards: ",
    }
    words = {"setting": {1: ["train.lr=0.5"]}, "seed": {1: ["train.seed=3"]}}
    for names, mounted, at in (
        (["setting", "seed", "shards"], other, tiny_world / "shards"),
        (["code"], code, ROOT / "translit_scale"),
    ):
        place.hosts.run("host2", ["mount", "--bind", mounted, at])
        fault = time.time()
        jobs = {name: place.ranks.start(BOTH, place.words(name), words.get(name)) for name in names}
        ends = {name: job.wait(LIMIT_SECONDS + 60) for name, job in jobs.items()}
        place.hosts.unmount("host2", at)
        for name, job in jobs.items():
            measured(f"other {name}", job, fault, ends[name])
            assert set(ends[name]) & {2, 3} and expected[name] in one_line(job.output()), job.output()
            assert "(rank 0 on host1)" in one_line(job.output()) and not place.run(name).exists()


# -- faults while they train -------------------------------------------------------------------------------------------


def began(place: Place, name: str, hosts: list[str], *words: object) -> Job:
    """A job that has written a checkpoint."""
    job = place.ranks.start(hosts, place.words(name, *words))
    checkpoints = place.run(name) / "checkpoints"
    wait_until(lambda: complete_checkpoints(checkpoints) or job.ranks[0].end(), 120, f"a checkpoint of {name}")
    assert complete_checkpoints(checkpoints), job.output()
    return job


def measured(name: str, job: Job, fault: float, codes: list[int]) -> None:
    """Prints a row of the table of docs/scaling.md, and checks that it took no longer than promised."""
    seconds = job.ended() - fault
    print(f"\n{name}: {seconds:.0f} s, exit codes {codes}")
    assert seconds <= LIMIT_SECONDS, job.output()


def assert_resumes(place: Place, hosts_of: dict[str, list[str]]) -> None:
    """The same commands go on from whole checkpoints, upon the curve of a training without faults."""
    jobs, starts = {}, {}
    for name, hosts in hosts_of.items():
        newest = complete_checkpoints(place.run(name) / "checkpoints")[-1]
        starts[name] = int(newest.name.removeprefix("step_"))
        jobs[name] = place.ranks.start(hosts, place.words(name))
    for name, job in jobs.items():
        job.await_text(f"resumed from {place.run(name) / 'checkpoints' / f'step_{starts[name]:06}'}")
        job.await_text(f"step {starts[name] + 3}/")
        job.signal(0, signal.SIGUSR1)
        assert set(job.wait(60)) == {EXIT_PREEMPTED}, job.output()
    curves = [place.losses(name) for name in jobs]
    common = range(1, min(max(curve) for curve in curves))
    for curve in curves:  # all of them are the same experiment
        np.testing.assert_allclose([curve[s] for s in common], [curves[0][s] for s in common], rtol=1e-4)


def test_ranks_that_end_or_stop(place: Place) -> None:
    """All at the same time: each is a job of its own on the same two hosts."""
    jobs = {name: place.ranks.start(BOTH, place.words(name, *words)) for name, words in ENDS.items()}
    for name in jobs:
        wait_until(
            lambda name=name: complete_checkpoints(place.run(name) / "checkpoints"), 120, f"a checkpoint of {name}"
        )
    fault = time.time()
    jobs["kill-other"].signal(1, signal.SIGKILL)
    jobs["kill-first"].signal(0, signal.SIGKILL)
    jobs["stop-for-ever"].signal(1, signal.SIGSTOP)
    jobs["stop-a-minute"].signal(1, signal.SIGSTOP)
    expected = {
        "kill-other": "lost contact with rank 1 on host2",
        "kill-first": "lost contact with rank 0 on host1",
        "stop-for-ever": "lost contact with rank 1 on host2",
    }
    for name, message in expected.items():
        job = jobs[name]
        wait_until(lambda job=job: any(rank.end() for rank in job.ranks), LIMIT_SECONDS, f"the end of {name}")
        if name == "stop-for-ever":  # a process that is stopped cannot end itself: the launcher kills it
            wait_until(lambda job=job: job.ranks[0].end(), LIMIT_SECONDS, "the end of the first rank")
            job.signal(1, signal.SIGKILL)
        codes = job.wait(LIMIT_SECONDS)
        measured(name, job, fault, codes)
        assert EXIT_LOST in codes and message in job.output(), job.output()
        assert "Traceback" not in job.output()
    time.sleep(max(0.0, fault + 60 - time.time()))
    stopped = jobs["stop-a-minute"]
    steps = max(place.losses("stop-a-minute"))
    stopped.signal(1, signal.SIGCONT)
    wait_until(lambda: max(place.losses("stop-a-minute")) > steps + 3, 60, "steps after a minute")
    stopped.signal(0, signal.SIGUSR1)
    assert set(stopped.wait(60)) == {EXIT_PREEMPTED}
    assert_resumes(place, {"kill-other": BOTH, "kill-first": ["host2"], "stop-for-ever": BOTH[::-1]})


ENDS: dict[str, list[str]] = {
    "kill-other": [], "kill-first": [], "stop-for-ever": [], "stop-a-minute": ["run.lost_seconds=120"],
}  # fmt: skip


def test_a_link_that_is_cut(place: Place) -> None:
    """For one job that of the first rank's host, for the other job that of another host."""
    jobs = {"link-first": began(place, "link-first", BOTH[::-1]), "link-other": began(place, "link-other", BOTH)}
    place.hosts.link("host2", "down")
    fault = time.time()
    try:
        codes = {name: job.wait(LIMIT_SECONDS) for name, job in jobs.items()}
    finally:  # the tests after this one use the same hosts
        place.hosts.link("host2", "up")
    for name, job in jobs.items():
        measured(name, job, fault, codes[name])
        assert codes[name] == [EXIT_LOST, EXIT_LOST], job.output()
        for rank in job.ranks:
            assert "lost contact with rank " in rank.output and "Traceback" not in rank.output, job.output()
    assert_resumes(place, dict.fromkeys(jobs, BOTH))


def test_disk_of_one_host(place: Place) -> None:
    """Full, or read-only, while the ranks write checkpoints."""
    jobs = {name: began(place, name, BOTH, "run.checkpoint_every=3") for name in ("full", "read-only")}
    fault = time.time()
    place.hosts.mount_tmpfs("host2", place.run("full") / "checkpoints", "64k")
    place.hosts.mount_read_only("host2", place.run("read-only") / "checkpoints")
    for name, job in jobs.items():
        codes = job.wait(LIMIT_SECONDS)
        measured(f"disk {name}", job, fault, codes)
        assert "host2" in job.output() or "rank 1" in job.output(), job.output()
        assert "Traceback" not in job.output()
        place.hosts.unmount("host2", place.run(name) / "checkpoints")
    assert_resumes(place, dict.fromkeys(jobs, BOTH))


def test_a_launcher_that_is_killed(place: Place) -> None:
    """torchrun of one host, with its rank; the other host's ends, too."""
    command = launcher_commands(place, place.words("launcher")[1:-1])["torchrun"]
    environment = ENVIRONMENT | {"TORCHELASTIC_MAX_RESTARTS": "0"}
    started = {host: place.hosts.start(host, words, environment, place.folder) for host, words in command.items()}
    run = place.run("torchrun")
    shutil.rmtree(run, ignore_errors=True)
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(records(run)) > 3, 120, "some steps")
    fault = time.time()
    (torchrun,) = place.hosts.pids("host2", "bin/torchrun")
    os.kill(torchrun, signal.SIGKILL)
    code = started["host1"].wait(LIMIT_SECONDS)
    wait_until(lambda: not place.hosts.pids("host2", "train.py"), LIMIT_SECONDS, "the end of the rank on host2")
    print(f"\nlauncher killed: {time.time() - fault:.0f} s, exit code {code}")
    assert code and "asked to stop: checkpoint" in started["host1"].output(), started["host1"].output()
    assert "torchrun on host2 was killed, so its ranks stop" in started["host2"].output()


# -- other numbers of ranks --------------------------------------------------------------------------------------------


def test_four_two_and_three_ranks_follow_one_curve(place: Place) -> None:
    total = "train.max_steps=16"
    whole = place.ranks.start(["host1"], place.words("whole", total))
    for hosts, until, local in (
        [[*BOTH[:1] * 2, *BOTH[1:] * 2], 5, 2],
        [BOTH, 10, 1],
        [["host1", "host1", "host2"], 16, 2],
    ):
        job = place.ranks.start(hosts, place.words("changing", total), local_size=local)
        if until < 16:
            job.await_text(f"step {until}/")
            job.signal(len(hosts) - 1, signal.SIGUSR1)
        assert set(job.wait(120)) == {0 if until == 16 else EXIT_PREEMPTED}, job.output()
    assert whole.wait(60) == [0]
    expected, found = place.losses("whole"), place.losses("changing")
    assert sorted(found) == sorted(expected) == list(range(1, 17))
    np.testing.assert_allclose([found[s] for s in found], [expected[s] for s in found], rtol=2e-5)
    starts = [json.loads(line) for line in (place.run("changing") / "starts.jsonl").read_text().splitlines()]
    assert [start["world_size"] for start in starts] == [4, 2, 3] and starts[0]["step"] == 0 < starts[1]["step"]
