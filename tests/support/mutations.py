"""Defects that a distributed step with GradCache can have, patched into the real code while a block runs.

Each has been published in some training code, or is what DeepSpeed does by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch

from translit_scale.train import contrastive, step
from translit_scale.train.setup import Plan

Mutation = Callable[[Plan], AbstractContextManager[None]]


@contextmanager
def other_dropout(plan: Plan) -> Iterator[None]:
    """The first pass of GradCache draws other dropout masks, and nobody compares the embeddings of both passes."""
    with mock.patch.object(step, "MAX_EMBEDDING_DRIFT", float("inf")), other_dropout_guarded(plan):
        yield


@contextmanager
def other_dropout_guarded(plan: Plan) -> Iterator[None]:
    """The first pass of GradCache draws other dropout masks."""
    cache_gradients = step.TrainStep._cache_gradients

    def with_other_seed(self: Any, t: int, *arguments: Any) -> Any:
        return cache_gradients(self, t + 1000, *arguments)

    with mock.patch.object(step.TrainStep, "_cache_gradients", with_other_seed):
        yield


@contextmanager
def mean_over_ranks(plan: Plan) -> Iterator[None]:
    """The loss is not multiplied by W, although the engine averages over ranks."""
    from deepspeed.runtime.engine import DeepSpeedEngine

    backward = DeepSpeedEngine.backward

    def undone(self: Any, loss: torch.Tensor, **more: Any) -> Any:
        return backward(self, loss / plan.rank.world_size, **more)

    with mock.patch.object(DeepSpeedEngine, "backward", undone):
        yield


@contextmanager
def detached_columns(plan: Plan) -> Iterator[None]:
    """Embeddings of the candidates are treated as constants: no gradient flows into them."""

    def nothing(gradients: torch.Tensor, counts: list[int], rank: int) -> torch.Tensor:
        return torch.zeros_like(_own(gradients, counts, rank))

    with mock.patch.object(contrastive, "reduce_scatter_embeddings", nothing):
        yield


@contextmanager
def own_columns_only(plan: Plan) -> Iterator[None]:
    """The gradients that other ranks compute for our embeddings do not come back."""
    with mock.patch.object(contrastive, "reduce_scatter_embeddings", _own):
        yield


@contextmanager
def mean_of_means(plan: Plan) -> Iterator[None]:
    """Token losses are means of the means of micro-batches."""
    ranks = plan.rank.world_size

    def weights(self: Any, masked: torch.Tensor, part: Any, micro_batches: int) -> torch.Tensor:
        means: torch.Tensor = self.stream_weights / torch.tensor(part.masked).clamp(min=1) / (micro_batches * ranks)
        return means

    with mock.patch.object(step.TrainStep, "_token_weights", weights):
        yield


@contextmanager
def reduced_each_time(plan: Plan) -> Iterator[None]:
    """Every micro-batch reduces its gradients over ranks, as ZeRO 2 and 3 do by themselves."""
    with mock.patch.object(step, "reduce_gradients_once", lambda engine: nullcontext()):
        yield


@contextmanager
def engine_accumulates(plan: Plan) -> Iterator[None]:
    """DeepSpeed is told the number of micro-batches, as its examples do."""
    times = plan.hardware.layout.micro_batches
    changes = {
        "gradient_accumulation_steps": times,
        "train_batch_size": plan.hardware.ds_config["train_batch_size"] * times,
    }
    with mock.patch.dict(plan.hardware.ds_config, changes):
        yield


def _own(gathered: torch.Tensor, counts: list[int], rank: int) -> torch.Tensor:
    own: torch.Tensor = gathered.split(counts)[rank]
    return own


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        other_dropout, other_dropout_guarded, mean_over_ranks, detached_columns, own_columns_only, mean_of_means,
        reduced_each_time, engine_accumulates,
    )
}  # fmt: skip
