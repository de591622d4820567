"""Finds the world that this process belongs to, in the variables that launchers set.

torchrun and deepspeed set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, which are what torch reads. `srun`
and `mpirun` have variables of their own, which are translated to these. Without any of them the process is a world of
one rank. A part of the variables, which an earlier job may have left in the shell, is an error: torch would wait for
ranks that never come. An empty variable counts as one that is not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from translit_scale.errors import ConfigError

RANK_VARIABLES = ("RANK", "WORLD_SIZE")
VARIABLES = (*RANK_VARIABLES, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torch and DeepSpeed read."""
MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)
"""Rank, world size, local rank and local world size: of Open MPI, and of MPICH and Intel MPI."""

OUTER = (
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    *(("mpirun", rank, size) for rank, size, *_ in MPI_VARIABLES),
)
"""Launchers that may have started a process in which the variables of torch are set, and their number and count."""


@dataclass(frozen=True)
class World:
    """The place of a process among the ranks of a job."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of the rank on its host."""
    local_size: int = 1
    """Ranks on this host."""
    address: str = "127.0.0.1"
    """Host of the first rank."""
    port: int = 0
    """Where it listens; 0 is a free port, for a world of one rank."""
    launcher: str = ""
    """What started the ranks, for messages; empty for a process that was started alone."""
    note: str = ""
    """What the user should know about the way in which the process was started."""

    def variables(self) -> dict[str, str]:
        """The variables that torch and DeepSpeed read."""
        values = (self.rank, self.size, self.local_rank, self.local_size, self.address, self.port)
        return dict(zip(VARIABLES, map(str, values), strict=True))


def variables_of_one_process() -> dict[str, str]:
    """The variables of this process, without those that would make a program which it starts wait for other ranks."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}


@cache
def _this_world() -> World:
    return find_world(os.environ)  # once: afterwards the variables of every world look like those of torchrun


def join_world() -> World:
    """The world of this process, whose variables torch and DeepSpeed then find; raises as `find_world`."""
    world = _this_world()
    os.environ.update(world.variables())
    return world


def find_world(environment: Mapping[str, str]) -> World:
    """The world of a process with these variables.

    Raises:
        ConfigError: variables are missing or contradict each other, or the address of the first rank is not known.
    """
    variables = {name: value.strip() for name, value in environment.items() if value.strip()}
    if all(name in variables for name in RANK_VARIABLES):
        world = _launched(variables)
    elif present := [name for name in (*RANK_VARIABLES, "LOCAL_RANK") if name in variables]:
        raise _half_set(present[0], variables)
    else:
        world = _of_mpi(variables) or _of_srun(variables) or _alone(variables)
    if not 0 <= world.rank < world.size:
        raise ConfigError(
            f"this process is rank {world.rank} of {world.size} by its variables; expected 0 to {world.size - 1}",
            "start the ranks with torchrun, deepspeed, srun or mpirun (translit-scale docs launching)",
        )
    return world


def _launched(variables: Mapping[str, str]) -> World:
    """The world of torchrun, of deepspeed, or of variables that the user's own script has set."""
    size = _number(variables, "WORLD_SIZE")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in variables]
    if size > 1 and missing:
        raise _half_set("WORLD_SIZE", variables)
    address = variables.get("MASTER_ADDR", "127.0.0.1")
    on_one_host = address == "localhost" or address.startswith("127.")
    by_torchrun, by_deepspeed = "TORCHELASTIC_RUN_ID" in variables, "CROSS_RANK" in variables
    rank = _number(variables, "RANK")
    if not by_torchrun and not by_deepspeed:
        _check_outer(rank, size, variables)
    return World(
        rank=rank,
        size=size,
        local_rank=_number(variables, "LOCAL_RANK", 0),
        # deepspeed sets LOCAL_SIZE; LOCAL_WORLD_SIZE may then be left from somebody else.
        local_size=_number(variables, "LOCAL_SIZE" if by_deepspeed else "LOCAL_WORLD_SIZE", size if on_one_host else 1),
        address=address,
        port=_number(variables, "MASTER_PORT", 0),
        launcher="torchrun" if by_torchrun else "deepspeed" if by_deepspeed else "the variables RANK and WORLD_SIZE",
    )


def _check_outer(rank: int, size: int, variables: Mapping[str, str]) -> None:
    """Raises a ConfigError if `srun` or `mpirun` says something else than the variables of torch do.

    A script that starts several ranks in each task has more ranks than tasks.
    """
    for name, number, count in OUTER:
        if number not in variables or not variables.get(count, "").isdecimal():
            continue
        outer_rank, outer_size = _number(variables, number), _number(variables, count)
        if outer_size > 1 and (size < outer_size or (size == outer_size and rank != outer_rank)):
            raise ConfigError(
                f"RANK is {rank} and WORLD_SIZE {size}, but this is process {outer_rank} of {outer_size} of {name}",
                f"the variables are left from an earlier job: unset {' '.join(_set(variables))} before {name}, which "
                "does without them",
            )


def _set(variables: Mapping[str, str]) -> list[str]:
    """The variables of torch that are set."""
    return [name for name in (*RANK_VARIABLES, "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK") if name in variables]


def _of_mpi(variables: Mapping[str, str]) -> World | None:
    """The world of `mpirun`; None if it has not started this process."""
    for rank, size, local_rank, local_size in MPI_VARIABLES:
        if rank not in variables or size not in variables:
            continue
        world = World(
            rank=_number(variables, rank),
            size=_number(variables, size),
            local_rank=_number(variables, local_rank, 0),
            local_size=_number(variables, local_size, 1),
            port=_number(variables, "MASTER_PORT", _free_of_others(variables.get("PMIX_NAMESPACE", ""))),
            launcher="mpirun",
        )
        address = variables.get("MASTER_ADDR", "127.0.0.1" if world.size == world.local_size else "")
        if not address:
            raise ConfigError(
                f"mpirun has started {world.size} ranks on several hosts, and does not say where the first one is",
                "name its host: mpirun -x MASTER_ADDR=HOST … (Intel MPI and MPICH: -genv MASTER_ADDR HOST)",
            )
        return replace(world, address=address)
    if "PMIX_RANK" in variables and "SLURM_STEP_ID" not in variables:
        raise ConfigError(
            f"a launcher has started this process as rank {variables['PMIX_RANK']} (PMIX_RANK), but does not say of "
            "how many",
            "set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in it, or use torchrun (translit-scale docs launching)",
        )
    return None


def _of_srun(variables: Mapping[str, str]) -> World | None:
    """The world of the tasks that `srun` starts; None outside of them: in the shell of `salloc`, in a batch script."""
    if "SLURM_PROCID" not in variables or not variables.get("SLURM_STEP_ID", "").isdecimal():
        return None
    size = _number(variables, "SLURM_STEP_NUM_TASKS", 1)
    if size == 1:
        return None
    hosts = host_names(variables.get("SLURM_STEP_NODELIST", ""))
    ranks = _ranks_per_host(variables.get("SLURM_STEP_TASKS_PER_NODE", str(size)))
    return World(
        rank=_number(variables, "SLURM_PROCID"),
        size=size,
        local_rank=_number(variables, "SLURM_LOCALID"),
        local_size=ranks[min(_number(variables, "SLURM_NODEID", 0), len(ranks) - 1)],
        address=variables.get("MASTER_ADDR", hosts[0] if hosts else "127.0.0.1"),
        port=_number(
            variables, "MASTER_PORT", _free_of_others(variables.get("SLURM_JOB_ID", "") + variables["SLURM_STEP_ID"])
        ),
        launcher="srun",
    )


def _free_of_others(job: str) -> int:
    """A port that is the same for all ranks of a job and most likely not that of another one on the same host."""
    return 20000 + int(job if job.isdecimal() else "0") % 10000


def _alone(variables: Mapping[str, str]) -> World:
    """A world of one rank, unless something says that there should be more."""
    if "MASTER_ADDR" in variables:
        raise _half_set("MASTER_ADDR", variables)
    tasks = _number(variables, "SLURM_NTASKS", 1)
    note = (
        f"this SLURM job may run {tasks} tasks, but this is one process on its own; `srun` in front starts all of them"
    )
    return World(port=_number(variables, "MASTER_PORT", 0), note=note if tasks > 1 else "")


def _half_set(name: str, variables: Mapping[str, str]) -> ConfigError:
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [other for other in needed if other not in variables]
    unset = " ".join(f"-u {other}" for other in _set(variables))
    hint = f"for one process: env {unset} …; for several a launcher (translit-scale docs launching)"
    for launcher, number, count in OUTER:
        if number in variables and count in variables:
            hint = f"unset {' '.join(_set(variables))} before {launcher}, which does without them"
    return ConfigError(
        f"{name} is set to {variables[name]}, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not: "
        "this process would wait for other ranks that nobody has started",
        hint,
    )


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    """The variable's value; `default` if it is not set.

    Raises:
        ConfigError: it is not set and there is no default, or it is not a number.
    """
    if name not in variables and default is not None:
        return default
    value = variables.get(name, "")
    if not value.isdecimal():
        raise ConfigError(f"the variable {name} should be a number, found {value!r}", f"unset {name}, or set it")
    return int(value)


def host_names(text: str) -> list[str]:
    """The hosts of a list as SLURM writes it: `gpu[01-03,7],login` → gpu01, gpu02, gpu03, gpu7, login."""
    names = []
    for word in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        expanded = [""]
        for plain, group in re.findall(r"([^\[]+)|\[([^\]]*)\]", word):
            expanded = [name + end for name in expanded for end in ([plain] if plain else _numbers(group))]
        names += expanded
    return names


def _numbers(group: str) -> list[str]:
    """`01-03,7` → 01, 02, 03, 7."""
    numbers = []
    for part in group.split(","):
        first, _, last = part.partition("-")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return numbers


def _ranks_per_host(text: str) -> list[int]:
    """`8(x2),4` → 8, 8, 4."""
    return [
        int(count)
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
        for _ in range(int(times or 1))
    ]  # fmt: skip
