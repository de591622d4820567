"""Memory of a rank on CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from translit_scale.train.launching.ranks import start_rank

MB = 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_tensors_are_given_back() -> None:
    """The C library keeps freed tensors of a size that it has seen freed before, if others lie behind them."""
    start_rank()
    torch.ones(16 * MB // 4)  # freed at once
    before = resident()
    tensors = [(torch.ones(2 * MB // 4), torch.ones(16_384 // 4)) for _ in range(64)]
    kept = [small for _, small in tensors]
    del tensors
    assert resident() - before < 32 * MB, len(kept)
