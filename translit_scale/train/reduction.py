"""Named tensors that are reduced over ranks in one collective and copied to the host at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist


class NamedTensors:
    """Tensors of one type and any shapes in one flat tensor, found by their names.

    Args:
        tensors: all of one dtype and device.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.flat = torch.cat([tensor.flatten() for tensor in tensors.values()])

    def all_reduce(self, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> NamedTensors:
        """Reduces all of them over ranks, in place. Every rank must call it with the same names and shapes."""
        dist.all_reduce(self.flat, op=op)
        return self

    def named(self) -> dict[str, torch.Tensor]:
        """The tensors, as views of the flat one."""
        parts = self.flat.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def on_host(self) -> dict[str, torch.Tensor]:
        """Copies of the tensors in host memory; waits for the device."""
        self.flat = self.flat.cpu()
        return self.named()
