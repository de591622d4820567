"""What devices can do: the figures of their data sheets, which MFU and the planner refer to, and whether they are new
enough for bf16."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the planner reads this table without torch
    import torch


class Device(NamedTuple):
    """A GPU as its maker's data sheet states it: dense rates without sparsity, decimal units."""

    words: str
    """Words of the name that its driver gives it."""
    half: float
    """10¹² FLOP/s of bf16 matrix products, or, without bf16, of fp16 ones summed in fp32. None is reached in practice,
    because power limits the clock of a large matrix product first: an H100 reached 752 to 784 (benchmarks/h100.md), an
    H200 about 790."""
    fp32: float
    """10¹² FLOP/s in fp32 without TF32."""
    memory: float
    """GB."""
    bandwidth: float
    """GB/s of its memory."""
    link: float
    """GB/s to the other GPUs of a node in one direction: NVLink, or PCI Express where there is none for all of them."""
    network: float
    """GB/s to other nodes, a GPU, in one direction, in the maker's reference system (DGX A100: 200 Gbit/s, DGX H100 and
    later: 400 Gbit/s; DGX-1: 50 Gbit/s); for PCI Express cards, which have none, 100 Gbit/s is assumed."""
    has_bf16: bool = True
    """Older ones have fp16 only."""


DEVICES = {
    "v100": Device("V100 SXM2 32GB", 125, 15.7, 32, 900, 150, 6.25, has_bf16=False),
    "v100-16gb": Device("V100 SXM2", 125, 15.7, 16, 900, 150, 6.25, has_bf16=False),
    "t4": Device("T4", 65, 8.1, 16, 320, 16, 12.5, has_bf16=False),
    "2080ti": Device("2080 Ti", 53.8, 13.4, 11, 616, 16, 12.5, has_bf16=False),  # paper A's
    "a100": Device("A100 SXM4 80GB", 312, 19.5, 80, 2039, 300, 25),
    "a100-40gb": Device("A100 SXM4", 312, 19.5, 40, 1555, 300, 25),
    "a100-pcie": Device("A100 PCIe 80GB", 312, 19.5, 80, 1935, 32, 12.5),
    "a100-pcie-40gb": Device("A100 PCIe", 312, 19.5, 40, 1555, 32, 12.5),
    "a30": Device("A30", 165, 10.3, 24, 933, 32, 12.5),
    "a40": Device("A40", 149.7, 37.4, 48, 696, 32, 12.5),
    "l4": Device("L4", 121, 30.3, 24, 300, 32, 12.5),
    "l40s": Device("L40S", 362, 91.6, 48, 864, 32, 12.5),
    "h100": Device("H100 HBM3", 989.4, 67, 80, 3350, 450, 50),  # SXM
    "h100-pcie": Device("H100 PCIe", 756, 51, 80, 2000, 64, 12.5),
    "h100-nvl": Device("H100 NVL", 835.5, 60, 94, 3900, 64, 12.5),
    "h200": Device("H200", 989.4, 67, 141, 4800, 450, 50),  # SXM
    "h200-nvl": Device("H200 NVL", 835.5, 60, 141, 4800, 64, 12.5),
    "gh200": Device("GH200", 989.4, 67, 96, 4000, 450, 50),
    "b200": Device("B200", 2250, 75, 180, 7700, 900, 50),  # an eighth of HGX B200
    "mi300x": Device("MI300X", 1307.4, 163.4, 192, 5300, 448, 50),
}
"""By the names that `translit-scale plan --gpu` knows."""


def is_ampere(device: torch.device) -> bool:
    """Whether a GPU is of the Ampere generation or newer: it has bf16, and runs the flash kernel.

    V100, T4 and 2080 Ti (paper A's) are older; they have fp16.
    """
    import torch

    return torch.cuda.get_device_capability(device) >= (8, 0)


def device_of(name: str) -> str | None:
    """The name in `DEVICES` of a device; none for one that is not in the table.

    Args:
        name: as `torch.cuda.get_device_name()` gives it, such as `NVIDIA H100 80GB HBM3`.
    """
    words = set(re.split(r"[\s-]+", name.lower()))
    if "mig" in words:  # a slice of a device
        return None
    fitting = [key for key, device in DEVICES.items() if set(device.words.lower().split()) <= words]
    return max(fitting, key=lambda key: len(DEVICES[key].words.split())) if fitting else None


def peak_flops(name: str) -> float | None:
    """FLOP/s in 16 bits, dense, as the maker's data sheet states it; none for a device that is not in the table."""
    device = device_of(name)
    return DEVICES[device].half * 1e12 if device else None
