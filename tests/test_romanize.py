"""Romanization is exactly uroman's, on one line, and survives uroman's own failures."""

import random
import unicodedata

import pytest
import uroman

from translit_scale.corpus.clean import clean
from translit_scale.corpus.romanize import Romanizer

SCRIPTS = {
    "polish": "aąbcćdeęfghijklłmnńoóprsśtuwyzźż",
    "cyrillic": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψωάέ",
    "arabic": "".join(map(chr, range(0x0621, 0x064B))),
    "devanagari": "".join(map(chr, range(0x0904, 0x0950))),
    "thai": "".join(map(chr, range(0x0E01, 0x0E30))),
    "hangul": "".join(map(chr, range(0xAC00, 0xAD00))),
    "han": "".join(map(chr, range(0x4E00, 0x4F00))),
}


@pytest.fixture(scope="module")
def romanizer() -> Romanizer:
    return Romanizer()


@pytest.fixture(scope="module")
def plain() -> uroman.Uroman:
    return uroman.Uroman()


def invent(alphabet: str, seed: int) -> str:
    generator = random.Random(seed)
    words = ("".join(generator.choices(alphabet, k=generator.randint(1, 8))) for _ in range(6))
    return clean(" ".join(words) + generator.choice([".", "!", " 12", "。"]))


@pytest.mark.parametrize("script", SCRIPTS)
def test_same_as_uroman_up_to_white_space(romanizer: Romanizer, plain: uroman.Uroman, script: str) -> None:
    for seed in range(20):
        sentence = invent(SCRIPTS[script], seed)
        latin, is_fallback = romanizer(sentence, "und_Zyyy")
        assert (latin, is_fallback) == (" ".join(plain.romanize_string(sentence).split()), False)


@pytest.mark.parametrize("lcode", [None, "tur", "deu", "ell", "ukr", "yid"])
def test_uroman_leaves_ascii_alone(plain: uroman.Uroman, lcode: str | None) -> None:
    generator = random.Random(7)
    printable = "".join(map(chr, range(32, 127)))
    for _ in range(100):
        line = " ".join("".join(generator.choices(printable, k=60)).split())
        assert plain.romanize_string(line, lcode) == line


def test_ascii_needs_no_uroman() -> None:
    assert Romanizer()("<s> Just-text, 1/2 </s>", "eng_Latn") == ("<s> Just-text, 1/2 </s>", False)


def test_language_codes_only_when_asked_for(romanizer: Romanizer, plain: uroman.Uroman) -> None:
    by_language = Romanizer("by_language")
    sentence = "гиЇи"
    assert plain.romanize_string(sentence, "ukr") != plain.romanize_string(sentence)
    assert romanizer(sentence, "ukr_Cyrl")[0] == plain.romanize_string(sentence)
    assert by_language(sentence, "ukr_Cyrl")[0] == plain.romanize_string(sentence, "ukr")
    assert by_language(sentence, "bul_Cyrl")[0] == plain.romanize_string(sentence, "bul")
    persian = "و هو"  # uroman keeps the rules of Iranian Persian (pes) under fas
    assert plain.romanize_string(persian, "pes") != plain.romanize_string(persian, "fas")
    assert by_language(persian, "pes_Arab")[0] == plain.romanize_string(persian, "fas")


def test_a_failure_of_uroman_gets_a_recorded_fallback(romanizer: Romanizer, plain: uroman.Uroman) -> None:
    crashing = "一分之微"
    with pytest.raises(AttributeError):
        plain.romanize_string(crashing)
    latin, is_fallback = romanizer(f"дім {crashing} x", "zho_Hani")
    assert is_fallback
    words = latin.split(" ")
    assert (words[0], words[-1]) == (plain.romanize_string("дім"), "x")
    assert words[1] == "".join(plain.romanize_string(c) for c in crashing)
    digits = "1" * 5000
    assert romanizer(f"{digits}é", "fra_Latn") == (f"{digits}e", True)


def test_one_line_without_outer_space(romanizer: Romanizer) -> None:
    assert romanizer("好。", "zho_Hani")[0].strip() == romanizer("好。", "zho_Hani")[0]
    assert romanizer("ь", "ukr_Cyrl") == ("", False)


def test_provenance_names_everything_the_output_depends_on() -> None:
    provenance = Romanizer("by_language").provenance()
    assert provenance["version"] == "1.3.1.1"
    assert provenance["unicode"] == unicodedata.unidata_version
    assert provenance["lcode"] == "by_language"
