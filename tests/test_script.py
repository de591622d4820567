"""Sentences in another script than their language's are noticed, and left out where the recipe says so."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.corpus.script import script_fraction
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import inventory
from translit_scale.prepare.run import prepare


@pytest.mark.parametrize(
    ("sentence", "script", "share"),
    [
        ("żółw", "Latn", 1),
        ("żółw", "Cyrl", 0),
        ("ab вг", "Cyrl", 0.5),
        ("カーひ漢", "Jpan", 1),  # ー is of no script
        ("漢カ", "Hani", 0.5),
        ("한漢", "Kore", 1),
        ("한漢", "Hang", 0.5),
        ("漢", "Hant", 1),
        ("क्षि क़", "Deva", 1),  # vowel signs and nukta are marks
        ("2024 – 5 % ①", "Latn", 1),
        ("", "Latn", 1),
        ("\U00010380", "Ugar", 1),  # outside the first plane
    ],
)
def test_only_letters_count(sentence: str, script: str, share: float) -> None:
    assert script_fraction(sentence, script) == share


@given(st.text("aż вг漢ひ한 1-ーʼ", max_size=20))
def test_the_share_against_its_definition(sentence: str) -> None:
    letters = [c for c in sentence if unicodedata.category(c).startswith("L") and c not in "ーʼ"]
    latin = [c for c in letters if unicodedata.name(c).startswith("LATIN")]
    assert script_fraction(sentence, "Latn") == (len(latin) / len(letters) if letters else 1)


def test_every_script_of_the_inventory_is_known() -> None:
    for script in {code[4:] for code in inventory()}:
        assert script_fraction("1", script) == 1
    with pytest.raises(DataError, match=r"'Zmth'.*\n.*min_script_fraction to 0"):
        script_fraction("1", "Zmth")


RECIPE = """
name: scripts
languages: {ukr_Cyrl: [ukr.txt], hin_Latn: [hin.txt]}
min_script_fraction: 0.5
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "ukr.txt").write_text("абв 1\nабв abc\nабв abcd\nabc\n12 34\n")
    (tmp_path / "hin.txt").write_text("abc\nकखग\n")
    return tmp_path


def dropped(data: Path, recipe: str, name: str) -> dict[str, tuple[int, int]]:
    (data / "recipe.yaml").write_text(recipe)
    manifest = prepare(data / "recipe.yaml", data, data / name, workers=1)
    return {language: (c.dropped["wrong_script"], c.rows) for language, c in manifest.languages.items()}


def test_the_filter_of_a_recipe_counts_what_it_drops(data: Path) -> None:
    assert dropped(data, RECIPE, "half") == {"ukr_Cyrl": (2, 3), "hin_Latn": (1, 1)}
    assert dropped(data, RECIPE.replace("0.5", "0"), "off") == {"ukr_Cyrl": (0, 5), "hin_Latn": (0, 2)}


def test_single_languages_may_have_other_settings(data: Path) -> None:
    own = """per_language:
  ukr_Cyrl: {min_script_fraction: 0.9, max_chars: 5}
  hin_Latn: {min_script_fraction: 0, sample: {fraction: 0.5}}
"""
    assert dropped(data, RECIPE + own, "own") == {"ukr_Cyrl": (1, 2), "hin_Latn": (0, 1)}


def test_settings_for_a_language_that_is_not_there_are_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="per_language: the recipe has no text in pol_Latn"):
        dropped(data, RECIPE + "per_language: {pol_Latn: {max_chars: 5}}", "x")
    with pytest.raises(ConfigError, match=r"(?s)unknown language code 'ukr'.*did you mean 'ukr_Cyrl'"):
        dropped(data, RECIPE + "per_language: {ukr: {max_chars: 5}}", "x")
    with pytest.raises(ConfigError, match="max_char: unknown setting; did you mean 'max_chars'"):
        dropped(data, RECIPE + "per_language: {ukr_Cyrl: {max_char: 5}}", "x")
