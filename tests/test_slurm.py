"""Training, preparing and the whole chain under a real SLURM (tests/support/slurm.py), with its faults."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Hosts, wait_until
from tests.support.ranks import ROOT
from tests.support.slurm import Slurm
from tests.support.tiny import make_config

pytestmark = [pytest.mark.hosts, pytest.mark.slow]
SCRIPTS = ROOT / "scripts" / "slurm"
ENVIRONMENT = {
    "VENV": sys.prefix, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
STEPS = 120
SECONDS_TO_END = 60
"""From a fault until all ranks have ended."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Hosts(tmp_path_factory.mktemp("cluster")) as hosts, Slurm(hosts) as cluster:
        yield cluster


class Training:
    """A training of two ranks on two nodes, submitted as docs/launching.md says."""

    def __init__(self, slurm: Slurm, world: Path, folder: Path, *options: str, **environment: str) -> None:
        self.slurm, self.run = slurm, folder / "runs" / "tiny"
        config = make_config(
            world, train__max_steps=STEPS, train__batch_pairs=48, run__dir=folder / "runs", run__log_every=1,
            run__checkpoint_every=20, run__lost_seconds=20,
        )  # fmt: skip
        (folder / "tiny.yaml").write_text(config.to_yaml())
        words = [SCRIPTS / "train.sbatch", "--ds_config", ROOT / "ds_configs/zero1.json", "--config", "tiny.yaml"]
        self.log = folder / "train.log"
        options = ("--nodes=2", "--ntasks-per-node=1", f"--output={self.log}", *options)
        self.job = slurm.submit(*options, *words, cwd=folder, env=ENVIRONMENT | environment)

    @property
    def step(self) -> int:
        """The last step that is logged."""
        records = self.run / "metrics.jsonl"
        return (
            max([0, *(json.loads(line)["step"] for line in records.read_text().splitlines() if line.endswith("}"))])
            if records.is_file()
            else 0
        )

    def wait_for_step(self, step: int) -> None:
        wait_until(lambda: self.step >= step, 90, f"step {step} (see {self.log})")


def test_x(slurm: Slurm, tiny_world: Path, tmp_path: Path) -> None:
    t = time.time()
    training = Training(slurm, tiny_world, tmp_path)
    try:
        training.wait_for_step(1)
        print("first step", time.time() - t)
        training.wait_for_step(30)
        print("step 30", time.time() - t)
        slurm.run("scancel", "--signal=USR1", training.job)
        slurm.wait_for(training.job, ["PENDING"])
        print("pending", time.time() - t, slurm.fields(training.job))
        slurm.wait_for(training.job, ["RUNNING"])
        print("running", time.time() - t, slurm.fields(training.job))
        print(slurm.wait_for(training.job), time.time() - t)
    finally:
        print(training.log.read_text())
        print((training.run / "starts.jsonl").read_text())
