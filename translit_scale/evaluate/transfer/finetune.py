"""Fine-tunes an encoder with a classification head, and predicts with it.

Texts and words are classified by the hidden state of their first token, and the loss is the mean cross-entropy over the
classified tokens of a batch. Sentences are packed as in pretraining (`packed.py`), so nothing is computed for padding.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from translit_scale.batch.random_bits import key, permute
from translit_scale.errors import NumericError
from translit_scale.evaluate.embedding import batches_by_length
from translit_scale.evaluate.packed import last_states
from translit_scale.evaluate.transfer.tokenize import TokenizedSplit
from translit_scale.progress import Advance
from translit_scale.testsets.hyperparameters import Hyperparameters

MICRO_TOKENS = 8192
"""Tokens of one forward pass; larger updates accumulate gradients over several passes, equal up to rounding."""
Kind = Literal["classification", "tagging"]
TransferPrecision = Literal["fp32", "bf16"]


def new_head(kind: Kind, width: int, n_labels: int, dropout: float) -> nn.Sequential:
    """XLM-R's head, [N, d] → [N, labels]: dropout and output, in classification after dropout, dense and tanh."""
    if kind == "tagging":
        return nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), classifier=nn.Linear(width, n_labels)))
    layers = OrderedDict(dropout=nn.Dropout(dropout), dense=nn.Linear(width, width), tanh=nn.Tanh())
    return nn.Sequential(layers | OrderedDict(dropout_2=nn.Dropout(dropout), out_proj=nn.Linear(width, n_labels)))


class Classifier(nn.Module):
    """An encoder with a new head, whose initial weights depend on torch's current random state.

    Args:
        encoder: as `Encoder.load` returns it, with all layers; its weights and dropout change.
    """

    def __init__(self, encoder: PreTrainedModel, kind: Kind, n_labels: int, dropout: float, bf16: bool = False) -> None:
        super().__init__()
        self.encoder, self.bf16 = encoder, bf16
        self.head = new_head(kind, encoder.config.hidden_size, n_labels, dropout)
        for module in self.head.modules():  # as transformers initialises its own heads
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=getattr(encoder.config, "initializer_range", 0.02))
                nn.init.zeros_(module.bias)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        self.head.to(encoder.device)

    def forward(self, ids: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token ids of S sequences and the positions of their classified tokens → [N, labels] fp32 logits."""
        with torch.autocast(self.encoder.device.type, torch.bfloat16, enabled=self.bf16):
            logits: torch.Tensor = self.head(last_states(self.encoder, ids, places))
        return logits.float()


@dataclass(frozen=True)
class Epoch:
    """The record of one epoch."""

    number: int
    """From 1."""
    loss: float
    """Mean over its updates."""
    dev: float


def finetune(
    model: Classifier,
    data: TokenizedSplit,
    dev_score: Callable[[Classifier], float],
    settings: Hyperparameters,
    seed: int,
    name: str,
    advance: Advance = lambda amount: None,
) -> list[Epoch]:
    """Trains the model and leaves it with the weights of the epoch that scored best, the first among equals.

    Args:
        data: the training split.
        dev_score: called after each epoch with the model in evaluation mode.
        seed: decides the order of the sequences; dropout follows torch's current random state.
        name: the job's name, for messages.
        advance: called with 1 after each epoch.

    Raises:
        NumericError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, eps=settings.adam_epsilon, weight_decay=settings.weight_decay, fused=True
    )
    total = settings.epochs * math.ceil(len(data) / settings.batch_size)
    epochs: list[Epoch] = []
    best: dict[str, torch.Tensor] = {}
    step = 0
    for number in range(1, settings.epochs + 1):
        model.train()
        losses = []
        for batch in _batches(len(data), settings.batch_size, seed, number):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * (1 - step / total)
            step += 1
            losses.append(_update(model, optimizer, data, batch, settings.clip, f"{name}, step {step} of {total}"))
        model.eval()
        epochs.append(Epoch(number, float(np.mean(losses)), dev_score(model)))
        if best_epoch(epochs) is epochs[-1] and number < settings.epochs:
            best = copy.deepcopy(model.state_dict())
        advance(1)
    if best_epoch(epochs) is not epochs[-1]:
        model.load_state_dict(best)
    return epochs


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """The epoch with the best score, the first among equals."""
    return max(epochs, key=lambda epoch: epoch.dev)


def _batches(n: int, size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The indices 0 … n − 1 in an order that follows from seed and epoch, `size` at a time."""
    keys = np.full(n, key("finetune", seed, epoch))
    order = permute(np.arange(n), np.full(n, n), keys)
    return [order[start : start + size] for start in range(0, n, size)]


def _update(
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    data: TokenizedSplit,
    batch: NDArray[np.int64],
    clip: float | None,
    where: str,
) -> float:
    """One update with the mean loss over all classified tokens of the sequences in `batch`; returns that loss."""
    optimizer.zero_grad()
    classified = sum(len(data.labels[index]) for index in batch)
    loss = 0.0
    for part in batches_by_length([len(data.ids[index]) for index in batch], MICRO_TOKENS):
        micro_batch = batch[part]
        logits = model([data.ids[index] for index in micro_batch], [data.places[index] for index in micro_batch])
        labels = torch.tensor([label for index in micro_batch for label in data.labels[index]], device=logits.device)
        micro_loss = F.cross_entropy(logits, labels, reduction="sum") / classified
        micro_loss.backward()
        loss += micro_loss.item()
    if not math.isfinite(loss):
        raise NumericError(f"{where}: the loss is {loss}", "try a smaller --lr or --precision fp32")
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss


@torch.no_grad()
def predict(model: Classifier, data: TokenizedSplit, batch_tokens: int = MICRO_TOKENS) -> NDArray[np.int64]:
    """Predicted labels [N], in the order of the split; the model must be in evaluation mode.

    Raises:
        NumericError: the logits are not finite.
    """
    ends = np.cumsum([len(places) for places in data.places])
    result = np.empty(int(ends[-1]), np.int64)
    for batch in batches_by_length([len(ids) for ids in data.ids], batch_tokens):
        logits = model([data.ids[index] for index in batch], [data.places[index] for index in batch])
        if not logits.isfinite().all():
            raise NumericError("the logits of the fine-tuned model are not finite", "try a smaller --lr")
        predicted = logits.argmax(dim=1).cpu().numpy()
        bounds = np.cumsum([len(data.places[index]) for index in batch])[:-1]
        for index, labels in zip(batch, np.split(predicted, bounds), strict=True):
            result[ends[index] - len(labels) : ends[index]] = labels
    return result
