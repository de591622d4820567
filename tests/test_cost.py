"""The cost model against examples by hand, and against what is counted in real models, engines and collectives."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cost_worker import BUCKET, CASES, Case, measure
from tests.support.ranks import Ranks
from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.config import MaskingConfig, ModelConfig
from translit_scale.corpus.encode import Ragged
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.flops import Shape
from translit_scale.model.norms import use_low_precision_norms
from translit_scale.plan import memory as cost
from translit_scale.plan import traffic
from translit_scale.train.launching.ranks import start_rank

TINY = Shape(hidden=32, intermediate=48, layers=3, vocabulary=45)
"""What tests/support/tiny.py makes."""
PAIRS = 12
GLOT500 = Shape(hidden=768, intermediate=3072, layers=12, vocabulary=401_145)
SMALL = Shape(hidden=64, intermediate=192, layers=4, vocabulary=500)
GB = 1e9
OUTPUT_GRADIENT = 4 * SMALL.vocabulary * (SMALL.hidden + 1)
"""Bytes that the head keeps."""


def encoder(shape: Shape, gradient_checkpointing: bool = False) -> PairEncoder:
    """A model of this shape without dropout."""
    config = ModelConfig(
        tokenizer="none", hidden_size=shape.hidden, num_layers=shape.layers, num_heads=4,
        intermediate_size=shape.intermediate, max_length=128, dropout=0.0,
    )  # fmt: skip
    return PairEncoder(build_model(config, shape.vocabulary, 1, 0, 2), 2, gradient_checkpointing)


def micro_batch(pairs: int, vocabulary: int, longest: int = 60) -> MicroBatch:
    """Invented tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, longest, (2, pairs))
    orig, latn = (Ragged(rng.integers(5, vocabulary, int(n.sum())), n) for n in lengths)
    packer = Packer(MaskingConfig(), Vocabulary(0, 2, 4, vocabulary, 2), 128, with_tlm=True, split_tlm=False)
    return packer.micro_batch(orig, latn, rng.integers(0, 2**63, pairs, dtype=np.uint64), np.zeros(pairs, np.int64))


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
    assert found.word_embedding_fraction == pytest.approx(0.781, abs=5e-4)


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


def kept_bytes(model: PairEncoder, batch: MicroBatch, precision: cost.Precision, low_precision: bool) -> int:
    """What autograd keeps of a forward pass."""
    if low_precision:
        use_low_precision_norms(model)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16_autocast"),
        saved_bytes(list(model.parameters())) as found,
    ):
        model(batch, torch.ones(3))
    return found[0]


@pytest.mark.parametrize(
    ("precision", "low_precision"), [("fp32", False), ("bf16_autocast", False), ("bf16_autocast", True)]
)
def test_activations_are_what_autograd_keeps(precision: cost.Precision, low_precision: bool) -> None:
    batch = micro_batch(64, SMALL.vocabulary)
    found = kept_bytes(encoder(SMALL), batch, precision, low_precision)
    expected = cost.activation_bytes(
        SMALL, batch.tokens, sum(batch.masked), precision, low_precision_layernorm=low_precision
    )
    expected += OUTPUT_GRADIENT
    expected += cost.cast_weight_bytes(cost.count_parameters(SMALL, 130), precision)
    assert found == pytest.approx(expected, rel=0.1)


def test_recomputation_keeps_the_inputs_of_layers() -> None:
    batch = micro_batch(64, SMALL.vocabulary)
    kept = []
    for gradient_checkpointing in (False, True):
        model = encoder(SMALL, gradient_checkpointing)
        with saved_bytes(list(model.parameters())) as found:
            model(batch, torch.ones(3))
        kept.append(found[0])
    one_layer = 4 * batch.tokens * (9 * SMALL.hidden + 2 * SMALL.intermediate)
    expected = cost.activation_bytes(SMALL, batch.tokens, sum(batch.masked), "fp32", gradient_checkpointing=True)
    assert kept[1] + one_layer == pytest.approx(expected + OUTPUT_GRADIENT, rel=0.1)
    assert kept[1] < kept[0] / 2


def test_packed_tensors_of_a_batch() -> None:
    batch = micro_batch(64, SMALL.vocabulary)
    (part,) = batch.parts
    on_a_gpu = sum(t.nbytes for t in part.tensors().values())
    with_order = on_a_gpu + sum(t.nbytes for t in part.segments.padding[:2])
    for found, grouped in ((on_a_gpu, False), (with_order, True)):
        assert found == pytest.approx(cost.batch_bytes(batch.tokens, sum(batch.masked), grouped), rel=0.1)


def check(case: Case, found: dict[str, Any], ranks: int) -> None:
    """Compares what an engine held and sent with the model."""
    parameters = cost.count_parameters(TINY, positions=66)
    assert found["parameters"] == parameters.total
    states = cost.model_states(parameters.total, case.stage, ranks, case.precision, BUCKET)
    assert found["between_steps"] == pytest.approx(states.between_steps, rel=0.03), case
    assert found["before_update"] == pytest.approx(states.before_update, rel=0.03), case
    gathered = traffic.gathered_elements(
        parameters, case.micro_batches, 2, True, case.gradient_checkpointing, case.kept
    )
    rows = 2 * PAIRS * TINY.hidden * 4
    sent = traffic.sent_bytes(parameters, case.stage, ranks, case.precision, gathered, rows)
    assert found["sent"] == pytest.approx(sent.total, rel=0.04), case


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_states_of_an_engine_on_one_rank(stage: int, tiny_world: Path) -> None:
    case = Case(stage, micro_batches=2)
    found = measure(case, tiny_world, start_rank())
    check(case, found | {"sent": 0}, ranks=1)


@pytest.mark.slow
def test_states_and_traffic_of_engines_on_two_ranks(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    run_ranks(2, "tests/support/cost_worker.py", tiny_world, tmp_path / "found.json")
    results = {Case(*case): found for case, found in json.loads((tmp_path / "found.json").read_text())}
    assert set(results) == set(CASES)
    for case, found in results.items():
        check(case, found, ranks=2)


def test_examples_by_hand() -> None:
    """Glot500-base on 64 ranks, effective batch 16 384; figures of the ZeRO paper where DeepSpeed follows it."""
    parameters = cost.count_parameters(GLOT500, positions=514)
    n = parameters.total
    assert cost.model_states(n, 0, 64, "fp32", 0).in_passes == 16 * n
    zero1 = cost.model_states(n, 1, 64, "bf16_autocast", 0)
    assert zero1.in_passes / GB == pytest.approx(0.394524 * (4 + 4 + 12 / 64), rel=1e-3)
    assert cost.model_states(n, 3, 64, "bf16_autocast", 500_000_000).between_steps / GB == pytest.approx(
        3 + 20 / 64 * 0.3945, rel=1e-3
    )
    assert cost.activation_bytes(GLOT500, 65_536, 9_503, "fp16", dropout=True) / GB == pytest.approx(
        0.65536e5 * 768 * 36 * 11 / GB, rel=0.1
    )
    rows = 2 * 16_384 * 768 * 4
    one = traffic.sent_bytes(parameters, 1, 64, "fp32", 0, rows)
    assert one.gradients / GB == pytest.approx(3.11, abs=0.01)
    assert one.parameters / GB == pytest.approx(1.55, abs=0.01)
    assert one.embeddings == 2 * rows * 63 // 64
    assert traffic.sent_bytes(parameters, 1, 64, "fp32", 0, rows, to_owner=True).gradients / GB == pytest.approx(
        1.55, 0.01
    )


def test_gradients_are_sent_once_a_step_but_zero3_gathers_parameters_in_every_pass() -> None:
    parameters = cost.count_parameters(GLOT500, positions=514)

    def gathered(k: int) -> int:
        return traffic.gathered_elements(parameters, k, 8, True, False, False)

    assert gathered(1) == 2 * parameters.total
    assert gathered(16) == pytest.approx(2 * gathered(8), rel=0.02) and gathered(8) > 8 * gathered(1)


def test_contrast_holds_a_tile_whatever_the_batch() -> None:
    small, large = (cost.contrastive_bytes(SMALL, pairs, 1) for pairs in (512, 8192))
    assert small == 4 * (2 * 1024 * 64 + 3 * 1024 * 1024)
    assert large == 4 * (2 * 16_384 * 64 + 3 * (1 << 24))
