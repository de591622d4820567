"""Reduces several named tensors over ranks in one collective."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist


def all_reduce_named(
    tensors: Mapping[str, torch.Tensor],
    device: torch.device,
    op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM,
    to_host: bool = False,
) -> dict[str, torch.Tensor]:
    """Reduces tensors over ranks. Every rank must call it with the same names and shapes.

    Args:
        tensors: of one dtype and any shapes.
        device: where they are reduced.
        to_host: return them in host memory, in one copy, which waits for the device.
    """
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()]).to(device)
    dist.all_reduce(flat, op=op)
    parts = (flat.cpu() if to_host else flat).split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}
