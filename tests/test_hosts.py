"""The hosts that other tests use (tests/support/hosts.py) are hosts."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Hosts, wait_until

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with Hosts(tmp_path_factory.mktemp("network")) as network:
        yield network


def test_hosts_have_names_and_reach_each_other(hosts: Hosts) -> None:
    assert hosts.run("host1", ["hostname"]) == "host1\n"
    assert hosts.run("host1", ["ssh", "host2", "hostname"]) == "host2\n"
    assert hosts.run("head", ["ssh", hosts.addresses["host2"], "hostname"]) == "host2\n"
    assert hosts.run("host2", ["bash", "-c", "echo $WORD"], env={"WORD": "here"}) == "here\n"


def test_a_cut_link_is_cut_and_comes_back(hosts: Hosts) -> None:
    hosts.link("host2", "down")
    with pytest.raises(AssertionError, match="exit code 255"):
        hosts.run("host1", ["ssh", "-o", "ConnectTimeout=1", "host2", "true"])
    hosts.link("host2", "up")
    hosts.run("host1", ["ssh", "host2", "true"])


def test_a_host_that_loses_power_ends_its_processes_only(hosts: Hosts) -> None:
    lost, other = hosts.start("host2", ["sleep", "777"]), hosts.start("host1", ["sleep", "777"])
    wait_until(lambda: hosts.pids("host1", "sleep 777") and hosts.pids("host2", "sleep 777"), 10, "sleep on both")
    hosts.power_off("host2")
    assert lost.wait(5) == -signal.SIGKILL
    hosts.power_on("host2")
    assert not hosts.pids("host2", "sleep")
    assert hosts.pids("host1", "sleep 777")
    other.signal(signal.SIGKILL)
    hosts.run("host1", ["ssh", "host2", "true"])


def test_mounts_are_those_of_one_host(hosts: Hosts, tmp_path: Path) -> None:
    hosts.mount_tmpfs("host1", tmp_path, "64k")
    with pytest.raises(AssertionError, match="No space left"):
        hosts.run("host1", ["dd", "if=/dev/zero", f"of={tmp_path}/file", "bs=1k", "count=100"])
    assert not list(tmp_path.iterdir())
    hosts.unmount("host1", tmp_path)
    hosts.mount_read_only("host2", tmp_path)
    with pytest.raises(AssertionError, match="Read-only"):
        hosts.run("host2", ["touch", tmp_path / "file"])
    hosts.run("host1", ["touch", tmp_path / "file"])


def test_nothing_is_left_when_the_tests_are_killed(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tests.support.hosts import Hosts, wait_until

with Hosts(Path(sys.argv[1]), 1) as hosts:
    hosts.start("host1", ["sleep", "778"])
    wait_until(lambda: hosts.pids("host1", "sleep 778"), 10, "sleep")
    print(*hosts.pids("host1"), *hosts.pids("head"), flush=True)
    sys.stdin.read()
"""
    tests = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdin is not None and tests.stdout is not None
    pids = tests.stdout.readline().split()
    assert len(pids) == 3  # sshd of both, and sleep
    tests.kill()
    wait_until(lambda: not any(map(_runs, pids)), 10, "the end of all processes")
    tests.communicate()


def _runs(pid: str) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for one that has ended and is not yet reaped
    except OSError:
        return False
