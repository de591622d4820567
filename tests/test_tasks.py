"""Where a task's folder lies, which languages it has, and which file is meant by a language."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from translit_scale.errors import DataError
from translit_scale.testsets.registry import transfer_tasks

SIB = "index_id\tcategory\ttext\n7\tsports\t{}\n"
TAXI = "MAT_1_1\tFaith\t{}\n"
TAGGED = "{}\tNOUN\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def sib200(folder: Path, *codes: str) -> Path:
    for code in codes:
        write(folder / code / "test.tsv", SIB.format(code))
    return folder


def read_from(folder: Path, language: str) -> str:
    """The code that the file of `language` is named with: its only text."""
    return transfer_tasks()["sib200"].read(folder, language, "test").texts[0]


@pytest.mark.parametrize(
    ("asked", "there", "read"),
    [
        ("pol_Latn", ["pol_Latn", "ukr_Cyrl"], "pol_Latn"),
        ("zho_Hani", ["zho_Hant", "yue_Hant"], "zho_Hant"),  # the script under another name
        ("yue_Hani", ["zho_Hant", "yue_Hant"], "yue_Hant"),
        ("zho_Hans", ["zho_Hani"], "zho_Hani"),
        ("fas_Arab", ["pes_Arab", "arb_Arab"], "pes_Arab"),  # a member of the macrolanguage
        ("pes_Arab", ["fas_Arab", "prs_Arab"], "fas_Arab"),  # the macrolanguage, not a sister
        ("ara_Arab", ["arb_Arab", "arb_Latn"], "arb_Arab"),
        ("arb_Arab", ["arb_Latn", "ara_Arab"], "ara_Arab"),
        ("ara_Arab", ["ara_Arab", "arb_Arab", "arz_Arab"], "ara_Arab"),
    ],
)
def test_a_language_is_found_whatever_the_set_calls_it(tmp_path: Path, asked: str, there: list[str], read: str) -> None:
    folder = sib200(tmp_path, *there)
    assert read_from(folder, asked) == read
    data = transfer_tasks()["sib200"].read(folder, asked, "test")
    assert (data.language, data.files) == (asked, (str(folder / read / "test.tsv"),))


@pytest.mark.parametrize(
    ("asked", "there", "message"),
    [
        ("zho_Hani", ["zho_Hans", "zho_Hant"], "zho_Hani may be zho_Hans or zho_Hant"),
        ("ary_Arab", ["arb_Arab", "ara_Arab"], "no test data for ary_Arab"),
        ("pes_Arab", ["prs_Arab"], "no test data for pes_Arab"),
        ("zho_Hans", ["zho_Hant"], "no test data for zho_Hans"),
        ("ara_Latn", ["arb_Arab"], "no test data for ara_Latn"),
        ("ukr_Cyrl", ["pol_Latn", "rus_Cyrl"], "the folder has pol_Latn, rus_Cyrl"),
    ],
)
def test_a_language_is_never_guessed(tmp_path: Path, asked: str, there: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_from(sib200(tmp_path, *there), asked)


def test_languages_of_a_folder(tmp_path: Path) -> None:
    folder = sib200(tmp_path, "ukr_Cyrl", "pol_Latn", "xxx_Latn", "pol_Ltn", "pol_Xxxx")
    write(folder / "README.md", "words")
    write(folder / "deu_Latn" / "train.tsv", SIB.format("a"))
    assert transfer_tasks()["sib200"].languages(folder, "test") == ["pol_Latn", "ukr_Cyrl"]
    assert transfer_tasks()["sib200"].languages(folder, "train") == ["deu_Latn"]
    assert transfer_tasks()["sib200"].languages(folder, "dev") == []


def test_a_script_that_a_name_does_not_say_is_read_off_the_text(tmp_path: Path) -> None:
    taxi = transfer_tasks()["taxi1500"]
    for name, text in {
        "srp": "Плаво небо",
        "hin": "नीला आसमान",
        "jpn": "青い空だ",
        "aze": "Mavi səma",
        "zxx": "a",
        "eng": "A sky",
    }.items():
        write(tmp_path / f"{name}_test.tsv", TAXI.format(text))
    assert taxi.languages(tmp_path, "test") == ["aze_Latn", "eng_Latn", "hin_Deva", "jpn_Jpan", "srp_Cyrl"]
    assert taxi.read(tmp_path, "srp_Cyrl", "test").texts == ["Плаво небо"]
    with pytest.raises(DataError, match=r"no test data for srp_Latn.*\n.*srp_Cyrl"):
        taxi.read(tmp_path, "srp_Latn", "test")
    assert taxi.read(tmp_path, "azj_Latn", "test").files == (str(tmp_path / "aze_test.tsv"),)


def test_a_script_in_the_name_comes_before_one_in_the_text(tmp_path: Path) -> None:
    write(tmp_path / "srp_Latn_test.tsv", TAXI.format("Plavo nebo"))
    write(tmp_path / "srp_test.tsv", TAXI.format("Плаво небо"))
    assert transfer_tasks()["taxi1500"].read(tmp_path, "srp_Latn", "test").texts == ["Plavo nebo"]
    assert transfer_tasks()["taxi1500"].read(tmp_path, "srp_Cyrl", "test").texts == ["Плаво небо"]
    write(tmp_path / "srp_test.tsv", TAXI.format("Plavo nebo"))
    with pytest.raises(DataError, match=r"several files for srp_Latn, test: .*srp_Latn_test\.tsv, .*srp_test\.tsv"):
        transfer_tasks()["taxi1500"].read(tmp_path, "srp_Latn", "test")


def test_a_file_and_its_compressed_copy_are_not_read_twice(tmp_path: Path) -> None:
    write(tmp_path / "test-pol_Latn.tsv", TAGGED.format("dom"))
    write(tmp_path / "test-pol_Latn.tsv.xz", "never read")
    with pytest.raises(DataError, match="several files for pol_Latn"):
        transfer_tasks()["pos"].read(tmp_path, "pol_Latn", "test")
    treebank = "1\tdom\tdom\tNOUN\t_\t_\t0\troot\t_\t_\n"
    write(tmp_path / "conllu" / "pl_a-ud-test.conllu", treebank)
    (tmp_path / "conllu" / "pl_a-ud-test.conllu.gz").write_bytes(gzip.compress(treebank.encode()))
    with pytest.raises(DataError, match="several files for pol_Latn"):
        transfer_tasks()["pos"].read(tmp_path / "conllu", "pol_Latn", "test")


@pytest.mark.parametrize("name", ["sib200", "SIB-200", "sib-200/data/annotated", "."])
def test_the_folder_of_a_task(tmp_path: Path, name: str) -> None:
    sib200(tmp_path / name, "pol_Latn")
    assert transfer_tasks()["sib200"].find(tmp_path).path == tmp_path / name


@pytest.mark.parametrize("task", transfer_tasks().values(), ids=lambda task: task.name)
def test_a_folder_that_is_not_there(tmp_path: Path, task) -> None:
    write(tmp_path / "notes.tsv", "a\tb\n")
    with pytest.raises(DataError) as error:
        task.find(tmp_path)
    message = str(error.value)
    assert f"no files of {task.name} in {tmp_path / task.folders[0]}, " in message and str(tmp_path) in message
    assert all(f"{layout.shown} ({layout.content})" in message for layout in task.layouts)
