"""What the ranks know about the machines that they run on, and what of it would stop or spoil a training.

`gather_machines` collects the facts of every rank; the checks below are pure functions of them, so that training,
`translit-scale doctor` and environment.json agree.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from translit_scale.train.launching.agreement import gathered
from translit_scale.train.launching.environment import World
from translit_scale.train.launching.meeting import INTERFACE, NAME_ADVICE, is_local, own_address
from translit_scale.train.launching.ranks import Rank

NETWORK_PREFIXES = ("NCCL_", "TORCH_NCCL_", "GLOO_", "UCX_", "FI_", "DEEPSPEED_", "OMP_NUM_THREADS", "CUDA_VISIBLE")
"""Variables that decide how fast ranks compute and talk to each other, and whether they can."""
CLOCK_SECONDS = 5.0
"""Clocks that differ by more make logs of several hosts hard to compare."""
FREE_BYTES = 1 << 30
"""Less free space than this is said aloud; how much a run needs is in its banner and in `translit-scale plan`."""
USED_FRACTION = 0.1
"""Of a GPU's memory; more is somebody else's process."""


@dataclass(frozen=True)
class Machine:
    """What one rank knows."""

    host: str
    rank: int
    address: str
    """To which the host's own name resolves; empty if it does not."""
    clock: float
    """Seconds since 1970 when the first rank's clock was read."""
    free: dict[str, int]
    """Free bytes: of the run directory and of the folder for temporary files."""
    variables: dict[str, str]
    """Those of `NETWORK_PREFIXES` that are set."""
    device: str = "cpu"
    identity: str = ""
    """Of the GPU; two ranks must not have the same one."""
    capability: str = ""
    """`sm_90`."""
    built_for: tuple[str, ...] = ()
    """GPU architectures that this torch contains code for."""
    free_memory: int = 0
    """Bytes of the GPU's memory, before training."""
    used_fraction: float = 0.0
    """Of the GPU's memory, before training."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    level: Literal["ok", "warning", "error"]
    found: str
    advice: str = ""


def gather_machines(rank: Rank, folder: Path) -> list[Machine]:
    """The facts of every rank. Every rank must call it.

    Args:
        folder: the run directory.
    """
    return gathered(_this_machine(rank, folder))


def _this_machine(rank: Rank, folder: Path) -> Machine:
    gpu = _gpu_facts(rank.device) if rank.device.type == "cuda" else {}
    free = {}
    for name, path in {"run directory": folder, "temporary files": Path(tempfile.gettempdir())}.items():
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        free[name] = shutil.disk_usage(existing).free
    variables = {name: os.environ[name] for name in sorted(os.environ) if name.startswith(NETWORK_PREFIXES)}
    dist.barrier()
    clock = time.time()
    host = socket.gethostname()
    return Machine(host, rank.rank, own_address(), clock, free, variables, **gpu)  # type: ignore[arg-type]


def _gpu_facts(device: torch.device) -> dict[str, object]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return {
        "device": properties.name,
        "identity": str(properties.uuid),
        "capability": f"sm_{properties.major}{properties.minor}",
        "built_for": tuple(torch.cuda.get_arch_list()),
        "free_memory": free,
        "used_fraction": 1 - free / total,
    }


def check_machines(machines: Sequence[Machine]) -> list[Finding]:
    """All checks of the facts, in the order in which they are shown."""
    checks = (_check_devices, _check_names, _check_clocks, _check_space, _check_variables)
    return [check(machines) for check in checks]


def _check_devices(machines: Sequence[Machine]) -> Finding:
    shared = [key for key, count in Counter((m.host, m.identity) for m in machines if m.identity).items() if count > 1]
    if shared:
        return Finding(
            "devices", "error", f"several ranks use the same GPU on {_listed([host for host, _ in shared])}",
            "start one rank per GPU, and let CUDA_VISIBLE_DEVICES give each task its own or all of the host",
        )  # fmt: skip
    unknown = [machine for machine in machines if machine.built_for and not _runs_on(machine)]
    if unknown:
        first = unknown[0]
        return Finding(
            "devices", "error",
            f"this torch has no code for {first.device} ({first.capability}) of {_hosts(unknown)}: it was built for "
            + " ".join(first.built_for),
            "install a torch that supports it (pytorch.org), for older GPUs an older one",
        )  # fmt: skip
    kinds = Counter(machine.device for machine in machines)
    found = " + ".join(f"{count} × {name}" for name, count in kinds.items())
    if len(kinds) > 1:
        return Finding("devices", "warning", found, "every step lasts as long as on the slowest of them")
    if busy := [machine for machine in machines if machine.used_fraction > USED_FRACTION]:
        used = max(machine.used_fraction for machine in busy)
        return Finding(
            "devices", "warning", f"{found}; {used:.0%} of the memory of {_hosts(busy)} is in use",
            "look with nvidia-smi for another process, or lower the micro-batch",
        )  # fmt: skip
    return Finding("devices", "ok", found)


def _runs_on(machine: Machine) -> bool:
    """Code runs on later minor versions of the same major one, `compute_` code on all later ones."""
    own = int(machine.capability.removeprefix("sm_").rstrip("af"))
    for name in machine.built_for:
        kind, _, number = name.partition("_")
        version = int(number.rstrip("af"))
        if (version // 10 == own // 10 or kind == "compute") and version <= own:
            return True
    return False


def _check_names(machines: Sequence[Machine]) -> Finding:
    several = len({machine.host for machine in machines}) > 1
    wrong = [machine for machine in machines if is_local(machine.address) and INTERFACE not in machine.variables]
    if several and wrong:
        to = f"to {wrong[0].address}, which other hosts cannot reach" if wrong[0].address else "to no address"
        return Finding("host names", "warning", f"the own name resolves {to} on {_hosts(wrong)}", NAME_ADVICE)
    return Finding("host names", "ok", f"{len({machine.host for machine in machines})} hosts" if several else "1 host")


def _check_clocks(machines: Sequence[Machine]) -> Finding:
    last = max(machines, key=lambda machine: abs(machine.clock - machines[0].clock))
    difference = last.clock - machines[0].clock
    found = f"differ by {abs(difference):.1f} s at most"
    if abs(difference) <= CLOCK_SECONDS:
        return Finding("clocks", "ok", found)
    return Finding(
        "clocks", "warning", f"{last.host} is {difference:+.0f} s from {machines[0].host}",
        "synchronize them (chrony, ntp): times in logs and files cannot be compared, and munge of SLURM refuses "
        "differences of minutes",
    )  # fmt: skip


def _check_space(machines: Sequence[Machine]) -> Finding:
    free = {name: min(machines, key=lambda machine: machine.free[name]) for name in machines[0].free}
    least = [f"{name} {machine.free[name] / 1e9:.0f} GB" for name, machine in free.items()]
    for name, machine in free.items():
        if machine.free[name] < FREE_BYTES:
            found = f"only {machine.free[name] / 1e6:.0f} MB free for the {name} on {machine.host}"
            return Finding("free space", "warning", found, "delete files there, or choose another place")
    return Finding("free space", "ok", ", ".join(least) + (" on every host" if len(machines) > 1 else ""))


def _check_variables(machines: Sequence[Machine]) -> Finding:
    names = sorted({name for machine in machines for name in machine.variables} - {"CUDA_VISIBLE_DEVICES"})
    differing = []
    for name in names:
        values = Counter(machine.variables.get(name, "not set") for machine in machines)
        if len(values) > 1:
            (common, _), (other, _), *_ = values.most_common()
            holder = next(machine for machine in machines if machine.variables.get(name, "not set") == other)
            differing.append(f"{name} is {common}, but {other} on {holder.host}")
    if differing:
        return Finding(
            "variables", "warning", "; ".join(differing[:3]),
            "set them alike on all hosts (deepspeed reads them from the file .deepspeed_env, mpirun passes on -x NAME)",
        )  # fmt: skip
    return Finding("variables", "ok", " ".join(names) or "none set")


def _hosts(machines: Sequence[Machine]) -> str:
    return _listed([machine.host for machine in machines])


def _listed(names: Sequence[str]) -> str:
    hosts = list(dict.fromkeys(names))
    return ", ".join(hosts[:4]) + (f" and {len(hosts) - 4} more hosts" if len(hosts) > 4 else "")


def describe_hosts(machines: Sequence[Machine]) -> list[dict[str, object]]:
    """Each host with its ranks and devices, in the order of the ranks."""
    hosts: dict[str, list[Machine]] = {}
    for machine in machines:
        hosts.setdefault(machine.host, []).append(machine)
    return [
        {"host": host, "ranks": [m.rank for m in of_host], "devices": dict(Counter(m.device for m in of_host))}
        for host, of_host in hosts.items()
    ]


def describe_job(world: World) -> dict[str, str]:
    """What started the ranks: the launcher, and the job of SLURM if there is one."""
    job = {name: os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "JOB_NAME", "RESTART_COUNT")}
    return {"launcher": world.launcher} | {f"SLURM_{name}": value for name, value in job.items() if value}


@cache  # git walks through the whole checkout
def commit_of_code() -> str:
    """The commit of the checkout that this program runs from, or nothing: for an installed program, or without git."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        commit, changes = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, timeout=20, check=True).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.strip() + (" with changes" if changes else "")
