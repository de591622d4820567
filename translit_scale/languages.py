"""Languages: codes, names and the pairs and groups of the two papers.

A language is written `iso3_Script`: ISO 639-3 and ISO 15924 joined by an underscore, as in Glot500-c
(`pol_Latn`, `zho_Hani`).
"""

from __future__ import annotations

import difflib
from functools import lru_cache

import pycountry

from translit_scale.errors import DataError

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


@lru_cache(maxsize=4096)
def check_language(code: str) -> str:
    """Returns `code` when it is a well-formed `iso3_Script`.

    Raises:
        DataError: it is not; the message suggests the code that was probably meant.
    """
    iso3, _, script = code.partition("_")
    known_iso3 = pycountry.languages.get(alpha_3=iso3) is not None
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


def suggest_language(code: str) -> str | None:
    """The code that `code` (`pl`, `Polish`, `pol`, `pol-latn`, `pol_Lat`) was probably meant to be, if any."""
    iso3, _, script = code.replace("-", "_").partition("_")
    language = (
        pycountry.languages.get(alpha_3=iso3.lower())
        or pycountry.languages.get(alpha_2=iso3.lower())
        or pycountry.languages.get(name=iso3.capitalize())
    )
    scripts = [entry.alpha_4 for entry in pycountry.scripts]
    close_script = difflib.get_close_matches(script.capitalize(), scripts, n=1, cutoff=0.6) if script else []
    of_papers = {c for group in (*PAIRS.values(), *GROUPS.values()) for c in group}
    if language is None:
        close = difflib.get_close_matches(code, sorted(of_papers), n=1, cutoff=0.6)
        return close[0] if close else None
    known = sorted(c for c in of_papers if c.startswith(f"{language.alpha_3}_"))
    if known:
        return difflib.get_close_matches(code, known, n=1, cutoff=0)[0]
    return f"{language.alpha_3}_{close_script[0]}" if close_script else None


def language_name(code: str) -> str:
    """English name with the script: `Polish (Latin)`."""
    iso3, _, script = check_language(code).partition("_")
    language, of_script = pycountry.languages.get(alpha_3=iso3), pycountry.scripts.get(alpha_4=script)
    assert language is not None and of_script is not None  # check_language has looked
    return f"{language.name} ({of_script.name})"
