"""Several models on several pairs: every difference is printed, and a second call replaces nothing unasked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.encoders import WORDS, save_encoder
from translit_scale.cli import main
from translit_scale.files import read_json

LANGUAGES = ("gle_Latn", "kat_Geor", "khm_Khmr")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of three languages with 30 invented sentences."""
    rows = [f"{WORDS[n]} {WORDS[n + 1]}\t{WORDS[n]} {WORDS[n + 7]}\t{WORDS[29 - n]}" for n in range(30)]
    path = tmp_path / "texts.tsv"
    path.write_text("\n".join(["ga\tka\tkm", *rows]))
    return path


def retrieval(tmp_path: Path, *options: str) -> int:
    return main(["evaluate", "retrieval", "--out", str(tmp_path / "out"), "--name", "own", *options])


def models(tmp_path: Path, *labels: str, seed: int = 0) -> list[str]:
    folders = [save_encoder(tmp_path / label, seed=seed + ord(label)) for label in labels]
    return [word for label, folder in zip(labels, folders, strict=True) for word in ("--model", f"{label}={folder}")]


def test_every_difference_is_printed_with_its_interval(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["gle_Latn:ga", "kat_Geor:ka", "khm_Khmr:km"]
    assert retrieval(tmp_path, *models(tmp_path, "a", "b", "c"), "--table", str(table), *columns) == 0
    printed = capsys.readouterr().out.partition("difference to a")[2]
    entries = read_json(tmp_path / "out/own/comparison.json", "comparison")["scores"]
    assert len(entries) == 12
    for entry in entries:
        query, candidates = entry["hf_subset"].split("-")
        (line,) = re.findall(rf"^{entry['model']} +{query} -> {candidates} .*$", printed, re.MULTILINE)
        low, high = entry["ci95"]["top5"]
        mark = r" \*" if low > 0 or high < 0 else ""
        value = rf"{100 * entry['top5']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        assert re.search(re.escape(value) + mark + r"( {2}|$)", line), (value, line)
    for language in LANGUAGES:
        assert f"average of 4 with {language}" in printed
    assert printed.count("average of 6") == 2 and "* the 95 % interval" in printed


def test_a_second_call_replaces_nothing_that_it_does_not_contain(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, other = ["gle_Latn:ga", "kat_Geor:ka"], ["gle_Latn:ga", "khm_Khmr:km"]
    first = models(tmp_path, "a", "b")
    assert retrieval(tmp_path, *first, "--table", str(table), *pair) == 0
    files = {path: path.read_bytes() for path in (tmp_path / "out/own").iterdir()}
    assert retrieval(tmp_path, *first, "--table", str(table), *pair) == 0
    for changed in ([*first, "--layer", "1"], [*first, "--seed", "3"], models(tmp_path / "new", "a", "b", seed=9)):
        assert retrieval(tmp_path, *changed, "--table", str(table), *pair) == 3
    assert retrieval(tmp_path, *first, "--table", str(table), *other) == 3
    assert retrieval(tmp_path, *models(tmp_path, "b", "c"), "--table", str(table), *pair) == 3
    assert {path: path.read_bytes() for path in (tmp_path / "out/own").iterdir()} == files
    message = capsys.readouterr().err
    assert "out/own/a.json was made with other" in message and "settings.layer" in message and "--force" in message
    assert "test.gle_Latn-kat_Geor" in message and "comparison.json compares a, b" in message
    more = ["--table", str(table), *pair, "khm_Khmr:km"]
    assert retrieval(tmp_path, *models(tmp_path, "a", "b", "c"), *more) == 0  # contains all that was there
    assert retrieval(tmp_path, *first, "--table", str(table), *other, "--force") == 0
    (score, _) = read_json(tmp_path / "out/own/a.json", "result")["scores"]["test"]
    assert score["candidates"] == "khm_Khmr"


def test_a_second_analysis_replaces_nothing_either(tmp_path: Path, table: Path) -> None:
    command = ["analyze", "similarity", *models(tmp_path, "a"), "--out", str(tmp_path / "out"), "--no-figure"]
    assert main([*command, "--table", str(table), "gle_Latn:ga", "kat_Geor:ka"]) == 0
    assert main([*command, "--table", str(table), "gle_Latn:ga", "khm_Khmr:km"]) == 3
    assert main([*command, "--table", str(table), "gle_Latn:ga", "khm_Khmr:km", "--force"]) == 0


def test_several_parallel_files_are_pairs_and_one_is_an_error(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, language in enumerate(LANGUAGES):
        lines = [line.split("\t")[number] for line in table.read_text().split("\n")[1:]]
        (tmp_path / language).write_text("\n".join(lines))
    files = [f"{language}:{tmp_path / language}" for language in LANGUAGES]
    assert retrieval(tmp_path, *models(tmp_path, "a"), "--parallel", *files) == 0
    assert "average of 6" in capsys.readouterr().out
    assert retrieval(tmp_path, *models(tmp_path, "a"), "--parallel", files[0]) == 2
    assert retrieval(tmp_path, *models(tmp_path, "a"), "--table", str(table), "gle_Latn:ga") == 2
    assert "pol_Latn:pl ukr_Cyrl:uk" in capsys.readouterr().err
