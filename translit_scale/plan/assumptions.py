"""The rates that a plan supposes, as rows of its inputs."""

from __future__ import annotations

import os

from translit_scale.model.devices import DEVICES
from translit_scale.plan.inputs import Inputs
from translit_scale.plan.machine import LINK_REACHED, MATMUL_REACHED, MEMORY_USABLE, Machine
from translit_scale.plan.training import COPY_RATE, WRITE_RATE
from translit_scale.plan.workload import Workload

BUSY = 1.0
"""Load of a machine from which on it is not measured well."""


def describe_rates(machine: Machine, w: Workload, ranks: int, copied: float, inputs: Inputs) -> None:
    """Records what is supposed about the machine.

    Args:
        copied: bytes/s at which a rank copies its part of a checkpoint.
    """
    if machine.is_gpu:
        _describe_gpu(machine, w, inputs)
    else:
        load = os.getloadavg()[0]
        source = "measured here just now" + f"; too low, as other programs ran: load {load:.1f}" * (load > BUSY)
        inputs.add("matrix products", f"{machine.matmul / 1e9:.3g} GFLOP/s a rank", source)
        inputs.add("memory bandwidth", f"{machine.bandwidth / 1e9:.3g} GB/s a rank", source)
        inputs.add("other work", "bytes moved per number", "fitted to memory.md")
    if machine.calibrated_by:
        inputs.add(
            "time of computing", f"× {machine.slowness:.2f} of the formulas", f"measured, {machine.calibrated_by}"
        )
    if ranks > 1:
        what = "assumption" if not machine.is_gpu else f"data sheet × {LINK_REACHED} (assumption, no GPUs measured)"
        inputs.add("traffic in a node", f"{machine.link / 1e9:.3g} GB/s a rank", what)
    if ranks > machine.ranks_per_node:
        source = f"--network × {LINK_REACHED}" if machine.network_stated else f"reference system × {LINK_REACHED}"
        inputs.add("traffic of a node", f"{machine.network / 1e9:.3g} GB/s", f"{source} (assumption)")
    source = "checkpoint.md, one CPU rank" if copied == COPY_RATE else machine.calibrated_by
    inputs.add("checkpoint", f"copied at {copied / 1e9:.3g} GB/s a rank", f"measured, {source}")
    inputs.add("its files", f"written at {WRITE_RATE / 1e9:g} GB/s a rank", "measured, checkpoint.md")


def _describe_gpu(machine: Machine, w: Workload, inputs: Inputs) -> None:
    device = DEVICES[machine.name]
    reached = "measured" if machine.name == "h100" else f"data sheet × {MATMUL_REACHED:.2f}, which an H100 reached"
    value, sheet = (machine.fp32, device.fp32) if w.precision == "fp32" else (machine.matmul, device.half)
    if w.precision == "fp32":
        reached = f"data sheet × {MATMUL_REACHED:.2f} (assumption)"
    inputs.add("matrix products", f"{value / 1e12:.3g} of {sheet:g} TFLOP/s, {w.precision}", reached)
    inputs.add("memory bandwidth", f"{device.bandwidth:,.0f} GB/s", "data sheet")
    inputs.add(
        "memory", f"{machine.memory / 1e9:.3g} of {device.memory:g} GB", f"data sheet × {MEMORY_USABLE} (assumption)"
    )
    of_others = "; of XLM-R, as no ModernBERT has been timed" * w.shape.is_modern
    inputs.add("other work", "bytes moved per number", f"fitted to one H100, h100.md{of_others}")
