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
    return main([*words, "--epochs", "1", "--num-seeds", "1", "--workers", "1", *more])


def test_one_page_of_what_is_there_and_what_is_not(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(world, tmp_path, "--source", "eng_Latn", "--source", "hin_Deva+urd_Arab") == 0
    page = (tmp_path / "evaluation.txt").read_text()
    printed = capsys.readouterr()
    assert page.rstrip() in printed.out
    pairs = len(LANGUAGES) * (len(LANGUAGES) - 1) // 2
    assert f"reading sr_b: {pairs}/{pairs} pairs" in printed.err  # a real folder has hundreds of languages
    assert f"reading sib200: {len(LANGUAGES)}/{len(LANGUAGES)} languages" in printed.err
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


def test_the_tasks_of_an_array_do_the_transfer_jobs(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ["--source", "eng_Latn", "--source", "hin_Deva+urd_Arab"]
    for task, jobs in (("1", 1), ("0", 2)):
        assert evaluate(world, tmp_path, *sources, "--task-id", task, "--num-tasks", "2") == 0
        assert f"task {task} of 2: {jobs} of its {jobs} jobs are finished" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*/*.seed42.json"))) == 3
    assert not (tmp_path / "sr_b").exists() and not (tmp_path / "evaluation.txt").exists()
    assert evaluate(world, tmp_path, *sources) == 0
    assert "finished before: 3 of 3 jobs" in capsys.readouterr().err


def test_languages_and_tasks_can_be_chosen(world: Path, tmp_path: Path) -> None:
    options = ["--task", "ner", "--task", "sr_b", "--languages", "urd_Arab,hin_Deva", "--limit", "7"]
    options += ["--source", "eng_Latn"]
    assert evaluate(world, tmp_path, *options) == 0
    ner = json.loads((tmp_path / "ner/tiny.eng_Latn.seed42.json").read_text())
    assert [score["language"] for score in ner["scores"]["test"]] == ["hin_Deva"]
    assert f"ner: no test data for urd_Arab in {world / 'ner'}" in (tmp_path / "evaluation.txt").read_text()
    verses = json.loads((tmp_path / "sr_b/tiny.json").read_text())["scores"]["test"]
    assert {score["n"] for score in verses} == {7} and len(verses) == 4
    assert not (tmp_path / "sib200").exists()


def test_nothing_there_is_an_error(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--task", "taxi1500", "--task", "tatoeba", "--source", "eng_Latn"]
    assert evaluate(world, tmp_path / "out", *options) == 3
    message = capsys.readouterr().err
    assert "nothing to evaluate" in message and "taxi1500" in message and "tatoeba.{iso3}-eng.{iso3}" in message
    assert not (tmp_path / "out").exists()
    assert evaluate(world, tmp_path / "out", "--task", "sib", "--source", "eng_Latn") == 2


def test_wrong_data_is_not_missing_data(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model", "ner"):
        (tmp_path / name).symlink_to(world / name)
    write_sib200(tmp_path, LANGUAGES)
    (tmp_path / "sib200/eng_Latn/train.tsv").write_text("index_id\tcategory\ttext\n1\tfood\tw1\n")
    assert evaluate(tmp_path, tmp_path / "out", "--source", "eng_Latn", "--task", "sib200", "--task", "ner") == 3
    assert "unknown label 'food'" in capsys.readouterr().err


def test_one_bad_language_or_set_does_not_end_the_others(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model", "ner"):
        (tmp_path / name).symlink_to(world / name)
    write_sib200(tmp_path, (*LANGUAGES, "uzb_Cyrl", "srp_Hans", "srp_Hant", "pes_Arab"))
    (tmp_path / "sib200/uzb_Cyrl/test.tsv").write_text("index_id\tcategory\ttext\n1\tfood\tw1\n")
    (tmp_path / "srb").mkdir()
    for language in ("eng_Latn", "urd_Arab", "hin_Deva"):
        (tmp_path / f"srb/{language}.tsv").write_text("".join(f"{n}\tw{n}\n" for n in range(9)))
    (tmp_path / "srb/hin_Deva.tsv").write_text("1\tw1\n1\tw2\n")
    for name, words in (("xhl", "w1\n"), ("que", "w2\n"), ("qqq", "w3\n")):
        (tmp_path / f"tatoeba.{name}-eng.{name}").write_text(words)
        (tmp_path / f"tatoeba.{name}-eng.eng").write_text("w4\n")
    options = ["--source", "eng_Latn", "--languages", "urd_Arab,srp_Hani,uzb_Cyrl,hin_Deva,que_Latn,fas_Arab"]
    assert evaluate(tmp_path, tmp_path / "out", *options) == 3
    printed = capsys.readouterr()
    page = (tmp_path / "out/evaluation.txt").read_text()
    scores = {
        path.parent.name: json.loads(path.read_text())["scores"]["test"] for path in tmp_path.glob("out/*/*.json")
    }
    assert [score["language"] for score in scores["sib200"]] == ["urd_Arab", "hin_Deva", "fas_Arab"]
    assert scores["sib200"][2]["named"] == "pes_Arab"
    assert {score["hf_subset"] for score in scores["sr_b"]} == {"eng_Latn-urd_Arab", "urd_Arab-eng_Latn"}
    assert {score["hf_subset"] for score in scores["tatoeba"]} == {"eng_Latn-que_Latn", "que_Latn-eng_Latn"}
    assert "sib200: srp_Hani may be srp_Hans or srp_Hant" in page and "qqq, xhl in" in page
    assert "id '1' occurs for the second time" in page and "unknown label 'food'" in printed.err
    assert "--languages urd_Arab,srp_Hani,uzb_Cyrl,hin_Deva,que_Latn,fas_Arab" in printed.out
    (command,) = [line for line in printed.out.split("\n") if line.startswith("  translit-scale")]
    assert command.endswith(" --as srp_Hani=srp_Hans --force")
    assert main([*command.split()[1:], "--out", str(tmp_path / "again")]) == 3
    (result,) = (tmp_path / "again/sib200").glob("*.json")
    assert "srp_Hani" in [score["language"] for score in json.loads(result.read_text())["scores"]["test"]]


def test_retrieval_measures_what_is_there_and_names_the_rest(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", f"tiny={world / 'model'}", "--task", "sr_b", "--data", str(world), "--out", str(tmp_path)]
    assert main(["evaluate", "retrieval", *options, "--languages", "urd_Arab,lao_Laoo,hin_Deva,pbu_Arab"]) == 3
    printed = capsys.readouterr()
    assert "urd_Arab -> hin_Deva" in printed.out and (tmp_path / "sr_b/tiny.json").exists()
    assert "no test data for lao_Laoo" in printed.err and "no test data for pbu_Arab" in printed.err
    assert main(["evaluate", "retrieval", *options, "--languages", "urd_Arab,hin_Deva", "--source", "lao_Laoo"]) == 3
    assert "no test data for lao_Laoo" in capsys.readouterr().err
