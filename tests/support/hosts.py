"""Several hosts on one machine: network, mount, UTS and process namespaces, joined by a network of their own.

    with Hosts(tmp_path) as hosts:
        hosts.run("host1", ["ssh", "host2", "hostname"])
        hosts.link("host2", "down")

Each host has a name, an address, an sshd that accepts the key of the others, and its own /run. All other folders are
shared, as by a cluster file system. The host `head` holds the network and may run what belongs to no node. Nothing of
this is visible outside, so that several such networks can exist at a time.

A host ends, with all of its processes, when its first process ends. That one reads its standard input, which this
process holds open: nothing is left behind, even if pytest is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import pytest

HEAD, NETWORK = "head", "10.77.0"
NAMESPACES = ("--net", "--mount", "--uts", "--pid")
PACKAGES = {"ip": "iproute2", "unshare": "util-linux", "sshd": "openssh-server", "ssh": "openssh-client"}
"""Programs that hosts need, and the Debian packages that contain them."""

FIRST_PROCESS = """
set -e
read -r pid _ </proc/self/stat  # /proc is still that of the machine: the number by which the machine knows this process
mount -t proc proc /proc
hostname "$1"
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/ssh_config" /etc/ssh/ssh_config
echo "$pid"
read -r  # until the tests end
"""

SSH_CONFIG = """
Host *
  IdentityFile {folder}/key
  GlobalKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  LogLevel ERROR
"""

SSHD_CONFIG = """
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
AcceptEnv *
PidFile /run/sshd.pid
"""


def reason_without(packages: Mapping[str, str]) -> str:
    """Why tests that need these programs are skipped, with the Debian packages to install; empty if all are there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for program, package in packages.items() if not shutil.which(program, path=path)})
    return f"needs programs that are not installed: apt install {' '.join(missing)}" if missing else ""


@cache
def reason_without_hosts() -> str:
    """Why this machine cannot have hosts; empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux, and root to make namespaces"
    if reason := reason_without(PACKAGES):
        return reason
    attempt = subprocess.run(["unshare", *NAMESPACES, "--fork", "mount", "-t", "tmpfs", "tmpfs", "/run"], check=False)
    return "namespaces are not allowed on this machine" if attempt.returncode else ""


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Returns when the condition holds.

    Raises:
        TimeoutError: it did not, within these seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds} s")
        time.sleep(0.1)


@dataclass
class HostProcess:
    """A command on a host."""

    popen: subprocess.Popen[bytes]
    log: Path
    """What it prints, standard output and errors."""

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Signals the command and the children of its process group, with SIGSTOP and SIGCONT as well."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, number)

    def wait(self, seconds: float) -> int:
        """The exit code.

        Raises:
            TimeoutError: the command runs longer than these seconds; it is killed, and the error has its output.
        """
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise TimeoutError(f"{self.popen.args} runs longer than {seconds} s:\n{self.output()}") from None


class Hosts:
    """`count` hosts, named host1, host2, …, and `head`; a context manager, which skips the test where hosts cannot be.

    `folder` holds keys, configuration and logs, and is the same on all hosts.
    """

    def __init__(self, folder: Path, count: int = 2) -> None:
        if reason := reason_without_hosts():
            pytest.skip(reason)
        self.folder = folder / "hosts"
        self.names = [f"host{number}" for number in range(1, count + 1)]
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(self.names, 1)}
        self.addresses[HEAD] = f"{NETWORK}.254"
        self._first: dict[str, subprocess.Popen[str]] = {}
        self._pids: dict[str, int] = {}
        self._started: list[HostProcess] = []

    def __enter__(self) -> Self:
        self._write_files()
        try:
            for name in (HEAD, *self.names):
                self.power_on(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all hosts and what runs on them."""
        for name in reversed(list(self._first)):
            self._end(name)
        for process in self._started:  # those that entered a host have ended with it
            process.popen.wait(10)

    # -- commands ------------------------------------------------------------------------------------------------------

    def start(
        self, host: str, command: Sequence[object], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> HostProcess:
        """Starts a command on a host; `env` is added to the environment of this process."""
        log = self.folder / f"{host}-{len(self._started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                self._enter(host, *NAMESPACES, f"--wdns={cwd or Path.cwd()}", *command),
                env=os.environ | (env or {}), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._started.append(HostProcess(popen, log))
        return self._started[-1]

    def run(
        self, host: str, command: Sequence[object], env: Mapping[str, str] | None = None, cwd: Path | None = None,
        seconds: float = 60,
    ) -> str:  # fmt: skip
        """The output of a command on a host.

        Raises:
            AssertionError: its exit code is not 0.
            TimeoutError: it runs longer than `seconds`.
        """
        process = self.start(host, command, env, cwd)
        code = process.wait(seconds)
        assert code == 0, f"{command} on {host}: exit code {code}\n{process.output()}"
        return process.output()

    def pids(self, host: str, text: str = "") -> list[int]:
        """The processes on a host whose command line contains the text, but for the host's first one.

        `os.kill` takes these numbers. They include what ssh, srun or mpirun has started.
        """
        namespace, pids = Path(f"/proc/{self._pids[host]}/ns/pid").readlink(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                if command and text.encode() in command and (process / "ns/pid").readlink() == namespace:
                    pids.append(int(process.name))
            except OSError:
                continue  # it has ended meanwhile
        return sorted(set(pids) - {self._pids[host]})

    def is_up(self, host: str) -> bool:
        """Whether the host has power."""
        return host in self._pids

    # -- faults --------------------------------------------------------------------------------------------------------

    def link(self, host: str, state: str) -> None:
        """Cuts ("down") or restores ("up") the connection of a host to all others."""
        self._outside(HEAD, "ip", "link", "set", host, state)

    def power_off(self, host: str) -> None:
        """The host falls silent: its connections are not closed, and all of its processes end."""
        self._outside(HEAD, "ip", "link", "delete", host)
        self._end(host)

    def power_on(self, host: str) -> None:
        """Starts a host: name, network, own mounts and sshd."""
        first = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "bash", "-c", FIRST_PROCESS, "bash", host, self.folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._first[host] = first
        assert first.stdout is not None
        pid = first.stdout.readline().strip()
        assert pid, f"{host} did not start"
        self._pids[host] = int(pid)
        self._join_network(host, pid)
        self.run(host, [shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-f", self.folder / "sshd_config"])

    def mount_tmpfs(self, host: str, folder: Path, size: str = "1m") -> None:
        """Puts an empty file system of this size on a folder, on one host only."""
        self.run(host, ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder])

    def mount_read_only(self, host: str, folder: Path) -> None:
        """Makes a folder read-only on one host."""
        self.run(host, ["mount", "--bind", folder, folder])
        self.run(host, ["mount", "-o", "remount,bind,ro", folder])

    def unmount(self, host: str, folder: Path) -> None:
        """Takes back one of the two mounts."""
        self.run(host, ["umount", folder])

    # ------------------------------------------------------------------------------------------------------------------

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "key"], check=True)
        names = {"127.0.0.1": "localhost"} | {address: name for name, address in self.addresses.items()}
        (self.folder / "hosts").write_text("".join(f"{address} {name}\n" for address, name in names.items()))
        (self.folder / "known_hosts").write_text(f"* {(self.folder / 'key.pub').read_text()}")
        (self.folder / "ssh_config").write_text(SSH_CONFIG.format(folder=self.folder))
        (self.folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=self.folder))

    def _join_network(self, host: str, pid: str) -> None:
        """A bridge in the namespace of the head, and a cable from it to each other host."""
        device = "eth0"
        if host == HEAD:
            self._outside(HEAD, "ip", "link", "add", device, "type", "bridge")
        else:
            peer = ("peer", "name", device, "address", f"02:00:00:00:00:{self.names.index(host) + 1:02x}", "netns", pid)
            self._outside(HEAD, "ip", "link", "add", host, "type", "veth", *peer)  # the same card after a restart
            self._outside(HEAD, "ip", "link", "set", host, "master", "eth0", "up")
        self._outside(host, "ip", "address", "add", f"{self.addresses[host]}/24", "dev", device)
        self._outside(host, "ip", "link", "set", device, "up")

    def _enter(self, host: str, *arguments: object) -> list[str]:
        return ["nsenter", "--target", str(self._pids[host]), *map(str, arguments)]

    def _outside(self, host: str, *command: object) -> None:
        """Runs a command in the network of a host only: it knows processes by the numbers of the machine."""
        subprocess.run(self._enter(host, "--net", *command), check=True)

    def _end(self, host: str) -> None:
        self._pids.pop(host, None)
        self._first.pop(host).communicate(timeout=20)  # closes standard input: the first process ends, and all with it
