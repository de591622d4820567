"""ModernBERT and mmBERT in the plan, against what is counted in real models."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, ModernBertConfig

from tests.support.tiny import make_config
from tests.test_cost import kept_bytes, saved_bytes
from tests.test_plan import CORE, H100, experiment, workload
from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.batch.token_counts import TokenCounts, near_pairs
from translit_scale.cli import main
from translit_scale.config import MaskingConfig
from translit_scale.corpus.encode import Ragged
from translit_scale.model import attention
from translit_scale.model.attention import ATTENTION
from translit_scale.model.encoder import PairEncoder
from translit_scale.model.flops import Shape, forward_flops, training_flops
from translit_scale.objectives.chunks import BIAS_COLUMNS
from translit_scale.plan import memory as cost
from translit_scale.plan.calibrate import scaled
from translit_scale.plan.inputs import KNOWN, shape_of
from translit_scale.plan.step import computing_seconds
from translit_scale.plan.workload import PairSample, PairTokens, log_normal_lengths
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.micro_batch import _shape
from translit_scale.train.setup import build_training, make_plan

SMALL = {
    "model_type": "modernbert", "vocab_size": 500, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5,
    "num_attention_heads": 4, "local_attention": 16, "global_attn_every_n_layers": 2, "max_position_embeddings": 128,
    "pad_token_id": 1, "bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2,
}  # fmt: skip
"""Layers 2 and 4 attend to eight tokens on each side."""
MMBERT = {
    "model_type": "modernbert", "vocab_size": 256_000, "intermediate_size": 1152, "num_hidden_layers": 22,
    "local_attention": 128, "global_attn_every_n_layers": 3, "max_position_embeddings": 8192, "decoder_bias": True,
    "attention_bias": False, "classifier_bias": False, "mlp_bias": False, "norm_bias": False,
    "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 1, "eos_token_id": 1,
    "sep_token_id": 1,
}  # fmt: skip
"""From config.json of jhu-clsp/mmBERT-base and -small."""
SIZES = {
    "base": {"hidden_size": 768, "num_attention_heads": 12},
    "small": {"hidden_size": 384, "num_attention_heads": 6},
}
WIDE = SMALL | {"hidden_size": 128, "num_attention_heads": 8, "intermediate_size": 192, "num_hidden_layers": 7}
LENGTHS = np.random.default_rng(0).integers(3, 60, 64).tolist()


def made(config: dict[str, Any]) -> Any:
    """A random model with packed attention."""
    architecture = ModernBertConfig(**config)
    architecture._attn_implementation = ATTENTION
    return AutoModelForMaskedLM.from_config(architecture)


def batch_of(lengths: list[int], mask_all: bool = False) -> MicroBatch:
    """Pairs of invented tokens of these lengths on both sides, with TLM unless all of them are masked."""
    masking = MaskingConfig(mlm_probability=0.999) if mask_all else MaskingConfig()
    rng = np.random.default_rng(0)
    packer = Packer(masking, Vocabulary(0, 2, 4, 500, 0, window=8), 128, with_tlm=not mask_all, split_tlm=False)
    orig, latn = (Ragged(rng.integers(5, 500, sum(lengths)), np.array(lengths)) for _ in range(2))
    keys = rng.integers(0, 2**63, len(lengths), dtype=np.uint64)
    return packer.micro_batch(orig, latn, keys, np.zeros(len(lengths), np.int64))


def compare_parameters(model: Any, config: dict[str, Any]) -> None:
    """Of a model and of the plan; and those that belong to no linear layer."""
    parameters = cost.count_parameters(*shape_of(config))
    assert parameters.total == sum(p.numel() for p in model.parameters())
    linear = {id(p) for m in model.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters()}
    assert parameters.outside_linear == sum(p.numel() for p in model.parameters() if id(p) not in linear)


@pytest.mark.parametrize("changes", [{}, {"num_hidden_layers": 1}, {"vocab_size": 700, "intermediate_size": 40}])
def test_parameters_are_those_of_the_model(changes: dict[str, int]) -> None:
    compare_parameters(made(SMALL | changes), SMALL | changes)


@pytest.mark.parametrize(("size", "millions"), [("base", 307), ("small", 140)])
def test_parameters_of_mmbert(size: str, millions: int) -> None:
    """Its authors say 307 and 140 million."""
    config = MMBERT | SIZES[size]
    with torch.device("meta"):
        model = made(config)
    compare_parameters(model, config)
    assert KNOWN[f"jhu-clsp/mmBERT-{size}"] == shape_of(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1)


def test_what_transformers_saves_has_the_same_shape(tmp_path: Path) -> None:
    """Releases write the kinds of layers in two ways."""
    ModernBertConfig(**SMALL).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert "layer_types" in saved
    without = {name: value for name, value in saved.items() if name != "layer_types"} | SMALL
    assert shape_of(saved) == shape_of(without) == shape_of(ModernBertConfig(**SMALL).to_dict())
    assert Shape.of(saved) == Shape(64, 96, 5, 500, True, 8, (False, True, False, True, False))
    everywhere = Shape.of(saved | {"layer_types": ["full_attention"] * 5})
    assert everywhere.window is None and not any(everywhere.local)


def test_operations_are_those_that_torch_counts() -> None:
    """All tokens but the special ones are predicted, all sentences are equally long and shorter than the window, and
    attention is two products: so the step runs no operation that is not needed, but for special tokens in the last
    layer."""
    shape = Shape.of(SMALL)
    encoder, batch = PairEncoder(made(SMALL), 3), batch_of([2] * 12, mask_all=True)
    with FlopCounterMode(display=False) as found, sdpa_kernel(SDPBackend.MATH):
        encoder(batch, torch.ones(3)).loss.backward()
    counts = batch.token_counts
    special = counts.tokens - counts.masked
    in_last_layer = 3 * (2 * special * 2 * 64 * 64 + 4 * (counts.attended - counts.masked_attended) * 64)
    bias = 2 * counts.masked * BIAS_COLUMNS * shape.vocabulary
    assert counts.attended == counts.near
    assert found.get_total_flops() == training_flops(shape, counts) + in_last_layer + bias


def one_by_one(shape: Shape, segments: list[tuple[int, int]]) -> float:
    """Multiply-adds of every token and every pair of tokens that attend to each other, times six."""
    d, f, window = shape.hidden, shape.intermediate, shape.window
    total = 0.0
    for local in shape.local[:-1]:
        for length, _ in segments:
            near = [
                sum(not local or abs(token - other) <= window for other in range(length)) for token in range(length)
            ]
            total += sum(4 * d * d + 3 * d * f + 2 * d * n for n in near)
    for length, masked in segments:  # the last layer is local if the shape says so; masks may be anywhere
        near = [sum(not shape.local[-1] or abs(t - o) <= window for o in range(length)) for t in range(length)]
        total += length * 2 * d * d + masked * (2 * d * d + 3 * d * f + 2 * d * sum(near) / length)
        total += masked * (d * d + d * shape.vocabulary)
    return 6 * total


@given(st.lists(st.integers(1, 14).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=6))
def test_operations_within_windows(segments: list[tuple[int, int]]) -> None:
    lengths, masked = np.array(segments).T
    for local in ((False, True, False), (True, False, True), (False, True, True)):
        shape = Shape(8, 20, 3, 50, is_modern=True, window=3, local=local)
        counts = TokenCounts.of(lengths, masked, shape.window)
        assert training_flops(shape, counts) == pytest.approx(one_by_one(shape, segments), rel=1e-3, abs=6 * 8 * 2)
        layers = [forward_flops(shape, counts, n) for n in range(4)]
        attention = [4 * 8 * int(near_pairs(lengths, 3 if kind else None).sum()) for kind in local]
        assert np.diff(layers).tolist() == [2 * counts.tokens * (4 * 64 + 3 * 160) + of_layer for of_layer in attention]


@pytest.mark.parametrize(
    ("precision", "low_precision"), [("fp32", False), ("bf16_autocast", False), ("bf16_autocast", True)]
)
def test_activations_are_what_autograd_keeps(precision: cost.Precision, low_precision: bool) -> None:
    """As tests/test_cost.py compares XLM-R's, and as exactly.

    Counted in a process of its own: among all other tests, 27 MB more have been seen once with bf16_autocast.
    """
    shape, batch = Shape.of(WIDE), batch_of(LENGTHS)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        found = process.submit(kept_of_wide, precision, low_precision).result()
    expected = cost.activation_bytes(
        shape, batch.tokens, sum(batch.masked), precision, low_precision_layernorm=low_precision
    )
    expected += 4 * shape.vocabulary * (shape.hidden + 1)  # the gradient that the head keeps
    expected += cost.cast_weight_bytes(cost.count_parameters(shape, 0), precision)
    assert found == pytest.approx(expected, rel=0.1)


def kept_of_wide(precision: cost.Precision, low_precision: bool) -> int:
    """What autograd keeps of a forward pass over `LENGTHS`."""
    return kept_bytes(PairEncoder(made(WIDE), 3), batch_of(LENGTHS), precision, low_precision)


def dropout_of_gpus(x: torch.Tensor, p: float, training: bool, inplace: bool) -> torch.Tensor:
    """Keeps a byte of each number, which other devices do not."""
    return torch.native_dropout(x, p, training)[0] if p else x


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_with_the_flash_kernel(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted without a GPU, on a device whose tensors have no values. The value is kept with query and key before
    their rotation, because it is a view of the product that made all three."""
    monkeypatch.setattr(attention, "has_kernel", lambda *_: True)
    monkeypatch.setattr(torch.nn.functional, "dropout", dropout_of_gpus)
    shape, batch, kept = Shape.of(WIDE), batch_of(LENGTHS), {}
    with torch.device("meta"):
        dropped = dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout"), dropout)
        model = PairEncoder(made(WIDE | dropped), 3).to(torch.bfloat16).train()
    part = batch.parts[0]
    part = part.with_tensors({name: tensor.to("meta") for name, tensor in part.tensors().items()})
    ignored = {p.untyped_storage()._cdata for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.dtype.is_floating_point | (tensor.dtype == torch.bool) and storage._cdata not in ignored:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model._masked_states(part)
    expected = cost.activation_bytes(shape, batch.tokens, sum(batch.masked), "bf16", dropout > 0, kernel=True)
    assert sum(storage.nbytes() for storage in kept.values()) == pytest.approx(expected, rel=0.05)


def test_recomputation_keeps_the_inputs_of_layers() -> None:
    batch, kept = batch_of(LENGTHS), []
    for gradient_checkpointing in (False, True):
        model = PairEncoder(made(WIDE), 3, gradient_checkpointing)
        with saved_bytes(list(model.parameters())) as found:
            model(batch, torch.ones(3))
        kept.append(found[0])
    shape = Shape.of(WIDE)
    one_layer = 4 * batch.tokens * (9 * shape.hidden + 4 * shape.intermediate)
    expected = cost.activation_bytes(shape, batch.tokens, sum(batch.masked), "fp32", gradient_checkpointing=True)
    expected += 4 * shape.vocabulary * (shape.hidden + 1)
    assert kept[1] + one_layer == pytest.approx(expected, rel=0.1)
    assert kept[1] < kept[0] / 2


def test_local_layers_save_operations_on_gpus_only() -> None:
    """Elsewhere a window is a mask over the whole matrix."""
    shape = KNOWN["jhu-clsp/mmBERT-base"][0]
    config, sample = experiment(), PairSample(log_normal_lengths((300.0, 300.0)))
    near, every = (PairTokens.of(sample, config, window) for window in (shape.window, None))
    assert near.sentences[:4] == every.sentences[:4] and near.sentences[4] < 0.7 * every.sentences[4]
    for machine, saves in ((H100, True), (CORE, False)):
        w = workload(shape, 512, 32)
        seconds = [computing_seconds(replace(w, tokens=t), machine, 1).products for t in (near, every)]
        assert (seconds[0] < 0.97 * seconds[1]) == saves and seconds[0] <= seconds[1]


def test_other_lengths_have_other_pairs_within_the_window() -> None:
    """Rescaled counts against those of the rescaled lengths."""
    config, window = experiment(model__max_length=100_000), 64
    for mean in (10, 60, 300, 2000):
        lengths = log_normal_lengths((mean, mean))
        tokens, longer = (PairTokens.of(PairSample(factor * lengths), config, window) for factor in (1, 1.5))
        found = scaled(tokens, longer.tokens)
        assert found.sentences[4] == pytest.approx(longer.sentences[4], rel=0.08)


def test_train_chooses_its_micro_batch_for_the_same_shape(tmp_path: Path) -> None:
    ModernBertConfig(**SMALL).save_pretrained(tmp_path)
    config = experiment(model__pretrained=tmp_path, model__tokenizer="null")
    assert _shape(config, 500) == shape_of(SMALL)


def test_a_training_counts_the_pairs_within_its_windows(tiny_world: Path, tmp_path: Path) -> None:
    """From which its useful operations are computed."""
    AutoModelForMaskedLM.from_config(ModernBertConfig(**SMALL)).save_pretrained(tmp_path)
    (tmp_path / "ds.json").write_text(json.dumps({"train_micro_batch_size_per_gpu": 6}))
    config = make_config(tiny_world, model__pretrained=tmp_path)
    run = build_training(make_plan(config, tmp_path / "ds.json", start_rank()))
    batch = run.stream.step(0)
    counts = run.step.accumulate(0, batch).token_counts
    bounds = [part.segments.cu_seqlens.numpy() for micro in batch.micro for part in micro.parts]
    lengths = np.concatenate([np.diff(ends) for ends in bounds])
    assert counts.near == near_pairs(lengths, 8).sum() < (lengths**2).sum() == counts.attended


def test_a_plan_of_mmbert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "paper_a/hin-urd", "paper_a/model5", "model.pretrained=jhu-clsp/mmBERT-base"]
    assert main(["plan", *words, "--json", str(tmp_path / "plan.json")]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "ModernBERT, d 768, L 22, f 1152, V 256,000, 14 of L attend to ± 64 tokens" in page
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["checkpoints"]["bytes"] == pytest.approx(3.69e9, rel=0.002)
    step = found["step_seconds"]
    assert step["high"] > 1.25 * (step["total"] - step["traffic"]), "no step of such a model has been timed"
    assert "of XLM-R, as no ModernBERT has been timed" in page
