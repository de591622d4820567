"""Losses as pure functions, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from translit_scale.objectives.contrastive import contrastive_terms
from translit_scale.objectives.masked_lm import masked_lm_losses, stream_sums


def by_definition(z: torch.Tensor, partner: torch.Tensor, temperature: float, cosine: bool) -> float:
    """Paper B, section 3.2, one row at a time in plain Python floats."""
    if cosine:
        z = z / z.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(z)):
        scores = [float(z[i] @ z[j]) / temperature for j in range(len(z))]
        denominator = sum(math.exp(s) for j, s in enumerate(scores) if j != i)
        total -= math.log(math.exp(scores[int(partner[i])]) / denominator)
    return total


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_contrastive_loss_is_the_papers(cosine: bool, temperature: float) -> None:
    torch.manual_seed(0)
    z, partner = torch.randn(10, 6), torch.arange(10).roll(5)
    similarity = "cosine" if cosine else "dot"
    terms = contrastive_terms(z, z, torch.arange(10), partner, temperature, similarity)  # type: ignore[arg-type]
    assert float(terms.loss_sum) == pytest.approx(by_definition(z, partner, temperature, cosine), rel=1e-5)


def test_terms_of_parts_sum_to_the_whole_with_the_same_gradient() -> None:
    torch.manual_seed(1)
    z, partner = torch.randn(12, 6, requires_grad=True), torch.arange(12).roll(6)
    whole = contrastive_terms(z, z, torch.arange(12), partner)
    parts = [contrastive_terms(z[s], z, torch.arange(12)[s], partner[s]) for s in (slice(0, 5), slice(5, 12))]
    torch.testing.assert_close(sum(p.loss_sum for p in parts), whole.loss_sum)
    assert sum(int(p.hits) for p in parts) == int(whole.hits)
    (expected,) = torch.autograd.grad(whole.loss_sum, z)
    (found,) = torch.autograd.grad(sum(p.loss_sum for p in parts), z)
    torch.testing.assert_close(found, expected)


def test_perfect_and_hopeless_rows() -> None:
    z = torch.eye(3).repeat(2, 1) * 30
    terms = contrastive_terms(z, z, torch.arange(6), torch.arange(6).roll(3))
    assert float(terms.loss_sum) == pytest.approx(0, abs=1e-6)
    assert int(terms.hits) == 6
    wrong = contrastive_terms(z, z, torch.arange(6), torch.tensor([1, 2, 0, 4, 5, 3]))
    assert int(wrong.hits) == 0


def test_a_row_is_never_its_own_negative() -> None:
    """Its dot product with itself is the largest of all; included, it would swamp the softmax."""
    z = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    terms = contrastive_terms(z[:1], z, torch.tensor([0]), torch.tensor([1]))
    assert float(terms.loss_sum) == pytest.approx(math.log(1 + 2 * math.exp(-9)), abs=1e-5)


def test_bf16_rows_are_contrasted_in_fp32() -> None:
    z = (torch.randn(8, 64) * 5).bfloat16()
    terms = contrastive_terms(z, z, torch.arange(8), torch.arange(8).roll(4))
    exact = contrastive_terms(z.float(), z.float(), torch.arange(8), torch.arange(8).roll(4))
    assert torch.equal(terms.loss_sum, exact.loss_sum)


@pytest.mark.parametrize("chunk_rows", [1, 4, 9, 2048])
def test_chunked_cross_entropy_equals_the_plain_one(chunk_rows: int) -> None:
    """Losses and all gradients, a last chunk of another size among them."""
    torch.manual_seed(2)
    features, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((9, 5), (11, 5), (11,)))
    labels, row_weight = torch.randint(11, (9,)), torch.rand(9)
    plain = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels, reduction="none")
    total, losses = masked_lm_losses(features, weight, bias, labels, row_weight, chunk_rows)
    torch.testing.assert_close(losses, plain)
    torch.testing.assert_close(total, (plain * row_weight).sum())
    expected = torch.autograd.grad(3 * (plain * row_weight).sum(), (features, weight, bias))
    for found, wanted in zip(torch.autograd.grad(3 * total, (features, weight, bias)), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_chunked_cross_entropy_in_autocast_is_bf16_outside_and_fp32_inside() -> None:
    torch.manual_seed(3)
    features, weight, bias = torch.randn(6, 8, requires_grad=True), torch.randn(20, 8), torch.randn(20)
    labels = torch.randint(20, (6,))
    with torch.autocast("cpu", torch.bfloat16):
        total, losses = masked_lm_losses(features, weight, bias, labels, torch.ones(6), chunk_rows=4)
        logits = torch.nn.functional.linear(features, weight).float() + bias
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    assert torch.autograd.grad(total, features)[0].dtype == torch.float32


def test_sums_by_stream() -> None:
    losses, stream = torch.arange(9.0), torch.tensor([0, 0, 1, 2, 2, 2, 0, 1, 0])
    assert stream_sums(losses, stream, 4).tolist() == [15, 9, 12, 0]


def test_no_masked_tokens_are_no_loss_and_no_gradient() -> None:
    empty, weight = torch.zeros(0, dtype=torch.long), torch.randn(11, 5, requires_grad=True)
    features = torch.zeros(0, 5, requires_grad=True)
    total, losses = masked_lm_losses(features, weight, torch.zeros(11), empty, torch.zeros(0))
    assert total.item() == 0 and stream_sums(losses, empty, 3).tolist() == [0, 0, 0]
    assert not torch.autograd.grad(total, weight)[0].any()
