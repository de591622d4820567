"""Romanization with uroman: any script to Latin letters, exactly as `Uroman().romanize_string` does it.

uroman is a universal romanizer by Ulf Hermjakob, USC/ISI. Its result depends on its version, on the
language code it is given and on Python's Unicode database, so all three go into the manifest.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import cached_property
from importlib.metadata import version
from typing import Literal

import uroman

LcodePolicy = Literal["none", "by_language"]

UROMAN_LCODES = {"arb": "ara", "lvs": "lav", "pbt": "pus", "pes": "fas", "prs": "fas"}
"""ISO 639-3 codes of single languages whose rules uroman keeps under the macrolanguage's code."""


class Romanizer:
    """uroman with a language-code policy. Loading its tables takes about 2 s, at the first sentence."""

    def __init__(self, lcode: LcodePolicy = "none") -> None:
        self.lcode = lcode

    @cached_property
    def _uroman(self) -> uroman.Uroman:
        return uroman.Uroman()

    def __call__(self, sentence: str, language: str) -> tuple[str, bool]:
        """The romanization of a cleaned sentence, and whether it is a fallback.

        White space is normalised as in `clean`; uroman leaves some at the ends. ASCII comes back as it
        is, which is what uroman does. uroman fails on a few sentences (a number before 分之 and no number
        after it); those are romanized word by word, and their failing words character by character.

        Args:
            language: `iso3_Script`; matters with the policy `by_language` only.
        """
        if sentence.isascii():
            return sentence, False
        lcode = None
        if self.lcode == "by_language":
            iso3 = language.partition("_")[0]
            lcode = UROMAN_LCODES.get(iso3, iso3)
        latin = self._try(sentence, lcode)
        if latin is not None:
            return _one_line(latin), False
        words = []
        for word in sentence.split(" "):
            latin = self._try(word, lcode)
            words.append("".join(self._try(c, lcode) or "" for c in word) if latin is None else latin)
        return _one_line(" ".join(words)), True

    def _try(self, text: str, lcode: str | None) -> str | None:
        try:
            return str(self._uroman.romanize_string(text, lcode))
        except Exception:  # its defects show as AttributeError, ValueError, ...: none may lose a sentence
            return None

    def provenance(self) -> dict[str, str]:
        """What the output depends on besides the text."""
        return {
            "implementation": "uroman.Uroman.romanize_string",
            "version": version("uroman"),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "unicode": unicodedata.unidata_version,
            "lcode": self.lcode,
        }


def _one_line(text: str) -> str:
    return " ".join(text.split())
