"""Counts what collectives move: every call of torch.distributed, whoever makes it (we, DeepSpeed, its captured names).

    with Traffic() as traffic:
        step.accumulate(t, batch)
    traffic.payload("all_reduce"); traffic.sent(world_size)

Counted below torch.distributed, where all its functions arrive as operators of torch's dispatcher; the hooks of a
backward pass are in the same context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KINDS = {
    "allreduce_": "all_reduce", "allreduce_coalesced_": "all_reduce",
    "reduce_": "reduce", "broadcast_": "broadcast",
    "_reduce_scatter_base_": "reduce_scatter", "reduce_scatter_": "reduce_scatter",
    "reduce_scatter_tensor_coalesced_": "reduce_scatter",
    "_allgather_base_": "all_gather", "allgather_": "all_gather", "allgather_into_tensor_coalesced_": "all_gather",
    "allgather_coalesced_": "all_gather",
}  # fmt: skip
"""Operators of torch.ops.c10d and their kinds. The tensor with the whole payload is the first argument, and of
reduce_scatter the second."""

RING = {"all_reduce": 2.0, "reduce_scatter": 1.0, "all_gather": 1.0, "reduce": 1.0, "broadcast": 1.0}
"""What a rank sends, in times (W − 1) / W of the payload, in a ring (of `reduce` and `broadcast`: on average)."""


class Call(NamedTuple):
    """One collective."""

    kind: str
    payload: int
    """Bytes of the whole: of what is reduced, or of all that is gathered or scattered."""
    dtype: torch.dtype


class Traffic(TorchDispatchMode):
    """Records the collectives of this rank while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::")
            if name not in KINDS and name not in ("barrier", "monitored_barrier_"):
                raise NotImplementedError(f"c10d.{name} is not counted")
            if kind := KINDS.get(name):
                whole = [t for t in tree_leaves(args[kind == "reduce_scatter"]) if isinstance(t, torch.Tensor)]
                self.calls.append(Call(kind, sum(t.nbytes for t in whole), whole[0].dtype))
        return func(*args, **(kwargs or {}))

    def payload(self, *kinds: str, least: int = 0) -> int:
        """Bytes of the calls of these kinds (all, if none is given) that move at least `least` bytes."""
        return sum(call.payload for call in self._of(kinds) if call.payload >= least)

    def sent(self, world_size: int, *kinds: str) -> int:
        """Bytes that this rank sends for them in a ring."""
        return round(sum(RING[c.kind] * c.payload for c in self._of(kinds)) * (world_size - 1) / world_size)

    def _of(self, kinds: Sequence[str]) -> Iterable[Call]:
        return (call for call in self.calls if not kinds or call.kind in kinds)
