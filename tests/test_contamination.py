"""Evaluation sentences in training text are found: all exact ones, and all that are near enough."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_corpus import CYRILLIC, POLISH, invent
from tests.support.tiny import make_shards
from translit_scale.cli import main
from translit_scale.corpus import contamination as room
from translit_scale.corpus.clean import fold
from translit_scale.corpus.contamination import EvaluationText, find_matches, ngrams
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import ConfigError, DataError
from translit_scale.prepare.run import prepare


def evaluation(folder: Path, near: float | None, *lines: str) -> EvaluationText:
    (folder / "eval.pol").write_text("".join(f"{line}\n" for line in lines))
    return EvaluationText([folder / "eval.pol"], near)


def shares(text: EvaluationText, sentence: str) -> list[tuple[str, float]]:
    return [(cell, share) for _, cell, share in text.matches(sentence)]


def test_the_same_letters_and_digits_are_the_same_sentence(tmp_path: Path) -> None:
    text = evaluation(tmp_path, None, "Żółw ma 2 koty.", "", "—", "Inne zdanie")
    assert shares(text, "„ŻÓŁW – ma 2 koty”") == [("Żółw ma 2 koty.", 1.0)]
    assert shares(text, "Żółw ma 3 koty.") == shares(text, "") == shares(text, "?!") == []


def test_near_duplicates_and_longer_sentences_are_found(tmp_path: Path) -> None:
    verse = "a".join(invent(POLISH, 3))
    text = evaluation(tmp_path, 0.8, verse, *invent(CYRILLIC, 50))
    assert shares(text, f"przed {verse} po") == [(verse, 1.0)]
    [(cell, share)] = shares(text, verse.replace(verse[30], "#", 1))
    assert cell == verse and 0.8 < share < 1
    assert shares(text, verse[: len(verse) // 2]) == []


@settings(deadline=None)
@given(
    st.lists(st.text("abc", min_size=20, max_size=60), min_size=1, max_size=8),
    st.text("abc", max_size=80),
    st.integers(30, 100).map(lambda percent: percent / 100),
)
def test_the_index_misses_nothing(tmp_path_factory, cells: list[str], sentence: str, near: float) -> None:
    text = evaluation(tmp_path_factory.mktemp("x"), near, *cells)
    expected = {cell for cell in cells if cell == sentence}
    for cell in cells:
        grams = ngrams(fold(cell))
        if len(grams) >= room.MIN_GRAMS and len(grams & ngrams(fold(sentence))) / len(grams) >= near:
            expected.add(cell)
    assert {cell for cell, _ in shares(text, sentence)} == expected


def test_short_sentences_are_compared_exactly_only(tmp_path: Path) -> None:
    text = evaluation(tmp_path, 0.5, "Ala ma kota")
    assert shares(text, "Ala ma kota") == [("Ala ma kota", 1.0)]
    assert shares(text, "Ala ma kota i psa") == []


def test_the_command_lists_what_exclude_would_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = invent(POLISH, 30)
    (tmp_path / "pol.txt").write_text("".join(f"{line}\n" for line in sentences))
    (tmp_path / "ukr.txt").write_text("".join(f"{line}\n" for line in invent(CYRILLIC, 10)))
    (tmp_path / "test.tsv").write_text(f"id\ttext\n1\t{sentences[3].upper()}!\n2\t{sentences[7]}\n")
    recipe = "name: x\nlanguages: {pol_Latn: [pol.txt], ukr_Cyrl: [ukr.txt]}\n"
    command = ["shards", "contamination", str(tmp_path / "set"), "--files", str(tmp_path / "test.tsv")]

    (tmp_path / "recipe.yaml").write_text(recipe)
    prepare(tmp_path / "recipe.yaml", tmp_path, tmp_path / "set", workers=1)
    assert main(command) == 0
    out, err = capsys.readouterr()
    found = [line.split("\t") for line in out.split("\n")[:-1]]
    assert {(language, training) for language, _, _, training, _ in found} == {
        ("pol_Latn", sentences[3]),
        ("pol_Latn", sentences[7]),
    }
    assert "2 matches in 40 pairs: pol_Latn 2" in err

    (tmp_path / "recipe.yaml").write_text(recipe + "exclude: [test.tsv]")
    manifest = prepare(tmp_path / "recipe.yaml", tmp_path, tmp_path / "set", workers=1, force=True)
    assert manifest.languages["pol_Latn"].dropped["held_out"] == 2
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out == "" and "0 matches in 38 pairs" in err


def test_what_is_near_can_be_left_out_with_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = invent(POLISH, 30, words=9)
    (tmp_path / "pol.txt").write_text("".join(f"{line}\n" for line in sentences))
    (tmp_path / "test.txt").write_text(f"{sentences[3].replace(' ', ' q ', 1)}\n")
    (tmp_path / "recipe.yaml").write_text("name: x\nlanguages: {pol_Latn: [pol.txt]}\n")
    command = ["shards", "contamination", str(tmp_path / "set"), "--files", str(tmp_path / "test.txt"), "--near", "0.7"]

    prepare(tmp_path / "recipe.yaml", tmp_path, tmp_path / "set", workers=1)
    assert main(command) == 0
    [match] = capsys.readouterr().out.split("\n")[:-1]
    assert match.split("\t")[3] == sentences[3] and match.split("\t")[2] != "1.00"

    (tmp_path / "near.txt").write_text(match.split("\t")[3])
    (tmp_path / "recipe.yaml").write_text("name: x\nlanguages: {pol_Latn: [pol.txt]}\nexclude: [near.txt]\n")
    prepare(tmp_path / "recipe.yaml", tmp_path, tmp_path / "set", workers=1, force=True)
    assert main(command) == 0
    assert "0 matches in 29 pairs" in capsys.readouterr().err


def test_points_and_accents_do_not_hide_a_near_duplicate(tmp_path: Path) -> None:
    pointed, plain = "أَجْنِيْ مِئْةَ يُوْرَو فِيْ اليَوْم وَأُخْرَى غَدًا", "أجني مئة يورو في اليوم وأخرى غدا"
    assert fold(pointed) != fold(plain)
    assert shares(evaluation(tmp_path, 0.8, plain), pointed) == [(plain, 1.0)]
    assert shares(evaluation(tmp_path, 0.8, pointed), plain) == [(pointed, 1.0)]
    hindi = "कमला के किले की काली कोठी में कितने केले के पेड़ हैं"
    text = evaluation(tmp_path, 0.8, hindi)
    assert shares(text, hindi.replace("ड़", "ड़")) == [(hindi, 1.0)]
    assert shares(text, hindi.translate(dict.fromkeys(map(ord, "ािीुूेै")))) == []  # vowel signs tell words apart


@pytest.mark.slow
def test_the_number_of_workers_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard_set = ShardSet.open(make_shards(tmp_path / "set", {"ukr_Cyrl": 90, "bul_Cyrl": 40}))
    monkeypatch.setattr(room, "TASK_BLOCKS", 3)
    lines = [orig for language in shard_set.languages for orig, _ in shard_set.pairs(language)][::7]
    (tmp_path / "eval.txt").write_text("".join(f"{line}\n" for line in lines))
    results = []
    for workers in (1, 3):
        done: list[int] = []
        results.append(find_matches(shard_set, [tmp_path / "eval.txt"], 0.7, workers, done.append))
        assert sum(done) == 130
    assert results[0] == results[1] and len(results[0]) >= len(lines)


def test_wrong_settings_and_files_are_errors(tmp_path: Path) -> None:
    for near in (0.0, 1.5, -1.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            evaluation(tmp_path, near, "a")
    with pytest.raises(DataError, match="file not found"):
        EvaluationText([tmp_path / "none.txt"], None)
