"""The fraction of a sentence's letters that are of the script of its language.

Web corpora contain English in the folders of other languages, and romanized text in those of other scripts. Only
letters count. Digits, marks, punctuation, symbols and letters of several scripts (the Unicode script `Common`, such as
`ー` and the modifier apostrophe) are ignored.
"""

from __future__ import annotations

from functools import cache

import regex

from translit_scale.corpus.clean import Without
from translit_scale.errors import DataError

SCRIPT_DATA = f"regex {regex.__version__}"
"""Source of the scripts of characters."""

_UNICODE_SCRIPTS = {
    "Hans": "Hani", "Hant": "Hani", "Jpan": "Hani Hira Kana", "Hrkt": "Hira Kana", "Kore": "Hang Hani",
    "Aran": "Arab", "Cyrs": "Cyrl", "Latf": "Latn", "Latg": "Latn",
    "Syre": "Syrc", "Syrj": "Syrc", "Syrn": "Syrc", "Geok": "Geor",
}  # fmt: skip
"""Codes of ISO 15924 that stand for several scripts of Unicode, or for a style of one."""


def _without(letters: str) -> Without:
    return Without(regex.compile(letters, regex.VERSION1).fullmatch)


_WITHOUT_LETTERS = _without(r"[\p{L}--[\p{Script=Zyyy}\p{Script=Zinh}]]")


def script_fraction(sentence: str, script: str) -> float:
    """Fraction of the letters of `sentence` that are of `script` (ISO 15924); 1 if it has no letters.

    Raises:
        DataError: Unicode does not have the script.
    """
    letters = len(sentence) - len(sentence.translate(_WITHOUT_LETTERS))
    of_script = len(sentence) - len(sentence.translate(_without_script(script)))
    return of_script / letters if letters else 1.0


def has_letters(sentence: str, script: str) -> bool:
    """Whether any letter of `sentence` is of `script` (ISO 15924)."""
    return len(sentence) > len(sentence.translate(_without_script(script)))


@cache
def _without_script(script: str) -> Without:
    scripts = "".join(rf"\p{{Script={name}}}" for name in _UNICODE_SCRIPTS.get(script, script).split())
    try:
        return _without(rf"[\p{{L}}&&[{scripts}]]")
    except regex.error:
        raise DataError(
            f"the letters of the script {script!r} are not known",
            "set min_script_fraction to 0 for its languages, under per_language in the recipe",
        ) from None
