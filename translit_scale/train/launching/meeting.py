"""The ranks meet: every rank connects to the store on the host of the first one, and waits until all have come.

torch does this as well, but it waits without a line, and when it gives up it does not say who is missing.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Literal

import torch.distributed as dist

from translit_scale.cores import usable_cores
from translit_scale.errors import EXIT_LOST, ConfigError, UserError
from translit_scale.train.launching.environment import World

MEETING_SECONDS = 600.0
"""How long the ranks wait for each other. Importing torch on many nodes at once from one file system takes minutes."""
REPORT_SECONDS = 30.0
"""Time between two lines that name the ranks which have not come."""
NAMED = 8
"""Ranks that a line names."""
INTERFACE = "GLOO_SOCKET_IFNAME"
NAME_ADVICE = (
    "write the host's address in the network into its /etc/hosts, in place of 127.0.1.1; or set GLOO_SOCKET_IFNAME "
    "(and NCCL_SOCKET_IFNAME) to the name of the network interface"
)


class LostPeerError(UserError):
    """Another rank or its host was lost, or has never come; nothing is wrong with the experiment."""

    exit_code = EXIT_LOST


def own_address() -> str:
    """To which this host's name resolves; empty if it does not."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def is_local(address: str) -> bool:
    """Whether other hosts cannot reach the address to which a host's name resolves."""
    return not address or address.startswith("127.")


def meet(world: World, backend: Literal["nccl", "gloo"]) -> dist.Store:
    """Returns the store of the ranks when all of them have come. Every rank must call it.

    Raises:
        ConfigError: the name of the first rank's host is not known here, or is that of another host; another job holds
            its port; or the others could not reach this host (gloo; nccl chooses a network interface by itself).
        LostPeerError: the first rank, or another one, has not come within `MEETING_SECONDS`.
    """
    if world.size == 1:
        return dist.HashStore()
    if backend == "gloo" and world.size > world.local_size and INTERFACE not in os.environ:
        _check_own_name()
    deadline = time.monotonic() + MEETING_SECONDS
    store = _connect(world, deadline)
    here = keys_of_this_start("meeting", store)
    here.set(str(world.rank), socket.gethostname())
    own_cores = " ".join(map(str, usable_cores()))
    here.append(_cores_key(), f"{own_cores}\n")  # type: ignore[attr-defined]  # missing in torch's stubs only
    here.add("count", 1)
    if world.rank == 0:
        _await_all(world, here, deadline)
        here.set("complete", "yes")
        return store
    try:
        here.wait(["complete"], timedelta(seconds=max(1.0, deadline - time.monotonic()) + REPORT_SECONDS))
    except dist.DistError:
        raise LostPeerError(
            f"{socket.gethostname()}: not all {world.size} ranks have come to {_where(world)}",
            "the message of rank 0 names those that are missing",
        ) from None
    return store


def cores_of_ranks_here(store: dist.Store) -> list[set[int]]:
    """For each rank of this host the cores that it may use, when all of several ranks have met in this store."""
    lines = keys_of_this_start("meeting", store).get(_cores_key()).decode().splitlines()
    return [set(map(int, line.split())) for line in lines]


def _cores_key() -> str:
    return f"cores on {socket.gethostname()}"


def keys_of_this_start(purpose: str, store: dist.Store) -> dist.Store:
    """The part of the ranks' store for one purpose; torchrun keeps the store when it starts the ranks again."""
    return dist.PrefixStore(f"{purpose}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _check_own_name() -> None:
    address, host = own_address(), socket.gethostname()
    if is_local(address):
        to = f"to {address}, which they cannot reach" if address else "to no address"
        raise ConfigError(f"other hosts would not find {host}: its own name resolves {to}", NAME_ADVICE)


def _connect(world: World, deadline: float) -> dist.TCPStore:
    """The store; the first rank keeps it, unless torchrun does."""
    timeout = timedelta(seconds=MEETING_SECONDS)
    if world.rank or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        _await_first(world, deadline)
        return _await_store(world, deadline, timeout)
    try:
        store = dist.TCPStore("localhost", world.port, None, True, timeout, wait_for_workers=False)
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise ConfigError(
            f"another job on {socket.gethostname()} holds port {world.port}, where the ranks meet",
            "choose another one: deepspeed --master_port 29501 …, torchrun --master-port 29501 … (or in its "
            "--rdzv-endpoint), with srun or mpirun the variable MASTER_PORT",
        ) from None
    _check_address(world)
    return store


def _check_address(world: World) -> None:
    """Raises a ConfigError if the others look for the first rank, which is this one, elsewhere."""
    try:
        socket.create_connection((world.address, world.port), timeout=REPORT_SECONDS).close()
    except socket.gaierror as error:
        raise _unknown_host(world, error) from None
    except OSError as error:
        raise ConfigError(
            f"the first rank runs on {socket.gethostname()}, but MASTER_ADDR is {world.address}, where nobody listens "
            f"at port {world.port} ({error.strerror or error})",
            "set MASTER_ADDR to the host of the first rank, for all ranks alike",
        ) from None


def _unknown_host(world: World, error: socket.gaierror) -> ConfigError:
    return ConfigError(
        f"{socket.gethostname()} does not know the host {world.address} of the first rank (MASTER_ADDR): "
        f"{error.strerror}",
        "write it into /etc/hosts of all hosts, or set MASTER_ADDR to its address",
    )


def _await_store(world: World, deadline: float, timeout: timedelta) -> dist.TCPStore:
    """The store, when it answers; a thread asks, because torch waits for ever for a program that says nothing."""
    found: list[dist.TCPStore | dist.DistError] = []

    def connect() -> None:
        try:
            found.append(dist.TCPStore(world.address, world.port, None, False, timeout, wait_for_workers=False))
        except dist.DistError as error:
            found.append(error)

    reason = f"what listens at {_where(world)} does not answer {socket.gethostname()} as the first rank"
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    while True:
        thread.join(min(REPORT_SECONDS, max(0.0, deadline - time.monotonic())))
        if found and isinstance(found[0], dist.TCPStore):
            return found[0]
        if found or time.monotonic() >= deadline:
            raise LostPeerError(
                f"{reason} within {MEETING_SECONDS:.0f} s", "choose a port that no other program uses (MASTER_PORT)"
            )
        if world.local_rank == 0:
            print(f"{reason} yet; it goes on trying", file=sys.stderr, flush=True)


def _await_first(world: World, deadline: float) -> None:
    """Waits until the first rank listens."""
    reported, host = time.monotonic(), socket.gethostname()
    while True:
        try:
            socket.create_connection((world.address, world.port), timeout=REPORT_SECONDS).close()
            return
        except socket.gaierror as error:
            raise _unknown_host(world, error) from None
        except OSError as error:
            now, why = time.monotonic(), error.strerror or error
            reason = f"{host} cannot reach the first rank at {_where(world)} ({why})"
        if now > deadline:
            hint = "see whether that host runs its rank, and whether a firewall closes the port"
            raise LostPeerError(f"{reason} within {MEETING_SECONDS:.0f} s", hint)
        if now - reported > REPORT_SECONDS and world.local_rank == 0:
            reported = now
            print(f"{reason} yet, and goes on trying", file=sys.stderr, flush=True)
        time.sleep(0.2)


def _await_all(world: World, here: dist.Store, deadline: float) -> None:
    reported = time.monotonic()
    while here.add("count", 0) < world.size:
        time.sleep(0.1)
        now = time.monotonic()
        if now - reported < REPORT_SECONDS and now < deadline:
            continue
        reported = now
        missing = [rank for rank in range(world.size) if not here.check([str(rank)])]
        named = ", ".join(map(str, missing[:NAMED])) + (" …" if len(missing) > NAMED else "")
        if now > deadline:
            raise LostPeerError(
                f"{len(missing)} of {world.size} ranks have not come to {_where(world)} within "
                f"{MEETING_SECONDS:.0f} s: {named}",
                "see what their hosts say; translit-scale doctor under the same launcher checks names and ports",
            )
        if missing:
            text = f"waiting at {_where(world)} for {len(missing)} of {world.size} ranks: {named}"
            print(text, file=sys.stderr, flush=True)


def _where(world: World) -> str:
    return f"{world.address}:{world.port}"
