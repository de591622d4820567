"""Turns a process into a rank with a device, whatever started it (see `environment.py`).

This must run before `deepspeed` is imported, which chooses its accelerator at import.
"""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Literal

import torch

from translit_scale.cores import usable_cores
from translit_scale.errors import ConfigError
from translit_scale.train.launching.environment import World, join_world
from translit_scale.train.launching.meeting import cores_of_ranks_here, meet


@dataclass(frozen=True)
class Rank:
    """The rank of this process, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the console line, TensorBoard and manifests."""
        return self.rank == 0


def choose_accelerator() -> bool:
    """Returns whether there is a GPU; if not, sets DS_ACCELERATOR, because DeepSpeed would guess and warn at import."""
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return on_gpu


def start_rank(timeout: timedelta = timedelta(minutes=10)) -> Rank:
    """Joins the process group (nccl on GPUs, gloo on CPU) and picks this rank's device.

    Args:
        timeout: after which a collective fails.

    Raises:
        ConfigError: the variables of the launcher are not complete, a host has fewer GPUs than ranks, or as for `meet`.
        LostPeerError: not all ranks have come.
    """
    world = join_world()
    on_gpu = choose_accelerator()
    device = _gpu(world) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)  # before the first collective, which runs on the current device
    else:
        _return_freed_memory()
    _quiet_libraries()
    import deepspeed

    if not on_gpu:
        # Otherwise DeepSpeed would try a compiler for each of its operations now, and, where there is one, compile its
        # shared-memory collectives for a minute.
        deepspeed.ops.__compatible_ops__ = {"deepspeed_shm_comm": False}
    backend: Literal["nccl", "gloo"] = "nccl" if on_gpu else "gloo"
    if not torch.distributed.is_initialized():
        store = meet(world, backend)
        torch.distributed.init_process_group(
            backend, store=store, rank=world.rank, world_size=world.size, timeout=timeout
        )
        if "OMP_NUM_THREADS" not in os.environ:  # on GPUs they update offloaded states
            ranks_here = cores_of_ranks_here(store) if world.size > 1 else [usable_cores()]
            torch.set_num_threads(share_of_cores(usable_cores(), ranks_here))
    deepspeed.init_distributed(backend, verbose=False, timeout=timeout)
    return Rank(world.rank, world.size, device)


def share_of_cores(own: Collection[int], ranks_here: Sequence[Collection[int]]) -> int:
    """Threads of a rank: each of its cores counts as a part, if other ranks may use it too.

    Often all ranks of a host may use all of its cores; but `mpirun`, and `srun` with task/affinity, bind each rank to
    cores of its own.

    Args:
        own: cores that this rank may use.
        ranks_here: those of each rank of this host, this one included.
    """
    users = Counter(core for of_rank in ranks_here for core in of_rank)
    return max(1, int(sum(Fraction(1, users[core]) for core in own)))


def _gpu(world: World) -> torch.device:
    """The GPU of this rank: the only one that it sees (`srun --gpus-per-task=1`), or that of its number on the host.

    Raises:
        ConfigError: there are more ranks than GPUs.
    """
    count = torch.cuda.device_count()
    if count == 1 and world.launcher in ("srun", "mpirun"):
        return torch.device("cuda", 0)
    if world.local_rank >= count:
        raise ConfigError(
            f"rank {world.rank} is number {world.local_rank} on {os.uname().nodename}, which has {count} GPUs",
            f"start at most {count} ranks on this host; CUDA_VISIBLE_DEVICES may hide GPUs",
        )
    return torch.device("cuda", world.local_rank)


def leave_ranks() -> None:
    """Ends the communication of a rank that has finished.

    Without it the threads of gloo still run when Python exits, which sometimes aborts the process.
    """
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


_M_MMAP_THRESHOLD = -3
"""See mallopt(3)."""


def _return_freed_memory() -> None:
    """Makes the C library return tensors above 1 MB to the system when they are freed (benchmarks/memory.md).

    By default it keeps them in a heap, where the activations of micro-batches, which all differ a little in size, leave
    more and more gaps: a step of many micro-batches took twice the memory of a step of few.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt") and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _quiet_libraries() -> None:
    """Silences informational messages of DeepSpeed and transformers; their warnings stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\..*")
