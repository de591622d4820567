"""Embeddings: the right layer, the right positions, whatever the batch."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from tests.support.encoders import WORDS, save_encoder, word_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.embedding import Encoder, batches_by_length

FAMILIES = ["xlm-roberta", "bert", "distilbert", "albert", "modernbert"]


def some_sentences(count: int, longest: int = 12) -> list[str]:
    generator = random.Random(3)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_whole_model_one_sentence_at_a_time(tmp_path: Path, family: str) -> None:
    folder = save_encoder(tmp_path, family)
    sentences = [*some_sentences(5), "w1 unknown w2"]
    whole, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), word_tokenizer()
    with torch.no_grad():
        states = [
            whole(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True).hidden_states
            for sentence in sentences
        ]
    for layer in (0, 2, 3):
        encoder = Encoder.load(folder, layer=layer)
        for include_special, positions in ((True, slice(None)), (False, slice(1, -1))):
            expected = [of_sentence[layer][0, positions].mean(dim=0).numpy() for of_sentence in states]
            found = encoder.embed(sentences, include_special, batch_tokens=40)
            np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_layers_above_the_wanted_one_are_not_computed(tmp_path: Path) -> None:
    for family, layers_kept in [("xlm-roberta", 2), ("bert", 2), ("distilbert", 2)]:
        encoder = Encoder.load(save_encoder(tmp_path / family, family), layer=2)
        blocks = [m for m in encoder.model.modules() if isinstance(m, torch.nn.ModuleList)]
        assert [len(block) for block in blocks] == [layers_kept]
    assert encoder.n_layers == 3


@settings(max_examples=10, deadline=None)
@given(batch_tokens=st.integers(1, 300), seed=st.integers(0, 1000))
def test_batch_size_and_order_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, batch_tokens: int, seed: int
) -> None:
    encoder = loaded(tmp_path_factory)
    sentences = some_sentences(20, longest=30)
    order = np.random.default_rng(seed).permutation(20)
    reference = encoder.embed(sentences).vectors
    shuffled = encoder.embed([sentences[i] for i in order], batch_tokens=batch_tokens).vectors
    np.testing.assert_allclose(shuffled, reference[order], atol=1e-5)


_loaded: list[Encoder] = []


def loaded(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """One encoder for all examples of a property."""
    if not _loaded:
        _loaded.append(Encoder.load(save_encoder(tmp_path_factory.mktemp("encoder"))))
    return _loaded[0]


@given(lengths=st.lists(st.integers(1, 50), max_size=60), batch_tokens=st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], batch_tokens: int) -> None:
    batches = list(batches_by_length(lengths, batch_tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= batch_tokens


def test_long_sentences_are_cut_and_counted(tmp_path: Path) -> None:
    encoder = Encoder.load(save_encoder(tmp_path))
    assert encoder.max_length == 20  # 22 positions, two of them up to the padding index
    fits, long = " ".join(WORDS[:18]), " ".join(WORDS[:40])
    found = encoder.embed([fits, long, long])
    assert found.truncated == 2
    np.testing.assert_allclose(found.vectors[1], found.vectors[0], atol=1e-6)


def test_sentences_without_tokens_are_defined_and_counted(tmp_path: Path) -> None:
    encoder = Encoder.load(save_encoder(tmp_path))
    with_special = encoder.embed(["w1", "   "])
    without = encoder.embed(["w1", "   "], include_special=False)
    assert with_special.no_tokens == without.no_tokens == 1
    assert np.isfinite(with_special.vectors).all() and (with_special.vectors[1] != 0).any()
    assert (without.vectors[1] == 0).all() and (without.vectors[0] != 0).any()


def test_unknown_words_and_special_names_in_a_text_are_pooled_as_text(tmp_path: Path) -> None:
    encoder = Encoder.load(save_encoder(tmp_path))
    found = encoder.embed(["xyz", "<mask>", "</s>"], include_special=False)
    assert found.no_tokens == 0
    assert (found.vectors != 0).any(axis=1).all()


def test_no_sentence_at_all(tmp_path: Path) -> None:
    assert Encoder.load(save_encoder(tmp_path)).embed([]).vectors.shape == (0, 16)


@pytest.mark.parametrize(("layer", "index"), [(None, 4), (0, 0), (6, 6), (0.5, 3), (0.01, 1), (1.0, 6)])
def test_layer_by_index_or_fraction(tmp_path: Path, layer: int | float | None, index: int) -> None:
    assert Encoder.load(save_encoder(tmp_path, layers=6), layer=layer).layer == index


@pytest.mark.parametrize("layer", [7, -1, 1.5])
def test_layer_out_of_range(tmp_path: Path, layer: int | float) -> None:
    with pytest.raises(ConfigError, match="but the model has 6 layers"):
        Encoder.load(save_encoder(tmp_path, layers=6), layer=layer)


def test_fingerprints_follow_weights_and_vocabulary_not_files(tmp_path: Path) -> None:
    first = Encoder.load(save_encoder(tmp_path / "a"))
    again = Encoder.load(save_encoder(tmp_path / "b"), layer=1)
    other = Encoder.load(save_encoder(tmp_path / "c", seed=1))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert first.tokenizer_sha256 == again.tokenizer_sha256


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        Encoder.load(folder)


def test_missing_weights_are_not_left_random(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["roberta.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        Encoder.load(folder)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot load the model"):
        Encoder.load(folder)


def test_tokenizer_of_another_model(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_bytes())
    content["model"]["vocab"] |= {f"more{number}": 65 + number for number in range(10)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="tokenizer has 75 tokens, the model embeds 65"):
        Encoder.load(folder)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        Encoder.load(str(tmp_path / "nothing"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no GPU"):
        Encoder.load(str(tmp_path), device="cuda")
