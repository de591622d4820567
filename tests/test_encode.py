"""SentencePiece and the tokenizer give the same ids, and text never turns into special tokens."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.support.tiny import make_tokenizer, sentences
from translit_scale.corpus.clean import clean
from translit_scale.corpus.encode import Ragged, TextEncoder, differing, sentencepiece_model
from translit_scale.corpus.tokenizer import load_tokenizer, save_tokenizer
from translit_scale.corpus.tokenizer_training import train_tokenizer

id_lists = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encode") / "tokenizer"
    texts = sentences(400, seed=3)
    train_tokenizer(texts, out, 100, parity_lines={"cyrillic": texts})
    return out


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(str(folder))


@given(st.lists(st.text(st.sampled_from("абвгдежзиклмн ab<s>/mask\u0301가é"), max_size=40), max_size=8))
@settings(max_examples=60, deadline=None)
def test_both_encoders_agree_on_clean_text(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> None:
    lines = [clean(text).encode() for text in texts]
    assert differing(tokenizer, lines) == 0


def test_literal_special_tokens_are_text(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = TextEncoder(tokenizer, fast=True)([b"<s> <mask> </s> <pad>"]).ids
    assert not set(ids.tolist()) & {0, 1, 2, tokenizer.mask_token_id}


def test_a_difference_is_counted(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [text.encode() for text in sentences(20, seed=1)]
    model, ids = sentencepiece_model(tokenizer)  # type: ignore[misc]
    piece = model.encode(lines[0].decode())[0]
    changed = ids.copy()
    changed[piece] += 1
    monkeypatch.setattr("translit_scale.corpus.encode.sentencepiece_model", lambda _: (model, changed))
    expected = sum(piece in found for found in model.encode([line.decode() for line in lines]))
    assert differing(tokenizer, lines) == expected > 0


def test_only_a_model_with_the_tokenizers_vocabulary_is_used(folder: Path, tmp_path: Path) -> None:
    assert sentencepiece_model(load_tokenizer(str(make_tokenizer(tmp_path / "words")))) is None
    other = tmp_path / "other"
    texts = [line.replace("б", "ы") for line in sentences(400, seed=3)]
    train_tokenizer(texts, other, 100, parity_lines={"cyrillic": texts})
    save_tokenizer(load_tokenizer(str(folder)), tmp_path / "mixed")
    (tmp_path / "mixed/sentencepiece.bpe.model").write_bytes((other / "sentencepiece.bpe.model").read_bytes())
    mixed = load_tokenizer(str(tmp_path / "mixed"))
    assert sentencepiece_model(mixed) is None or differing(mixed, [line.encode() for line in texts]) > 0


@given(id_lists, st.integers(0, 2**32))
def test_taking_and_cutting(lists: list[list[int]], seed: int) -> None:
    ragged = Ragged.of(lists)
    chosen = random.Random(seed).choices(range(len(lists)), k=5)
    taken = ragged.take(np.array(chosen))
    assert taken.ids.tolist() == [token for i in chosen for token in lists[i]]
    assert taken.lengths.tolist() == [len(lists[i]) for i in chosen]
    limits = np.array([random.Random(seed + i).randint(0, 6) for i in range(len(lists))])
    cut = ragged.cut(limits)
    assert cut.ids.tolist() == [token for row, n in zip(lists, limits, strict=True) for token in row[:n]]
    assert cut.lengths.tolist() == [min(len(row), n) for row, n in zip(lists, limits, strict=True)]
