"""Invented classification and tagging sets that a tiny model learns in seconds, in the layouts of SIB-200 and NER."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, XLMRobertaConfig

from tests.support.encoders import WORDS, word_tokenizer
from translit_scale.corpus.tokenizer import save_tokenizer
from translit_scale.testsets.classification import SIB200_LABELS

SIZES = {"train": 84, "dev": 28, "test": 42}


def write_sib200(folder: Path, languages: tuple[str, ...], noisy: bool = False) -> Path:
    """Text i is about topic i mod 7: its words are of 5 that belong to the topic. All languages have the same words.

    Args:
        noisy: the topics of the test sets are drawn at random.
    """
    for language in languages:
        for split, size in SIZES.items():
            rng, noise = random.Random(f"{language}-{split}"), random.Random(language)
            lines = ["index_id\tcategory\ttext"]
            for number in range(size):
                topic = number % len(SIB200_LABELS)
                text = " ".join(rng.choices(WORDS[5 * topic : 5 * topic + 5], k=rng.randint(2, 9)))
                shown = noise.randrange(len(SIB200_LABELS)) if noisy and split == "test" else topic
                lines.append(f"{number}\t{SIB200_LABELS[shown]}\t{text}")
            path = folder / "sib200" / language / f"{split}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    return folder


def write_ner(folder: Path, languages: tuple[str, ...]) -> Path:
    """Words w40 … w44 are persons and w45 … w49 places, the others nothing."""
    for language in languages:
        for split, size in SIZES.items():
            rng = random.Random(f"{language}-{split}")
            sentences = []
            for _ in range(size):
                words = rng.choices(range(30, 55), k=rng.randint(2, 9))
                tags = ["B-PER" if 40 <= w < 45 else "B-LOC" if 45 <= w < 50 else "O" for w in words]
                sentences.append("".join(f"w{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)))
            path = folder / "ner" / f"{split}-{language}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(sentences))
    return folder


def save_learner(folder: Path, seed: int = 0) -> str:
    """A small XLM-R with random weights and the word tokenizer; takes 20 tokens."""
    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=len(WORDS) + 5, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=22, pad_token_id=1,
    )  # fmt: skip
    model = AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        model.roberta.embeddings.word_embeddings.weight.normal_()  # words that differ, as after pretraining
    model.save_pretrained(folder)
    save_tokenizer(word_tokenizer(), folder)
    return str(folder)
