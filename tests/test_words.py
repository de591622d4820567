"""Word alignment of sentences with their transliterations, against naive loops."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.support.encoders import WORDS, save_encoder, tiny_model
from translit_scale.analyze.words import (
    COLUMNS,
    Words,
    count_words,
    embed_words,
    match_words,
    token_words,
    word_scores,
    words_of,
)
from translit_scale.cli import main
from translit_scale.corpus.tokenizer import encode_with_offsets
from translit_scale.evaluate.bootstrap import resampled_sums
from translit_scale.evaluate.embedding import Encoder


def letter_tokenizer() -> PreTrainedTokenizerFast:
    """Metaspace and single letters, as a unigram model may split an unknown word: `▁` is a token of its own."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: number for number, token in enumerate([*special, "▁", *"abcdefgh", "<mask>"])}
    backend = Tokenizer(models.Unigram([(token, -1.0) for token in vocabulary], unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip


def test_tokens_belong_to_the_words_of_their_characters() -> None:
    sentence = "ab  c dé\u3000f"
    ((_, offsets),) = encode_with_offsets(letter_tokenizer(), [sentence])
    found: dict[int, set[str]] = {}
    for token, word in token_words(sentence, offsets):
        found.setdefault(word, set()).add(sentence[slice(*offsets[token])].strip())
    assert words_of(sentence) == ["ab", "c", "dé", "f"]
    assert {word: "".join(sorted(pieces)) for word, pieces in found.items()} == {0: "ab", 1: "c", 2: "dé", 3: "f"}


def test_a_token_may_belong_to_several_words_and_to_none() -> None:
    assert token_words("a bc", [(0, 4), (1, 2), (3, 4), (0, 0)]) == [(0, 0), (0, 1), (2, 1)]


def test_vectors_are_means_of_hidden_states_in_the_whole_sentence() -> None:
    model = tiny_model("xlm-roberta").base_model
    letters = letter_tokenizer()
    reference = tiny_model("xlm-roberta").base_model.eval()
    encoder = Encoder.of("tiny", model, letters, device="cpu", layer=2)
    sentences = ["abc d ef", "h g", "a b c d e f g h a b c d", "cafe \u200b babe"]
    found = embed_words(encoder, sentences, batch_tokens=40)
    assert [words.problem for words in found[:3]] == ["", "", "too_long"]
    for sentence, words in zip(sentences[:2], found, strict=False):
        ((ids, offsets),) = encode_with_offsets(letters, [sentence])
        with torch.inference_mode():
            states = reference(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0].numpy()
        start = 0
        for word, vector in zip(sentence.split(), words.vectors, strict=True):
            begin = sentence.index(word, start)
            start = begin + len(word)
            own = [i for i, (a, b) in enumerate(offsets) if sentence[max(a, begin) : min(b, start)].strip()]
            mean = states[own].mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


@given(seed=st.integers(0, 99), n=st.integers(1, 6))
def test_matching_equals_a_loop(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, n, 3)).astype(np.float32)
    forward, backward, linked, correct = match_words(a, b)
    best = [max(range(n), key=lambda j: float(a[i] @ b[j])) for i in range(n)]
    back = [max(range(n), key=lambda i: float(a[i] @ b[j])) for j in range(n)]
    assert forward.tolist() == [best[i] == i for i in range(n)]
    assert backward.tolist() == [back[j] == j for j in range(n)]
    assert linked.tolist() == [back[best[i]] == i for i in range(n)]
    assert correct.tolist() == [best[i] == i == back[i] for i in range(n)]


def test_scores_by_hand() -> None:
    np.testing.assert_allclose(word_scores(np.array([10, 6, 5, 8, 4])), [0.6, 0.5, 0.5, 0.4, 8 / 18])
    assert word_scores(np.zeros(5)).tolist() == [0] * 5


def test_chance_is_the_mean_over_random_similarities() -> None:
    generator = np.random.default_rng(0)
    orig, latn = ["ä b c d", "x ü"], ["a b c d", "x u"]
    sums = []
    for _ in range(3000):
        sides = [
            [Words(generator.normal(size=(len(s.split()), 200)).astype(np.float32), "") for s in text]
            for text in (orig, latn)
        ]
        counts = count_words(orig, latn, *sides)
        sums.append(np.concatenate([counts.every.sum(axis=0), counts.changed.sum(axis=0)]))
    expected = np.concatenate([counts.chance.sum(axis=0), counts.changed_chance.sum(axis=0)])
    np.testing.assert_allclose(np.mean(sums, axis=0), expected, atol=0.05)


def test_sentences_that_cannot_be_measured_are_counted() -> None:
    vectors = np.eye(3, dtype=np.float32)
    good, bad = Words(vectors, ""), Words(vectors, "no_tokens")
    orig, latn = ["ä b c", "a b", "a", "a b c"], ["a b c", "a b c", "a", "a b c"]
    counts = count_words(orig, latn, [good, good, good, bad], [good, good, good, good])
    assert counts.left_out == {"no_tokens": 1, "one_word": 1, "words_differ": 1}
    assert counts.every.tolist() == [[3, 3, 3, 3, 3]] and counts.changed.tolist() == [[1, 1, 1, 1, 1]]


def test_resampled_sums_are_those_of_resampled_items() -> None:
    counts = np.array([[1, 0, 5], [2, 3, 0], [0, 1, 1], [4, 4, 4]])
    drawn = resampled_sums(counts, resamples=4000)
    np.testing.assert_allclose(drawn.mean(axis=0), counts.sum(axis=0), rtol=0.05)
    np.testing.assert_allclose(drawn.std(axis=0), counts.std(axis=0) * 2, rtol=0.1)  # sqrt(4 items)


def test_words_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    text = tmp_path / "ukr.txt"
    text.write_text("\n".join(" ".join(generator.choice(WORDS, 5)) for _ in range(12)) + "\nw1\nw1 w2 w3 w4 w5 " * 5)
    (tmp_path / "thai.txt").write_text("w1 w2\n")
    command = ["analyze", "words", "--model", f"a={save_encoder(tmp_path / 'a')}", "--layer", "2"]
    command += ["--text", f"ukr_Cyrl:{text}", f"tha_Thai:{tmp_path / 'thai.txt'}", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "not measured, no white space between words: tha_Thai" in printed and "one_word" in printed
    assert not [line for line in printed.splitlines()[:-1] if len(line) > 80]
    folder = tmp_path / "out/words"
    result = json.loads((folder / "a.words.json").read_text())
    (score,) = result["scores"]["test"]
    assert result["without_spaces"] == ["tha_Thai"] and score["hf_subset"] == "ukr_Cyrl"
    # ASCII is its own transliteration, so every word has the same vector on both sides.
    assert score["all"]["f1"] == score["all"]["forward"] == 1 and score["changed"]["words"] == 0
    with np.load(folder / "a.words.npz") as arrays:
        sums = arrays["ukr_Cyrl:all"].sum(axis=0)
        assert tuple(arrays["columns"]) == COLUMNS and len(arrays["ukr_Cyrl:all"]) == score["n"]
    assert sums[0] == score["all"]["words"] == sums[3] == sums[4]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".pdf"}
    assert main(command) == 0
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".pdf"}
    assert main([*command, "--layer", "1"]) == 3
    assert main([*command, "--layer", "1", "--force", "--no-figure"]) == 0
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main([*command, "--layer", "1"]) == 0 and "note: no figures" in capsys.readouterr().err
