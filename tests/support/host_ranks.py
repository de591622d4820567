"""Ranks on several hosts (`hosts.py`), started as `srun` or a user's own script does: one process each, with RANK,
WORLD_SIZE and the address of the first one. A process on each host has imported everything and forks them, so that they
start within a second. Launchers themselves are tested in test_hosts.py, too.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts import Hosts, wait_until
from tests.support.ranks import ENVIRONMENT, IMPORTED, ROOT

BEAT_SECONDS = 0.05
PORT = 29600


@dataclass
class HostRank:
    """One rank of a job; `files` is the common beginning of the names of its output, process number and exit code."""

    host: str
    files: Path

    def file(self, kind: str) -> Path:
        """`out`: what it prints; `pid`: its number on its host; `code`: exit code and time of its end."""
        return self.files.with_suffix(f".{kind}")

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.file("out").read_text(errors="replace") if self.file("out").exists() else ""

    def end(self) -> tuple[int, float] | None:
        """Exit code (negative: the signal that killed it) and time; None while it runs."""
        if not self.file("code").exists():
            return None
        code, when = self.file("code").read_text().split()
        return int(code), float(when)


@dataclass
class Job:
    """Ranks that were started together."""

    hosts: Hosts
    ranks: list[HostRank]

    def signal(self, rank: int, number: signal.Signals) -> None:
        """Signals one rank."""
        pid = self.ranks[rank].file("pid").read_text()
        self.hosts.run(self.ranks[rank].host, ["kill", f"-{number.value}", pid])

    def await_text(self, text: str, rank: int = 0, seconds: float = 90) -> None:
        """Waits until a rank has printed something."""
        wait_until(
            lambda: text in self.ranks[rank].output or self.ranks[rank].end(),
            seconds, f"{text!r} of rank {rank}",
        )  # fmt: skip
        assert text in self.ranks[rank].output, self.output()

    def output(self) -> str:
        """What all ranks have printed."""
        return "".join(f"-- rank {i} on {rank.host}\n{rank.output}" for i, rank in enumerate(self.ranks))

    def wait(self, seconds: float) -> list[int]:
        """The exit codes of all ranks."""
        try:
            wait_until(lambda: all(rank.end() for rank in self.ranks), seconds, "the end of all ranks")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None
        return [end[0] for rank in self.ranks if (end := rank.end())]

    def ended(self) -> float:
        """When the last rank has ended."""
        return max(end[1] for rank in self.ranks if (end := rank.end()))


class HostRanks:
    """Starts ranks of `translit-scale` on hosts."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts, self.folder, self.numbers = hosts, folder, itertools.count()
        for host in hosts.names:
            self.serve(host)
        for host in hosts.names:
            wait_until((folder / host / "ready").exists, 120, f"the start of Python on {host}")

    def serve(self, host: str) -> None:
        """Starts the process that forks the ranks of a host."""
        (self.folder / host).mkdir(parents=True, exist_ok=True)
        environment = ENVIRONMENT | {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # as `run_rank` sets it before torch is imported
        command = [sys.executable, "-m", "tests.support.host_ranks", self.folder / host]
        self.hosts.start(host, command, environment, ROOT)

    def start(
        self,
        hosts: Sequence[str],
        words: Sequence[object],
        of_rank: Mapping[int, Sequence[object]] | None = None,
        env: Mapping[str, str] | None = None,
        local_size: int = 1,
    ) -> Job:
        """Starts one rank on each of `hosts`, in this order; a host may be named several times in a row.

        Args:
            of_rank: further words of some ranks.
            env: variables of all ranks.
            local_size: ranks of each host.
        """
        job, ranks = next(self.numbers), []
        for rank, host in enumerate(hosts):
            world = {
                "RANK": rank, "WORLD_SIZE": len(hosts), "LOCAL_RANK": rank % local_size, "LOCAL_WORLD_SIZE": local_size,
                "MASTER_ADDR": hosts[0], "MASTER_PORT": PORT + job,
            }  # fmt: skip
            request = {
                "words": [*map(str, words), *map(str, (of_rank or {}).get(rank, ()))],
                "env": {name: str(value) for name, value in (world | dict(env or {})).items()},
                "files": str(self.folder / f"job{job}-rank{rank}"),
            }
            path = self.folder / host / f"{job}-{rank}"
            path.write_text(json.dumps(request))
            path.rename(path.with_suffix(".request"))
            ranks.append(HostRank(host, Path(request["files"])))  # type: ignore[arg-type]
        return Job(self.hosts, ranks)


def serve(folder: Path) -> None:
    """Forks a rank for each request that appears in the folder."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each rank would copy the pages of all objects
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children end without being waited for
    (folder / "ready").touch()
    while True:
        for path in sorted(folder.glob("*.request")):
            request = json.loads(path.read_text())
            path.unlink()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run(request["words"], request["env"], request["files"])
        time.sleep(BEAT_SECONDS)


def _run(words: list[str], env: Mapping[str, str], files: str) -> None:
    """Forks the rank, and writes its exit code when it has ended."""
    rank = os.fork()
    if rank == 0:
        os.setsid()
        os.environ |= env
        output = os.open(f"{files}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from translit_scale.cli import main

        os._exit(main(words))
    Path(f"{files}.pid").write_text(str(rank))
    _, status = os.waitpid(rank, 0)
    temporary = Path(f"{files}.temporary")
    temporary.write_text(f"{os.waitstatus_to_exitcode(status)} {time.time()}")
    temporary.rename(f"{files}.code")
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
