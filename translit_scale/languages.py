"""Language codes, names and aliases, the inventory of Glot500-c, and the pairs and groups of the two papers.

A language is written `iso3_Script`: ISO 639-3 and ISO 15924 joined by an underscore, as in Glot500-c
(`pol_Latn`, `zho_Hani`). Names come from pycountry; `languages.tsv` beside this file lists the language-scripts of
Glot500-c and their numbers of sentences (docs/languages.md states its source).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

import pycountry

from translit_scale.errors import ConfigError, DataError

PAIRS: dict[str, tuple[str, str]] = {
    "pol-ukr": ("pol_Latn", "ukr_Cyrl"),
    "hin-urd": ("hin_Deva", "urd_Arab"),
}
"""Paper A, section 4.1."""

GROUPS: dict[str, tuple[str, ...]] = {
    "mediterranean": (
        "ara_Arab", "arb_Arab", "ary_Arab", "arz_Arab", "fas_Arab",
        "amh_Ethi", "ell_Grek", "heb_Hebr", "tur_Latn", "mlt_Latn",
    ),
    "south_east_asia": (
        "zho_Hani", "lzh_Hani", "yue_Hani", "wuu_Hani", "kor_Hang",
        "lao_Laoo", "lhu_Latn", "mya_Mymr", "bod_Tibt", "tha_Thai",
    ),
}  # fmt: skip
"""Paper B, Table 1 (which prints the script of Lao as `Lao`; the files and ISO 15924 say `Laoo`)."""

GLOT500_THRESHOLD = 30_000
"""The set `glot500` contains the language-scripts with more sentences than this, as its authors chose them."""

NOT_IN_ISO_639_3: dict[str, str] = {
    "ajp": "South Levantine Arabic",  # merged into apc in 2023
    "ber": "Berber languages",  # ISO 639-5
    "bih": "Bihari languages",  # ISO 639-5
    "eml": "Emiliano-Romagnolo",  # split into egl and rgn in 2009
    "kzj": "Coastal Kadazan",  # merged into dtp in 2016; Tatoeba has both
    "nah": "Nahuatl languages",  # ISO 639-5
}
"""Codes of Glot500-c and of test sets that are retired or stand for several languages."""

WRITTEN_AS = {"Hans": "Hani", "Hant": "Hani", "Kore": "Hang", "Aran": "Arab"}
"""Script codes of other sources → the code in Glot500-c."""

_MEMBERS = {
    "aka": "fat twi", "ara": "abv acm acq aeb afb ajp apc apd arb arq ars ary arz", "aym": "ayr",
    "aze": "azb azj", "bik": "bcl", "bua": "bxr", "chm": "mhr mrj", "din": "dik", "est": "ekk vro",
    "fas": "pes prs", "ful": "fuc fuv", "grn": "gug gui", "hbs": "bos hrv srp", "hmn": "hea hnj",
    "iku": "ike", "kok": "gom", "kom": "koi kpv", "kon": "kng kwy ldi", "kpe": "gkp", "kur": "ckb kmr",
    "lah": "pnb", "lav": "ltg lvs", "mlg": "plt skg tdx xmv", "mon": "khk", "msa": "bjn ind min zlm zsm",
    "nep": "dty npi", "nor": "nno nob", "ori": "ory", "orm": "gaz", "pus": "pbt pbu",
    "que": "qub qug quh quw quy quz qvi qvw", "rom": "rmn rmy", "sqi": "aln als", "srd": "src",
    "swa": "swc swh", "tmh": "taq", "uzb": "uzn", "yid": "ydd", "zap": "zai zpa",
    "zho": "cdo cmn gan hak lzh nan wuu yue", "zza": "diq",
}  # fmt: skip
MACROLANGUAGE: dict[str, str] = {member: macro for macro, members in _MEMBERS.items() for member in members.split()}
"""Language → macrolanguage, as in ISO 639-3, for those that Glot500-c or FLORES-200 write either way."""

SYNONYMS: dict[str, str] = {
    "ara": "arb", "aze": "azj", "est": "ekk", "fas": "pes", "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm",
    "nep": "npi", "nor": "nob", "ori": "ory", "sqi": "als", "swa": "swh", "uzb": "uzn", "yid": "ydd", "zho": "cmn",
}  # fmt: skip
"""Macrolanguage → the member that corpora and test sets mean when they write the macrolanguage: its standard language.

Only these pairs are exact enough to be read for each other. The other members (`prs`, `yue`, `nno`, `vro`, `ary`, ...)
are languages of their own, and a macrolanguage without a standard language (`hbs`, `kur`, `que`, ...) has no synonym.
"""
_SYNONYM_OF = SYNONYMS | {member: macro for macro, member in SYNONYMS.items()}

_XLM_R = (
    "afr_Latn amh_Ethi ara_Arab asm_Beng aze_Latn bel_Cyrl ben_Beng bos_Latn bre_Latn bul_Cyrl cat_Latn ces_Latn "
    "cym_Latn dan_Latn deu_Latn ell_Grek eng_Latn epo_Latn est_Latn eus_Latn fas_Arab fil_Latn fin_Latn fra_Latn "
    "fry_Latn gla_Latn gle_Latn glg_Latn guj_Gujr hau_Latn heb_Hebr hin_Deva hrv_Latn hun_Latn hye_Armn ind_Latn "
    "isl_Latn ita_Latn jav_Latn jpn_Jpan kan_Knda kat_Geor kaz_Cyrl khm_Khmr kir_Cyrl kmr_Latn kor_Hang kur_Latn "
    "lao_Laoo lat_Latn lav_Latn lit_Latn mal_Mlym mar_Deva mkd_Cyrl mlg_Latn mon_Cyrl msa_Latn mya_Mymr nep_Deva "
    "nld_Latn nor_Latn ori_Orya orm_Latn pan_Guru pol_Latn por_Latn pus_Arab ron_Latn rus_Cyrl san_Deva sin_Sinh "
    "slk_Latn slv_Latn snd_Arab som_Latn spa_Latn sqi_Latn srp_Cyrl srp_Latn sun_Latn swa_Latn swe_Latn tam_Taml "
    "tel_Telu tgl_Latn tha_Thai tur_Latn uig_Arab ukr_Cyrl urd_Arab uzb_Latn vie_Latn xho_Latn yid_Hebr zho_Hani"
)
XLM_R: frozenset[str] = frozenset(_XLM_R.split())
"""The languages that XLM-R was pretrained on (Conneau et al. 2020, appendix A), in the scripts of that text.

Its Tagalog is `tgl` and `fil`, its Kurdish is Kurmanji (`kur`, `kmr`). The romanized text of five languages of India is
left out, as in Glot500's lists of test languages.
"""

_LANGUAGE_SCRIPT = re.compile(r"(.*?)(?:[-_]([A-Za-z]{4}))?", re.DOTALL)


@lru_cache(maxsize=1)
def inventory() -> Mapping[str, int]:
    """Every language-script of Glot500-c, in order of the codes, with its number of sentences."""
    text = files("translit_scale").joinpath("languages.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.split("\n")[1:-1])
    return MappingProxyType({code: int(sentences) for code, sentences in rows})


def language_set(name: str) -> tuple[str, ...]:
    """The languages of a pair or group of the papers, or those of `glot500`.

    Raises:
        ConfigError: there is no such set.
    """
    sets = {
        **PAIRS,
        **GROUPS,
        "glot500": tuple(code for code, sentences in inventory().items() if sentences > GLOT500_THRESHOLD),
    }
    if name not in sets:
        raise ConfigError(f"unknown set of languages {name!r}", f"there are {', '.join(sets)}")
    return sets[name]


@lru_cache(maxsize=4096)
def check_language(code: str) -> str:
    """Returns `code` when it is a well-formed `iso3_Script`.

    Raises:
        DataError: it is not; the message suggests the code that was probably meant.
    """
    iso3, _, script = code.partition("_")
    known_iso3 = iso3 in NOT_IN_ISO_639_3 or pycountry.languages.get(alpha_3=iso3) is not None
    known_script = pycountry.scripts.get(alpha_4=script) is not None
    if known_iso3 and known_script:
        return code
    wrong = []
    if not known_iso3:
        wrong.append(f"{iso3!r} is not a language of ISO 639-3")
    if not known_script:
        wrong.append(f"{script!r} is not a script of ISO 15924" if script else "the script is missing")
    suggestion = suggest_language(code)
    raise DataError(
        f"unknown language code {code!r}: {' and '.join(wrong)}",
        f"did you mean {suggestion!r}?" if suggestion else "write iso3_Script, for example pol_Latn",
    )


def language_code(text: str) -> str:
    """The code of a language as a user writes it: `pl`, `pol`, `Polish` and `pol_Latn` are `pol_Latn`.

    A complete code is kept as it is; otherwise as `resolve_language`.

    Raises:
        DataError: as `check_language`.
    """
    try:
        return check_language(text)
    except DataError:
        code = resolve_language(text)
        if code is None:
            raise
        return code


def resolve_language(text: str) -> str | None:
    """The code of a language that is written in another way; None if there is none.

    `am`, `amh`, `am-Ethi`, `amh-ethi` and `Amharic` are `amh_Ethi`; `zh-Hant` is `zho_Hani`. A missing script is
    that of which Glot500-c has most sentences (except for Japanese, of which it has more romanized text). A language
    that Glot500-c has only under its macrolanguage, or the reverse, gets the code there (`pbt` is `pus_Arab`).
    """
    name, script = _LANGUAGE_SCRIPT.fullmatch(text.strip()).groups()  # type: ignore[union-attr]
    iso3 = to_iso3(name)
    if iso3 is None:
        return None
    if script is None:
        related = (code for other in related_iso3(iso3) for code in written_in_glot500(other))
        candidates = written_in_glot500(iso3) or list(related)
        return max(candidates, key=lambda code: (code != "jpn_Latn", inventory()[code]), default=None)
    script = WRITTEN_AS.get(script.capitalize(), script.capitalize())
    return f"{iso3}_{script}" if pycountry.scripts.get(alpha_4=script) else None


def written_in_glot500(iso3: str) -> list[str]:
    """The codes of one language in Glot500-c, one for each script."""
    return [code for code in inventory() if code.startswith(f"{iso3}_")]


def related_languages(code: str) -> list[str]:
    """Other codes that text in this language and script has in Glot500-c.

    These are its macrolanguage and, for a macrolanguage, its members: `pes_Arab` → `fas_Arab`.
    """
    iso3, _, script = check_language(code).partition("_")
    return [other for related in related_iso3(iso3) if (other := f"{related}_{script}") in inventory()]


def matching_codes(code: str, available: Sequence[str]) -> list[str]:
    """The codes under which a test set may have a language: `code` itself, else other names of this very language.

    These are its script under another name (`zho_Hani` matches `zho_Hans`), or else its synonym (`fas_Arab` matches
    `pes_Arab`, never `prs_Arab`). More than one match is ambiguous: the caller must ask which is meant.
    """
    if code in available:
        return [code]
    iso3, _, script = code.partition("_")
    scripts = {"", script, WRITTEN_AS.get(script, script), *(old for old, new in WRITTEN_AS.items() if new == script)}
    same_language = [other for other in available if other[:3] == iso3 and other[4:] in scripts]
    synonym = _SYNONYM_OF.get(iso3)
    return same_language or [other for other in available if other[:3] == synonym and other[4:] in scripts]


def same_macrolanguage(code: str, available: Sequence[str]) -> list[str]:
    """Other languages of the same macrolanguage, and the language in other scripts; those of the same script first."""
    iso3, _, script = code.partition("_")
    macro = MACROLANGUAGE.get(iso3, iso3)
    related = [other for other in available if other != code and MACROLANGUAGE.get(other[:3], other[:3]) == macro]
    return sorted(related, key=lambda other: WRITTEN_AS.get(other[4:], other[4:]) != script)


def suggest_language(code: str) -> str | None:
    """The code that `code` (`pl`, `Polish`, `pol`, `pol-latn`, `pol_Lat`) was probably meant to be, if any."""
    if resolved := resolve_language(code):
        return resolved
    name, _, script = code.replace("-", "_").partition("_")
    iso3 = to_iso3(name)
    if iso3 is None:
        return next(iter(difflib.get_close_matches(code, inventory(), n=1, cutoff=0.6)), None)
    if known := written_in_glot500(iso3):
        return difflib.get_close_matches(code, known, n=1, cutoff=0)[0]
    scripts = [entry.alpha_4 for entry in pycountry.scripts]
    close_script = difflib.get_close_matches(script.capitalize(), scripts, n=1, cutoff=0.6)
    return f"{iso3}_{close_script[0]}" if close_script else None


def is_language(code: str) -> bool:
    """Whether this is a well-formed `iso3_Script`."""
    try:
        check_language(code)
    except DataError:
        return False
    return True


def language_name(code: str) -> str:
    """English name with the script: `Polish (Latin)`, without other names of the script as in `Devanagari (Nagari)`."""
    iso3, _, script = check_language(code).partition("_")
    language, of_script = pycountry.languages.get(alpha_3=iso3), pycountry.scripts.get(alpha_4=script)
    assert of_script is not None  # check_language has checked it
    name = NOT_IN_ISO_639_3[iso3] if language is None else language.name
    script_name = re.sub(r" \(([^)]* variant)\)", r", \1", of_script.name)  # `Han, Traditional variant`
    script_name = re.sub(r" \([^)]*\)", "", script_name)
    return f"{name} ({script_name})"


def to_iso3(name: str) -> str | None:
    """ISO 639-3 of a code of ISO 639-1, -2 or -3 or of an English name, in any case; None for `und`, `mis`, ..."""
    if name.lower() in NOT_IN_ISO_639_3:
        return name.lower()
    fields = {2: ("alpha_2",), 3: ("alpha_3", "bibliographic")}.get(len(name), ())
    entries = (pycountry.languages.get(**{field: name.lower()}) for field in (*fields, "name"))
    return next((language.alpha_3 for language in entries if language is not None and language.scope != "S"), None)


def is_head(code: str) -> bool:
    """Whether XLM-R was pretrained on this language and script: Glot500 calls these head languages, the others tail."""
    return bool(matching_codes(code, sorted(XLM_R)))


def related_iso3(iso3: str) -> list[str]:
    """The macrolanguage of a language, and the members of a macrolanguage."""
    macro = [MACROLANGUAGE[iso3]] if iso3 in MACROLANGUAGE else []
    return macro + _MEMBERS.get(iso3, "").split()


def listed(languages: Sequence[str], most: int = 12) -> str:
    """Shortens a list of codes for messages: the first ones, and how many more there are."""
    more = f" and {len(languages) - most:,} more" if len(languages) > most else ""
    return f"{', '.join(languages[:most])}{more}"
