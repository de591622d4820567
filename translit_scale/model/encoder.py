"""The encoder: built from scratch or loaded, and run over packed sentences with the head on masked tokens only."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel, XLMRobertaConfig

from translit_scale.batch.pack import MicroBatch, PackedPart
from translit_scale.batch.segments import Segments
from translit_scale.config import ModelConfig
from translit_scale.errors import ConfigError
from translit_scale.model.attention import ATTENTION
from translit_scale.objectives.masked_lm import masked_lm_losses

FAMILIES = ("xlm-roberta", "roberta", "bert")
"""Model types whose modules `PairEncoder` knows how to call."""


class Passed(NamedTuple):
    """What one training forward yields."""

    loss: torch.Tensor
    """Σ over masked tokens of cross-entropy · the weight of its stream (scalar fp32, differentiable)."""
    token_losses: torch.Tensor
    """[M] fp32: cross-entropy of the masked tokens, part after part, without gradient."""
    rows: torch.Tensor | None
    """[2P, d] fp32: pooled rows (orig, then latn), or none where no pooling layer is set."""
    log_inverse_temperature: torch.Tensor
    """log 1/τ of the contrastive loss (scalar; differentiable if it is learned)."""


def build_model(config: ModelConfig, vocab_size: int, pad_id: int, bos_id: int, eos_id: int) -> PreTrainedModel:
    """The masked language model that `config` describes, with packed attention, in fp32.

    From scratch it is XLM-R's architecture; its weights depend on torch's current random state.

    Raises:
        ConfigError: the pretrained model cannot be loaded, is of another family or has too small an embedding.
    """
    if config.pretrained is None:
        architecture = XLMRobertaConfig(
            vocab_size=vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_length + pad_id + 1,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            layer_norm_eps=1e-5,
            type_vocab_size=1,
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            eos_token_id=eos_id,
        )
        architecture._attn_implementation = ATTENTION
        return AutoModelForMaskedLM.from_config(architecture)
    return _load_pretrained(config, config.pretrained, vocab_size)


def _load_pretrained(config: ModelConfig, name: str, vocab_size: int) -> PreTrainedModel:
    try:
        architecture = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.pretrained: cannot load {name!r}: {error}",
            "give a local directory with config.json and model.safetensors, or a hub id while online",
        ) from None
    if architecture.model_type not in FAMILIES:
        raise ConfigError(
            f"model.pretrained: {name!r} is a {architecture.model_type!r} model",
            f"supported families: {', '.join(FAMILIES)}",
        )
    positions = architecture.max_position_embeddings - first_position(architecture)
    if config.max_length > positions:
        raise ConfigError(
            f"model.max_length is {config.max_length}, but {name!r} has positions for {positions} tokens",
            f"set model.max_length={positions}",
        )
    architecture.hidden_dropout_prob = architecture.attention_probs_dropout_prob = config.dropout
    try:
        model = AutoModelForMaskedLM.from_pretrained(
            name, config=architecture, attn_implementation=ATTENTION, dtype=torch.float32
        )
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"model.pretrained: the weights of {name!r} cannot be loaded: {error}", "copy or download the model again"
        ) from None
    if vocab_size > model.get_input_embeddings().num_embeddings:
        raise ConfigError(
            f"the tokenizer has {vocab_size} tokens, the model {name!r} only embeds "
            f"{model.get_input_embeddings().num_embeddings}",
            "use the model's own tokenizer (leave model.tokenizer out)",
        )
    return model


def first_position(architecture: PretrainedConfig) -> int:
    """Position id of a sentence's first token: the RoBERTa family counts from padding_idx + 1, BERT from 0."""
    return 0 if architecture.model_type == "bert" else int(architecture.pad_token_id) + 1


def resolve_layer(layer: int | float, num_layers: int) -> int:
    """A layer given as index or fraction of the depth → index into hidden_states (1 … num_layers).

    Raises:
        ConfigError: the model is not that deep.
    """
    index = layer if isinstance(layer, int) else max(1, round(layer * num_layers))
    if not 1 <= index <= num_layers:
        raise ConfigError(
            f"layer {layer} does not exist in a model of {num_layers} layers",
            f"give 1 … {num_layers}, or a fraction of the depth such as 0.667",
        )
    return index


class PairEncoder(nn.Module):
    """A masked language model of the BERT family, run over packed micro-batches.

    Only what counts is computed: no padding; of the last layer what follows its attention, and the head, on masked
    tokens only; and no hidden states are kept but those that are pooled.

    Args:
        lm: the Hugging Face model; its modules are called as they are.
        pool_layer: hidden_states index whose output is pooled into sentence rows; none: no pooling.
        gradient_checkpointing: keep the inputs of layers only, and compute the rest again during backward.
        temperature: τ of the contrastive loss, or its first value if it is learned.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        pool_layer: int | None,
        gradient_checkpointing: bool = False,
        temperature: float = 1.0,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__()
        self.lm: Any = lm
        self.pool_layer = pool_layer
        self.gradient_checkpointing = gradient_checkpointing
        # A number and a change: as a buffer or parameter, log 1/τ would be rounded by 1 % in a model of bf16.
        self.first_log_inverse = -math.log(temperature)
        change = torch.zeros(1)  # DeepSpeed refuses parameters without a dimension
        self.log_inverse_change = nn.Parameter(change) if learn_temperature else None

    def compile_layers(self, backend: str = "inductor") -> None:
        """Has torch.compile fuse the operations of each layer around its attention, for any number of tokens."""
        for layer in self.lm.base_model.encoder.layer:
            layer.compile(backend=backend, dynamic=True)

    def forward(self, batch: MicroBatch, stream_weights: torch.Tensor | None = None) -> Passed:
        """One packed pass.

        Args:
            stream_weights: [3] what the cross-entropy of each stream is multiplied by; none: run the first part up to
                the pooling layer only, for its rows.
        """
        log_inverse = self._log_inverse_temperature(batch.parts[0].input_ids.device)
        if stream_weights is None:
            _, rows = self._layers(batch.parts[0], self.pool_layer)
            nothing = log_inverse.new_zeros(())
            return Passed(nothing, nothing[None], rows, log_inverse)
        passes = [self._masked_states(part) for part in batch.parts]
        stream = torch.cat([part.mask_stream for part in batch.parts])
        features, decoder = self._head(torch.cat([masked for masked, _ in passes]))
        labels = torch.cat([part.mask_labels for part in batch.parts])
        loss, losses = masked_lm_losses(features, decoder.weight, decoder.bias, labels, stream_weights[stream])
        return Passed(loss, losses, passes[0][1], log_inverse)

    def _log_inverse_temperature(self, device: torch.device) -> torch.Tensor:
        log_inverse = torch.full((), self.first_log_inverse, device=device)
        if self.log_inverse_change is not None:
            log_inverse = log_inverse + self.log_inverse_change[0].float()
        return log_inverse.clamp(max=math.log(100))

    def _masked_states(self, part: PackedPart) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Output of the last layer at the masked tokens [M, d], and the pooled rows [2P, d] where there are any."""
        depth = self.lm.config.num_hidden_layers
        if self.pool_layer == depth and part.rows:
            hidden, rows = self._layers(part, depth)
            return hidden[0].index_select(0, part.mask_index), rows
        hidden, rows = self._layers(part, depth - 1)
        return layer_at(self.lm.base_model.encoder.layer[-1], hidden, part.segments, part.mask_index), rows

    def _layers(self, part: PackedPart, depth: int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Hidden states [1, T, d] after `depth` layers, and the pooled rows [2P, d] where there are any."""
        rows = None
        body = self.lm.base_model
        hidden = body.embeddings(input_ids=part.input_ids[None], position_ids=part.position_ids[None])
        for index, layer in enumerate(body.encoder.layer[:depth], start=1):
            hidden = self._layer(layer, hidden, part)
            if index == self.pool_layer and part.rows:
                rows = mean_pool(hidden[0], part.pool_index, part.pool_row, part.rows)
        return hidden, rows

    def _layer(self, layer: nn.Module, hidden: torch.Tensor, part: PackedPart) -> torch.Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return layer(hidden, attention_mask=None, segments=part.segments)
        again: torch.Tensor = checkpoint(
            layer, hidden, attention_mask=None, segments=part.segments, use_reentrant=False
        )
        return again

    def _head(self, masked: torch.Tensor) -> tuple[torch.Tensor, nn.Linear]:
        """What the output embedding is applied to [M, d], and the output embedding."""
        if hasattr(self.lm, "lm_head"):  # RoBERTa
            head = self.lm.lm_head
            return head.layer_norm(F.gelu(head.dense(masked))), head.decoder
        head = self.lm.cls.predictions  # BERT
        return head.transform(masked), head.decoder


def layer_at(layer: Any, hidden: torch.Tensor, segments: Segments, index: torch.Tensor) -> torch.Tensor:
    """A layer's output for some tokens only: what follows its attention is not computed for the others.

    Args:
        layer: of a model of `FAMILIES`; hidden: [1, T, d] its input; index: [N] the tokens wanted.

    Returns:
        [N, d].
    """
    context, _ = layer.attention.self(hidden, attention_mask=None, segments=segments)
    context, hidden = (x[0].index_select(0, index) for x in (context, hidden))
    attended = layer.attention.output(context, hidden)
    output: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return output


def mean_pool(hidden: torch.Tensor, pool_index: torch.Tensor, pool_row: torch.Tensor, rows: int) -> torch.Tensor:
    """Mean over the tokens of each row, in fp32 (paper B, section 3: `<mask>` counts, special tokens do not).

    Args:
        hidden: [T, d].
        pool_index: [N] tokens that count; pool_row: [N] their rows, 0 … rows − 1.

    Returns:
        [rows, d]; zero for a row without tokens.
    """
    tokens = hidden.index_select(0, pool_index).float()
    sums = tokens.new_zeros(rows, hidden.shape[-1]).index_add(0, pool_row, tokens)
    # Not bincount, which on a GPU waits until everything before it is computed.
    counts = tokens.new_zeros(rows).index_add(0, pool_row, tokens.new_ones(len(pool_row)))
    return sums / counts.clamp(min=1)[:, None]
