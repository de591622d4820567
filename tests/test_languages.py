"""Language codes: the inventory is what the papers used, and however a language is called, its code is found."""

import pycountry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translit_scale.cli import main
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import (
    GROUPS,
    MACROLANGUAGE,
    PAIRS,
    check_language,
    inventory,
    language_name,
    language_set,
    related_languages,
    resolve_language,
    suggest_language,
)
from translit_scale.prepare.recipe import Sample
from translit_scale.prepare.select import sample_size

TABLE_1 = {
    "mediterranean": "2.4M 15k 10k 348k 1.8M 286k 2.2M 1.8M 2.9M 4M",
    "south_east_asia": "2.4M 10k 48k 22k 646k 10k 10k 94k 27k 773k",
}
"""Paper B, Table 1: sampled sentences of each language, in the order of GROUPS; the paper rounds down."""


def printed(sentences: int, like: str) -> str:
    """A number rounded down as in the paper."""
    unit = {"M": 10**6, "k": 10**3}[like[-1]]
    if "." in like:
        return f"{sentences * 10 // unit / 10:.1f}{like[-1]}"
    return f"{sentences // unit}{like[-1]}"


@pytest.mark.parametrize("group", GROUPS)
def test_the_inventory_gives_the_sample_sizes_of_paper_b(group: str) -> None:
    for code, expected in zip(GROUPS[group], TABLE_1[group].split(), strict=True):
        assert printed(sample_size(inventory()[code], Sample(fraction=0.1, minimum=10_000)), expected) == expected, code


def test_the_inventory_is_sorted_checked_and_named() -> None:
    assert len(inventory()) == 679 and len({code[:3] for code in inventory()}) == 610
    assert list(inventory()) == sorted(inventory())
    for code in inventory():
        assert check_language(code) == code
        script = pycountry.scripts.get(alpha_4=code[4:])
        name = language_name(code)
        assert name.endswith(")") and name[:-1].rpartition(" (")[2].split(",")[0] in script.name
    assert language_name("ber_Latn") == "Berber languages (Latin)"
    assert language_name("hin_Deva") == "Hindi (Devanagari)"
    assert language_name("zho_Hant") == "Chinese (Han, Traditional variant)"
    assert language_name("ell_Grek") == "Modern Greek (1453-) (Greek)"


def test_sets_of_languages() -> None:
    glot500 = language_set("glot500")
    assert len(glot500) == 562
    assert set(glot500) == {code for code, sentences in inventory().items() if sentences > 30_000}
    for name, languages in {**PAIRS, **GROUPS}.items():
        assert language_set(name) == languages
        assert set(languages) <= set(glot500)
    with pytest.raises(ConfigError, match=r"'glot50'[\s\S]*pol-ukr.*glot500"):
        language_set("glot50")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "amh_Ethi") for text in ("am", "amh", "am-Ethi", "amh-Ethi", "amh_ethi", "AMH", " Amharic ")),
        ("zh", "zho_Hani"),
        ("zh-Hant", "zho_Hani"),
        ("cmn-Hans", "cmn_Hani"),
        ("ko-Kore", "kor_Hang"),
        ("ja", "jpn_Jpan"),
        ("hin-Latn", "hin_Latn"),
        ("ger", "deu_Latn"),  # bibliographic code of ISO 639-2
        ("pbt", "pus_Arab"),  # only its macrolanguage is there
        ("kok", "gom_Latn"),  # only a member is there
        ("ajp", "ajp_Arab"),  # retired in ISO 639-3
        ("pli-Thai", "pli_Thai"),  # not in Glot500-c
        ("pli", None),
        ("pol_Lat", None),
        ("xyz-Latn", None),
        ("", None),
        ("_", None),
    ],
)
def test_a_language_is_found_however_it_is_written(text: str, code: str | None) -> None:
    assert resolve_language(text) == code


@given(st.sampled_from(sorted(inventory())), st.sampled_from("-_"), st.booleans())
def test_resolving_knows_every_code_in_any_case(code: str, separator: str, upper: bool) -> None:
    written = code.replace("_", separator)
    assert resolve_language(written.upper() if upper else written.lower()) == code


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12))
def test_what_is_resolved_or_suggested_is_a_code(text: str) -> None:
    for found in (resolve_language(text), suggest_language(text)):
        assert found is None or check_language(found) == found


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        ("pl", "'pl' is not a language of ISO 639-3 and the script is missing", "did you mean 'pol_Latn'?"),
        ("pol_Lat", "'Lat' is not a script of ISO 15924", "did you mean 'pol_Latn'?"),
        ("hin_Latin", "'Latin' is not a script", "did you mean 'hin_Latn'?"),
        ("pli_Tha", "'Tha' is not a script", "did you mean 'pli_Thai'?"),
        ("Polish", "'Polish' is not a language", "did you mean 'pol_Latn'?"),
        ("qqqq_9", "'qqqq' is not a language", "write iso3_Script, for example pol_Latn"),
    ],
)
def test_errors_name_the_part_that_is_wrong_and_the_code_meant(wrong: str, message: str, hint: str) -> None:
    with pytest.raises(DataError) as error:
        check_language(wrong)
    assert message in error.value.message and error.value.hint == hint


def test_macrolanguages() -> None:
    assert related_languages("pes_Arab") == ["fas_Arab"]
    assert related_languages("fas_Arab") == ["pes_Arab", "prs_Arab"]
    assert related_languages("pol_Latn") == []
    for member, macro in MACROLANGUAGE.items():
        assert pycountry.languages.get(alpha_3=macro).scope == "M"
        assert member == "ajp" or pycountry.languages.get(alpha_3=member).scope == "I"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["languages", "pes-Arab", "Pali-Thai"]) == 0
    assert capsys.readouterr().out.split("\n") == [
        "pes_Arab\t57,511\tIranian Persian (Arabic)\tfas_Arab",
        "pli_Thai\t-\tPali (Thai)\t",
        "",
    ]
    assert main(["languages"]) == 0
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert [line.split("\t")[0] for line in lines] == list(inventory())
    assert main(["languages", "klingonese"]) == 3
    assert "'klingonese'" in capsys.readouterr().err
