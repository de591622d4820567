"""What devices can do: their peak rates, which MFU is relative to, and whether they are new enough for bf16."""

from __future__ import annotations

import re

import torch

PEAK_FLOPS = {
    "A100 SXM4": 312e12,  # NVIDIA A100 datasheet
    "A100 PCIe": 312e12,
    "A30": 165e12,  # NVIDIA A30 datasheet
    "A40": 149.7e12,  # NVIDIA A40 datasheet
    "L4": 121e12,  # NVIDIA L4 datasheet: 242 with sparsity
    "L40S": 362e12,  # NVIDIA L40S datasheet
    "H100 HBM3": 989.4e12,  # H100 SXM; NVIDIA H100 datasheet: 1 979 with sparsity
    "H100 PCIe": 756e12,  # 1 513 with sparsity
    "H100 NVL": 835.5e12,  # 1 671 with sparsity
    "H200": 989.4e12,  # H200 SXM; NVIDIA H200 datasheet: 1 979 with sparsity. A large matmul measured about 790
    "H200 NVL": 835.5e12,  # 1 671 with sparsity
    "GH200": 989.4e12,  # NVIDIA GH200 datasheet: 1 979 with sparsity
    "B200": 2250e12,  # NVIDIA HGX B200 datasheet: 36 000 with sparsity for eight
    "MI300X": 1307.4e12,  # AMD Instinct MI300X datasheet
}
"""FLOP/s of bf16 matrix products without sparsity, by words of the device's name. None is reached in practice,
because power limits the clock of a large matrix product first."""


def is_ampere(device: torch.device) -> bool:
    """Whether a GPU is of the Ampere generation or newer: it has bf16, and runs the flash kernel.

    V100, T4 and 2080 Ti (paper A's) are older; they have fp16.
    """
    return torch.cuda.get_device_capability(device) >= (8, 0)


def peak_flops(device_name: str) -> float | None:
    """FLOP/s in bf16, dense, as the maker's datasheet states it; none for a device that is not in the table.

    Args:
        device_name: as `torch.cuda.get_device_name()` gives it, such as `NVIDIA H100 80GB HBM3`.
    """
    words = set(re.split(r"[\s-]+", device_name.lower()))
    if "mig" in words:  # a slice of a device
        return None
    fitting = [name for name in PEAK_FLOPS if set(name.lower().split()) <= words]
    return PEAK_FLOPS[max(fitting, key=lambda name: len(name.split()))] if fitting else None
