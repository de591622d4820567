"""The encoder: built from scratch or loaded, and run over packed sentences, with the head on masked tokens only."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel, XLMRobertaConfig

from translit_scale.batch.pack import MicroBatch, PackedSequences
from translit_scale.config import ContrastiveConfig, ModelConfig
from translit_scale.errors import ConfigError
from translit_scale.model.attention import ATTENTION
from translit_scale.model.families import FAMILIES, Context, family_of
from translit_scale.objectives.contrastive import LogitParameters
from translit_scale.objectives.masked_lm import masked_lm_losses
from translit_scale.silence import hide_progress_bars


class EncoderOutput(NamedTuple):
    """Results of a forward pass in training."""

    loss: torch.Tensor
    """Σ over masked tokens of cross-entropy · weight of the stream (scalar fp32, differentiable)."""
    token_losses: torch.Tensor
    """[M] fp32: cross-entropy of the masked tokens, part after part, without gradient."""
    embeddings: torch.Tensor | None
    """[2P, d] fp32: pooled embeddings (orig, then latn); None without a pooling layer."""
    parameters: LogitParameters
    """Of the contrastive loss (differentiable where they are learned)."""


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


def pretrained_architecture(name: str) -> Any:
    """The configuration of a pretrained model.

    Raises:
        ConfigError: it cannot be loaded, or is of another family.
    """
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
    return architecture


def _load_pretrained(config: ModelConfig, name: str, vocab_size: int) -> PreTrainedModel:
    architecture = pretrained_architecture(name)
    family = family_of(architecture)
    positions = family.max_length(architecture)
    if config.max_length > positions:
        raise ConfigError(
            f"model.max_length is {config.max_length}, but {name!r} has positions for {positions} tokens",
            f"set model.max_length={positions}",
        )
    family.set_dropout(architecture, config.dropout)
    try:
        with hide_progress_bars():
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


class PairEncoder(nn.Module):
    """A masked language model of a family in `families.py`, run over packed micro-batches.

    It computes only what the losses need: there is no padding; the head, and whatever follows attention in the last
    layer, run on masked tokens only; of all hidden states only those of the pooling layer are kept.

    Args:
        lm: the Hugging Face model; its modules are called unchanged.
        pool_layer: index into hidden_states of the layer that is pooled into sentence embeddings; None: no pooling.
        gradient_checkpointing: keep only the inputs of layers and recompute the rest in the backward pass.
        tcm: the contrastive objective, whose logit parameters the encoder holds; None: its defaults.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        pool_layer: int | None,
        gradient_checkpointing: bool = False,
        tcm: ContrastiveConfig | None = None,
    ) -> None:
        super().__init__()
        tcm = tcm or ContrastiveConfig()
        self.lm: Any = lm
        self.family = family_of(lm.config)
        self.pool_layer = pool_layer
        self.gradient_checkpointing = gradient_checkpointing
        # The parameter is the change from the initial value, because 16 bits would round log 1/τ itself by 1 %. It has
        # a dimension, because DeepSpeed refuses scalars.
        self.initial_scale, self.initial_bias = -math.log(tcm.temperature), 0.0
        self.scale_change = nn.Parameter(torch.zeros(1)) if tcm.learn_temperature else None
        self.bias_change = None
        if tcm.loss == "sigmoid":
            self.initial_bias, self.bias_change = tcm.initial_bias, nn.Parameter(torch.zeros(1))

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compiles the operations of each layer around its attention with torch.compile, for any number of tokens."""
        for layer in self.family.layers(self.lm.base_model):
            layer.compile(backend=backend, dynamic=True)

    def forward(self, batch: MicroBatch, stream_weights: torch.Tensor | None = None) -> EncoderOutput:
        """One packed pass.

        Args:
            stream_weights: [3] factor of the cross-entropy of each stream; None: run only the first part, up to the
                pooling layer, for its embeddings.
        """
        parameters = self.logit_parameters(batch.parts[0].input_ids.device)
        if stream_weights is None:
            _, embeddings, _ = self._run_layers(batch.parts[0], self.pool_layer)
            no_loss = parameters.logit_scale.new_zeros(())
            return EncoderOutput(no_loss, no_loss[None], embeddings, parameters)
        passes = [self._masked_states(part) for part in batch.parts]
        stream = torch.cat([part.mask_stream for part in batch.parts])
        features, decoder = self.family.head(self.lm, torch.cat([masked for masked, _ in passes]))
        labels = torch.cat([part.mask_labels for part in batch.parts])
        loss, losses = masked_lm_losses(features, decoder.weight, decoder.bias, labels, stream_weights[stream])
        return EncoderOutput(loss, losses, passes[0][1], parameters)

    def logit_parameters(self, device: torch.device) -> LogitParameters:
        """log 1/τ, at most log 100 as in CLIP, and the bias, which is 0 where the loss has none."""
        scale, bias = (torch.full((), value, device=device) for value in (self.initial_scale, self.initial_bias))
        if self.scale_change is not None:
            scale = scale + self.scale_change[0].float()
        if self.bias_change is not None:
            bias = bias + self.bias_change[0].float()
        return LogitParameters(scale.clamp(max=math.log(100)), bias)

    def _masked_states(self, part: PackedSequences) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Output of the last layer at the masked tokens [M, d], and the embeddings [2C, d], if this part is pooled."""
        depth = self.lm.config.num_hidden_layers
        if self.pool_layer == depth and part.num_pooled is not None:
            hidden, embeddings, _ = self._run_layers(part, depth)
            return hidden[0].index_select(0, part.mask_index), embeddings
        hidden, embeddings, context = self._run_layers(part, depth - 1)
        body = self.lm.base_model
        states = self.family.layer_at(self.family.layers(body)[-1], hidden, context, part.mask_index)
        return self.family.last(body, states), embeddings

    def _run_layers(
        self, part: PackedSequences, depth: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, Context]:
        """Hidden states [1, T, d] after `depth` layers, the embeddings [2C, d], if this part is pooled, and what the
        layers were given."""
        embeddings, body, layers = None, self.lm.base_model, self.family.layers(self.lm.base_model)
        hidden = self.family.embed(body, part.input_ids, part.position_ids)
        context = self.family.context(body, hidden, part.position_ids, part.segments)
        for index, layer in enumerate(layers[:depth], start=1):
            hidden = self._run_layer(layer, hidden, context)
            if index == len(layers):
                hidden = self.family.last(body, hidden)
            if index == self.pool_layer and part.num_pooled is not None:
                embeddings = mean_pool(hidden[0], part.pool_index, part.pool_sentence, part.num_pooled)
        return hidden, embeddings, context

    def _run_layer(self, layer: nn.Module, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return self.family.layer(layer, hidden, context)
        output: torch.Tensor = checkpoint(self.family.layer, layer, hidden, context, use_reentrant=False)
        return output


def mean_pool(hidden: torch.Tensor, pool_index: torch.Tensor, pool_sentence: torch.Tensor, rows: int) -> torch.Tensor:
    """Mean over the tokens of each sentence, in fp32 (paper B, section 3: `<mask>` counts, special tokens do not).

    Args:
        hidden: [T, d].
        pool_index: [N] tokens that count; pool_sentence: [N] their sentences, 0 … rows − 1.

    Returns:
        [rows, d]; zero for a sentence without tokens.
    """
    tokens = hidden.index_select(0, pool_index).float()
    sums = tokens.new_zeros(rows, hidden.shape[-1]).index_add(0, pool_sentence, tokens)
    # Not bincount, which on a GPU waits until everything before it is computed.
    counts = tokens.new_zeros(rows).index_add(0, pool_sentence, tokens.new_ones(len(pool_sentence)))
    return sums / counts.clamp(min=1)[:, None]
