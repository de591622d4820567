"""`evaluate all`: what is there is measured, what is not is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.encoders import WORDS
from tests.support.labelled_world import save_learner, write_ner, write_sib200
from translit_scale.cli import main

LANGUAGES = ("eng_Latn", "hin_Deva", "urd_Arab")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SIB-200 (SR-F too), NER of two languages, verses of three; no Tatoeba, Taxi1500 or parts of speech."""
    folder = tmp_path_factory.mktemp("world")
    save_learner(folder / "model")
    (folder / "srb").mkdir()
    for shift, language in enumerate(LANGUAGES):
        verses = (f"{number}\t{WORDS[number]} {WORDS[number + shift]}\n" for number in range(20))
        (folder / f"srb/{language}.tsv").write_text("".join(verses))
    return write_ner(write_sib200(folder, LANGUAGES), LANGUAGES[:2])


def evaluate(world: Path, out: Path, *more: str) -> int:
    words = ["evaluate", "all", "--model", f"tiny={world / 'model'}", "--data", str(world), "--out", str(out)]
    return main([*words, "--epochs", "1", "--seeds", "1", "--workers", "1", *more])


def test_one_page_of_what_is_there_and_what_is_not(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(world, tmp_path, "--source", "eng_Latn", "--source", "hin_Deva+urd_Arab") == 0
    page = (tmp_path / "evaluation.txt").read_text()
    assert page.rstrip() in capsys.readouterr().out
    assert f"no files of tatoeba in {world}, {world / 'tatoeba'}" in page
    assert f"no files of taxi1500 in {world / 'taxi1500'}" in page
    assert "ner: no train data for urd_Arab" in page and str(world / "ner/train-urd_Arab.tsv") in page
    assert "sib200: tiny, 1 seed" in page and "ner: tiny, 1 seed" in page
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*.json"))
    assert names == [
        "ner/tiny.eng_Latn.seed42.json",
        "sib200/tiny.eng_Latn.seed42.json",
        "sib200/tiny.hin_Deva+urd_Arab.seed42.json",
        "sr_b/tiny.json",
        "sr_f/tiny.json",
    ]
    directions = [
        score["hf_subset"] for score in json.loads((tmp_path / "sr_b/tiny.json").read_text())["scores"]["test"]
    ]
    assert sorted(directions) == sorted(f"{a}-{b}" for a in LANGUAGES for b in LANGUAGES if a != b)
    assert evaluate(world, tmp_path, "--source", "eng_Latn", "--source", "hin_Deva+urd_Arab") == 0
    assert "finished before: 3 of 3 jobs" in capsys.readouterr().err
    assert (tmp_path / "evaluation.txt").read_text() == page


def test_languages_and_tasks_can_be_chosen(world: Path, tmp_path: Path) -> None:
    options = ["--tasks", "ner,sr_b", "--source", "eng_Latn", "--languages", "urd_Arab,hin_Deva", "--limit", "7"]
    assert evaluate(world, tmp_path, *options) == 0
    ner = json.loads((tmp_path / "ner/tiny.eng_Latn.seed42.json").read_text())
    assert [score["language"] for score in ner["scores"]["test"]] == ["hin_Deva"]
    assert f"ner: no test data for urd_Arab in {world / 'ner'}" in (tmp_path / "evaluation.txt").read_text()
    verses = json.loads((tmp_path / "sr_b/tiny.json").read_text())["scores"]["test"]
    assert {score["n"] for score in verses} == {7} and len(verses) == 4
    assert not (tmp_path / "sib200").exists()


def test_nothing_there_is_an_error(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--tasks", "taxi1500,tatoeba", "--source", "eng_Latn"]
    assert evaluate(world, tmp_path / "out", *options) == 3
    message = capsys.readouterr().err
    assert "nothing to evaluate" in message and "taxi1500" in message and "tatoeba.{iso3}-eng.{iso3}" in message
    assert not (tmp_path / "out").exists()
    assert evaluate(world, tmp_path / "out", "--tasks", "sib", "--source", "eng_Latn") == 2


def test_wrong_data_is_not_missing_data(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model", "ner"):
        (tmp_path / name).symlink_to(world / name)
    write_sib200(tmp_path, LANGUAGES)
    (tmp_path / "sib200/eng_Latn/train.tsv").write_text("index_id\tcategory\ttext\n1\tfood\tw1\n")
    assert evaluate(tmp_path, tmp_path / "out", "--source", "eng_Latn", "--tasks", "sib200,ner") == 3
    assert "unknown label 'food'" in capsys.readouterr().err
