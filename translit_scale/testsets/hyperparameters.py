"""The papers' hyperparameters of fine-tuning, and their seeds; a task's entry in the registry states its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hyperparameters:
    """One fine-tuning: AdamW, learning rate falling linearly to 0 without warm-up."""

    epochs: int
    lr: float
    max_length: int
    """Tokens of a sequence, special ones included."""
    batch_size: int = 32
    """Sequences of one update."""
    clip: float | None = None
    """Largest norm of the gradient; None does not clip."""
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    dropout: float = 0.1
    """Of all layers and the head, whatever the model was trained with."""


CLASSIFICATION = Hyperparameters(epochs=40, lr=1e-5, max_length=160)
TAGGING = Hyperparameters(epochs=5, lr=2e-5, max_length=256, batch_size=64, clip=1.0)
"""Epochs, learning rates, batch sizes (tagging: 32 times 2 accumulation steps) and lengths: paper B, appendix B.

No clipping in classification and 1.0 in tagging, linear decay, epsilon: the paper's public code (evaluate_sib.py,
evaluate_all.py, run_tag.py). Weight decay: 0.0 there, while the paper's text refers to the 0.01 of its pretraining.
Dropout: the configuration of the fine-tuned model, XLM-R's.
"""

SEEDS: dict[str, tuple[int, ...]] = {"paper_a": (42, 43, 44), "paper_b": (42, 43, 44, 45, 46)}
"""By preset: paper B's code counts from 42, paper A states that there are three. Paper A names no hyperparameters, so
both presets use paper B's."""
