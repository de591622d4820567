"""Vocabularies against naive loops over sets, and the samples that they are counted on."""

from __future__ import annotations

import csv
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tiny import make_tokenizer, make_world, romanize, sentences
from translit_scale.analyze import vocabulary
from translit_scale.analyze.published_vocabulary import published_group, published_pair
from translit_scale.analyze.text_sample import ShardSample, read_pairs, reservoir, text_files
from translit_scale.analyze.vocabulary import (
    VocabularyCounter,
    lexical_overlap,
    nearest,
    shared_types,
    unique_types,
)
from translit_scale.cli import main
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import GROUPS, PAIRS


@given(sets=st.lists(st.sets(st.integers(0, 40)), min_size=1, max_size=7), dense=st.sampled_from([1, 8, 2**23]))
def test_shared_types_equal_a_loop_over_sets(sets: list[set[int]], dense: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "_DENSE", dense)  # one column at a time, some, and all of them
        shared = shared_types([np.array(sorted(types), np.int32) for types in sets])
    overlap = lexical_overlap(shared)
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            assert shared[i, j] == len(a & b)
            assert overlap[i, j] == pytest.approx(len(a & b) / len(a | b) if a | b else 0)
    assert unique_types(np.array(sorted(types), np.int32) for types in sets) == len(set().union(*sets))


@given(size=st.integers(1, 8), count=st.integers(1, 9), seed=st.integers(0, 99))
def test_nearest_equals_sorting(size: int, count: int, seed: int) -> None:
    overlap = np.random.default_rng(seed).integers(0, 4, (size, size)) / 4
    for i, found in enumerate(nearest(overlap, count).tolist()):
        others = sorted((j for j in range(size) if j != i), key=lambda j: (-overlap[i, j], j))
        assert found == others[:count]


def test_counts_equal_a_loop(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(make_tokenizer(tmp_path)))
    orig = [*sentences(30, 1), "Ж аб", "ббб Ж"]  # Ж is unknown
    latn = [romanize(sentence) for sentence in orig]
    found = VocabularyCounter(tokenizer, max_length=20).count([(orig[:7], latn[:7]), (orig[7:], latn[7:])])
    for side, texts in (("original", orig), ("transliteration", latn)):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        flat = [i for of_sentence in ids for i in of_sentence]
        figures = found.figures[side]
        assert figures.sentences == len(texts)
        assert figures.tokens == len(flat)
        assert figures.unknown == flat.count(tokenizer.unk_token_id) == 2
        assert figures.cut == sum(len(tokenizer(text)["input_ids"]) > 20 for text in texts) > 0
        assert figures.characters == sum(len("".join(text.split())) for text in texts)
        assert figures.words == sum(len(text.split()) for text in texts)
        assert set(found.types[side].tolist()) == set(flat) - {tokenizer.unk_token_id}
        assert figures.rates["tokens_per_word"] == len(flat) / figures.words


def test_a_sample_of_shards_does_not_repeat_and_does_not_depend_on_other_languages(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    sample = ShardSample(world / "shards", 20, seed=3)
    drawn = [pair for chunk in sample.chunks("ukr_Cyrl") for pair in zip(*chunk, strict=True)]
    everything = list(ShardSet.open(world / "shards").pairs("ukr_Cyrl"))
    assert len(drawn) == 20
    rest = list(everything)
    for pair in drawn:
        rest.remove(pair)  # raises if a row were drawn twice
    assert drawn == [pair for chunk in sample.chunks("ukr_Cyrl") for pair in zip(*chunk, strict=True)]
    other = ShardSample(world / "shards", 20, seed=4)
    assert drawn != [pair for chunk in other.chunks("ukr_Cyrl") for pair in zip(*chunk, strict=True)]
    complete = ShardSample(world / "shards", None, seed=3)
    assert list(zip(*read_pairs(complete, "ukr_Cyrl"), strict=True)) == everything


def test_the_reservoir_draws_every_item_as_often() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        drawn = reservoir(iter(map(str, range(10))), 3, np.random.default_rng(seed))
        assert len(set(drawn)) == 3
        counts[[int(item) for item in drawn]] += 1
    assert counts.min() > 500 and counts.max() < 700


def test_vocabulary_of_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world(tmp_path)
    command = ["analyze", "vocabulary", "--tokenizer", f"tiny={world / 'tokenizer'}", "--shards", str(world / "shards")]
    command += ["--out", str(tmp_path / "analysis"), "--group", "slavic=ukr_Cyrl,bul_Cyrl"]
    assert main(command) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[:-1])) <= 80
    folder = tmp_path / "analysis/vocabulary"
    result = json.loads((folder / "tiny.vocabulary.json").read_text())
    tokenizer = load_tokenizer(str(world / "tokenizer"))
    types = {
        (language, side): {i for pair in ShardSet.open(world / "shards").pairs(language)
                           for i in tokenizer(pair[number], add_special_tokens=False)["input_ids"]} - {3}
        for language in ("bul_Cyrl", "ukr_Cyrl") for number, side in enumerate(("original", "transliteration"))
    }  # fmt: skip
    (pair,) = result["pairs"]
    assert pair["languages"] == ["bul_Cyrl", "ukr_Cyrl"] and pair["published"] is None
    for side in ("original", "transliteration"):
        a, b = types["bul_Cyrl", side], types["ukr_Cyrl", side]
        assert (pair[side]["shared"], pair[side]["total"]) == (len(a & b), len(a | b))
        groups = {group["group"]: group for group in result["groups"]}
        assert groups["all"][side] == groups["slavic"][side] == len(a | b)
        assert result["neighbours"]["bul_Cyrl"][side][0][0] == "ukr_Cyrl"
    with np.load(folder / "tiny.vocabulary.npz") as arrays:
        assert arrays["languages"].tolist() == ["bul_Cyrl", "ukr_Cyrl"]
        assert arrays["shared_original"].diagonal().tolist() == [len(types[c, "original"]) for c in arrays["languages"]]
    with (folder / "tiny.languages.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["tokens"] for row in rows if row["script"] == "original"] == [
        str(language["original"]["tokens"]) for language in result["languages"].values()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but PDF, in which vl-convert numbers objects in a different order each time."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".pdf"}


def test_the_same_call_gives_the_same_bytes_and_another_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path)
    command = ["analyze", "vocabulary", "--tokenizer", f"tiny={world / 'tokenizer'}", "--shards", str(world / "shards")]
    command += ["--out", str(tmp_path / "analysis"), "--sentences", "10"]
    assert main(command) == 0
    folder = tmp_path / "analysis/vocabulary"
    before = contents(folder)
    assert {"tiny.overlap.png", "tiny.tokens.png", "tiny.tokens.csv"} <= before.keys()
    assert main(command) == 0
    assert before == contents(folder)
    assert main([*command, "--seed", "1"]) == 3
    assert before == contents(folder)
    assert main([*command, "--seed", "1", "--force", "--no-figure"]) == 0
    assert before["tiny.vocabulary.json"] != (folder / "tiny.vocabulary.json").read_bytes()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main([*command, "--force"]) == 0 and "note: no figures" in capsys.readouterr().err


def test_a_bad_language_does_not_end_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world(tmp_path)
    texts = tmp_path / "texts"
    (texts / "bible").mkdir(parents=True)
    (texts / "README.txt").write_text("no language")
    (texts / "bible/ukr_Cyrl.txt").write_text("\n".join([*sentences(12, 5), "", ""]) + "\n")
    (texts / "bible/ukr_Cyrl.2.txt").write_text("\n".join(sentences(3, 6)) + "\n")
    (texts / "bul_Cyrl.txt").write_text("\n\n")
    (texts / "mkd_Cyrl.txt").write_bytes(b"\xff\xfea\0b\0")
    command = ["analyze", "vocabulary", "--tokenizer", f"tiny={world / 'tokenizer'}", "--text", str(texts)]
    assert main([*command, "--out", str(tmp_path / "analysis"), "--no-figure"]) == 3
    error = capsys.readouterr().err
    assert "bul_Cyrl" in error and "UTF-16" in error and "4 empty" in error
    result = json.loads((tmp_path / "analysis/vocabulary/tiny.vocabulary.json").read_text())
    assert list(result["languages"]) == ["ukr_Cyrl"]
    assert result["languages"]["ukr_Cyrl"]["original"]["sentences"] == 15
    assert result["settings"]["romanizer"]["implementation"].startswith("uroman")


def test_text_arguments(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    assert text_files([f"pl:{tmp_path / 'a.txt'}"]) == {"pol_Latn": [tmp_path / "a.txt"]}
    with pytest.raises(DataError, match="is named by its language"):
        text_files([str(tmp_path)])
    with pytest.raises(ConfigError, match="LANGUAGE:FILE"):
        text_files(["nothing"])


def test_the_printed_numbers_agree_with_each_other() -> None:
    for pair in PAIRS.values():
        printed = published_pair(*pair)
        assert printed == published_pair(*reversed(pair)) and printed["source"] == "paper A, Table 1"
        for side in ("original", "transliteration"):  # counts are rounded to the nearest hundred
            values = printed[side]
            low = (values["shared"] - 50) / (values["total"] + 50)
            high = (values["shared"] + 50) / (values["total"] - 50)
            agrees = low <= values["overlap"] <= high
            assert agrees == ((pair[0], side) != ("pol_Latn", "transliteration"))  # 3.9K of 9.6K are 40.6, not 41.9 %
    assert published_pair("pol_Latn", "hin_Deva") is None and published_group("all") is None
    assert all(published_group(group)["original"] > published_group(group)["transliteration"] for group in GROUPS)


def test_of_many_languages_the_files_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from translit_scale.analyze import vocabulary_run

    monkeypatch.setattr(vocabulary_run, "ALL_PAIRS", 3)
    world = make_world(tmp_path)
    texts = tmp_path / "texts"
    texts.mkdir()
    codes = ("bel_Cyrl", "bul_Cyrl", "pol_Latn", "ukr_Cyrl")
    for seed, code in enumerate(codes):
        (texts / f"{code}.txt").write_text("\n".join(sentences(5, seed)) + "\n")
    command = ["analyze", "vocabulary", "--tokenizer", f"tiny={world / 'tokenizer'}", "--text", str(texts)]
    assert main([*command, "--out", str(tmp_path / "analysis")]) == 0
    result = json.loads((tmp_path / "analysis/vocabulary/tiny.vocabulary.json").read_text())
    assert [pair["languages"] for pair in result["pairs"]] == [["pol_Latn", "ukr_Cyrl"]]
    with np.load(tmp_path / "analysis/vocabulary/tiny.vocabulary.npz") as arrays:
        shared, languages = arrays["shared_transliteration"], arrays["languages"].tolist()
    assert shared.shape == (4, 4) and languages == list(codes)
    for i, j in combinations(range(4), 2):
        overlap = shared[i, j] / (shared[i, i] + shared[j, j] - shared[i, j])
        near = dict(result["neighbours"][codes[i]]["transliteration"])
        assert near[codes[j]] == pytest.approx(overlap, abs=1e-6)
