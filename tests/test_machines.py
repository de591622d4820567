"""Checks of what the ranks know about their machines, on invented machines."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from translit_scale.train.launching.machines import (
    Finding,
    Machine,
    check_machines,
    commit_of_code,
    describe_hosts,
)
from translit_scale.train.launching.probes import Speed, check_network

GB = 10**9
CPU = Machine("node1", 0, "10.0.0.1", 1000.0, {"run directory": 50 * GB, "temporary files": 5 * GB}, {})
GPU = replace(CPU, device="H100", identity="GPU-1", capability="sm_90", built_for=("sm_80", "sm_90"))


def second(machine: Machine = CPU, **changes: object) -> list[Machine]:
    """The machine, and the same with changes as another host."""
    other = {"host": "node2", "rank": 1, "address": "10.0.0.2", "identity": machine.identity and "GPU-2"}
    return [machine, replace(machine, **(other | changes))]  # type: ignore[arg-type]


def found(machines: list[Machine], check: str) -> Finding:
    findings = {finding.check: finding for finding in check_machines(machines)}
    return findings[check]


def test_nothing_is_wrong() -> None:
    for machines in ([CPU], second(), second(GPU)):
        assert {finding.level for finding in check_machines(machines)} == {"ok"}, machines


@pytest.mark.parametrize(
    ("machines", "check", "level", "words"),
    [
        (second(GPU, host="node1", identity="GPU-1"), "devices", "error", "several ranks use the same GPU on node1"),
        (second(GPU, capability="sm_75", device="2080 Ti"), "devices", "error", "no code for 2080 Ti (sm_75) of node2"),
        (second(GPU, device="A100"), "devices", "warning", "1 × H100 + 1 × A100"),
        (second(GPU, used_fraction=0.5), "devices", "warning", "50% of the memory of node2 is in use"),
        (second(address="127.0.1.1"), "host names", "warning", "resolves to 127.0.1.1, which other hosts cannot"),
        (second(address=""), "host names", "warning", "resolves to no address on node2"),
        (second(clock=940.0), "clocks", "warning", "node2 is -60 s from node1"),
        (second(free={"run directory": 2 * GB, "temporary files": 10**8}), "free space", "warning",
         "only 100 MB free for the temporary files on node2"),
        (second(variables={"NCCL_IB_DISABLE": "1"}), "variables", "warning",
         "NCCL_IB_DISABLE is not set, but 1 on node2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(machines: list[Machine], check: str, level: str, words: str) -> None:
    finding = found(machines, check)
    assert finding.level == level and words in finding.found and finding.advice, finding
    others = [finding for finding in check_machines(machines) if finding.check != check]
    assert {finding.level for finding in others} == {"ok"}, others


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ("sm_86", ("sm_80",), True),  # a later minor version of the same major one
        ("sm_80", ("sm_86",), False),
        ("sm_120", ("sm_90", "compute_90"), True),  # compiled when it starts
        ("sm_90", ("sm_90a",), True),
        ("sm_70", ("sm_75", "sm_80"), False),
    ],
)
def test_architectures_that_a_torch_has_code_for(capability: str, built_for: tuple[str, ...], runs: bool) -> None:
    machine = replace(GPU, capability=capability, built_for=built_for)
    assert found([machine], "devices").level == ("ok" if runs else "error")


def test_a_network_interface_that_is_named_is_believed() -> None:
    assert found(second(address="127.0.1.1", variables={"GLOO_SOCKET_IFNAME": "ib0"}), "host names").level == "ok"


def test_slow_network_of_gpus() -> None:
    slow, fast = Speed(1e9, 1e-4), Speed(40e9, 1e-5)
    assert check_network(slow, second(GPU)).level == "warning"
    for speed, machines in ((fast, second(GPU)), (slow, second()), (slow, [GPU])):
        assert check_network(speed, machines).level == "ok"


def test_hosts_with_their_ranks() -> None:
    machines = [*second(GPU), replace(GPU, rank=2, device="A100")]
    assert describe_hosts(machines) == [
        {"host": "node1", "ranks": [0, 2], "devices": {"H100": 1, "A100": 1}},
        {"host": "node2", "ranks": [1], "devices": {"H100": 1}},
    ]


def test_commit_of_this_checkout() -> None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a checkout with git")
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert commit_of_code().split()[0] == head.strip()
