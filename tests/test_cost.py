"""The cost model against examples by hand, and against what is counted in real models, engines and collectives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.config import MaskingConfig, ModelConfig
from translit_scale.corpus.encode import Ragged
from translit_scale.model import cost
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.flops import Shape

GLOT500 = Shape(hidden=768, intermediate=3072, layers=12, vocabulary=401_145)
SMALL = Shape(hidden=64, intermediate=192, layers=4, vocabulary=500)


def encoder(shape: Shape, recompute: bool = False) -> PairEncoder:
    """A model of this shape without dropout."""
    config = ModelConfig(
        tokenizer="none", hidden_size=shape.hidden, num_layers=shape.layers, num_heads=4,
        intermediate_size=shape.intermediate, max_length=128, dropout=0.0,
    )  # fmt: skip
    return PairEncoder(build_model(config, shape.vocabulary, 1, 0, 2), 2, recompute)


def micro_batch(pairs: int, vocabulary: int, longest: int = 60) -> MicroBatch:
    """Invented tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, longest, (2, pairs))
    orig, latn = (Ragged(rng.integers(5, vocabulary, int(n.sum())), n) for n in lengths)
    packer = Packer(MaskingConfig(), Vocabulary(0, 2, 4, vocabulary, 2), 128, with_tlm=True, split_tlm=False)
    return packer.micro_batch(orig, latn, rng.integers(0, 2**63, pairs, dtype=np.uint64))


@pytest.mark.parametrize("shape", [SMALL, Shape(hidden=32, intermediate=48, layers=1, vocabulary=70)])
def test_parameters_are_those_of_the_model(shape: Shape) -> None:
    model = encoder(shape)
    found = cost.count_parameters(shape, positions=130)
    assert found.total == sum(p.numel() for p in model.parameters())
    linear = {id(p) for m in model.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters()}
    assert found.outside_linear == sum(p.numel() for p in model.parameters() if id(p) not in linear)


def test_glot500_has_its_394_million_parameters() -> None:
    found = cost.count_parameters(GLOT500, positions=514)
    assert (found.total, found.word_embedding) == (394_524_153, 308_079_360)
    assert found.embedding_share == pytest.approx(0.781, abs=5e-4)


@contextlib.contextmanager
def saved_bytes(ignored: list[torch.Tensor]) -> Iterator[list[int]]:
    """Bytes of the storages that autograd keeps for backward while the context is entered."""
    storages: dict[int, torch.Tensor] = {}
    known = {t.untyped_storage().data_ptr() for t in ignored}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if (pointer := tensor.untyped_storage().data_ptr()) not in known:
            storages[pointer] = tensor
        return tensor

    result: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield result
    result.append(sum(t.untyped_storage().nbytes() for t in storages.values() if t.is_floating_point()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_what_autograd_keeps(precision: cost.Precision) -> None:
    model, batch = encoder(SMALL), micro_batch(64, SMALL.vocabulary)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        saved_bytes(list(model.parameters())) as found,
    ):
        model(batch, torch.ones(3))
    expected = cost.activation_bytes(SMALL, batch.tokens, sum(batch.masked), precision)
    expected += cost.output_gradient_bytes(SMALL)
    expected += cost.cast_weight_bytes(cost.count_parameters(SMALL, 130), precision)
    print(precision, found[0] / expected)
    assert found[0] == pytest.approx(expected, rel=0.1)
