"""Split points between Thai letters.

Thai has no spaces between words, so these points decide how much of a text uroman must read. Two of uroman's methods
look at the neighbours of a Thai letter:

* `is_at_end_of_syllable` chooses between two texts of a consonant (`d` or `t` for ด). It checks the character before
  the consonant, the end of the edge before it, and up to three characters after it, of which one is a tone mark.
* `expand_rom_with_special_chars` joins a vowel that is written before its consonant with the consonant and with up to
  three vowel signs after it, and omits อ unless it stands between consonants.

A split before a consonant is exact if no edge spans it and the guards give these checks the same answers. The character
before both neighbours can matter as well: a consonant ends in a vowel if its vowel is written before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from translit_scale.romanize.characters import THAI_O_ANG, Character, Tables

_CONSONANTS = re.compile("[bcdfghjklmnpqrstvxz]+")
"""A text of which both methods say that it ends in a consonant."""
_CONSONANTS_FOR_O_ANG = re.compile("[bcdfghjklmnpqrstvwxz]+")
_STARTS_WITH_VOWEL = re.compile("[aeiou]", re.IGNORECASE)
_ENDS_IN_CONSONANT = re.compile(".*[bcdfghjklmnpqrstvxz]", re.DOTALL)

Guards = tuple[str, str]
"""What stands before the part on the right instead of x, and after the part on the left instead of y."""


class ThaiSplits:
    """Decides how to split between two Thai letters.

    Args:
        tables: uroman's rules under one language code.
        letters: all characters of uroman's script `Thai`.

    Raises:
        ValueError: uroman's tables lack a letter that could be a guard.
    """

    def __init__(self, tables: Tables, letters: Iterable[Character]) -> None:
        self._tables = tables
        letters = list(letters)
        bases = [letter.char for letter in letters if letter.is_thai_consonant] + [THAI_O_ANG]
        self._vowel = self._guard(bases, (c for c in letters if c.is_thai_vowel and c.is_mark))
        self._silent = self._guard(bases, (c for c in letters if c.is_thai_tone_mark and c.texts_to("") == [""]))
        self._pattern_starts = {key[2:3] for c in letters for key in tables.keys_from(c.char) if key[1:2] == "–"}
        self._prevowel = self._guard(bases, (c for c in letters if c.is_thai_prevowel))
        self._with_syllable_end = next(c.char for c in letters if c.has_syllable_end)
        self._consonant = self._guard(
            bases,
            (
                c
                for c in letters
                if c.is_thai_consonant and not c.has_syllable_end and _all(_CONSONANTS, c.texts_to(""))
            ),
        )

    def _guard(self, bases: list[str], candidates: Iterable[Character]) -> str:
        """The first candidate that no key of a rule contains next to a consonant or อ."""
        for letter in candidates:
            is_mark = letter.is_mark  # stands before them only
            pairs = [pair for base in bases for pair in (letter.char + base, base + letter.char)[: 1 if is_mark else 2]]
            if not self._tables.pairs_in_keys.intersection(pairs):
                return letter.char
        raise ValueError("uroman's tables have no Thai letter of some kind without rules of its own")

    @staticmethod
    def depends_on_before(x: Character, y: Character) -> bool:
        """Whether the character before two neighbours matters for the split between them."""
        return y.is_thai_consonant and (x.is_thai_consonant or x.is_thai_tone_mark or x.char == THAI_O_ANG)

    def alike(self, before: Character, x: Character) -> str:
        """A character before x that leads to the same decisions."""
        if before.char + x.char in self._tables.pairs_in_keys:
            return before.char
        if before.is_thai_prevowel:
            return self._prevowel
        return self._with_syllable_end if before.has_syllable_end else " "

    def decide(self, before: Character | None, x: Character, y: Character) -> Guards | None:
        """The guards for a split between x and y, which no key of a rule spans; None if there can be no split.

        Args:
            before: the character before x (a space at the start of a text); None unless `depends_on_before`.
        """
        if x.reaches_right or x.asks_word_end or y.asks_word_start:
            return None
        if y.is_thai_prevowel:  # begins a syllable; only a consonant before อ checks y itself
            return "", self._prevowel if x.char == THAI_O_ANG else ""
        if x.category[0] not in "LM":
            return None
        if y.char == THAI_O_ANG and x.is_thai_vowel:  # the rules of x check nothing of y
            return self._vowel, ""
        if not y.is_thai_consonant:
            return None
        left, right = self._before_consonant(before, x), self._after(before, x, y)
        return None if left is None or right is None else (left, right)

    def _before_consonant(self, before: Character | None, x: Character) -> str | None:
        """The guard that stands for x before a consonant.

        The consonant checks only whether the edge of x ends in a consonant. If the consonant is silent, an อ after it
        searches on for the edge of x. That search ends at a silent guard, which `needs_left_context` notices.
        """
        is_base = x.is_thai_consonant or x.char == THAI_O_ANG
        if before is not None and before.is_thai_prevowel:
            return self._silent if is_base else None  # the edge of both ends in the vowel
        texts = x.texts_to(before.char if before else None)
        if _all(_CONSONANTS, texts):
            return self._consonant
        if not any(map(_ENDS_IN_CONSONANT.fullmatch, texts)):
            return self._silent
        is_constant = not is_base and len(texts) == 1 and texts[0][0] in "aeiou"  # ำ
        return x.char if is_constant else None

    def _after(self, before: Character | None, x: Character, y: Character) -> str | None:
        """The guard that stands for a consonant y on the right; "" if nothing before it checks y."""
        if before is not None and before.is_thai_prevowel:  # the vowel is spoken after x, which thus ends no syllable
            return None if y.char in self._pattern_starts else ""
        if x.char == THAI_O_ANG:
            return self._consonant if _all(_CONSONANTS_FOR_O_ANG, y.texts_from(1)) else None
        checks = before if x.is_thai_tone_mark else x
        if checks is None or not checks.has_syllable_end:
            return ""
        return None if any(map(_STARTS_WITH_VOWEL.match, y.texts_from(2))) else self._consonant


def _all(pattern: re.Pattern[str], texts: list[str]) -> bool:
    return bool(texts) and all(map(pattern.fullmatch, texts))
