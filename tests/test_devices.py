"""Devices are known by the names drivers give them; what is not known has no peak."""

from __future__ import annotations

import pytest

from translit_scale.model.devices import peak_flops


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
    ],
)
def test_known_devices(name: str, teraflops: float) -> None:
    assert peak_flops(name) == teraflops * 1e12


@pytest.mark.parametrize("name", ["", "cpu", "Tesla V100-SXM2-32GB", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA L40"])
def test_unknown_devices_have_no_peak(name: str) -> None:
    assert peak_flops(name) is None
