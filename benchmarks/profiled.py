"""One training step under torch's profiler: which kernels take the time, and when the device waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from translit_scale.text_table import markdown_table

ROWS = 20
"""Kernels of the table; the rest is summed."""
NAME = 70
"""Characters of a kernel's name."""
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
"""Calls with which the host waits for the device."""


def profile_step(take: Callable[[], object], device: torch.device) -> str:
    """Markdown: time by kernel, or by operation on a CPU.

    Args:
        take: takes a step, and waits for the device.
    """
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as found:
        take()
    events = [event for event in found.events() if (event.device_type == DeviceType.CUDA) == is_gpu]
    milliseconds, calls = Counter[str](), Counter[str]()
    for event in events:
        milliseconds[event.name] += (event.time_range.elapsed_us() if is_gpu else event.self_cpu_time_total) / 1e3
        calls[event.name] += 1
    rows = [[name[:NAME], f"{time:.2f}", str(calls[name])] for name, time in milliseconds.most_common(ROWS)]
    rest = sum(milliseconds.values()) - sum(time for _, time in milliseconds.most_common(ROWS))
    rows.append([f"{max(0, len(calls) - ROWS)} others", f"{rest:.2f}", f"{sum(calls.values())}, all"])
    lines = [markdown_table(["kernel" if is_gpu else "operation", "ms", "calls"], rows), ""]
    if is_gpu:
        ranges = [(event.time_range.start, event.time_range.end) for event in events]
        span = max(end for _, end in ranges) - min(start for start, _ in ranges)
        waits = [event for event in found.events() if event.name in WAITS]
        waited = sum(event.time_range.elapsed_us() for event in waits) / 1e3
        reserved, allocated = torch.cuda.max_memory_reserved() / 1e9, torch.cuda.max_memory_allocated() / 1e9
        idle, retries = 1 - covered(ranges) / span, torch.cuda.memory_stats().get("num_alloc_retries", 0)
        lines.append(
            f"{len(ranges):,} kernels in {span / 1e3:.1f} ms, idle {100 * idle:.1f} %; the host waited "
            f"{len(waits)} times, {waited:.1f} ms; "
            f"{reserved:.2f} GB reserved, {allocated:.2f} GB allocated, {retries} retries"
        )
    return "\n".join(lines)


def covered(ranges: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
