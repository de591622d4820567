"""What a rank sends in an optimizer step.

The bytes are those that tests/test_cost.py and benchmarks/traffic.py count below torch.distributed.
"""

from __future__ import annotations

from typing import NamedTuple

from translit_scale.config import Precision
from translit_scale.plan.memory import FP32, HALF, SIXTEEN_BITS, Parameters


class Sent(NamedTuple):
    """Bytes that a rank sends in an optimizer step, by ring algorithms."""

    gradients: int
    parameters: int
    embeddings: int
    """Of the contrastive loss."""

    @property
    def total(self) -> int:
        """Sum."""
        return self.gradients + self.parameters + self.embeddings


def gradient_payload(parameters: Parameters, stage: int, precision: Precision) -> int:
    """Bytes of one gradient as it is reduced.

    fp32; of fp16 parameters fp16; with autocast at stages 1–3 bf16 for parameters of linear layers (the output
    embedding is one), see deepspeed/runtime/torch_autocast.py.
    """
    n = parameters.total
    if precision == "bf16_autocast" and stage > 0:
        return HALF * (n - parameters.outside_linear) + FP32 * parameters.outside_linear
    return (HALF if precision in SIXTEEN_BITS else FP32) * n


def gathered_elements(
    parameters: Parameters,
    micro_batches: int,
    pool_layer: int | None,
    tlm: bool,
    gradient_checkpointing: bool,
    kept: bool,
) -> int:
    """Parameters that ZeRO-3 gathers in the passes of a step.

    The second pass of each micro-batch gathers all parameters for forward and again for backward. With K > 1 and the
    contrastive loss, the first pass of GradCache up to `pool_layer` comes before it, and TLM runs through all layers
    separately. The word embedding stays from the first pass on and is gathered again for the head; backward needs other
    embeddings once.

    Args:
        pool_layer: none where there is no contrastive loss.
        kept: what forward has gathered stays until backward and is not gathered for it or for recomputation: with N
            below `stage3_max_live_parameters` and `stage3_max_reuse_distance` (10⁹ unless set), at the price of up to N
            more parameters in memory. Parameters below `stage3_param_persistence_threshold` (10⁵ elements unless set:
            biases and LayerNorm), which are gathered once a step, are counted like all others.
    """
    word, other, layer = parameters.word_embedding, parameters.other_embeddings, parameters.layer
    cached = pool_layer if pool_layer is not None and micro_batches > 1 else 0
    runs = 2 if cached and tlm else 1
    body = runs * parameters.layers * layer
    elements = word + runs * other + body + parameters.head
    if not kept:
        elements += word + other + body + parameters.head
        elements += runs * (parameters.layers - 1) * layer if gradient_checkpointing else 0
    if cached:
        elements += other + cached * layer
    return micro_batches * elements


def sent_bytes(
    parameters: Parameters,
    stage: int,
    ranks: int,
    precision: Precision,
    gathered: int,
    embeddings: int,
    to_owner: bool = False,
) -> Sent:
    """Bytes that a rank sends in a step, in rings: (W−1)/W of the whole for a gather or scatter, twice that for both.

    ZeRO paper, section 7: 2N elements at stages 0–2, 3N at stage 3. DeepSpeed 0.19.8 reduces gradients at stages 1 and
    2 with an all-reduce (2N) and then gathers the updated parameters (N), in fp32 with autocast: 3N. Once a step,
    whatever K. At stage 3 parameters are gathered in the types that gradients are reduced in.

    Args:
        gathered: `gathered_elements` at stage 3, else unused.
        embeddings: bytes of the embeddings of the effective batch, 2B·d·4; 0 without the contrastive loss.
        to_owner: `use_multi_rank_bucket_allreduce` is false in the DeepSpeed JSON: stages 1 and 2 reduce each part of
            the gradient to the rank that owns it, N elements instead of 2N.
    """
    fraction, gradient = (ranks - 1) / ranks, gradient_payload(parameters, stage, precision)
    if stage == 3:
        parameter_bytes = gathered * gradient / parameters.total
    else:
        parameter_bytes = (HALF if precision in SIXTEEN_BITS else FP32) * parameters.total if stage else 0
    reduced = gradient if stage == 3 or (stage and to_owner) else 2 * gradient
    return Sent(round(fraction * reduced), round(fraction * parameter_bytes), round(fraction * 2 * embeddings))
