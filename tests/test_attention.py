"""Packed equals padded, forward and gradient; sentences do not see each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.batch.random_bits import key
from translit_scale.batch.segments import Segments
from translit_scale.config import MaskingConfig, ModelConfig, resolve_layer
from translit_scale.corpus.encode import Ragged
from translit_scale.errors import ConfigError
from translit_scale.model.attention import flash_attention, has_kernel, segment_attention
from translit_scale.model.encoder import PairEncoder, build_model, mean_pool
from translit_scale.model.families import family_of

VOCABULARY = Vocabulary(bos_id=0, eos_id=2, mask_id=49, size=50, first_position=2)
SMALL = ModelConfig(
    tokenizer="none", hidden_size=32, num_layers=3, num_heads=4, intermediate_size=48, max_length=64, dropout=0.0
)


def small_model() -> PairEncoder:
    torch.manual_seed(0)
    return PairEncoder(build_model(SMALL, 50, 1, 0, 2), pool_layer=2)


def naive_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], scale: float, window: int | None
) -> torch.Tensor:
    out, start = [], 0
    for n in lengths:
        a, b, c = (x[start : start + n].transpose(0, 1) for x in (q, k, v))  # [H, n, D]
        far = [[window is not None and abs(i - j) > window for j in range(n)] for i in range(n)]
        logits = (a @ b.transpose(1, 2) * scale).masked_fill(torch.tensor(far), float("-inf"))
        out.append((logits.softmax(-1) @ c).transpose(0, 1))
        start += n
    return torch.cat(out)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 9), st.sampled_from([None, 1, 7]))
@settings(max_examples=40, deadline=None)
def test_segment_attention_equals_one_sentence_at_a_time(lengths: list[int], seed: int, window: int | None) -> None:
    torch.manual_seed(seed)
    q, k, v = (torch.randn(sum(lengths), 2, 8, requires_grad=True) for _ in range(3))
    found = segment_attention(q, k, v, Segments.from_lengths(np.array(lengths)), 0.3, window=window)
    expected = naive_attention(q, k, v, lengths, 0.3, window)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), (q, k, v)),
        torch.autograd.grad((expected * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_flash_kernel_takes_what_it_is_given_and_has_a_gradient(window: int | None) -> None:
    """On the meta device: arguments, shapes and gradient of the call. What it computes, tests/test_gpu.py checks."""
    lengths = np.array([3, 9, 1])
    q, k, v = (torch.empty(13, 2, 8, dtype=torch.bfloat16, device="meta", requires_grad=True) for _ in range(3))
    out = flash_attention(q, k, v, Segments.from_lengths(lengths).to(torch.device("meta")), 0.3, 0.1, window)
    assert out.shape == q.shape and out.dtype == torch.bfloat16
    assert [g.shape for g in torch.autograd.grad(out.sum(), (q, k, v))] == [q.shape] * 3


@pytest.mark.parametrize(
    ("capability", "dtype", "head_size", "there"),
    [
        ((8, 0), torch.float16, 64, True),
        ((9, 0), torch.bfloat16, 256, True),
        ((7, 5), torch.float16, 64, False),  # T4 and 2080 Ti, which train in fp16
        ((7, 0), torch.float16, 64, False),  # V100
        ((9, 0), torch.float32, 64, False),
        ((9, 0), torch.bfloat16, 68, False),
        ((9, 0), torch.bfloat16, 264, False),
    ],
)
def test_what_the_flash_kernel_runs_on(
    capability: tuple[int, int], dtype: torch.dtype, head_size: int, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert has_kernel(torch.device("cuda", 0), dtype, head_size) == there


PACKER = Packer(MaskingConfig(mlm_probability=0.3), VOCABULARY, max_length=64, with_tlm=True, split_tlm=False)


def pack(*texts: tuple[list[int], list[int]], packer: Packer = PACKER) -> MicroBatch:
    orig, latn = (Ragged.of([text[side] for text in texts]) for side in (0, 1))
    return packer.micro_batch(orig, latn, np.array([key(i) for i in range(len(texts))]), np.arange(len(texts)))


def test_rows_of_a_sentence_do_not_depend_on_its_neighbours() -> None:
    encoder = small_model()
    mine = ([5, 6, 7, 8, 9, 10], [11, 12, 13])
    alone, crowd = pack(mine), pack(mine, ([20] * 30, [21] * 40), ([22], [23] * 7))
    with torch.no_grad():
        a, b = encoder(alone).embeddings, encoder(crowd).embeddings
    torch.testing.assert_close(a, b[[0, 3]], rtol=1e-5, atol=1e-6)


def test_split_tlm_changes_nothing_but_the_layout() -> None:
    encoder = small_model()
    texts = ([5, 6, 7], [8, 9]), ([10] * 20, [11] * 25)
    packed = (pack(*texts, packer=PACKER._replace(split_tlm=flag)) for flag in (False, True))
    flat, split = (encoder(batch, torch.ones(3)) for batch in packed)
    torch.testing.assert_close(flat.loss, split.loss)
    torch.testing.assert_close(flat.token_losses, split.token_losses)
    torch.testing.assert_close(flat.embeddings, split.embeddings)


def test_sentence_without_tokens_has_a_zero_row() -> None:
    rows = small_model()(pack(([], [5, 6]))).embeddings
    assert torch.equal(rows[0], torch.zeros(32))
    assert rows[1].abs().sum() > 0


def test_mean_pool_is_fp32() -> None:
    hidden = torch.full((3, 2), 1.0, dtype=torch.bfloat16)
    rows = mean_pool(hidden, torch.tensor([0, 2]), torch.tensor([0, 0]), 2)
    assert rows.dtype == torch.float32
    assert rows.tolist() == [[1, 1], [0, 0]]


MODERN = partial(
    ModernBertConfig, local_attention=8, global_attn_every_n_layers=2, bos_token_id=0, eos_token_id=2, cls_token_id=0,
    sep_token_id=2,
)  # fmt: skip
"""Layers 1 and 3 attend to whole sentences, layer 2 to four tokens on each side."""


@pytest.mark.parametrize("family", [XLMRobertaConfig, RobertaConfig, BertConfig, MODERN])
@pytest.mark.parametrize("pool_layer", [2, 3])
def test_packed_equals_padded_hugging_face(
    family: Callable[..., PreTrainedConfig], pool_layer: int, tmp_path: Path
) -> None:
    """A model saved by Hugging Face and loaded for packing has the rows, losses and gradients it has there."""
    config = family(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=1,
    )  # fmt: skip
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    reference = AutoModelForMaskedLM.from_pretrained(tmp_path, attn_implementation="eager")
    settings = ModelConfig(pretrained=str(tmp_path), max_length=64, dropout=0.0)
    encoder = PairEncoder(build_model(settings, 50, 1, 0, 2), pool_layer)
    packer = PACKER._replace(vocabulary=VOCABULARY._replace(first_position=family_of(config).first_position(config)))
    texts = [([5, 6, 7, 8], [20, 21]), ([9, 10], [22] * 12), ([11] * 9, [23, 24, 25])]
    batch = pack(*texts, packer=packer)
    passed = encoder(batch, torch.tensor([1.0, 0.5, 2.0]))

    (part,) = batch.parts
    losses, rows = torch.zeros(len(part.mask_index)), []
    bounds = part.segments.cu_seqlens.tolist()
    longest = max(b - a for a, b in pairwise(bounds))
    ids, attended = torch.ones(len(bounds) - 1, longest, dtype=torch.long), torch.zeros(len(bounds) - 1, longest)
    for s, (begin, end) in enumerate(pairwise(bounds)):
        ids[s, : end - begin], attended[s, : end - begin] = part.input_ids[begin:end], 1
    positions = (attended.cumsum(1) - 1).clamp(min=0).long() + family_of(config).first_position(config)
    reference.eval()
    out = reference(ids, attention_mask=attended, position_ids=positions, output_hidden_states=True)
    for s, (begin, end) in enumerate(pairwise(bounds)):
        for m in ((part.mask_index >= begin) & (part.mask_index < end)).nonzero().flatten().tolist():
            at = int(part.mask_index[m]) - begin
            losses[m] = torch.nn.functional.cross_entropy(out.logits[s, at], part.mask_labels[m])
        if s < 2 * len(texts):
            rows.append(out.hidden_states[pool_layer][s, 1 : end - begin - 1].mean(0))
    expected = (losses * torch.tensor([1.0, 0.5, 2.0])[part.mask_stream]).sum()
    torch.testing.assert_close(passed.embeddings, torch.stack(rows), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(passed.loss, expected, rtol=1e-5, atol=1e-5)
    (passed.loss + passed.embeddings.square().sum()).backward()
    (expected + torch.stack(rows).square().sum()).backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in encoder.lm.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-5)


def test_recomputed_layers_change_nothing_even_with_dropout() -> None:
    encoder = small_model()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    encoder.train()
    batch = pack(([5, 6, 7], [8, 9]), ([10] * 20, [11] * 25))
    gradients = []
    for encoder.gradient_checkpointing in (False, True):
        torch.manual_seed(0)
        encoder.zero_grad()
        passed = encoder(batch, torch.ones(3))
        (passed.loss + passed.embeddings.sum()).backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_compiled_layers_change_nothing_but_the_draw_of_dropout() -> None:
    """Traced as torch.compile traces them, run without a compiler; for numbers of tokens not seen when tracing."""
    plain, compiled = small_model(), small_model()
    compiled.compile_layers(backend="aot_eager")
    for texts in ([([5, 6, 7], [8, 9]), ([10] * 20, [11] * 25)], [([12, 13], [14] * 30)]):
        batch = pack(*texts, packer=PACKER._replace(split_tlm=True))
        for encoder in (plain, compiled):
            encoder.zero_grad()
            passed = encoder(batch, torch.ones(3))
            (passed.loss + passed.embeddings.sum()).backward()
        for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6, msg=name)
    for module in compiled.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    compiled.train()
    torch.manual_seed(0)
    with torch.no_grad():
        rows = compiled(batch).embeddings
    torch.manual_seed(0)
    assert torch.equal(compiled(batch, torch.ones(3)).embeddings, rows)


def test_layers_by_index_and_fraction() -> None:
    assert resolve_layer(8, 12) == 8
    assert resolve_layer(0.667, 12) == 8
    assert resolve_layer(0.667, 4) == 3
    with pytest.raises(ConfigError, match="layer is 8, but the model has 4 layers"):
        resolve_layer(8, 4)


def test_model_that_cannot_be_used_says_why(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="cannot load '/nowhere'"):
        build_model(ModelConfig(pretrained="/nowhere"), 50, 1, 0, 2)
    ElectraForMaskedLM(
        ElectraConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48)
    ).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a 'electra' model"):
        build_model(ModelConfig(pretrained=str(tmp_path)), 50, 1, 0, 2)
    small_model().lm.save_pretrained(tmp_path)
    (Path(str(tmp_path)) / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(ConfigError, match=r"the weights of .* cannot be loaded"):
        build_model(ModelConfig(pretrained=str(tmp_path), max_length=64), 50, 1, 0, 2)


def test_loading_a_pretrained_model_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every rank loads it, and each would draw a progress bar of its own."""
    small_model().lm.save_pretrained(tmp_path)
    capsys.readouterr()
    build_model(ModelConfig(pretrained=str(tmp_path), max_length=16), 50, 1, 0, 2)
    assert capsys.readouterr() == ("", "")
