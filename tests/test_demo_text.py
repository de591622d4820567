"""The demo's text: natural text, nothing held out in the training text, the same bytes every time."""

import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("django", reason="extra `demo` not installed")
pytest.importorskip("babel", reason="extra `demo` not installed")

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from translit_scale.cli import main
from translit_scale.corpus.clean import fold
from translit_scale.demo import text as demo_text
from translit_scale.demo.text import (
    available_languages,
    counts_table,
    find_sources,
    held_out_pairs,
    is_held_out,
    natural_text,
    read_texts,
    training_lines,
    write_demo_text,
)
from translit_scale.errors import ConfigError, DataError

PAIRS = [("pol_Latn", "ukr_Cyrl"), ("hin_Deva", "urd_Arab")]
LANGUAGES = [language for pair in PAIRS for language in pair]
PLACEHOLDERS = ("%(name)s", "%s", "%d", "%(n)d", "%r", "%.2f", "{name}", "{}", "{0}", "{n:.1f}", "<b>", "</a>")


def read_lines(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert text.endswith("\n")
    return text[:-1].split("\n")


def letters_and_digits(text: str) -> str:
    """The comparison of the held-out promise, written independently of `fold`."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text).casefold())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo-text")
    return out, write_demo_text(out, PAIRS)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------- natural text


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_placeholder_or_markup_is_left_in_any_catalogue(language):
    texts = read_texts(find_sources(language), Counter())
    assert len(texts) > 1000
    for sentence in (sentence for sentences in texts.values() for sentence in sentences):
        assert not re.search(r"%[\w(]|[{}<>\n\t]|&[a-z]+;|  |^ | $", sentence), sentence
        assert unicodedata.is_normalized("NFC", sentence)


@given(st.lists(st.sampled_from([*PLACEHOLDERS, "słowo", "слово", "«", "”", ",", "\n", "  "]), min_size=1))
def test_text_between_placeholders_survives_them(parts):
    text, problem = natural_text(" ".join(["slowo", *parts]), "7")
    assert problem == ""
    assert not any(placeholder in text for placeholder in PLACEHOLDERS)
    words = [part for part in parts if part.strip() and part not in PLACEHOLDERS]
    numbers = [part for part in parts if part in PLACEHOLDERS and not part.startswith("<")]
    assert Counter(text.split()) == Counter(["slowo", *words, *["7"] * len(numbers)])


@pytest.mark.parametrize("broken", ["slowo %(name) slowo", "%(long_name) slowo", "{slowo slowo", "slowo -> slowo"])
def test_a_mistyped_placeholder_is_not_guessed_at(broken):
    assert natural_text(broken, "5") == ("", "placeholder")


@pytest.mark.parametrize("string", ["%s", "", "…", "%(n)d %%", "a", "1900–1999"])
def test_strings_without_words_are_no_sentences(string):
    assert natural_text(string, "5")[1] == "fewer than two letters"


def test_markup_goes_and_entities_become_characters():
    assert natural_text('Ala <a href="%(url)s">ma</a> &quot;kota&quot; &amp; psa,\n 50%%.', "5") == (
        'Ala ma "kota" & psa, 50%.',
        "",
    )


def test_every_plural_form_is_a_sentence_with_a_number_that_asks_for_it(tmp_path, monkeypatch):
    catalogue = Catalog(locale="pl")
    catalogue.add(("%d mark", "%d marks"), ["%d znak", "%d znaki", "%d znaków", "%d znaku"])
    catalogue.add("mark", "znak", context="on paper")
    catalogue.add(("%(n)s page", "%(n)s pages"), ["%(n).s strona", "%(n)s strony", "%(n)s stron", "%(n)s strony"])
    with (tmp_path / "made.mo").open("wb") as file:
        write_mo(file, catalogue)
    monkeypatch.setattr(demo_text, "_catalogues", lambda: {"pl": [tmp_path / "made.mo"]})
    unusable: Counter[str] = Counter()
    texts = read_texts(demo_text.Sources(babel=None, django="pl"), unusable)
    assert unusable == {"placeholder": 3}  # the pages: their first form is mistyped
    # Polish: one, few, many; its fourth form is for fractions, which no whole number selects.
    assert texts == {
        ("messages", "", "%d mark"): ("1 znak", "2 znaki", "5 znaków"),
        ("messages", "on paper", "mark"): ("znak",),
    }


# ---------------------------------------------------------------------------------------------- languages


@pytest.mark.parametrize(
    ("language", "babel", "django"),
    [
        ("pol_Latn", "pl", "pl"),
        ("eng_Latn", "en", "en"),
        ("zho_Hani", "zh", "zh_Hans"),
        ("kor_Hang", "ko", "ko"),
        ("srp_Latn", "sr_Latn", "sr_Latn"),
        ("srp_Cyrl", "sr", "sr"),
        ("mlt_Latn", "mt", None),
    ],
)
def test_codes_lead_to_locales(language, babel, django):
    assert find_sources(language) == demo_text.Sources(babel, django)


def test_nearly_all_of_djangos_locales_are_reached():
    assert sum(sources.django is not None for sources in available_languages().values()) > 85


def test_an_unavailable_language_is_an_error_that_lists_close_ones():
    with pytest.raises(DataError, match=r"arb_Arab[\s\S]*ara_Arab"):
        find_sources("arb_Arab")
    with pytest.raises(DataError, match=r"pol_Cyrl[\s\S]*pol_Latn"):
        find_sources("pol_Cyrl")
    with pytest.raises(DataError, match="did you mean 'pol_Latn'"):
        find_sources("pol_Lat")


def test_a_missing_package_is_an_error_with_the_command(monkeypatch, tmp_path):
    available_languages.cache_clear()
    monkeypatch.setitem(sys.modules, "django", None)
    with pytest.raises(ConfigError, match="pip install babel=="):
        write_demo_text(tmp_path, PAIRS)


# ----------------------------------------------------------------------------------------------- held out


def test_no_held_out_string_is_in_any_training_text(corpus):
    out, _ = corpus
    held_out = [cell for pair in PAIRS for row in read_lines(out / f"heldout/{'-'.join(pair)}.tsv")[1:]
                for cell in row.split("\t")]  # fmt: skip
    training = [line for language in LANGUAGES for line in read_lines(out / f"text/{language}.txt")]
    assert len(held_out) > 1000 and len(training) > 5000
    assert not set(held_out) & set(training)
    assert not {fold(text) for text in held_out} & {fold(text) for text in training}
    # `letters_and_digits` also ignores Indic vowel signs, so it is held to the scripts without them.
    latin = {letters_and_digits(text) for text in held_out} - {""}
    for language in ("pol_Latn", "ukr_Cyrl"):
        assert not latin & {letters_and_digits(line) for line in read_lines(out / f"text/{language}.txt")}


def test_held_out_rows_are_translations_and_each_side_is_unambiguous(corpus):
    out, counts = corpus
    polish, ukrainian = Locale("pl").territories, Locale("uk").territories
    codes_of = {name: code for code, name in polish.items()}
    header, *rows = [row.split("\t") for row in read_lines(out / "heldout/pol_Latn-ukr_Cyrl.tsv")]
    assert header == ["pol_Latn", "ukr_Cyrl"]
    assert len(rows) == counts["pairs"]["pol_Latn-ukr_Cyrl"]["pairs"]
    territories = [(x, y) for x, y in rows if x in codes_of and y in set(ukrainian.values())]
    assert len(territories) > 20
    assert all(ukrainian[codes_of[x]] == y for x, y in territories)
    for side in (0, 1):
        assert len({fold(row[side]) for row in rows}) == len(rows)


def test_a_fifth_of_the_keys_is_held_out_whatever_the_language():
    keys = [("territories", str(number)) for number in range(5000)]
    held = [is_held_out(key, 0.2, seed=0) for key in keys]
    assert 0.17 < sum(held) / len(keys) < 0.23
    assert held != [is_held_out(key, 0.2, seed=1) for key in keys]
    smaller = [is_held_out(key, 0.1, seed=0) for key in keys]
    assert all(large for large, small in zip(held, smaller, strict=True) if small)


def test_useless_pairs_are_dropped_and_counted():
    a = {("n", "1"): ("Aa",), ("n", "2"): ("AA!",), ("n", "3"): ("Bb",), ("n", "4"): ("Cc",), ("n", "5"): ("Dd",)}
    b = {("n", "1"): ("аа",), ("n", "2"): ("бб",), ("n", "3"): ("bb.",), ("n", "4"): ("гг",), ("n", "6"): ("дд",)}
    rows, dropped = held_out_pairs(a, b, held_out=1.0, seed=0)
    assert dropped == {"same on both sides": 1, "occurs in another pair": 1}
    assert ("Cc", "гг") in rows and len(rows) == 2


def test_training_text_leaves_out_what_only_looks_different():
    texts = {("n", "1"): ("„Ala-Ma” kota!", "inne"), ("n", "2"): ("inne",)}
    lines, counts = training_lines(texts, Counter(repeated=2, placeholder=1), {fold("ala ma KOTA")})
    assert lines == ["inne"]
    assert counts["dropped"] == {"equals a held-out string": 1, "placeholder": 1, "repeated": 3}


# ------------------------------------------------------------------------------------------------- the run


def test_counts_add_up(corpus):
    out, counts = corpus
    for language, entry in counts["languages"].items():
        lines = read_lines(out / f"text/{language}.txt")
        assert len(lines) == len(set(lines)) == entry["sentences"]
        assert entry["read"] == entry["sentences"] + sum(entry["dropped"].values())
        assert entry["sentences"] > 1000
    assert "pol_Latn-ukr_Cyrl" in counts_table(counts)


def test_running_again_gives_the_same_bytes_and_clears_what_another_run_left(corpus, tmp_path):
    out, _ = corpus
    write_demo_text(tmp_path, [("eng_Latn", "ell_Grek")], held_out=0.4, seed=3)
    assert (tmp_path / "text/ell_Grek.txt").exists()
    (tmp_path / "text/mine.txt").write_bytes(b"not made by us")
    for _ in range(2):
        write_demo_text(tmp_path, PAIRS)
        assert files_of(tmp_path) == files_of(out) | {"text/mine.txt": b"not made by us"}


def test_another_seed_holds_out_other_keys(corpus, tmp_path):
    out, _ = corpus
    write_demo_text(tmp_path, PAIRS[:1], seed=1)
    name = "heldout/pol_Latn-ukr_Cyrl.tsv"
    first, second = set(read_lines(out / name)), set(read_lines(tmp_path / name))
    assert len(first & second) < 0.4 * len(first)


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.1, 2.0])
def test_the_held_out_fraction_must_leave_both_parts(tmp_path, held_out):
    with pytest.raises(ConfigError, match="held_out"):
        write_demo_text(tmp_path, PAIRS, held_out=held_out)


@pytest.mark.parametrize("pairs", [[], [("pol_Latn", "pol_Latn")]])
def test_pairs_must_be_of_two_languages(tmp_path, pairs):
    with pytest.raises(ConfigError, match="two different languages"):
        write_demo_text(tmp_path, pairs)


def test_the_command(tmp_path, capsys):
    assert main(["demo-text", "--out", str(tmp_path), "--pairs", "pol-ukr", "deu_Latn-ell_Grek"]) == 0
    assert "deu_Latn-ell_Grek" in capsys.readouterr().out
    assert (tmp_path / "heldout/deu_Latn-ell_Grek.tsv").exists()
    assert main(["demo-text", "--out", str(tmp_path), "--pairs", "xxx_Latn-ell_Grek"]) == 3
    assert main(["demo-text", "--out", str(tmp_path), "--pairs", "polish"]) == 2
