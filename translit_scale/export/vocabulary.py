"""A pretrained model with new pieces of its vocabulary for transliterations, as a Hugging Face folder.

The pieces come from `corpus/extension.py`. The embedding of a new piece, and its bias in the head, are means of those
of the pieces that its text consisted of before; or, as in TransMI (cisnlp/TransMI), they come from the pieces of other
scripts that uroman writes like the new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from translit_scale.config import resolve_layer
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.extension import Extension, extend, unigram_vocabulary
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import encode_batch, load_tokenizer
from translit_scale.corpus.tokenizer_training import equal_counts, learn_pieces, sample_blocks
from translit_scale.export.folder import export_folder
from translit_scale.model.encoder import pretrained_architecture
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.silence import hide_progress_bars
from translit_scale.text_table import format_table, markdown_table

POOL_LAYER = 0.667
"""Of sentence embeddings, as a fraction of the depth: layer 8 of 12, as in the papers. A training has its own."""
_WORD = "▁"
_HEADS = ["language", "sentences", "orig, before", "after", "latn, before", "after", "changed"]


@dataclass(frozen=True)
class LanguageFigures:
    """What new pieces change in the sentences of one language that did not choose them."""

    sentences: int
    orig: tuple[int, int]
    """Tokens of the originals, before and after."""
    latn: tuple[int, int]
    """Tokens of the transliterations."""
    changed: int
    """Originals that are segmented differently."""


@dataclass(frozen=True)
class Extended:
    """What was done."""

    pieces: int
    rejected: int
    """Pieces left out, because originals would have been segmented differently."""
    merged: int
    """New pieces whose embeddings come from pieces of other scripts."""
    languages: dict[str, LanguageFigures]


def extend_model(
    name: str, shards: Path, out: Path, pieces: int, merge: str, max_sentences: int, seed: int, force: bool = False
) -> Extended:
    """Writes the model `name` with up to `pieces` new ones, learned from the transliterations of a shard set, to `out`.

    Half of the sampled blocks of each language choose the pieces; the figures are those of the other half.

    Args:
        merge: how embeddings are made: `mean`, or `transmi-max`, `transmi-min` or `transmi-average` where there are
            pieces of other scripts.

    Raises:
        ConfigError: the model is of another family, its tokenizer is not a unigram one, or `out` is in use.
        DataError: model, tokenizer or shards cannot be read, or `out` cannot be written.
    """
    pretrained_architecture(name)
    tokenizer, shard_set = load_tokenizer(name), ShardSet.open(shards)
    unigram_vocabulary(tokenizer)  # says early if it is of another kind
    rows = {language: shard_set.rows(language) for language in shard_set.languages}
    quotas = equal_counts(rows, max_sentences)
    blocks = {language: list(sample_blocks(shard_set, language, n, seed)) for language, n in quotas.items()}
    choosing = [block for some in blocks.values() for block in some[::2]]
    learned = learn_pieces((line for block in choosing for line in _transliterations(block)), 2 * pieces)
    originals = [line for block in choosing for line in block.orig]
    extension = extend(tokenizer, learned, originals, pieces)
    with hide_progress_bars():
        model = AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32)
    sources = _sources(tokenizer, extension, merge)
    add_embeddings(model, len(tokenizer), [sources.get(i, parts) for i, parts in enumerate(extension.parts)])
    found = Extended(
        len(extension.pieces), len(extension.rejected), len(sources),
        {language: _figures(tokenizer, extension, some[1::2] or some) for language, some in blocks.items()},
    )  # fmt: skip
    layer = resolve_layer(POOL_LAYER, model.config.num_hidden_layers)
    export_folder(model, extension.tokenizer, out, _card(name, shard_set.manifest.name, merge, found), layer, force)
    return found


def _transliterations(block: Block) -> list[str]:
    """Of the sentences that are not their own: the others are Latin text that the model reads already."""
    return [latn for orig, latn in zip(block.orig, block.latn, strict=True) if orig != latn]


def add_embeddings(model: Any, first: int, parts: Sequence[Sequence[int]]) -> None:
    """Gives tokens first, first + 1, … the mean embedding, and the mean bias of the head, of `parts` [N]."""
    size = max(first + len(parts), model.get_input_embeddings().num_embeddings)
    model.resize_token_embeddings(size, mean_resizing=False)
    tables = {id(table): table for table in _tables(model)}
    with torch.no_grad():
        for table in tables.values():
            for number, some in enumerate(parts, first):
                table[number] = table[list(some)].mean(dim=0)


def _tables(model: Any) -> list[torch.Tensor]:
    """Input embedding, output embedding (often the same tensor) and bias of the head."""
    head = model.get_output_embeddings()
    return [model.get_input_embeddings().weight, head.weight, head.bias]


def _sources(tokenizer: PreTrainedTokenizerFast, extension: Extension, merge: str) -> dict[int, list[int]]:
    """Number of a new piece → old tokens of other scripts that uroman writes like it, as `merge` chooses them.

    TransMI takes the one with the best or the worst score, or all of them.
    """
    if merge == "mean":
        return {}
    exact, written, old = Romanizer().exact(None), defaultdict[str, list[int]](list), unigram_vocabulary(tokenizer)
    for number, (piece, _) in enumerate(old):
        text = piece.removeprefix(_WORD)
        if text and not text.isascii():
            written[piece[: len(piece) - len(text)] + exact.romanize_always(text)[0]].append(number)
    found: dict[int, list[int]] = {}
    for number, piece in enumerate(extension.pieces):
        if same := sorted(written.get(piece, []), key=lambda token: (-old[token][1], token)):
            found[number] = {"transmi-max": same[:1], "transmi-min": same[-1:], "transmi-average": same}[merge]
    return found


def _figures(tokenizer: PreTrainedTokenizerFast, extension: Extension, blocks: Sequence[Block]) -> LanguageFigures:
    counts: list[tuple[int, int]] = []
    changed = 0
    for column in ("orig", "latn"):
        lines = [line for block in blocks for line in getattr(block, column)]
        before, after = (encode_batch(one, lines) for one in (tokenizer, extension.tokenizer))
        counts.append((sum(map(len, before)), sum(map(len, after))))
        if column == "orig":
            changed = sum(a != b for a, b in zip(before, after, strict=True))
    return LanguageFigures(sum(len(block.orig) for block in blocks), counts[0], counts[1], changed)


def figures_table(found: Extended) -> str:
    """For the terminal: tokens of a sentence before and after, and originals that are segmented differently."""
    return format_table(_HEADS, _rows(found))


def _rows(found: Extended) -> list[list[str]]:
    return [
        [language, f"{x.sentences:,}", *(f"{n / x.sentences:.1f}" for n in (*x.orig, *x.latn)), f"{x.changed:,}"]
        for language, x in found.languages.items()
    ]


def _card(name: str, shards: str, merge: str, found: Extended) -> str:
    """The README of the folder."""
    merged = f" ({found.merged:,} of them from pieces of other scripts, `{merge}`)" if merge != "mean" else ""
    return f"""---
base_model: {Path(name).name if Path(name).exists() else name}
library_name: transformers
pipeline_tag: fill-mask
---

# {Path(name).name} with pieces for transliterations

The vocabulary has {found.pieces:,} new pieces, learned from the transliterations of the shard set {shards}. Their
embeddings are means of those of the pieces that their text consisted of before{merged}. Nothing has been trained yet:
continue with `translit-scale train model.pretrained=DIR`.

Tokens of a sentence before and after, and how many originals are segmented differently than before:

{markdown_table(_HEADS, _rows(found))}
"""
