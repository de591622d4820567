"""Romanizes text of any script with uroman, with the same output as `Uroman().romanize_string`.

uroman is a universal romanizer by Ulf Hermjakob, USC/ISI. Its output depends on its version, on the language code and
on Python's Unicode database, so the manifest records all three.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Literal

from uroman import Uroman

from translit_scale.romanize.characters import known_lcodes
from translit_scale.romanize.exact import VERSION, ExactUroman, Memory, load_uroman

LcodePolicy = Literal["none", "by_language"]

UROMAN_LCODES = {"arb": "ara", "lvs": "lav", "pbt": "pus", "pes": "fas", "prs": "fas"}
"""ISO 639-3 codes of single languages whose rules uroman keeps under the macrolanguage's code."""


@cache
def memory() -> Memory:
    """uroman's tables and what has been romanized with them: one for all romanizers of a process."""
    return Memory(load_uroman())


class Romanizer:
    """uroman with a language-code policy. Loading its tables takes about 2 s, at the first sentence.

    It remembers words and parts of words, up to about `exact.MEMO_BYTES` (512 MiB) for all romanizers of a process
    together, and then forgets all of them. The output does not depend on what it remembers.
    """

    def __init__(self, lcode: LcodePolicy = "none") -> None:
        self.lcode = lcode
        self._by_lcode: dict[str | None, ExactUroman] = {}

    @property
    def uroman(self) -> Uroman:
        """uroman itself."""
        return memory().source

    @cached_property
    def known_lcodes(self) -> frozenset[str]:
        """Language codes with rules of their own; all others give the same output as none."""
        return known_lcodes(self.uroman)

    def lcode_of(self, iso3: str | None) -> str | None:
        """uroman's code of a language; None for one without rules of its own."""
        lcode = UROMAN_LCODES.get(iso3, iso3) if iso3 else None
        return lcode if lcode in self.known_lcodes else None

    def exact(self, iso3: str | None) -> ExactUroman:
        """uroman for a language; all languages without rules of their own use the same one."""
        lcode = self.lcode_of(iso3)
        if lcode not in self._by_lcode:
            self._by_lcode[lcode] = ExactUroman(memory(), lcode)
        return self._by_lcode[lcode]

    def __call__(self, sentence: str, language: str) -> tuple[str, bool]:
        """The romanization of a cleaned sentence, and whether it is a fallback.

        White space is normalised as in `clean`, because uroman may leave some at the ends. ASCII is returned unchanged,
        as by uroman. uroman fails on a few sentences (a number before 分之 and none after it); these are romanized word
        by word, and words that fail character by character.

        Args:
            language: `iso3_Script`; it matters only with the policy `by_language`.
        """
        if sentence.isascii():
            return sentence, False
        exact = self.exact(language.partition("_")[0] if self.lcode == "by_language" else None)
        latin, is_fallback = exact.romanize_always(sentence)
        return " ".join(latin.split()), is_fallback

    def transliterate(self, texts: Sequence[str], language: str, counts: Counter[str]) -> list[str]:
        """As in `transliterator.Transliterator`."""
        romanized = [self(text, language) for text in texts]
        counts["fallbacks"] += sum(is_fallback for latin, is_fallback in romanized if latin)
        return [latin for latin, _ in romanized]

    def provenance(self) -> dict[str, str]:
        """What the output depends on besides the text."""
        return {
            "implementation": "uroman.Uroman.romanize_string",
            "version": VERSION,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "unicode": unicodedata.unidata_version,
            "lcode": self.lcode,
        }
