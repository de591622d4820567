"""Losses as pure functions, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from translit_scale.objectives.contrastive import contrast
from translit_scale.objectives.masked_lm import group_sums, masked_lm_losses


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


def everyone(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Own columns and positives of n rows that are contrasted among themselves: orig rows, then latn rows."""
    return torch.arange(n), torch.arange(n).roll(n // 2)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("tile_elements", [1, 25, 1 << 20])
def test_contrastive_loss_and_gradient_are_the_papers(temperature: float, tile_elements: int) -> None:
    torch.manual_seed(0)
    z, (own, partner) = torch.randn(10, 6), everyone(10)
    found = contrast(z, z, own, partner, 1 / temperature, scale=0.3, tile_elements=tile_elements)
    assert found.loss_sum.item() == pytest.approx(by_definition(z, partner, temperature, False), rel=1e-5)
    leaf, log_inverse = z.clone().requires_grad_(), torch.tensor(-math.log(temperature), requires_grad=True)
    logits = (leaf @ leaf.T * log_inverse.exp()).masked_fill(torch.eye(10, dtype=torch.bool), float("-inf"))
    loss = 0.3 * torch.nn.functional.cross_entropy(logits, partner, reduction="sum")
    expected = torch.autograd.grad(loss, (leaf, log_inverse))
    torch.testing.assert_close(found.rows + found.columns, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.log_inverse_temperature, expected[1], rtol=1e-4, atol=1e-5)


def test_terms_of_parts_sum_to_the_whole() -> None:
    torch.manual_seed(1)
    z, (own, partner) = torch.randn(12, 6), everyone(12)
    whole = contrast(z, z, own, partner)
    parts = [contrast(z[s], z, own[s], partner[s]) for s in (slice(0, 5), slice(5, 12))]
    torch.testing.assert_close(sum(p.loss_sum for p in parts), whole.loss_sum)
    torch.testing.assert_close(torch.cat([p.rows for p in parts]), whole.rows)
    torch.testing.assert_close(sum(p.columns for p in parts), whole.columns)
    assert sum(int(p.hits) for p in parts) == int(whole.hits)


def test_perfect_and_hopeless_rows() -> None:
    z = torch.eye(3).repeat(2, 1) * 30
    found = contrast(z, z, *everyone(6))
    assert found.loss_sum.item() == pytest.approx(0, abs=1e-6)
    assert int(found.hits) == 6 and found.positive_sum.item() == pytest.approx(6 * 900)
    assert int(contrast(z, z, torch.arange(6), torch.tensor([1, 2, 0, 4, 5, 3])).hits) == 0


def test_a_row_is_never_its_own_negative() -> None:
    """Its dot product with itself is the largest of all; included, it would swamp the softmax."""
    z = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = contrast(z[:1], z, torch.tensor([0]), torch.tensor([1]))
    assert found.loss_sum.item() == pytest.approx(math.log(1 + 2 * math.exp(-9)), rel=1e-3)


def test_low_precision_rows_are_contrasted_in_fp32() -> None:
    torch.manual_seed(4)
    z = (torch.randn(8, 16) * 20).bfloat16()
    found, exact = contrast(z, z, *everyone(8)), contrast(z.float(), z.float(), *everyone(8))
    assert torch.equal(found.loss_sum, exact.loss_sum)


def test_rows_of_the_same_text_are_no_negatives() -> None:
    """Pairs 0 and 2 share their original, pairs 1 and 2 their transliteration: as if those columns were not there."""
    torch.manual_seed(5)
    z, (own, partner) = torch.randn(8, 6), everyone(8)
    texts = torch.tensor([[1, 10], [2, 11], [1, 11], [4, 12]]).repeat(2, 1)
    found = contrast(z, z, own, partner, texts=(texts, texts))
    expected = 0.0
    for i in range(8):
        shared = {0: {2}, 1: {2}, 2: {0, 1}, 3: set()}[i % 4]
        kept = [j for j in range(8) if j != i and j % 4 not in shared]
        expected += float(torch.logsumexp(z[kept] @ z[i], 0) - z[int(partner[i])] @ z[i])
    assert found.loss_sum.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(found.rows).all() and torch.isfinite(found.log_inverse_temperature)


@pytest.mark.parametrize(("chunk_rows", "align"), [(1, 1), (4, 1), (9, 11), (2048, 1), (4, 8), (2048, 64)])
def test_chunked_cross_entropy_equals_the_plain_one(chunk_rows: int, align: int) -> None:
    """Losses and all gradients, with a last chunk of another size and with a padded vocabulary."""
    torch.manual_seed(2)
    features, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((9, 5), (11, 5), (11,)))
    labels, row_weight = torch.randint(11, (9,)), torch.rand(9)
    plain = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels, reduction="none")
    total, losses = masked_lm_losses(features, weight, bias, labels, row_weight, chunk_rows, align)
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
    assert group_sums(losses, stream, 4).tolist() == [15, 9, 12, 0]


def test_no_masked_tokens_are_no_loss_and_no_gradient() -> None:
    empty, weight = torch.zeros(0, dtype=torch.long), torch.randn(11, 5, requires_grad=True)
    features = torch.zeros(0, 5, requires_grad=True)
    total, losses = masked_lm_losses(features, weight, torch.zeros(11), empty, torch.zeros(0))
    assert total.item() == 0 and group_sums(losses, empty, 3).tolist() == [0, 0, 0]
    assert not torch.autograd.grad(total, weight)[0].any()
