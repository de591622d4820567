"""A tiny world for tests: invented sentences in two scripts, their shards, a tokenizer and an experiment."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from translit_scale.config import Config, load_config
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    SEVERAL_TRANSLITERATIONS,
    LanguageCounts,
    Manifest,
    write_manifest,
)
from translit_scale.corpus.shards import encode_shard
from translit_scale.corpus.tokenizer import save_tokenizer
from translit_scale.files import write_bytes

SHARD_BLOCKS = 3
CYRILLIC = {chr(0x430 + i): chr(0x61 + i) for i in range(20)}
"""An invented romanization: 20 Cyrillic letters, one Latin letter each."""


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of 1 to 12 invented Cyrillic words."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(list(CYRILLIC), k=rng.randint(2, 5))) for _ in range(60)]
    return [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(count)]


def romanize(text: str) -> str:
    """The invented romanization of `sentences`."""
    return "".join(CYRILLIC.get(letter, letter) for letter in text)


def further_transliterations(sentence: str, row: int, columns: int) -> list[str]:
    """Invented ones, backwards: none to `columns` of them, then "" for those that are missing."""
    latin = romanize(sentence)[::-1]
    return [" ".join([latin] * (number + 1)) if number < row % (columns + 1) else "" for number in range(columns)]


def make_shards(
    directory: Path,
    rows: dict[str, int],
    block_rows: int = 8,
    identical: Mapping[str, float] | None = None,
    further: Mapping[str, int] | None = None,
) -> Path:
    """A shard set of invented pairs.

    Args:
        identical: fraction of a language's pairs that are their own transliterations, its shortest ones.
        further: columns of further transliterations of languages.
    """
    shards, counts = [], {}
    for seed, (language, n) in enumerate(sorted(rows.items())):
        orig = sentences(n, seed)
        latn = [romanize(s) for s in orig]
        of_language = (identical or {}).get(language, 0)
        shortest = sorted(range(n), key=lambda index: len(orig[index]))[: round(of_language * n)]
        for index in shortest:
            orig[index] = latn[index]
        number_of_columns = (further or {}).get(language, 0)
        rows_of_further = [further_transliterations(s, row, number_of_columns) for row, s in enumerate(orig)]
        columns = [tuple(orig), tuple(latn), *zip(*rows_of_further, strict=True)]
        parts = [[column[i : i + block_rows] for column in columns] for i in range(0, n, block_rows)]
        blocks = [Block(first, second, tuple(others)) for first, second, *others in parts]
        for number, start in enumerate(range(0, len(blocks), SHARD_BLOCKS)):
            data, entry = encode_shard(language, number, blocks[start : start + SHARD_BLOCKS])
            write_bytes(directory / entry.name, data)
            shards.append(entry)
        size = sum(map(len, orig))
        counts[language] = LanguageCounts(
            read=n, dropped={}, rows=n, identical=len(shortest), fallbacks=0, orig_chars=size, latn_chars=size
        )
    version = SEVERAL_TRANSLITERATIONS if further else FORMAT_VERSION
    write_manifest(
        directory, Manifest(format_version=version, name="tiny", languages=counts, provenance={}, shards=shards)
    )
    return directory


def make_tokenizer(directory: Path) -> Path:
    """A character tokenizer of both scripts with XLM-R's special tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = [*CYRILLIC, *CYRILLIC.values()]
    vocabulary = {token: i for i, token in enumerate([*special, *letters, "<mask>"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", behavior="isolated")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", model_max_length=64,
    )  # fmt: skip
    save_tokenizer(tokenizer, directory)
    return directory


def make_config(directory: Path, **changes: Any) -> Config:
    """An experiment with all objectives on a 3-layer encoder; `changes` are dotted with `__` for dots."""
    settings = {
        "data.shards": directory / "shards",
        "model.tokenizer": directory / "tokenizer",
        "model.hidden_size": 32, "model.num_layers": 3, "model.num_heads": 4, "model.intermediate_size": 48,
        "model.max_length": 64, "model.dropout": 0.0,
        "objectives.tcm.weight": 0.7, "objectives.tcm.layer": 2, "objectives.tlm.weight": 1.3,
        "train.batch_pairs": 12, "train.max_steps": 4, "train.lr": 1e-3,
        "run.name": "tiny", "run.dir": directory / "runs",
    } | {name.replace("__", "."): value for name, value in changes.items()}  # fmt: skip
    return load_config([], [f"{name}={value}" for name, value in settings.items()])


def make_world(directory: Path) -> Path:
    """Shards of two languages and a tokenizer under `directory`."""
    make_shards(directory / "shards", {"ukr_Cyrl": 40, "bul_Cyrl": 23})
    make_tokenizer(directory / "tokenizer")
    return directory
