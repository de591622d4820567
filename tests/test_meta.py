"""The step on a device that is not the CPU, without one: shapes, devices, and where the step waits for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.test_attention import PACKER, SMALL, pack
from translit_scale.batch.stream import RankBatch
from translit_scale.config import ContrastiveConfig, ObjectivesConfig
from translit_scale.model import attention
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.step import TrainStep

META = torch.device("meta")


class Engine:
    """What the step uses of DeepSpeed's engine, around a model on the meta device."""

    def __init__(self, tcm: ContrastiveConfig, dtype: torch.dtype) -> None:
        with META:  # a model that is moved there loses its ties
            model = build_model(SMALL.model_copy(update={"dropout": 0.1}), 50, 1, 0, 2)
            self.module = PairEncoder(model, pool_layer=2, gradient_checkpointing=True, tcm=tcm)
        self.module.to(dtype)

    def __call__(self, *arguments: Any) -> Any:
        return self.module(*arguments)

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool) -> None:
        loss.backward()

    def zero_optimization_stage(self) -> int:
        return 1

    @contextmanager
    def coalesce_grad_reduction(self) -> Iterator[None]:
        yield


@pytest.fixture(autouse=True)
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectives that only look at their tensors: nccl takes none that is on the CPU."""

    def look(*tensors: torch.Tensor, **_: object) -> None:
        assert {tensor.device for tensor in tensors} == {META}

    for name in ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor"):
        monkeypatch.setattr(dist, name, look)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # there is none for this device
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tcm": {"similarity": "cosine", "exclude_duplicates": True, "learn_temperature": True}},
        {"tcm": {"loss": "sigmoid", "learn_temperature": True}},
        {"parity": "ppa"},
        {"parity": "translico"},
    ],
)
def test_all_tensors_are_on_the_device_and_only_the_results_are_waited_for(
    changes: dict[str, Any], kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meta tensors have no values: whatever asks for one, as bincount does, fails."""
    monkeypatch.setattr(attention, "has_kernel", lambda *_: kernel)
    tcm = {"weight": 1.0, "layer": 2, **changes.get("tcm", {})}
    objectives = ObjectivesConfig.model_validate({"tlm": {"weight": 1.0}, **changes, "tcm": tcm})
    engine = Engine(objectives.tcm, torch.bfloat16 if kernel else torch.float32)
    equal_split = objectives.in_micro_batches
    packer = PACKER._replace(split_tlm=not equal_split)
    micro = [pack(([5, 6, 7, 8], [5, 6]), ([9] * 20, [8]), packer=packer), pack(([5, 6], [8, 9]), packer=packer)]
    step = TrainStep(engine, objectives, Rank(0, 2, META), seed=0, languages=3)
    with pytest.raises(NotImplementedError, match="no data") as stopped:
        step.accumulate(0, RankBatch(micro, [3, 4], [[2, 2], [1, 2]] if equal_split else None, 0))
    assert [entry.name for entry in stopped.traceback[-2:]] == ["_result", "all_reduce_named"]
    assert not [name for name, p in engine.module.named_parameters() if p.grad is None]
