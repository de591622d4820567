"""Layer normalisation whose results have 16 bits under autocast ("low-precision layer normalisation").

Autocast computes `layer_norm` in fp32 and leaves its result in fp32. It is the residual stream of these encoders, which
is then read, written and kept in fp32, and copied to 16 bits before each of the matrix products that follow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose result has the type of the matrix products where autocast is enabled.

    Mean and variance are computed in fp32, and weight and bias stay in fp32; only the result is rounded.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises [..., d]."""
        device = input.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(input)
        compute = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return F.layer_norm(input.to(compute), self.normalized_shape, self.weight, self.bias, self.eps)


def use_low_precision_norms(model: nn.Module) -> None:
    """Makes every `nn.LayerNorm` of a model a `LayerNorm` with the same parameters."""
    for module in model.modules():
        if type(module) is nn.LayerNorm:
            module.__class__ = LayerNorm
