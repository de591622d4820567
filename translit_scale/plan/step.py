"""One optimizer step of one rank: its memory, what it sends, and its time, each by part."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

from translit_scale.model.flops import contrastive_flops, forward_flops, training_flops
from translit_scale.plan.machine import (
    COMPILED_ACTIVATION,
    LAUNCH_SECONDS,
    LAUNCHES,
    LINK_RANGE,
    LINK_REACHED,
    Machine,
)
from translit_scale.plan.memory import (
    FP32,
    activation_bytes,
    batch_bytes,
    cast_weight_bytes,
    contrastive_bytes,
    count_parameters,
    embedding_bytes,
    head_bytes,
    model_states,
)
from translit_scale.plan.traffic import Sent, gathered_elements, sent_bytes
from translit_scale.plan.workload import Workload

TILE_BYTES = 52
"""Bytes that the element-wise work on a contrastive logit moves: 13 reads and writes in fp32."""
LENGTH_ERROR = 0.12
"""Error of a rank's estimate of the length of a pair that it does not read; fitted to benchmarks/many_ranks.md, where
the estimate of a sentence is off by 6 to 14 %."""
PLAN_SECONDS, PLAN_PER_PAIR, PLAN_PER_LANGUAGE = 2.2e-3, 0.65e-6, 10e-6
"""Time to plan a step on every rank; fitted to benchmarks/many_ranks.md."""
PACKED_PER_SECOND = 22_285
"""Pairs that a process tokenizes, masks and packs in a second (benchmarks/loader.md)."""


class Memory(NamedTuple):
    """Bytes of a rank at the largest moment of a step, by part."""

    parameters: float
    optimizer: float
    """fp32 copy of the parameters and both moments."""
    gradients: float
    reduction: float
    """Buckets and reduced gradients."""
    batch: float
    """Packed tensors and embeddings."""
    activations: float
    logits: float
    """Head: logits of a chunk, gradient of the output embedding."""
    contrast: float
    """Contrastive loss."""
    process: float
    """Python and libraries (CPU)."""
    host: float
    """Not on the device: states that are offloaded to host memory."""

    @property
    def total(self) -> float:
        """Peak of the device, or of the process on CPU."""
        return sum(self) - self.host


def step_memory(w: Workload, machine: Machine, ranks: int) -> Memory:
    """The largest of three moments: the forward pass of the head, the contrastive loss, the reduction of gradients.

    With one micro-batch there are no gradients yet in the forward pass.
    """
    w = replace(w, tokens=w.longest or w.tokens)
    shape, zero, k = w.shape, w.zero, w.micro_batches(ranks)
    parameters = count_parameters(shape, w.positions)
    # Pages of a bucket that are never written take no memory on a CPU.
    bucket = zero.bucket if machine.is_gpu else min(zero.bucket, parameters.total) if ranks > 1 else 0
    states = model_states(parameters.total, zero.stage, ranks, w.precision, bucket)
    own = w.batch_pairs / ranks
    micro = own / k
    tokens, masked = round(micro * w.tokens.tokens), round(micro * w.tokens.masked)
    live = min(parameters.total, zero.live) * states.local_gradients / parameters.total if zero.stage == 3 else 0
    batch = batch_bytes(round(own * w.tokens.tokens), round(own * w.tokens.masked), grouped=not machine.is_gpu)
    batch += embedding_bytes(shape, w.contrasted, ranks) if w.pool_layer is not None else 0
    activations = activation_bytes(
        shape,
        tokens,
        masked,
        w.precision,
        w.dropout,
        w.gradient_checkpointing,
        w.low_precision_layernorm,
        kernel=machine.is_gpu,
    )
    activations += cast_weight_bytes(parameters, w.precision)
    logits = head_bytes(shape, masked, w.precision, machine.is_gpu)
    contrast = 0 if w.pool_layer is None else contrastive_bytes(shape, w.contrasted, ranks)
    gradients, on_device = states.local_gradients, states.parameters + live + states.always
    moments = [
        Memory(on_device, 0, gradients if k > 1 else 0, 0, batch, activations, logits, 0, 0, 0),
        Memory(on_device, 0, 0, 0, batch, 0 if w.uses_gradcache(ranks) else activations, 0, contrast, 0, 0),
        Memory(on_device, 0, gradients, states.buckets + states.reduced_gradients, batch, 0, 0, 0, 0, 0),
    ]
    largest = max(moments, key=lambda moment: moment.total)
    optimizer = states.master + states.moments
    offloaded = optimizer * zero.optimizer_on_host + states.parameters * zero.parameters_on_host
    return largest._replace(
        parameters=largest.parameters - states.parameters * zero.parameters_on_host,
        optimizer=optimizer * (not zero.optimizer_on_host),
        process=machine.process,
        host=offloaded,
    )


def step_sent(w: Workload, ranks: int) -> Sent:
    """Bytes that a rank sends."""
    parameters, zero = count_parameters(w.shape, w.positions), w.zero
    gathered = gathered_elements(
        parameters, w.micro_batches(ranks), w.pool_layer, w.tlm, w.gradient_checkpointing,
        kept=parameters.total <= zero.live,
    )  # fmt: skip
    embeddings = 0 if w.pool_layer is None else 2 * w.contrasted * w.shape.hidden * FP32
    return sent_bytes(parameters, zero.stage, ranks, w.precision, gathered, embeddings, zero.to_owner)


class Seconds(NamedTuple):
    """Time of a step by part."""

    products: float
    """Matrix products of the training passes, attention included."""
    elementwise: float
    """Everything else in them that grows with the number of tokens."""
    embeddings: float
    """First pass of GradCache, and the contrastive loss."""
    per_micro_batch: float
    """What each micro-batch costs whatever its size: work on all parameters, launches of kernels."""
    update: float
    traffic: float
    waiting: float
    """For the rank with the most tokens."""
    reading: float
    """For batches that the processes of `data.workers` have not finished."""

    @property
    def total(self) -> float:
        """Sum."""
        return sum(self)


def activation_numbers(w: Workload, tokens: float, masked: float, layers: float) -> float:
    """Numbers that `layers` full layers and the last one keep, as `activation_bytes` counts them."""
    d, feed_forward = w.shape.hidden, w.shape.kept_feed_forward
    return tokens * layers * (9 * d + feed_forward) + masked * (2 * d + feed_forward)


def step_seconds(w: Workload, machine: Machine, ranks: int) -> Seconds:
    """Time of a step; nothing is sent while a rank computes."""
    compute = computing_seconds(w, machine, ranks)
    slowed = Seconds(*(machine.slowness * part for part in compute))
    slowest = slowest_over_mean(w.batch_pairs / ranks, ranks) - 1
    waiting = slowest * (slowed.products + slowed.elementwise + slowed.embeddings)
    done = slowed._replace(traffic=step_sent(w, ranks).total / machine.rate(ranks), waiting=waiting)
    return done._replace(reading=max(0.0, batch_seconds(w, ranks) / w.workers - done.total))


def computing_seconds(w: Workload, machine: Machine, ranks: int) -> Seconds:
    """Time of what a rank computes, on a machine that is as fast as predicted."""
    shape, k, own = w.shape, w.micro_batches(ranks), w.batch_pairs / ranks
    parameters, costs = count_parameters(shape, w.positions).total, machine.costs
    matmul = machine.fp32 if w.precision == "fp32" else machine.matmul
    sentences, joined = w.tokens.counts(own)
    both = type(sentences)(*map(sum, zip(sentences, joined, strict=True)))
    activation = COMPILED_ACTIVATION if w.compiled and machine.is_gpu else costs.activation
    recomputed = 4 / 3 if w.gradient_checkpointing else 1
    head = 3 * 2 * both.masked * shape.hidden * shape.vocabulary
    numbers = activation_numbers(w, both.tokens, both.masked, shape.layers - 1)
    computed = shape if machine.is_gpu else shape._replace(local=())  # there a window is a mask over all products
    products = (recomputed * (training_flops(computed, both) - head) + head) / matmul
    elementwise = recomputed * activation * numbers + costs.logit * both.masked * shape.vocabulary
    embeddings = 0.0
    if w.pool_layer is not None:
        logits = (2 * w.contrasted) ** 2 / ranks
        embeddings = contrastive_flops(shape, w.contrasted) / ranks / machine.fp32
        embeddings += TILE_BYTES * logits / machine.bandwidth
    if w.pool_layer is not None and w.uses_gradcache(ranks):
        embeddings += forward_flops(computed, sentences, w.pool_layer) / matmul
        forward = activation_numbers(w, sentences.tokens, 0, w.pool_layer) / 3
        embeddings += activation * forward / machine.bandwidth
    per_micro_batch = k * costs.parameter * parameters / machine.bandwidth
    launches = k * LAUNCHES * LAUNCH_SECONDS * shape.layers if machine.is_gpu else 0
    elementwise /= machine.bandwidth
    per_micro_batch += max(0.0, launches - products - elementwise - per_micro_batch)
    update = costs.update * parameters / (ranks if w.zero.stage else 1) / machine.bandwidth
    return Seconds(products, elementwise, embeddings, per_micro_batch, update, 0, 0, 0)


def slowest_over_mean(pairs: float, ranks: int) -> float:
    """Tokens of the slowest rank over the mean: the expected largest of W normal errors of a sum of n lengths."""
    if ranks == 1:
        return 1.0
    return 1 + LENGTH_ERROR * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25)) / max(1.0, pairs) ** 0.5


def batch_seconds(w: Workload, ranks: int) -> float:
    """Time in which one process plans a step and packs this rank's pairs."""
    plan = PLAN_SECONDS + PLAN_PER_PAIR * w.batch_pairs + PLAN_PER_LANGUAGE * w.languages
    return plan + w.batch_pairs / ranks / PACKED_PER_SECOND


def seconds_range(seconds: Seconds, machine: Machine) -> tuple[float, float]:
    """The step in the best and the worst case."""
    best, worst = (LINK_REACHED / reached for reached in LINK_RANGE)
    computing = seconds.total - seconds.traffic
    low = computing * (1 - machine.uncertainty) + seconds.traffic * best
    return low, computing * (1 + machine.uncertainty) + seconds.traffic * worst


def overlappable(w: Workload, ranks: int) -> float:
    """Bytes of the traffic that could be sent while a rank computes, which our step does not do.

    Gradients but those of the word embedding, which is complete only at the end of backward; at stage 3 also the
    parameters, which DeepSpeed fetches ahead.
    """
    sent, parameters = step_sent(w, ranks), count_parameters(w.shape, w.positions)
    hidden = sent.gradients * (1 - parameters.word_embedding_fraction)
    return hidden + (sent.parameters if w.zero.stage == 3 else 0)


def largest_micro_batch(w: Workload, machine: Machine, ranks: int) -> Workload | None:
    """The same with the largest micro-batch that fits in memory; None if not even one pair fits."""
    own = -(-w.batch_pairs // ranks)
    for k in range(1, own + 1):
        tried = replace(w, zero=replace(w.zero, micro_batch_pairs=-(-own // k)))
        if step_memory(tried, machine, ranks).total <= machine.memory:
            return tried
    return None
