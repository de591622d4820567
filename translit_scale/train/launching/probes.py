"""Tries out what a training needs of its machines: a lock that other hosts respect, and a fast network."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from translit_scale.errors import ConfigError
from translit_scale.locks import try_lock
from translit_scale.train.launching.agreement import gathered
from translit_scale.train.launching.machines import Finding, Machine, check_machines
from translit_scale.train.launching.ranks import Rank

REPEATS = 5
"""Of each all-reduce; the fastest counts, because the first ones open connections."""
SLOW_GB_PER_SECOND = 2.0
"""InfiniBand of one 100 Gbit/s adapter reaches about 10."""
LARGE_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}


def examine(machines: Sequence[Machine], rank: Rank) -> list[Finding]:
    """Checks machines and network. Every rank must call it.

    Raises:
        ConfigError: something that would stop the training.
    """
    findings = [*check_machines(machines), check_network(measure_all_reduce(rank), machines)]
    if wrong := [finding for finding in findings if finding.level == "error"]:
        raise ConfigError("; ".join(f"{f.check}: {f.found}" for f in wrong), wrong[0].advice)
    return findings


def check_locks(folder: Path, rank: Rank) -> Finding:
    """Whether a file that the first rank has locked is refused to the others. Every rank must call it."""
    path = folder / ".lock-probe"
    if rank.is_first:
        with path.open("wb") as file:
            without = try_lock(file)
            dist.barrier()
            answers = gathered((socket.gethostname(), without.strerror if without else "refused"))
        path.unlink()
    else:
        dist.barrier()
        answers = gathered((socket.gethostname(), _asked(path)))
    if wrong := [(host, answer) for host, answer in answers if answer != "refused"]:
        host, answer = wrong[0]
        return Finding(
            "locks", "warning", f"a lock in {folder} does not hold for all hosts ({host}: {answer})",
            "never start two jobs in one run directory: nothing can prevent them from damaging it",
        )  # fmt: skip
    return Finding("locks", "ok", "a second job in the run directory is refused")


def _asked(path: Path) -> str:
    """What the system says about a lock that the first rank holds."""
    try:
        with path.open("ab") as file:
            without = try_lock(file)
    except BlockingIOError:
        return "refused"
    except OSError as error:
        return error.strerror or str(error)
    return str(without.strerror) if without else "granted a second time"


@dataclass(frozen=True)
class Speed:
    """How fast the ranks add up tensors."""

    bytes_per_second: float
    """Bytes that each rank sends in an all-reduce, 2 (W − 1) / W of the tensor's, per second."""
    seconds: float
    """Of an all-reduce of one number."""


def measure_all_reduce(rank: Rank) -> Speed:
    """Times all-reduces of all ranks. Every rank must call it."""
    size = LARGE_BYTES[rank.device.type]
    large = min(_all_reduce_seconds(rank, size // 4) for _ in range(REPEATS))
    small = min(_all_reduce_seconds(rank, 1) for _ in range(REPEATS))
    return Speed(2 * (rank.world_size - 1) / rank.world_size * size / large, small)


def _all_reduce_seconds(rank: Rank, elements: int) -> float:
    tensor = torch.ones(elements, device=rank.device)
    dist.barrier()
    began = time.monotonic()
    dist.all_reduce(tensor)
    tensor[0].item()  # waits for the GPU
    elapsed = torch.tensor([time.monotonic() - began], device=rank.device)
    dist.all_reduce(elapsed, dist.ReduceOp.MAX)
    return float(elapsed)


def check_network(speed: Speed, machines: Sequence[Machine]) -> Finding:
    """What the speed means for training."""
    hosts = len({machine.host for machine in machines})
    if len(machines) == 1:
        return Finding("network", "ok", "one rank: nothing is sent")
    rate = speed.bytes_per_second / 1e9
    found = f"all-reduce {rate:.2g} GB/s a rank, {1e3 * speed.seconds:.2g} ms for one number"
    if hosts > 1 and machines[0].device != "cpu" and rate < SLOW_GB_PER_SECOND:
        return Finding(
            "network", "warning", found,
            "the hosts seem to talk over Ethernet: NCCL_DEBUG=INFO says over what; NCCL_SOCKET_IFNAME and NCCL_IB_HCA "
            "choose (translit-scale docs scaling)",
        )  # fmt: skip
    return Finding("network", "ok", found)
