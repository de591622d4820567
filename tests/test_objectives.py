"""Losses as pure functions, against their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.support.one_graph import contrastive
from translit_scale.config import ContrastiveConfig
from translit_scale.objectives.contrastive import (
    LOSSES,
    ContrastiveOutput,
    LogitParameters,
    contrastive_loss,
    info_nce,
    sigmoid,
)
from translit_scale.objectives.masked_lm import group_sums, masked_lm_losses

UNIT = LogitParameters(torch.zeros(()), torch.zeros(()))
"""τ = 1, no bias."""


def by_definition(z: torch.Tensor, partner: torch.Tensor, temperature: float) -> float:
    """Paper B, section 3.2, one embedding at a time in plain Python floats."""
    total = 0.0
    for i in range(len(z)):
        scores = [float(z[i] @ z[j]) / temperature for j in range(len(z))]
        denominator = sum(math.exp(s) for j, s in enumerate(scores) if j != i)
        total -= math.log(math.exp(scores[int(partner[i])]) / denominator)
    return total


def sigmoid_by_definition(z: torch.Tensor, partner: torch.Tensor, temperature: float, bias: float) -> float:
    """SigLIP's equation over all other embeddings, one term at a time in plain Python floats."""
    total = 0.0
    for i in range(len(z)):
        for j in range(len(z)):
            if j != i:
                sign = 1 if j == int(partner[i]) else -1
                total += math.log(1 + math.exp(-sign * (float(z[i] @ z[j]) / temperature + bias)))
    return total


def everyone(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of n embeddings themselves and of their positives, compared among themselves: orig, then latn."""
    return torch.arange(n), torch.arange(n).roll(n // 2)


def among_themselves(z: torch.Tensor, **more: Any) -> ContrastiveOutput:
    return contrastive_loss(info_nce, z, z, *everyone(len(z)), UNIT, **more)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("tile_elements", [1, 25, 1 << 20])
def test_info_nce_and_its_gradient_are_the_papers(temperature: float, tile_elements: int) -> None:
    torch.manual_seed(0)
    z, (own, partner) = torch.randn(10, 6), everyone(10)
    scale = torch.tensor(-math.log(temperature))
    found = contrastive_loss(
        info_nce, z, z, own, partner, LogitParameters(scale, torch.zeros(())), weight=0.3, tile_elements=tile_elements
    )
    assert found.loss.item() == pytest.approx(by_definition(z, partner, temperature), rel=1e-5)
    leaf, scale = z.clone().requires_grad_(), scale.requires_grad_()
    logits = (leaf @ leaf.T * scale.exp()).masked_fill(torch.eye(10, dtype=torch.bool), float("-inf"))
    loss = 0.3 * torch.nn.functional.cross_entropy(logits, partner, reduction="sum")
    expected = torch.autograd.grad(loss, (leaf, scale))
    torch.testing.assert_close(found.embedding_gradient + found.candidate_gradient, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.parameter_gradients.logit_scale, expected[1], rtol=1e-4, atol=1e-5)
    assert found.parameter_gradients.logit_bias.item() == pytest.approx(0, abs=1e-5)  # a softmax does not see it
    assert found.positive_similarity.item() == pytest.approx(float((z * z[partner]).sum()), rel=1e-5)


@pytest.mark.parametrize("tile_elements", [1, 1 << 20])
def test_sigmoid_loss_is_siglips(tile_elements: int) -> None:
    torch.manual_seed(0)
    z, (own, partner) = torch.randn(10, 6), everyone(10)
    parameters = LogitParameters(torch.tensor(math.log(5.0)), torch.tensor(-1.5))
    found = contrastive_loss(sigmoid, z, z, own, partner, parameters, tile_elements=tile_elements)
    assert found.loss.item() == pytest.approx(sigmoid_by_definition(z, partner, 0.2, -1.5), rel=1e-5)
    assert found.positive_similarity.item() == pytest.approx(float((z * z[partner]).sum()), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("exclude_duplicates", [False, True])
def test_gradient_of_each_loss_is_that_of_autograd(name: Any, exclude_duplicates: bool) -> None:
    """Of embeddings, temperature and bias, with and without duplicates among the negatives."""
    torch.manual_seed(6)
    z, texts = torch.randn(12, 5), torch.tensor([[1, 10], [2, 11], [1, 11], [4, 12], [5, 13], [6, 10]])
    parameters = LogitParameters(torch.tensor(0.3), torch.tensor(-0.7))
    numbers = texts.repeat(2, 1)
    shared = (numbers, numbers) if exclude_duplicates else None
    found = contrastive_loss(LOSSES[name], z, z, *everyone(12), parameters, 1 / 12, shared, tile_elements=50)
    leaves = [z.clone().requires_grad_(), *(p.clone().requires_grad_() for p in parameters)]
    tcm = ContrastiveConfig(loss=name, exclude_duplicates=exclude_duplicates)
    loss = contrastive(*leaves[0].split(6), texts, tcm, LogitParameters(*leaves[1:]))
    assert found.loss.item() / 12 == pytest.approx(loss.item(), rel=1e-5)
    expected = torch.autograd.grad(loss, leaves, allow_unused=True)
    results = (found.embedding_gradient + found.candidate_gradient, *found.parameter_gradients)
    for result, gradient in zip(results, expected, strict=True):
        torch.testing.assert_close(result, gradient, rtol=1e-4, atol=1e-6)


def test_terms_of_parts_sum_to_the_whole() -> None:
    torch.manual_seed(1)
    z, (own, partner) = torch.randn(12, 6), everyone(12)
    whole = among_themselves(z)
    parts = [contrastive_loss(info_nce, z[s], z, own[s], partner[s], UNIT) for s in (slice(0, 5), slice(5, 12))]
    torch.testing.assert_close(sum(p.loss for p in parts), whole.loss)
    torch.testing.assert_close(torch.cat([p.embedding_gradient for p in parts]), whole.embedding_gradient)
    torch.testing.assert_close(sum(p.candidate_gradient for p in parts), whole.candidate_gradient)
    assert sum(int(p.correct) for p in parts) == int(whole.correct)


def test_perfect_and_hopeless_embeddings() -> None:
    z = torch.eye(3).repeat(2, 1) * 30
    found = among_themselves(z)
    assert found.loss.item() == pytest.approx(0, abs=1e-6)
    assert int(found.correct) == 6 and found.positive_similarity.item() == pytest.approx(6 * 900)
    hopeless = contrastive_loss(info_nce, z, z, torch.arange(6), torch.tensor([1, 2, 0, 4, 5, 3]), UNIT)
    assert int(hopeless.correct) == 0


def test_an_embedding_is_never_its_own_negative() -> None:
    """Its dot product with itself is the largest of all; included, it would swamp the softmax."""
    z = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = contrastive_loss(info_nce, z[:1], z, torch.tensor([0]), torch.tensor([1]), UNIT)
    assert found.loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-9)), rel=1e-3)


def test_low_precision_embeddings_are_compared_in_fp32() -> None:
    torch.manual_seed(4)
    z = (torch.randn(8, 16) * 20).bfloat16()
    assert torch.equal(among_themselves(z).loss, among_themselves(z.float()).loss)


def test_embeddings_of_the_same_text_are_not_negatives() -> None:
    """Pairs 0 and 2 share their original, pairs 1 and 2 their transliteration: as if those columns were not there."""
    torch.manual_seed(5)
    z, (_, partner) = torch.randn(8, 6), everyone(8)
    texts = torch.tensor([[1, 10], [2, 11], [1, 11], [4, 12]]).repeat(2, 1)
    found = among_themselves(z, texts=(texts, texts))
    expected = 0.0
    for i in range(8):
        shared = {0: {2}, 1: {2}, 2: {0, 1}, 3: set()}[i % 4]
        kept = [j for j in range(8) if j != i and j % 4 not in shared]
        expected += float(torch.logsumexp(z[kept] @ z[i], 0) - z[int(partner[i])] @ z[i])
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(found.embedding_gradient).all() and torch.isfinite(found.parameter_gradients.logit_scale)


KERNEL_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Without a GPU, Triton interprets the kernel (tests/conftest.py)."""


@pytest.mark.parametrize(("chunk_tokens", "align"), [(1, 1), (4, 1), (9, 11), (2048, 1), (4, 8), (2048, 64)])
@pytest.mark.parametrize("fused", [False, True])
def test_chunked_cross_entropy_equals_the_plain_one(chunk_tokens: int, align: int, fused: bool) -> None:
    """Losses and all gradients, with a last chunk of another size and with a padded vocabulary."""
    torch.manual_seed(2)
    with torch.device(KERNEL_DEVICE if fused else "cpu"):
        features, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((9, 5), (11, 5), (11,)))
        labels, token_weights = torch.randint(11, (9,)), torch.rand(9)
    plain = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels, reduction="none")
    total, losses = masked_lm_losses(features, weight, bias, labels, token_weights, chunk_tokens, align, fused)
    torch.testing.assert_close(losses, plain)
    torch.testing.assert_close(total, (plain * token_weights).sum())
    expected = torch.autograd.grad(3 * (plain * token_weights).sum(), (features, weight, bias))
    for found, wanted in zip(torch.autograd.grad(3 * total, (features, weight, bias)), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_reads_rows_of_several_blocks_in_the_type_of_the_logits(dtype: torch.dtype) -> None:
    """The last block is not full, the largest logit is in the second one, and some columns are padding."""
    from translit_scale.objectives.fused_cross_entropy import BLOCK, fused_cross_entropy

    torch.manual_seed(4)
    columns, padding = 2 * BLOCK + 77, 13
    with torch.device(KERNEL_DEVICE):
        logits, labels = (5 * torch.randn(3, columns)).to(dtype), torch.tensor([2, BLOCK + 1, 2 * BLOCK + 50])
        logits[:, BLOCK + 5], weights = 30, torch.tensor([1.0, 0.5, 0.0])
        bias = torch.randn(columns).masked_fill(torch.arange(columns) >= columns - padding, float("-inf"))
        leaf = logits.float().requires_grad_()
    plain = torch.nn.functional.cross_entropy(leaf + bias, labels, reduction="none")
    (expected,) = torch.autograd.grad((plain * weights).sum(), leaf)
    kept = logits.clone()
    losses, unchanged = fused_cross_entropy(logits, bias, labels, weights, gradient=False)
    torch.testing.assert_close(losses, plain)
    assert torch.equal(unchanged, kept)
    losses, gradient = fused_cross_entropy(logits, bias, labels, weights, gradient=True)
    torch.testing.assert_close(losses, plain)
    assert gradient is logits and not gradient[:, -padding:].any() and not gradient[2].any()
    torch.testing.assert_close(gradient.float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-6)


def test_chunked_cross_entropy_without_gradient_goes_through_all_chunks() -> None:
    torch.manual_seed(2)
    features, weight, bias = torch.randn(9, 5), torch.randn(11, 5), torch.randn(11)
    labels, token_weights = torch.randint(11, (9,)), torch.rand(9)
    total, losses = masked_lm_losses(features, weight, bias, labels, token_weights, 4)
    expected = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels, reduction="none")
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(total, (expected * token_weights).sum())


def test_chunked_cross_entropy_in_autocast_is_bf16_outside_and_fp32_inside() -> None:
    torch.manual_seed(3)
    features, weight, bias = torch.randn(6, 8, requires_grad=True), torch.randn(20, 8), torch.randn(20)
    labels = torch.randint(20, (6,))
    with torch.autocast("cpu", torch.bfloat16):
        total, losses = masked_lm_losses(features, weight, bias, labels, torch.ones(6), chunk_tokens=4)
        logits = torch.nn.functional.linear(features, weight).float() + bias
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    assert torch.autograd.grad(total, features)[0].dtype == torch.float32


def test_sums_by_stream() -> None:
    losses, stream = torch.arange(9.0), torch.tensor([0, 0, 1, 2, 2, 2, 0, 1, 0])
    assert group_sums(losses, stream, 4).tolist() == [15, 9, 12, 0]


def test_no_masked_tokens_are_no_loss_and_no_gradient() -> None:
    empty, weight = torch.zeros(0, dtype=torch.long), torch.randn(11, 5, requires_grad=True)
    features = torch.zeros(0, 5, requires_grad=True)
    total, losses = masked_lm_losses(features, weight, torch.zeros(11), empty, torch.zeros(0))
    assert total.item() == 0 and group_sums(losses, empty, 3).tolist() == [0, 0, 0]
    assert not torch.autograd.grad(total, weight)[0].any()
