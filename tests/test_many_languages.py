"""Text in many languages: natural sentences, the same bytes every time, and a set is made of it."""

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("gflanguages", reason="extra `demo` not installed")

from translit_scale.cli import main
from translit_scale.demo import many_languages
from translit_scale.demo.many_languages import sample_texts, summary_line, write_many_languages
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import check_language, inventory
from translit_scale.prepare.run import prepare

RECIPE = Path(__file__).parents[1] / "shards/many-languages.yaml"
FEW = ["pol_Latn", "zho_Hani", "cjy_Hani", "ale_Latn", "khm_Khmr"]


def lines_of(out: Path, language: str) -> list[str]:
    text = (out / f"text/{language}.txt").read_bytes().decode()
    assert text.endswith("\n")
    return text[:-1].split("\n")


def sample(**fields: str) -> SimpleNamespace:
    return SimpleNamespace(**{**dict.fromkeys(many_languages._FIELDS, ""), **fields})


def test_sample_texts_are_under_codes_of_languages() -> None:
    samples = sample_texts()
    assert len(samples) > 700
    assert len(samples.keys() & inventory().keys()) > 250
    for code in samples:
        assert check_language(code) == code
        assert not code.startswith(("mis_", "mul_", "und_", "zxx_"))
    assert len(samples["zho_Hani"]) == 2  # Hans and Hant
    assert not [code for code in samples if code.endswith(("_Hans", "_Hant"))]


def test_sentences_are_cut_and_pieces_of_others_left_out() -> None:
    unusable: Counter[str] = Counter()
    samples = [
        sample(specimen_16="Ala ma kota. Kot ma Alę!\nA pies?", tester="Kot ma", poster_sm="Ala"),
        sample(specimen_16="猫が好き。犬もだ！", poster_lg="猫", styles="Pies ma Alę."),
    ]
    texts = many_languages._read_samples(samples, unusable)
    assert [text for (text,) in texts.values()] == [
        "Ala ma kota.", "Kot ma Alę!", "A pies?", "猫が好き。", "犬もだ！", "Pies ma Alę.",
    ]  # fmt: skip
    assert unusable == {"part of another": 2, "fewer than two letters": 1}


def test_counts_add_up_and_running_again_clears_what_another_run_left(tmp_path: Path) -> None:
    counts = write_many_languages(tmp_path, FEW)
    assert sorted(counts["languages"]) == sorted(FEW)
    for language, entry in counts["languages"].items():
        lines = lines_of(tmp_path, language)
        assert len(lines) == len(set(lines)) == entry["sentences"]
        assert entry["read"] == entry["sentences"] + sum(entry["dropped"].values())
    assert summary_line(counts).startswith("5 languages with ")
    first = {language: lines_of(tmp_path, language) for language in FEW[1:]}
    (tmp_path / "text/mine.txt").write_bytes(b"not made by us")
    write_many_languages(tmp_path, FEW[1:])
    assert {language: lines_of(tmp_path, language) for language in FEW[1:]} == first
    assert not (tmp_path / "text/pol_Latn.txt").exists() and (tmp_path / "text/mine.txt").exists()


def test_a_language_without_text_is_an_error_that_lists_close_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no package has text in pol_Cyrl[\s\S]*close: .*pol_Latn"):
        write_many_languages(tmp_path, ["pol_Cyrl"])
    with pytest.raises(DataError, match="did you mean 'pol_Latn'"):
        write_many_languages(tmp_path, ["pl"])


def test_a_missing_package_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sample_texts.cache_clear()
    monkeypatch.setitem(sys.modules, "gflanguages", None)
    with pytest.raises(ConfigError, match="pip install babel=="):
        write_many_languages(tmp_path)


def test_the_command_and_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo-text", "--languages", ",".join(FEW), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("5 languages with ")
    manifest = prepare(RECIPE, tmp_path, tmp_path / "set", workers=1)
    assert list(manifest.languages) == sorted(FEW)
    for language, counts in manifest.languages.items():
        assert counts.rows == min(60, len(lines_of(tmp_path, language)))


@pytest.mark.slow
def test_more_than_eight_hundred_languages_end_to_end(tmp_path: Path) -> None:
    assert main(["demo-text", "--languages", "all", "--out", str(tmp_path)]) == 0
    counts = json.loads((tmp_path / "counts.json").read_bytes())
    assert len(counts["languages"]) > 800
    assert not counts["languages"].keys() & set(counts["without_text"])
    recipe = tmp_path / "many-languages.yaml"
    recipe.write_text(RECIPE.read_text().replace("minimum: 60", "minimum: 2"))
    manifest = prepare(recipe, tmp_path, tmp_path / "set", workers=2)
    assert manifest.languages.keys() == counts["languages"].keys()
    for language, entry in manifest.languages.items():
        assert entry.rows == max(min(2, entry.rows), -(-counts["languages"][language]["sentences"] // 1000)), language
