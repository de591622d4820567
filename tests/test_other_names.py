"""A file counts for its own language only: under another name or synonym, never for a relative."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.labelled_world import save_learner, write_sib200
from translit_scale.cli import main
from translit_scale.errors import DataError
from translit_scale.files import read_json
from translit_scale.languages import MACROLANGUAGE, SYNONYMS, check_language
from translit_scale.testsets.layouts import LanguageError, TaskFolder
from translit_scale.testsets.names import TREEBANKS, WIKIANN, WIKIANN_VARIANTS
from translit_scale.testsets.registry import TASKS, retrieval_tasks, transfer_tasks

ner, pos, taxi1500 = (transfer_tasks()[name] for name in ("ner", "pos", "taxi1500"))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def edition(folder: Path, name: str, word: str) -> None:
    write(folder / name / "test", f"{name}:{word}\tB-LOC\n\n")


def test_the_tables_of_names_are_of_languages_and_their_standard_members() -> None:
    for code in {**WIKIANN, **WIKIANN_VARIANTS, **TREEBANKS}.values():
        assert check_language(code) == code
    for macro, member in SYNONYMS.items():
        assert MACROLANGUAGE[member] == macro
    assert not {"prs", "nno", "yue", "vro", "ary", "hrv"} & set(SYNONYMS.values())


def test_editions_of_wikipedia_are_read_for_their_own_language(tmp_path: Path) -> None:
    words = {
        "zh": "上海", "zh-min-nan": "Tâi-pak", "wuu": "苏州", "als": "Basel", "sq": "Tiranë", "sh": "Split",
        "hr": "Zadar", "bat-smg": "Telšē", "lt": "Vilnius", "no": "Bergen", "nn": "Bergjen", "cbk-zam": "Zamboanga",
    }  # fmt: skip
    for name, word in words.items():
        edition(tmp_path, name, word)
    read = {
        language: ner.read(tmp_path, language, "test").words[0][0]
        for language in (
            "zho_Hani", "nan_Latn", "wuu_Hani", "gsw_Latn", "sqi_Latn", "als_Latn", "hbs_Latn", "hrv_Latn",
            "sgs_Latn", "lit_Latn", "nob_Latn", "nno_Latn", "cbk_Latn",
        )
    }  # fmt: skip
    assert list(read.values()) == [
        "上海", "Tâi-pak", "苏州", "Basel", "Tiranë", "Tiranë", "Split", "Zadar",
        "Telšē", "Vilnius", "Bergen", "Bergjen", "Zamboanga",
    ]  # fmt: skip
    for language in ("gan_Hani", "lzh_Hani", "bos_Latn", "srp_Latn", "ltg_Latn"):
        with pytest.raises(DataError, match=f"no test data for {language}"):
            ner.read(tmp_path, language, "test")
    with pytest.raises(DataError, match=r"zh-classical/test(?s:.)*--as lzh_Hani=wuu_Hani"):
        ner.read(tmp_path, "lzh_Hani", "test")


def test_an_edition_in_a_variety_is_read_only_where_there_is_no_other_and_is_named(tmp_path: Path) -> None:
    edition(tmp_path, "simple", "Kent")
    data = ner.read(tmp_path, "eng_Latn", "test")
    assert (data.words, data.name) == ([["Kent"]], "simple")
    edition(tmp_path, "en", "York")
    data = ner.read(tmp_path, "eng_Latn", "test")
    assert (data.words, data.name) == ([["York"]], "eng_Latn")
    assert ner.read(tmp_path, "eng_Latn", "test", (("eng_Latn", "simple"),)).words == [["Kent"]]
    assert ner.languages(tmp_path, "test") == ["eng_Latn"]


def test_the_two_norwegians_have_their_own_treebanks(tmp_path: Path) -> None:
    for treebank, word in (("Bokmaal", "jeg"), ("Nynorsk", "eg"), ("NynorskLIA", "e")):
        line = f"1\t{word}\t_\tPRON\t_\t_\t0\troot\t_\t_\n"
        write(tmp_path / f"UD_Norwegian-{treebank}/no_{treebank.lower()}-ud-test.conllu", line)
    assert pos.read(tmp_path, "nob_Latn", "test").words == [["jeg"]]
    assert pos.read(tmp_path, "nno_Latn", "test").words == [["eg"], ["e"]]
    assert pos.read(tmp_path, "nor_Latn", "test").name == "nob_Latn"
    assert pos.languages(tmp_path, "test") == ["nno_Latn", "nob_Latn"]
    assert pos.read(tmp_path, "nno_Latn", "test", (("nno_Latn", "no_nynorsklia"),)).words == [["e"]]


def test_a_synonym_is_read_and_named_and_a_relative_is_suggested_only(tmp_path: Path) -> None:
    write(tmp_path / "cmn_test.tsv", "v1\tFaith\t山很高\n")
    write(tmp_path / "swh_test.tsv", "v1\tSin\tmlima mrefu\n")
    assert taxi1500.read(tmp_path, "zho_Hani", "test").name == "cmn_Hani"
    assert taxi1500.read(tmp_path, "swa_Latn", "test").name == "swh_Latn"
    with pytest.raises(LanguageError) as error:
        taxi1500.read(tmp_path, "hak_Hani", "test")
    assert error.value.option == "--as hak_Hani=cmn_Hani" and not error.value.is_same
    data = taxi1500.read(tmp_path, "hak_Hani", "test", (("hak_Hani", "nan_Hani"), ("hak_Hani", "cmn_Hani")))
    assert (data.language, data.name) == ("hak_Hani", "cmn_Hani")


def test_files_of_two_names_for_one_language_count_once(tmp_path: Path) -> None:
    for name in ("pes_Arab", "prs_Arab"):
        write(tmp_path / name / "test.tsv", "index_id\tcategory\ttext\n1\tsports\tx\n")
    folder = TaskFolder(tmp_path, TASKS["sib200"].layouts)
    kept, errors = folder.find_all(["fas_Arab", "pes_Arab", "prs_Arab", "arb_Arab"])
    assert kept == ["pes_Arab", "prs_Arab"]
    assert ["counted once" in str(error) for error in errors] == [False, True]


def test_a_name_that_is_no_language_is_told_and_a_file_without_script_too(tmp_path: Path) -> None:
    for name, text in (("qqq", "x"), ("kzj", "tokou"), ("orv", "и рече"), ("swg", "I gang hoim")):
        write(tmp_path / f"tatoeba.{name}-eng.{name}", f"{text}\n")
        write(tmp_path / f"tatoeba.{name}-eng.eng", "words\n")
    folder = retrieval_tasks()["tatoeba"].find(tmp_path)
    assert folder.languages() == ["eng_Latn", "kzj_Latn", "orv_Cyrl", "swg_Latn"]
    assert folder.skipped() == [f"qqq in {tmp_path}: no language of ISO 639-3, not read"]


def test_the_result_has_the_name_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sib200(tmp_path, ("eng_Latn", "kaz_Cyrl", "kaz_Latn"))
    save_learner(tmp_path / "model")
    command = ["evaluate", "transfer", "--model", f"tiny={tmp_path / 'model'}", "--data", str(tmp_path), "--task"]
    command += ["sib200", "--source", "eng_Latn", "--out", str(tmp_path / "out"), "--num-seeds", "1", "--epochs", "1"]
    command += ["--workers", "1", "--languages", "uzb_Latn"]
    assert main([*command, "--as", "uzb_Latn=kaz_Latn"]) == 0
    (score,) = read_json(tmp_path / "out/sib200/tiny.eng_Latn.seed42.json", "result")["scores"]["test"]
    assert (score["language"], score["named"], score["files"]) == ("uzb_Latn", "kaz_Latn", ["kaz_Latn/test.tsv"])
    assert "uzb_Latn is kaz_Latn there" in capsys.readouterr().out
    verses = ["--task", "sr_f", "--data", str(tmp_path), "--languages", "uzb_Latn,eng_Latn", "--out", str(tmp_path)]
    model = ["--model", f"tiny={tmp_path / 'model'}"]
    assert main(["evaluate", "retrieval", *model, *verses, "--as", "uzb_Latn=kaz_Cyrl"]) == 0
    result = read_json(tmp_path / "sr_f/tiny.json", "result")
    assert "uzb_Latn is kaz_Cyrl there" in result["notes"]
    assert result["scores"]["test"][0]["hf_subset"] == "uzb_Latn-eng_Latn"
