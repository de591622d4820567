"""`shards verify --data` begins at the input file: it sees what was done to a line before it was romanized."""

import unicodedata
from pathlib import Path

import pytest

from translit_scale.cli import main
from translit_scale.prepare.run import prepare
from translit_scale.prepare.source_check import compare_with_source

LINES = {
    "tha_Thai": ["ทำไมน้ำแข็งละลาย", "ตำรวจจับคนร้าย", "สำนักงานปิดแล้ว", "วันนี้อากาศดี"],
    "jpn_Jpan": ["今日は、いい天気！", "ﾃﾚﾋﾞを見る", "か\u3099く\u3099", "１２３番の席"],
    "pol_Latn": ["zwykłe  zdanie\tz tabulatorem", "ﬁnał…", "Ała", "\u200bxyz"],
}


def make(folder: Path, own: bool = False) -> Path:
    for language, lines in LINES.items():
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n")
    languages = {language: [f"{language}.txt"] for language in LINES}
    if own:
        (folder / "own.csv").write_text("text,latin\nдім,dim\nкіт,kit\n")
        languages["ukr_Cyrl"] = ["{path: own.csv, column: text, transliteration: latin}"]
    recipe = folder / "recipe.yaml"
    of_each = "".join(f"  {code}: [{', '.join(sources)}]\n" for code, sources in languages.items())
    recipe.write_text(f"name: x\nlanguages:\n{of_each}block_rows: 3\n")
    prepare(recipe, folder, folder / "set", 1)
    return folder / "set"


def problems(directory: Path, data_dir: Path) -> list[str]:
    of_language = compare_with_source(directory, data_dir)
    return [problem for rows in of_language.values() for problem in rows.problems]


def test_rows_are_the_lines_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = make(tmp_path, own=True)
    main(["shards", "verify", str(directory), "--data", str(tmp_path)])
    out = capsys.readouterr().out
    assert "tha_Thai: 4 rows as in the files\n" in out and "ukr_Cyrl: 2 rows as in the files\n" in out
    assert "jpn_Jpan: 2 rows as in the files, 2 as cleaning changes them" in out
    assert "pol_Latn: 4 rows" in out


def test_text_that_is_changed_before_it_is_romanized_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was up to format version 2."""
    monkeypatch.setattr("translit_scale.corpus.text.clean", lambda text: unicodedata.normalize("NFKC", text))
    found = problems(make(tmp_path), tmp_path)
    assert len([problem for problem in found if problem.startswith("tha_Thai")]) == 3  # those with ำ
    assert all("not in the input" in problem for problem in found)


def test_a_romanizer_that_differs_from_uroman_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("translit_scale.romanize.romanizer.Romanizer.__call__", lambda *_: ("latin", False))
    found = problems(make(tmp_path), tmp_path)
    assert len(found) == 12 and all("'latin' for" in problem for problem in found)


def test_another_input_file_is_named(tmp_path: Path) -> None:
    directory = make(tmp_path)
    (tmp_path / "tha_Thai.txt").write_text("อื่น\n")
    (problem,) = problems(directory, tmp_path)
    assert str(tmp_path / "tha_Thai.txt") in problem and "not the file" in problem
    assert main(["shards", "verify", str(directory), "--data", str(tmp_path)]) == 3
