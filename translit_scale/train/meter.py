"""Adds up the steps between two records: throughput, efficiency, memory, and losses by language."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import numpy as np
import torch

from translit_scale.batch.sizes import BatchSizes
from translit_scale.model.flops import Shape, contrastive_flops, training_flops
from translit_scale.train.metric_names import BY_LANGUAGE, BY_SCRIPT
from translit_scale.train.step import StepResult

MOST_LANGUAGES = 64
"""With more languages TensorBoard gets their scripts instead; metrics.jsonl has both."""


@dataclass(frozen=True)
class MeterContext:
    """What turns counts into rates; constant during a training."""

    languages: tuple[str, ...]
    """In the order of their numbers in batches."""
    shape: Shape
    world_size: int
    peak_flops: float | None
    """FLOP/s of one device in the precision of its matrix products; None if unknown."""
    unpadded: bool
    """Whether attention runs the variable-length kernel, which needs no padding."""
    sizes: BatchSizes
    """Of batches, for the time that is left."""

    @property
    def many_languages(self) -> bool:
        """Whether TensorBoard shows scripts instead of languages."""
        return len(self.languages) > MOST_LANGUAGES


class Meter:
    """The steps since the last record, added up.

    Args:
        now: seconds of a monotonic clock; waited: seconds that this rank has waited for batches so far.
    """

    def __init__(self, context: MeterContext, now: float, waited: float) -> None:
        self.context = context
        self.language_losses = np.zeros((len(context.languages), 2))
        self.restart(now, waited)

    def restart(self, now: float, waited: float) -> None:
        """Starts counting rates from zero; losses by language are kept."""
        self.started, self.waited = now, waited
        self.steps = self.pairs = self.tokens = self.padded_tokens = self.flops = 0
        self.slowest = 0.0

    def add(self, result: StepResult) -> None:
        """Counts one optimizer step."""
        self.steps += 1
        self.pairs += result.pairs
        self.tokens += result.tokens
        self.padded_tokens += result.tokens if self.context.unpadded else result.padded_tokens
        self.slowest += result.slowest
        self.flops += training_flops(self.context.shape, result.token_counts)
        if "tcm" in result.losses:
            self.flops += contrastive_flops(self.context.shape, result.contrasted)
        if result.is_finite:
            self.language_losses += result.language_losses

    def rates(self, now: float, waited: float) -> dict[str, float]:
        """Metrics `train_speed/…`.

        Useful operations are those of `model/flops.py`: the exact ones for real tokens, without the first pass of
        GradCache and without recomputation. MFU is their rate divided by the device's peak (Chowdhery et al. 2022,
        PaLM, appendix B).
        """
        seconds = now - self.started
        per_device = self.flops / seconds / self.context.world_size
        rates = {
            "train_speed/pairs_per_sec": self.pairs / seconds,
            "train_speed/tokens_per_sec": self.tokens / seconds,
            "train_speed/useful_tflops_per_device": per_device / 1e12,
            "train_speed/packing_efficiency": self.tokens / self.padded_tokens,
            "train_speed/slowest_over_mean": self.slowest / self.steps,
            "train_speed/step_seconds": seconds / self.steps,
            "train_speed/data_wait_seconds": (waited - self.waited) / self.steps,
        }
        if self.context.peak_flops:
            rates["train_speed/mfu"] = per_device / self.context.peak_flops
        return rates

    def losses_by_language(self) -> dict[str, float]:
        """Mean cross-entropy of the masked tokens of orig and latn of each language that occurred, and with many
        languages also of each script."""
        of_script: dict[str, np.ndarray] = {}
        losses = {}
        for language, sums in zip(self.context.languages, self.language_losses, strict=True):
            if sums[1]:
                losses[f"{BY_LANGUAGE}/{language}"] = float(sums[0] / sums[1])
                script = f"{BY_SCRIPT}/{language.rpartition('_')[2]}"
                of_script[script] = of_script.get(script, 0) + sums
        if self.context.many_languages:
            losses |= {name: float(sums[0] / sums[1]) for name, sums in sorted(of_script.items())}
        return losses


def memory() -> dict[str, float]:
    """Peak memory of the first rank so far, in GB (10⁹ bytes): of its process, of tensors on its GPU, and reserved for
    them by torch; and how often torch had to return memory to the GPU before there was room for another tensor.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"train_memory/host_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if torch.cuda.is_available():
        peaks["train_memory/device_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        peaks["train_memory/device_reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
        peaks["train_memory/allocation_retries"] = torch.cuda.memory_stats().get("num_alloc_retries", 0)
    return peaks
