"""Tiny randomly initialised encoders with a word tokenizer, saved as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from translit_scale.corpus.tokenizer import save_tokenizer

WORDS = [f"w{number}" for number in range(60)]
POSITIONS = 22
"""Of the tiny models; XLM-R loses the two up to its padding index and takes 20 tokens."""


def word_tokenizer() -> PreTrainedTokenizerFast:
    """`w0` … `w59` are the vocabulary; everything else is `<unk>`; `<s> … </s>` around a sentence."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: number for number, token in enumerate([*special, *WORDS, "<mask>"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip


def _config(family: str, layers: int) -> PreTrainedConfig:
    sizes = {"vocab_size": len(WORDS) + 5, "hidden_size": 16, "num_attention_heads": 2, "pad_token_id": 1}
    usual = sizes | {"num_hidden_layers": layers, "intermediate_size": 32, "max_position_embeddings": POSITIONS}
    match family:
        case "xlm-roberta":
            return XLMRobertaConfig(**usual)
        case "bert":
            return BertConfig(**usual)
        case "albert":
            return AlbertConfig(**usual, embedding_size=8)
        case "modernbert":
            return ModernBertConfig(**usual, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2)
        case "distilbert":
            return DistilBertConfig(
                vocab_size=len(WORDS) + 5, dim=16, n_heads=2, n_layers=layers, hidden_dim=32,
                max_position_embeddings=POSITIONS, pad_token_id=1,
            )  # fmt: skip
    raise ValueError(family)


def tiny_model(family: str = "xlm-roberta", layers: int = 3, seed: int = 0) -> PreTrainedModel:
    """A masked language model with weights large enough for sentences to differ."""
    torch.manual_seed(seed)
    model = AutoModelForMaskedLM.from_config(_config(family, layers))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    return model


def save_encoder(folder: Path, family: str = "xlm-roberta", layers: int = 3, seed: int = 0) -> str:
    """Saves model and tokenizer; returns the path as the command line gives it."""
    tiny_model(family, layers, seed).save_pretrained(folder)
    save_tokenizer(word_tokenizer(), folder)
    return str(folder)
