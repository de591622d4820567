"""Turns a process into a rank with a device, whatever started it (deepspeed, torchrun, plain python).

This must run before `deepspeed` is imported, which chooses its accelerator at import.
"""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch.distributed import DistNetworkError

from translit_scale.errors import ConfigError


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


def complete_environment(environment: MutableMapping[str, str], local_rank: int = -1) -> None:
    """Sets the variables that a launcher would have set, so that `python scripts/train.py` is a world of one rank.

    Raises:
        ConfigError: started by SLURM with several tasks but without rank variables; each task would train alone.
    """
    if "RANK" not in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        raise ConfigError(
            f"SLURM started {environment['SLURM_NTASKS']} tasks, but RANK and WORLD_SIZE are not set: each task would "
            "train on its own",
            "start one task per node and let torchrun make the ranks: translit-scale docs launching",
        )
    if local_rank >= 0:
        environment.setdefault("LOCAL_RANK", str(local_rank))
    defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    if "RANK" not in environment:
        defaults["MASTER_PORT"] = "0"  # a free port, so that several runs of one rank do not collide
    for name, value in defaults.items():
        environment.setdefault(name, value)


def choose_accelerator() -> bool:
    """Returns whether there is a GPU; if not, sets DS_ACCELERATOR, because DeepSpeed would guess and warn at import."""
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return on_gpu


def start_rank(local_rank: int = -1) -> Rank:
    """Joins the process group (nccl on GPUs, gloo on CPU) and picks this rank's device.

    Raises:
        ConfigError: another job holds the port that the ranks meet at.
    """
    complete_environment(os.environ, local_rank)
    on_gpu = choose_accelerator()
    if not on_gpu and "OMP_NUM_THREADS" not in os.environ:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", "1")))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)  # before the first collective, which runs on the current device
    else:
        _return_freed_memory()
    _quiet_libraries()
    import deepspeed

    if not on_gpu:
        # Its shared-memory collectives would be compiled now, for a minute, and only on machines with a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    try:
        deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", verbose=False)
    except DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise ConfigError(
            f"another job on this machine holds port {os.environ['MASTER_PORT']}, where the ranks meet",
            "choose another one: deepspeed --master_port 29501 …, torchrun --master-port 29501 …",
        ) from None
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), device)


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
