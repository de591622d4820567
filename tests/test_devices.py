"""Devices are known by the names drivers give them; what is not known has no peak."""

from __future__ import annotations

import pytest

from translit_scale.model.devices import DEVICES, device_of, peak_flops


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("AMD Instinct MI300X", 1307.4),
        ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA GeForce RTX 2080 Ti", 53.8),
        ("Tesla T4", 65),
    ],
)
def test_known_devices(name: str, teraflops: float) -> None:
    assert peak_flops(name) == teraflops * 1e12


@pytest.mark.parametrize(
    "name",
    ["", "cpu", "Tesla V100-PCIE-16GB", "NVIDIA GeForce RTX 2080", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA L40"],
)
def test_unknown_devices_have_no_peak(name: str) -> None:
    assert peak_flops(name) is None


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", 80),
        ("NVIDIA A100-SXM4-40GB", 40),
        ("NVIDIA A100-SXM4-80GB", 80),
        ("NVIDIA A100 80GB PCIe", 80),
        ("NVIDIA A100-PCIE-40GB", 40),
        ("NVIDIA H200", 141),
        ("NVIDIA H100 NVL", 94),
        ("Tesla V100-SXM2-32GB", 32),
        ("Tesla V100-SXM2-16GB", 16),
    ],
)
def test_memory_of_a_device(name: str, memory: float) -> None:
    found = device_of(name)
    assert found is not None and DEVICES[found].memory == memory


def test_every_device_has_a_name_of_its_own() -> None:
    assert [device_of(device.words) for device in DEVICES.values()] == list(DEVICES)
