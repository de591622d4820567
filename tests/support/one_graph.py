"""The whole effective batch of all ranks in one process and one graph, with the ranks' own dropout, as a reference.

Unlike `naive.py` it runs the encoder under test, over the micro-batches of every rank under the seeds of that
rank; it does not use GradCache, the reductions over ranks or the engine.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from tests.support.gradient_worker import Gradients
from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.pack import MicroBatch
from translit_scale.batch.stream import BatchStream
from translit_scale.config import ContrastiveConfig
from translit_scale.objectives.contrastive import LogitParameters
from translit_scale.train.setup import Training
from translit_scale.train.step import TrainStep


def micro_batches_of_all(
    stream: BatchStream, layout: BatchLayout, t: int, equal_split: bool = False
) -> list[list[MicroBatch]]:
    """[W][K] micro-batches of step t, as the ranks of another world make them."""
    return [
        BatchStream(
            stream.order, stream.reader, stream.encoder, stream.packer, stream.sizes, layout, rank,
            stream.token_rates, stream.pair_with, equal_split=equal_split,
        ).step(t).micro
        for rank in range(layout.world_size)
    ]  # fmt: skip


def info_nce(orig: torch.Tensor, latn: torch.Tensor) -> torch.Tensor:
    """The papers' loss: dot products, τ = 1."""
    one, zero = torch.ones(()), torch.zeros(())
    texts = torch.arange(2 * len(orig)).view(-1, 2)
    return contrastive(orig, latn, texts, ContrastiveConfig(), LogitParameters(one.log(), zero))


def contrastive(
    orig: torch.Tensor, latn: torch.Tensor, texts: torch.Tensor, tcm: ContrastiveConfig, parameters: LogitParameters
) -> torch.Tensor:
    """Mean loss over 2n embeddings: those of orig [n, d] and of latn [n, d] are each other's positives.

    Args:
        texts: [n, 2] numbers of the texts of each pair.
    """
    z = torch.cat([orig, latn])
    if tcm.similarity == "cosine":
        z = z / z.norm(dim=1, keepdim=True)
    own = torch.arange(len(z), device=z.device)
    positive = own.roll(len(z) // 2)
    left_out = own[:, None] == own
    if tcm.exclude_duplicates:
        numbers = torch.cat([texts, texts]).to(z.device)
        left_out = left_out | ((numbers[:, None] == numbers).any(dim=2) & (own != positive[:, None]))
    logits = z @ z.T * parameters.logit_scale.exp() + parameters.logit_bias
    if tcm.loss == "info_nce":
        return F.cross_entropy(logits.masked_fill(left_out, float("-inf")), positive)
    assert tcm.loss == "sigmoid", f"no reference for the loss {tcm.loss}"
    sign = torch.where(own == positive[:, None], 1.0, -1.0)
    return -F.logsigmoid(sign * logits).masked_fill(left_out, 0.0).sum(dim=1).mean()


def gradient_of(total: torch.Tensor, encoder: torch.nn.Module) -> Gradients:
    """Gradient by the names of the Hugging Face model."""
    parameters = {name.removeprefix("lm."): p for name, p in encoder.named_parameters()}
    return dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))


def whole_batch(
    training: Training, ranks: int, t: int, encoder: torch.nn.Module | None = None
) -> tuple[Gradients, float]:
    """Gradient and loss of step t, with its pairs on `ranks` ranks, each with as many micro-batches as `training` has.

    Args:
        training: a world of one in this process.
        encoder: used instead of the one in the engine, on the device of its weights.
    """
    encoder, objectives, own = encoder or training.engine.module, training.config.objectives, training.hardware.layout
    device = next(encoder.parameters()).device
    layout = BatchLayout(own.batch_pairs, ranks, own.micro_batch_pairs // ranks)
    assert layout.micro_batches == own.micro_batches
    batches = micro_batches_of_all(training.stream, layout, t)
    masked = torch.tensor([part.masked for of_rank in batches for part in of_rank]).sum(0)
    weights = (torch.tensor([1.0, 1.0, objectives.tlm.weight]) / masked).to(device)
    total, orig, latn, texts = torch.zeros((), device=device), [], [], []
    for number, of_rank in enumerate(batches):
        rank = dataclasses.replace(training.rank, rank=number, world_size=ranks)
        seeds = TrainStep(training.engine, objectives, rank, training.config.train.seed, languages=0)
        for k, part in enumerate(of_rank):
            seeds._seed_dropout(t, k)
            passed = encoder(part.to(device), weights)
            total = total + passed.loss
            for side, embeddings in zip((orig, latn), passed.embeddings.split(part.contrasted), strict=True):
                side.append(embeddings)
            texts.append(part.text_hashes)
    sides = torch.cat(orig), torch.cat(latn), torch.cat(texts)
    total = total + objectives.tcm.weight * contrastive(*sides, objectives.tcm, passed.parameters)
    return gradient_of(total, encoder), total.item()


def relative_difference(found: Gradients, expected: Gradients) -> float:
    """‖found − expected‖ / ‖expected‖ over all parameters."""
    assert found.keys() == expected.keys()
    difference = sum(float((found[name] - expected[name]).square().sum()) for name in expected)
    return (difference / sum(float(g.square().sum()) for g in expected.values())) ** 0.5
