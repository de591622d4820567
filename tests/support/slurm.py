"""A real SLURM on hosts of `hosts.py`: munged everywhere, slurmctld on the head, a slurmd for each node.

Nodes have the partitions `low`, whose jobs are preempted and queued again, and `high`, which preempts them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Self

import pytest

from tests.support.hosts import HEAD, Hosts, reason_without, wait_until

PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
KILL_WAIT = 20
"""Seconds from SIGTERM to SIGKILL."""
NODE_TIMEOUT = 10
"""Seconds without a heartbeat after which a node is down."""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")

CONFIGURATION = """
ClusterName=test
SlurmctldHost=head
SlurmUser=root
SlurmdUser=root
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1
SchedulerType=sched/backfill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait={kill_wait}
SlurmdTimeout={node_timeout}
MinJobAge=3600
MessageTimeout=10
NodeName=DEFAULT CPUs={cpus} RealMemory={memory} State=UNKNOWN
{nodes}
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE State=UP
PartitionName=low Default=YES PriorityTier=1 GraceTime={kill_wait}
PartitionName=high PriorityTier=10 PreemptMode=OFF
"""
# cred_expire: seconds that a job waits before it starts again after it was queued again (by default two minutes).


class Slurm:
    """SLURM on `hosts`; a context manager, which skips the test where SLURM is not installed.

    Args:
        cpus: of each node, as SLURM counts them; they need not exist.
        memory: of each node, in MB.
    """

    def __init__(self, hosts: Hosts, cpus: int = 4, memory: int = 8000) -> None:
        if reason := reason_without(PACKAGES):
            pytest.skip(reason)
        self.hosts, self.folder = hosts, hosts.folder.parent / "slurm"
        self.configuration = self.folder / "slurm.conf"
        nodes = "\n".join(f"NodeName={name} NodeAddr={hosts.addresses[name]}" for name in hosts.names)
        self._text = CONFIGURATION.format(
            folder=self.folder, cpus=cpus, memory=memory, nodes=nodes, kill_wait=KILL_WAIT, node_timeout=NODE_TIMEOUT
        )

    def __enter__(self) -> Self:
        (self.folder / "state").mkdir(parents=True)
        self.configuration.write_text(self._text)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self._start_munge(HEAD)
        self.run("/usr/sbin/slurmctld", "-f", self.configuration)
        for name in self.hosts.names:
            self._start_node(name)
        wait_until(lambda: self._idle() == self.hosts.names, 60, f"all nodes idle (see {self.folder}/*.log)")
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: all of it ends with the hosts."""

    # -- commands ------------------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What commands of SLURM need to find this one."""
        return {"SLURM_CONF": str(self.configuration)}

    def run(self, *command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """The output of a command on the head (raises as `Hosts.run`)."""
        return self.hosts.run(HEAD, command, self.environment | (env or {}), cwd)

    def submit(self, *words: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """Number of a job that `sbatch` submits from the folder `cwd`."""
        return self.run("sbatch", "--parsable", *words, cwd=cwd, env=env).strip().splitlines()[-1]

    def fields(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, or of a task (`12_3`) of an array."""
        text = self.run("scontrol", "show", "job", job)
        return dict(re.findall(r"(\w+(?::\w+)?)=(\S*)", text.partition("\n\n")[0]))

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, ..."""
        return self.fields(job)["JobState"]

    def restarts(self, job: str) -> int:
        """How often the job was queued again."""
        return int(self.fields(job)["Restarts"])

    def wait_for(self, job: str, states: Collection[str] = ENDED, seconds: float = 240) -> str:
        """Returns the state of the job when it is one of these.

        Raises:
            TimeoutError: it is none of them within `seconds`.
        """
        wait_until(lambda: self.state(job) in states, seconds, f"job {job}: {' or '.join(states)}")
        return self.state(job)

    def ranks(self, text: str) -> list[int]:
        """The processes on all nodes whose command line contains the text."""
        return [pid for node in self.hosts.names if self.hosts.is_up(node) for pid in self.hosts.pids(node, text)]

    # -- faults --------------------------------------------------------------------------------------------------------

    def power_off(self, node: str) -> None:
        """The node falls silent; SLURM gives it up after `NODE_TIMEOUT` seconds."""
        self.hosts.power_off(node)

    def power_on(self, node: str) -> None:
        """Starts the node again and waits until SLURM uses it."""
        self.hosts.power_on(node)
        self._start_node(node)
        wait_until(lambda: node in self._idle(), 60, f"{node} idle")

    # ------------------------------------------------------------------------------------------------------------------

    def _idle(self) -> list[str]:
        return sorted(set(self.run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").split()))

    def _start_node(self, name: str) -> None:
        self._start_munge(name)
        spool = self.folder / f"spool-{name}"
        spool.mkdir(exist_ok=True)
        self.hosts.run(name, ["/usr/sbin/slurmd", "-f", self.configuration, "-N", name], self.environment)

    def _start_munge(self, host: str) -> None:
        """munged of a host, at the usual place in its own /run."""
        files = {option: f"/run/munge/{option}" for option in ("pid-file", "log-file", "seed-file")}
        options = [f"--{option}={path}" for option, path in files.items()]
        self.hosts.run(host, ["mkdir", "-m", "755", "/run/munge"])
        self.hosts.run(host, ["/usr/sbin/munged", "--force", f"--key-file={self.folder}/munge.key", *options])
