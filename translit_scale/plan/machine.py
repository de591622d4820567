"""Rates of machines: from data sheets and measurements of GPUs, or measured on this CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from translit_scale.model.devices import DEVICES

MATMUL_REACHED = 768 / 989.4
"""A large bf16 product on an H100, measured, over its data sheet (benchmarks/h100.md)."""
LINK_REACHED, LINK_RANGE = 0.8, (0.95, 0.5)
"""Fraction of the data sheet's rate that collectives reach: assumed, best and worst case too. Not measured yet."""
MEMORY_USABLE = 0.92
"""Fraction of a GPU's memory for tensors: the rest is assumed to go to the CUDA context, NCCL and fragmentation."""
GLOO = 1e9
"""Bytes/s that a CPU rank sends to another on the same machine: assumed."""
HOST_PROCESS = 700e6
"""Bytes of Python and its libraries in a CPU rank. (benchmarks/memory.py imports less and has 555 MB.)"""


class Costs(NamedTuple):
    """Work besides matrix products, as bytes moved at the bandwidth of the device's memory."""

    activation: float
    """Per number that `activation_numbers` counts: everything element-wise in the layers, forward and backward."""
    logit: float
    """Per logit."""
    parameter: float
    """Per parameter and micro-batch: copies in bf16, sums and zeros of gradients."""
    update: float
    """Per parameter whose optimizer states the rank has."""


GPU_COSTS = Costs(activation=36, logit=8, parameter=340, update=102)
"""Fitted to the rows of benchmarks/h100.md that are not compiled; the profile there gives `update` (12 ms)."""
COMPILED_ACTIVATION = 30
"""`activation` with train.compile, from the compiled rows there."""
CPU_COSTS = Costs(activation=16, logit=41, parameter=60, update=102)
"""Fitted to benchmarks/memory.md with 80 GFLOP/s and 2.4 GB/s of one thread. A CPU rank returns the memory that it
frees, so tensors are new memory each time, and `measure_cpu` measures the bandwidth with new memory as well."""
LAUNCHES, LAUNCH_SECONDS = 241, 7e-6
"""Kernels of a micro-batch per layer (2,894 of 12 layers, benchmarks/h100.md), and seconds of each: assumed."""


@dataclass(frozen=True)
class Machine:
    """A rank's device, and what connects it to others."""

    name: str
    """As in `DEVICES`, or `cpu`."""
    ranks_per_node: int
    matmul: float
    """FLOP/s of a large matrix product, in 16 bits on GPUs."""
    fp32: float
    """FLOP/s of one in fp32."""
    bandwidth: float
    """Bytes/s of the memory."""
    memory: float
    """Bytes that a rank may use; infinite where it is not known."""
    link: float
    """Bytes/s at which a rank sends within its node."""
    network: float
    """Bytes/s at which a node sends."""
    uncertainty: float
    """Of the time of computing: ± this fraction."""
    costs: Costs = GPU_COSTS
    process: float = 0.0
    """Bytes that a rank has besides the tensors of the step."""
    slowness: float = 1.0
    """Measured time of computing over the predicted one."""
    calibrated_by: str = ""
    """The run that `slowness` was measured in."""
    network_stated: bool = False
    """Whether the user has stated `network`."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name != "cpu"

    def rate(self, ranks: int) -> float:
        """Bytes/s at which a rank of a ring sends; the ring passes each node once, over all its network links."""
        return min(self.link, self.network) if ranks > self.ranks_per_node else self.link


def gpu_machine(name: str, per_node: int, network: float | None, is_timed: bool = True) -> Machine:
    """A node of GPUs.

    Args:
        name: in `DEVICES`; network: bytes/s of the node to others; default: the maker's reference system.
        is_timed: whether encoders of this kind have been timed on an H100.
    """
    device = DEVICES[name]
    return Machine(
        name=name,
        ranks_per_node=per_node,
        matmul=MATMUL_REACHED * device.half * 1e12,
        fp32=MATMUL_REACHED * device.fp32 * 1e12,
        bandwidth=device.bandwidth * 1e9,
        memory=MEMORY_USABLE * device.memory * 1e9,
        link=LINK_REACHED * device.link * 1e9,
        network=LINK_REACHED * (network or per_node * device.network * 1e9),
        uncertainty=0.1 if name == "h100" and is_timed else 0.3,
        network_stated=network is not None,
    )


def cpu_machine(per_node: int, cores: int, rates: tuple[float, float], network: float | None) -> Machine:
    """A node with CPU ranks, which share its cores.

    Args:
        cores: of the node; rates: of one core, as `measure_cpu` returns them.
    """
    matmul, bandwidth = (rate * cores / per_node for rate in rates)
    return Machine(
        "cpu", per_node, matmul, matmul, bandwidth, float("inf"), GLOO, LINK_REACHED * (network or 1.25e9),
        uncertainty=0.5, costs=CPU_COSTS, process=HOST_PROCESS,
        network_stated=network is not None,
    )  # fmt: skip


def measure_cpu(threads: int) -> tuple[float, float]:
    """FLOP/s of an fp32 product and bytes/s of adding tensors, of one core while `threads` of them are busy.

    It takes about a second; other programs that use the cores make the result smaller.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, x = torch.randn(1024, 1024), torch.randn(1 << 23)
    product, added = _fastest(lambda: a @ a), _fastest(lambda: x + 1)
    torch.set_num_threads(before)
    return 2 * 1024**3 / product / threads, 8 * len(x) / added / threads


def _fastest(work: Callable[[], object], tries: int = 8) -> float:
    """Seconds."""
    times = []
    for _ in range(tries):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
