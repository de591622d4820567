"""New pieces for transliterations in a pretrained model: other text is cut as before, and old weights stay."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from tests.support.tiny import CYRILLIC, make_shards, make_tokenizer, romanize
from translit_scale.cli import main
from translit_scale.config import ModelConfig
from translit_scale.corpus.extension import extend, unigram_vocabulary
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import encode_batch, load_tokenizer, tokenizer_fingerprint
from translit_scale.corpus.tokenizer_training import learn_pieces, train_tokenizer
from translit_scale.errors import ConfigError
from translit_scale.export.folder import export_folder
from translit_scale.export.vocabulary import add_embeddings, extend_model
from translit_scale.model.encoder import build_model

WORDS = ["".join(random.Random(i).choices(list(CYRILLIC), k=random.Random(i).randint(3, 6))) for i in range(80)]


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of eighty invented Cyrillic words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Of Cyrillic words, as both papers' is: transliterations fall into letters."""
    out = tmp_path_factory.mktemp("old") / "tokenizer"
    train_tokenizer(sentences(800, 1), out, 120, parity_lines={"x": sentences(50, 2)})
    return load_tokenizer(str(out))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder with that tokenizer, as a Hugging Face folder."""
    torch.manual_seed(0)
    shape = ModelConfig(
        tokenizer="none", hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_length=64
    )
    out = tmp_path_factory.mktemp("model") / "old"
    made = build_model(shape, len(tokenizer), 1, 0, 2)
    torch.nn.init.normal_(made.get_output_embeddings().bias)
    export_folder(made, tokenizer, out, "old", 1)
    return out


def test_transliterations_get_pieces_and_originals_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    originals = sentences(300, 3)
    latin = [romanize(line) for line in originals]
    found = extend(tokenizer, learn_pieces(latin, 400), originals, 60)
    assert len(found.pieces) == 60 == len(found.tokenizer) - len(tokenizer) and not found.rejected
    assert encode_batch(found.tokenizer, originals) == encode_batch(tokenizer, originals)
    before, after = (sum(map(len, encode_batch(one, latin))) for one in (tokenizer, found.tokenizer))
    assert after < 0.6 * before
    old = unigram_vocabulary(tokenizer)
    assert unigram_vocabulary(found.tokenizer)[: len(old)] == old
    assert [piece for piece, _ in unigram_vocabulary(found.tokenizer)[len(old) :]] == found.pieces
    for piece, parts in zip(found.pieces, found.parts, strict=True):
        assert "".join(tokenizer.convert_ids_to_tokens(parts)) == piece


def test_pieces_that_originals_would_use_are_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    """Latin originals with half of the words: pieces for these words are rejected, and the others are kept."""
    common = [romanize(word) for word in WORDS[:40]]
    originals = [*sentences(100, 4), *(" ".join(common[i : i + 3]) for i in range(38))]
    learned = learn_pieces([romanize(line) for line in sentences(500, 5)], 400)
    found = extend(tokenizer, learned, originals, 400)
    assert encode_batch(found.tokenizer, originals) == encode_batch(tokenizer, originals)
    assert len(found.rejected) > 30 and found.pieces
    assert not set(found.rejected) & set(found.pieces)
    rare = [romanize(word) for word in WORDS[40:]]
    before, after = (sum(map(len, encode_batch(one, rare))) for one in (tokenizer, found.tokenizer))
    assert after < 0.8 * before


def test_embeddings_of_new_tokens_are_means_and_old_ones_stay(model: Path) -> None:
    loaded = AutoModelForMaskedLM.from_pretrained(model)
    size = loaded.get_input_embeddings().num_embeddings
    before, bias = loaded.get_input_embeddings().weight.detach().clone(), loaded.get_output_embeddings().bias.clone()
    add_embeddings(loaded, size, [[5, 7], [9], [5, 5, 8]])
    table, head = loaded.get_input_embeddings().weight, loaded.get_output_embeddings()
    assert torch.equal(table[:size], before) and torch.equal(head.bias[:size], bias) and head.weight is table
    for row, parts in enumerate(([5, 7], [9], [5, 5, 8]), start=size):
        torch.testing.assert_close(table[row], before[parts].mean(dim=0))
        torch.testing.assert_close(head.bias[row], bias[parts].mean())
    assert loaded.config.vocab_size == size + 3


def test_the_command_writes_a_model_that_training_can_start_from(
    model: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = make_shards(tmp_path / "shards", {"ukr_Cyrl": 400, "bul_Cyrl": 200})
    out = tmp_path / "new"
    command = ["vocabulary", "extend", "--model", str(model), "--shards", str(shards), "--out", str(out)]
    assert main([*command, "--pieces", "50"]) == 0
    said = capsys.readouterr().out
    assert "50 new pieces; 0 others would have changed how originals are segmented" in said
    line = next(line for line in said.splitlines() if line.startswith("ukr_Cyrl")).split()
    assert line[2] == line[3] and float(line[5]) < 0.8 * float(line[4]) and line[6] == "0"
    read = load_tokenizer(str(out))
    assert len(read) == len(tokenizer) + 50
    set_ = ShardSet.open(shards)
    originals = [text for block in range(2) for text in set_.read_block("ukr_Cyrl", block).orig]
    assert encode_batch(read, originals) == encode_batch(tokenizer, originals)
    trained = build_model(ModelConfig(tokenizer="none", pretrained=str(out), max_length=64), len(read), 1, 0, 2)
    weight = trained.get_input_embeddings().weight
    assert weight.shape == (len(read), 16)
    old = AutoModelForMaskedLM.from_pretrained(model)
    assert torch.equal(weight[: len(tokenizer)], old.get_input_embeddings().weight)
    assert "50 new pieces" in (out / "README.md").read_text()
    assert main([*command, "--pieces", "50"]) == 2 and "is not empty" in capsys.readouterr().err
    assert main([*command, "--pieces", "50", "--force"]) == 0
    assert tokenizer_fingerprint(load_tokenizer(str(out))) == tokenizer_fingerprint(read)


def test_merges_of_transmi(
    model: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: what a new piece is made of, where uroman writes pieces of other scripts like it."""
    names = [piece for piece, _ in unigram_vocabulary(tokenizer)]
    whole = [i for i, piece in enumerate(names) if len(piece) > 3 and piece.startswith("▁")][:2]
    same = {names[i][1:]: "twin" for i in whole}

    def exact(self: Any, code: str | None) -> Any:
        return SimpleNamespace(romanize_always=lambda text: (same.get(text, f"{text}?"), False))

    monkeypatch.setattr("translit_scale.romanize.romanizer.Romanizer.exact", exact)
    monkeypatch.setattr("translit_scale.export.vocabulary.learn_pieces", lambda *_: [("▁twin", -3.0), ("▁ab", -4.0)])
    shards = make_shards(tmp_path / "shards", {"ukr_Cyrl": 40})
    old = AutoModelForMaskedLM.from_pretrained(model).get_input_embeddings().weight
    scores = dict(unigram_vocabulary(tokenizer))
    best, worst = sorted(whole, key=lambda i: -scores[names[i]])
    expected = {"max": old[best], "min": old[worst], "average": old[whole].mean(dim=0)}
    for merge, row in expected.items():
        out = tmp_path / merge
        found = extend_model(str(model), shards, out, 2, f"transmi-{merge}", 100, 0)
        assert (found.pieces, found.merged) == (2, 1)
        new = AutoModelForMaskedLM.from_pretrained(out).get_input_embeddings().weight
        torch.testing.assert_close(new[len(tokenizer)], row)
        parts = [token.id for token in tokenizer.backend_tokenizer.model.tokenize("▁ab")]
        torch.testing.assert_close(new[len(tokenizer) + 1], old[parts].mean(dim=0))


def test_other_tokenizers_are_refused(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="of type WordLevel; new pieces can be added to unigram tokenizers"):
        extend(load_tokenizer(str(make_tokenizer(tmp_path / "words"))), [], [], 1)
    command = ["vocabulary", "extend", "--out", str(tmp_path / "new"), "--model", str(tmp_path / "none")]
    assert main([*command, "--shards", str(tmp_path)]) == 2
    assert "model.pretrained: cannot load" in capsys.readouterr().err
