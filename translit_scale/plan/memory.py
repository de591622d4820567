"""Bytes that a training step holds: parameters and their states, activations, logits, the batch.

Bytes are those of one rank unless a function says otherwise. They are what our step on DeepSpeed 0.19.8 really
holds, as tests/test_cost.py counts it, which in places differs from the ZeRO paper. Symbols: N parameters, d
hidden size, f intermediate size, L layers, V vocabulary, W ranks, K micro-batches of a rank, T tokens, M masked tokens,
B pairs of the effective batch.
"""

from __future__ import annotations

from typing import NamedTuple

from translit_scale.config import Precision
from translit_scale.model.flops import Shape
from translit_scale.objectives.chunks import ALIGNED, BIAS_COLUMNS, CHUNK_TOKENS, TILE_ELEMENTS

SIXTEEN_BITS = ("bf16", "fp16")
FP32, HALF = 4, 2
"""Bytes of a number."""


class Parameters(NamedTuple):
    """Numbers of parameters of an encoder with its head; the output embedding is the input embedding."""

    word_embedding: int
    """V·d."""
    other_embeddings: int
    """Of positions and types, and their LayerNorm; ModernBERT has the LayerNorm only."""
    layer: int
    """One layer."""
    layers: int
    """L."""
    head: int
    """Dense layer, LayerNorm and output bias."""
    outside_linear: int
    """Those of them that belong to no linear layer: LayerNorm, positions and types."""

    @property
    def total(self) -> int:
        """N."""
        return self.word_embedding + self.other_embeddings + self.layers * self.layer + self.head

    @property
    def word_embedding_fraction(self) -> float:
        """V·d / N: the fraction of the gradient that is complete only when the backward pass ends, because the
        embedding is used first. A reduction during backward could hide the rest at most."""
        return self.word_embedding / self.total


def count_parameters(shape: Shape, positions: int) -> Parameters:
    """Parameters of the model that `build_model` makes.

    Args:
        positions: rows of the position embedding: longest sequence + 2 for XLM-R; ModernBERT has none.
    """
    d, vocabulary = shape.hidden, shape.vocabulary
    if shape.is_modern:  # LayerNorm has no bias; the first layer has one less, but there is one after the last layer
        norm, biases, head_bias, embeddings = d, 0, 0, 0
    else:
        norm, biases, head_bias, embeddings = 2 * d, 5 * d + shape.intermediate, d, positions * d + d
    return Parameters(
        word_embedding=vocabulary * d,
        other_embeddings=embeddings + norm,
        layer=shape.layer_weights + biases + 2 * norm,
        layers=shape.layers,
        head=d * d + head_bias + norm + vocabulary,
        outside_linear=embeddings + norm * (2 + 2 * shape.layers),
    )


class States(NamedTuple):
    """Bytes of parameters and what belongs to them."""

    parameters: int
    master: int
    """A second copy in fp32, this rank's part: DeepSpeed's ZeRO keeps it even where the parameters are fp32."""
    moments: int
    """AdamW's two, fp32, of this rank's part."""
    local_gradients: int
    """Of all parameters, from the first backward pass to the reduction at the end of the step."""
    reduced_gradients: int
    """This rank's part, in the type of the parameters, from the reduction to the update."""
    always: int
    """Buffers that ZeRO-3 keeps at all times: part of the gradient and buckets for reduction."""
    buckets: int
    """Buffers that are there only while gradients are reduced (ZeRO-1 and 2)."""

    @property
    def between_steps(self) -> int:
        """After the update."""
        return self.parameters + self.master + self.moments + self.always

    @property
    def in_passes(self) -> int:
        """During forward and backward passes."""
        return self.between_steps + self.local_gradients

    @property
    def before_update(self) -> int:
        """After the reduction."""
        return self.between_steps + self.reduced_gradients


def model_states(n: int, stage: int, ranks: int, precision: Precision, bucket: int) -> States:
    """Model states of a rank with AdamW.

    ZeRO paper (arXiv:1910.02054, section 3.1): 2 + 2 + 12 bytes a parameter, the last divided by W from stage 1 on,
    gradients from stage 2, parameters at stage 3. Counted instead: with parameters in fp32 the master is a copy all the
    same; and gradients that are reduced once a step are whole until then at every stage.

    Args:
        n: N; bucket: `reduce_bucket_size` of the DeepSpeed JSON, in elements (5·10⁸ unless set).

    Raises:
        ValueError: 16-bit parameters at stage 0, which the trainer refuses.
    """
    width = HALF if precision in SIXTEEN_BITS else FP32
    if stage == 0:
        if precision in SIXTEEN_BITS:
            raise ValueError("ZeRO stage 0 does not train with 16-bit parameters")
        return States(FP32 * n, 0, 2 * FP32 * n, FP32 * n, FP32 * n, 0, 0)
    part = FP32 * n // ranks
    types = (FP32, HALF) if precision == "bf16_autocast" else (width,)
    if stage == 3:
        always = part + bucket * sum(types)
        return States(width * n // ranks, part, 2 * part, width * n, 0, always, 0)
    return States(width * n, part, 2 * part, width * n, width * n // ranks, 0, bucket * width * len(types))


def activation_bytes(
    shape: Shape,
    tokens: int,
    masked: int,
    precision: Precision,
    dropout: bool = False,
    gradient_checkpointing: bool = False,
    low_precision_layernorm: bool = False,
    kernel: bool = False,
) -> int:
    """What the forward pass of a micro-batch keeps for backward: of its layers (`_layer_bytes`), of the embeddings, and
    of the head. Of the last layer only what attention keeps is kept for all tokens. Autocast keeps inputs of LayerNorm
    in fp32, unless the results of LayerNorm are bf16. Dropout of hidden states keeps a byte a number on GPUs.

    Args:
        tokens, masked: of all parts that are alive at once: T and M of the micro-batch.
        gradient_checkpointing: only inputs of layers are kept, and all of one layer at a time.
        kernel: attention runs as the variable-length flash kernel; it matters for ModernBERT only.
    """
    d = shape.hidden
    operand = FP32 if precision == "fp32" else HALF
    is_mixed = precision == "bf16_autocast" and not low_precision_layernorm
    norm_input = FP32 if is_mixed else operand
    mask = d if dropout else 0
    attention, rest = _layer_bytes(shape, operand, norm_input, is_mixed, dropout, kernel)
    # ModernBERT's LayerNorm of the embeddings stands for that which its first layer lacks; it has one after the last.
    embeddings, last_norm = (mask, norm_input * d) if shape.is_modern else (norm_input * d + mask, 0)
    last = tokens * attention + masked * rest
    head = masked * (last_norm + (2 * operand + norm_input) * d + FP32 * d)
    full = attention + rest
    before_last = tokens * (shape.layers - 1) * full
    if gradient_checkpointing:
        before_last = tokens * ((shape.layers - 1) * norm_input * d + (full if shape.layers > 1 else 0))
    return tokens * embeddings + before_last + last + head


def _layer_bytes(
    shape: Shape, operand: int, norm_input: int, is_mixed: bool, dropout: bool, kernel: bool
) -> tuple[int, int]:
    """Bytes of a token that a layer keeps, of what the last layer computes for all tokens, and of the rest.

    XLM-R has 9d + 2f numbers: input, Q, K, V, attention's result twice (as attention and as the next matrix product
    keep it), input and output of the first LayerNorm, input and output of GELU, input of the second LayerNorm. Autocast
    keeps the layer's input three times in bf16, one for each of Q, K, V. Compare Korthikanti et al. (arXiv:2205.05198,
    eq. 2): 34·d bytes in fp16, of which two are masks, and 5·heads·length more where the attention matrix is kept; here
    it never is, unless torch has no fused attention for the device: on CPU with dropout it has none.

    ModernBERT has 9d + 4f: inputs and results of both LayerNorms, Q, K, V, attention's result twice; the result of the
    first matrix of the gated layer, the result of GELU, and the product. With the flash kernel it is 10d: attention's
    result once, but query and key also before their rotation, because the value is a view of the product that made all
    three. Cosines and sines of rotary positions, which all layers share, are left out.

    Args:
        operand, norm_input: bytes of a number in matrix products and in inputs of LayerNorm; is_mixed: these differ.
    """
    d, feed_forward, mask = shape.hidden, shape.kept_feed_forward, shape.hidden if dropout else 0
    if shape.is_modern:
        attention = operand * (7 if kernel else 6) * d + norm_input * d + mask
        return attention, operand * (d + feed_forward) + norm_input * d + (shape.intermediate if dropout else 0)
    copies = 3 if is_mixed else 1
    return operand * (copies + 4) * d, operand * (2 * d + feed_forward) + 2 * norm_input * d + 2 * mask


def cast_weight_bytes(parameters: Parameters, precision: Precision) -> int:
    """Copies of the weights in bf16 that autocast keeps from forward to backward: those of all linear layers but the
    output embedding, which `head_bytes` counts."""
    if precision != "bf16_autocast":
        return 0
    return HALF * (parameters.total - parameters.outside_linear - parameters.word_embedding)


def head_bytes(shape: Shape, masked: int, precision: Precision, fused: bool) -> int:
    """Peak memory of the head besides its input: logits of a chunk, and the gradient of the output embedding and its
    bias, which its forward pass already computes.

    The gradient is fp32, or where there is one chunk only, of the type of the matrix product. With the kernel
    (`objectives/fused_cross_entropy.py`) there is one matrix of logits, in the type of the matrix product, which
    becomes their gradient, and the output embedding is copied once, padded to an aligned vocabulary. Without it (CPU)
    the logits are fp32, and the softmax needs a second matrix.

    Args:
        fused: whether the kernel runs, which it does on GPUs.
    """
    first, is_only = min(masked, CHUNK_TOKENS), masked <= CHUNK_TOKENS
    width = shape.hidden + BIAS_COLUMNS
    if not fused:
        return FP32 * (2 * shape.vocabulary * first + shape.vocabulary * width)
    vocabulary = -(-shape.vocabulary // ALIGNED) * ALIGNED
    operand = FP32 if precision == "fp32" else HALF
    gradient = vocabulary * width * operand
    if not is_only:
        gradient += vocabulary * width * FP32
    forward = operand * vocabulary * (first + shape.hidden) + gradient
    kept = vocabulary * width * (operand if is_only else FP32)
    return max(forward, kept + FP32 * vocabulary * shape.hidden)  # backward scales the gradient into a second one


def batch_bytes(tokens: int, masked: int, grouped: bool) -> int:
    """Packed tensors of this rank's part of an effective batch, which stay on the device for the whole step.

    int64: id and position of each token, 4 of each masked token, 2 of each pooled one, about half of all where TLM is
    on.

    Args:
        tokens, masked: of all micro-batches.
        grouped: attention is grouped, and needs both directions of its order for each token.
    """
    return 8 * ((5 if grouped else 3) * tokens + 4 * masked)


def embedding_bytes(shape: Shape, pairs: int, ranks: int) -> int:
    """Embeddings of this rank's pairs and their gradients, fp32, which are kept over the second pass where K > 1.

    Args:
        pairs: of the batch that are contrasted.
    """
    return 2 * FP32 * (2 * pairs // ranks) * shape.hidden


def contrastive_bytes(shape: Shape, pairs: int, ranks: int, tile: int = TILE_ELEMENTS) -> int:
    """What the contrastive loss holds at its largest, besides this rank's embeddings and their gradients.

    Embeddings of all ranks and their gradient, 2·2B·d numbers; three fp32 matrices of a tile, rows × 2B ≤ `tile`.

    Args:
        pairs: B, of the batch that are contrasted.
    """
    rows, columns = 2 * pairs // ranks, 2 * pairs
    tiles = min(rows, max(1, tile // columns)) * columns
    return FP32 * (2 * columns * shape.hidden + 3 * tiles)
