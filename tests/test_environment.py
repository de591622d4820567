"""Which world a process belongs to, by the variables of launchers. `test_hosts.py` starts the real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.tiny import make_config
from translit_scale.config import MonitorConfig
from translit_scale.demo import run as demo
from translit_scale.errors import ConfigError
from translit_scale.study.runner import Runner
from translit_scale.study.steps import Place
from translit_scale.train.launching.environment import World, find_world, host_names
from translit_scale.train.monitor import Monitor

SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "2",
    "SLURM_NTASKS": "6", "SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1,1",
    "SLURM_STEP_NODELIST": "gpu[08-10],login",
}  # fmt: skip
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_RANK": "3", "PMIX_NAMESPACE": "1697180793",
}  # fmt: skip
TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node7",
    "MASTER_PORT": "4000", "TORCHELASTIC_RUN_ID": "none",
}  # fmt: skip

DEEPSPEED = {
    "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_SIZE": "2", "CROSS_RANK": "0", "CROSS_SIZE": "2",
    "MASTER_ADDR": "node7", "MASTER_PORT": "29500",
}  # fmt: skip
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "9"}


@pytest.mark.parametrize(
    ("variables", "world"),
    [
        ({}, World()),
        ({"SLURM_NTASKS": "", "WORLD_SIZE": "", "MASTER_ADDR": " "}, World()),
        (TORCHRUN, World(3, 8, 1, 2, "node7", 4000, "torchrun")),
        ({**DEEPSPEED, "LOCAL_WORLD_SIZE": "1"}, World(1, 4, 1, 2, "node7", 29500, "deepspeed")),  # of an earlier job
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "9"},
         World(1, 2, 0, 2, "localhost", 9, "the variables RANK and WORLD_SIZE")),
        ({**SRUN, **ALONE, "RANK": "7", "WORLD_SIZE": "12"},  # a script starts two ranks in each task
         World(7, 12, 0, 12, "localhost", 9, "the variables RANK and WORLD_SIZE")),
        ({**SRUN, **TORCHRUN}, World(3, 8, 1, 2, "node7", 4000, "torchrun")),  # one torchrun a node, started by srun
        (SRUN, World(5, 6, 1, 1, "gpu08", 27112, "srun")),
        ({**SRUN, "SLURM_NODEID": "0"}, World(5, 6, 1, 2, "gpu08", 27112, "srun")),
        ({**SRUN, "MASTER_ADDR": "ib-08", "MASTER_PORT": "9"}, World(5, 6, 1, 1, "ib-08", 9, "srun")),
        ({**OPEN_MPI, "MASTER_ADDR": "node1"}, World(3, 4, 1, 2, "node1", 20793, "mpirun")),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, World(3, 4, 1, 4, "127.0.0.1", 20793, "mpirun")),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
         World(1, 2, 1, 2, "127.0.0.1", 20000, "mpirun")),
        # mpirun in a job of SLURM has started its own daemons with srun
        ({**SRUN, **OPEN_MPI, "MASTER_ADDR": "node1"}, World(3, 4, 1, 2, "node1", 20793, "mpirun")),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"}, World()),  # srun --pty bash
    ],
)  # fmt: skip
def test_worlds(variables: dict[str, str], world: World) -> None:
    assert find_world(variables) == world


@pytest.mark.parametrize("variables", [{"SLURM_NTASKS": "8"}, {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}])
def test_a_shell_of_salloc_and_a_batch_script_are_one_process_and_say_so(variables: dict[str, str]) -> None:
    world = find_world(variables)
    assert (world.rank, world.size) == (0, 1) and "8 tasks" in world.note and "srun" in world.note


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "8"}, ["WORLD_SIZE is set to 8", "RANK, MASTER_ADDR, MASTER_PORT are", "env -u WORLD_SIZE"]),
        ({"MASTER_ADDR": "node17"}, ["MASTER_ADDR is set to node17", "env -u MASTER_ADDR"]),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["MASTER_ADDR, MASTER_PORT are not", "env -u RANK -u WORLD_SIZE"]),
        ({"LOCAL_RANK": "1"}, ["LOCAL_RANK is set to 1", "env -u LOCAL_RANK"]),
        ({**TORCHRUN, "RANK": "8"}, ["rank 8 of 8", "expected 0 to 7"]),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, ["WORLD_SIZE should be a number", "'two'"]),
        (OPEN_MPI, ["4 ranks on several hosts", "-x MASTER_ADDR=HOST"]),
        ({"PMIX_RANK": "3"}, ["rank 3 (PMIX_RANK)", "of how many"]),
        ({**SRUN, "WORLD_SIZE": "8"}, ["WORLD_SIZE is set to 8", "unset WORLD_SIZE before srun"]),
        ({**SRUN, **ALONE}, ["WORLD_SIZE 1, but this is process 5 of 6 of srun", "unset RANK WORLD_SIZE"]),
        ({**SRUN, **ALONE, "WORLD_SIZE": "6"}, ["RANK is 0 and WORLD_SIZE 6, but this is process 5 of 6 of srun"]),
        ({**OPEN_MPI, **ALONE}, ["WORLD_SIZE 1, but this is process", "before mpirun"]),
    ],
)  # fmt: skip
def test_what_an_earlier_job_left_is_named(variables: dict[str, str], named: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        find_world(variables)
    assert all(words in str(raised.value) for words in named), raised.value


def test_lists_of_hosts() -> None:
    assert host_names("host1") == ["host1"]
    assert host_names("a1,b[2,4-5]-ib,c") == ["a1", "b2-ib", "b4-ib", "b5-ib", "c"]
    assert host_names("rack[1-2]node[08-10]") == [f"rack{r}node{n}" for r in (1, 2) for n in ("08", "09", "10")]
    assert host_names("") == []


def test_programs_that_a_process_starts_do_not_become_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The monitor, steps of a study and of the demo; MASTER_ADDR alone, left from an earlier job, would be an error."""
    for name, value in World(3, 8, 1, 2, "node7", 4000).variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # or a study would ask for the GPUs of this machine
    started: list[dict[str, str]] = []

    def note(*args: Any, env: dict[str, str], **words: Any) -> SimpleNamespace:
        started.append(env)
        return SimpleNamespace(returncode=0, pid=0)

    monkeypatch.setattr(subprocess, "run", note)
    demo._run("nothing", ["true"])
    monkeypatch.setattr(subprocess, "Popen", note)
    monkeypatch.setattr(os, "setpriority", lambda *args: None)
    measured = {"task": "sr_b", "data": tmp_path, "languages": ["ukr_Cyrl", "hrv_Latn"]}
    Monitor(make_config(tmp_path, run__dir=tmp_path).model_copy(update={"monitor": MonitorConfig(**measured)}))._start()
    started.append(Runner([], {}, Place(tmp_path, None, None), 1, 1)._environment(0))
    assert len(started) == 3
    for environment in started:
        assert find_world(environment) == World() and "LOCAL_WORLD_SIZE" not in environment
