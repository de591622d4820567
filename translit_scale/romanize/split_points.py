"""Finds the points at which a text can be split so that uroman romanizes the parts as it romanizes the whole.

A split between two neighbours x and y is exact if no edge of uroman's lattice spans it, and if every condition that
uroman checks across it has the same value at the end of a text as with the neighbour. If the values differ, but are the
same for all neighbours of some kind, a *guard* replaces the neighbour: a letter of known romanization that is romanized
together with the part and then removed. Elsewhere a text is not split. uroman's conditions concern at most two
characters on either side of an edge, with one exception, which `exact.Lattice.find_rom_edge_path_backwards` detects.

Typical cases: Greek initial μπ and final ий (edge of a word), きゃ, っか and アー (merged kana), 一百 (numbers),
क|त (the inherent vowel), "Éa" (capitals), 『 (a leading space) and every rule with a key of several letters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from translit_scale.romanize.characters import Character, Tables
from translit_scale.romanize.thai import Guards, ThaiSplits


@dataclass(frozen=True, slots=True)
class SplitPoint:
    """An exact split point, with the guards that replace the removed neighbours."""

    before_right: str = ""
    """Guard before the part on the right."""
    before_right_latin: int = 0
    """Length of its romanization."""
    after_left: str = ""
    """Guard after the part on the left."""
    after_left_latin: int = 0


PLAIN = SplitPoint()
LOOK_BACK = SplitPoint()
"""Instead of the split point of two neighbours: it depends on the character before them too."""


class SplitPoints(dict[str, SplitPoint | None]):
    """Two neighbouring characters → how to split between them, or None; determined at the first look-up.

    If the value is LOOK_BACK, the character before them (a space at the start of a text) and both are the key to it.

    Args:
        tables: uroman's rules under one language code.
        romanize: uroman itself, for the lengths of guards.
        count: called with every new entry.
    """

    def __init__(self, tables: Tables, romanize: Callable[[str], str], count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count
        self._tables = tables
        self._romanize = romanize
        self._abugida_guards: dict[str, str | None] = {}
        self._by_guards: dict[Guards, SplitPoint] = {("", ""): PLAIN}

    @cached_property
    def _letters(self) -> dict[str, list[str]]:
        """Script → its characters."""
        letters: dict[str, list[str]] = defaultdict(list)
        for (kind, char), script in self._tables.uroman.dict_str.items():
            if kind == "script":
                letters[script].append(char)
        return letters

    @cached_property
    def _thai(self) -> ThaiSplits:
        return ThaiSplits(self._tables, map(self._tables.character, self._letters["Thai"]))

    def __missing__(self, key: str) -> SplitPoint | None:
        self._count(key)
        *before, x, y = map(self._tables.character, key)
        if before:
            alike = self._thai.alike(before[0], x) + key[1:]
            split = self._decide(x, y, *before) if alike == key else self[alike]
        elif x.is_free and y.is_free:
            split = None if key in self._tables.pairs_in_keys else PLAIN
        else:
            split = self._decide(x, y)
        self[key] = split
        return split

    def _decide(self, x: Character, y: Character, before: Character | None = None) -> SplitPoint | None:
        if (
            (x.is_ascii and y.is_ascii)  # is its own romanization, however long
            or x.char + y.char in self._tables.pairs_in_keys  # an edge may span them
            or y.attaches
            or y.begins_with_space
            or numbers_meet(x, y)
            or in_one_tibetan_syllable(x, y)
            or (x.is_capital and y.is_lower)
        ):
            return None
        if "Thai" in (x.script, y.script):
            return self._split_thai(x, y, before)
        if x.script == y.script and x.script in self._tables.abugidas and y.is_alpha:
            return self._split_abugida(x, y)
        return PLAIN if not x.reaches_right and word_edge_is_the_same(x, y) else None

    # ------------------------------------------------------------------------------------------------- abugidas

    def _split_abugida(self, x: Character, y: Character) -> SplitPoint | None:
        """Splits between letters of one abugida, with a guard letter instead of the neighbour.

        `add_default_abugida_vowel` checks the neighbour's script, whether it is alphabetic (or its edge ends in a
        letter), and whether it is a sign or a virama. If y is a letter of the same script, every other letter without
        rules of its own gives the same results, and so does the guard. The same holds for a letter x. A sign or virama
        x is kept after the guard, so only the edges before it differ; they matter only for whether a word continues,
        which must not depend on them.
        """
        guard = self._abugida_guard(x.script)
        if guard is None or y.asks_word_start or x.asks_word_end:
            return None
        latin = len(self._romanize(guard))
        if not x.is_mark:
            return SplitPoint(guard, latin, guard, latin) if x.is_alpha and not x.reaches_right else None
        answers_for_itself = x.is_virama or x.always_continues_word or x.never_continues_word
        if not answers_for_itself or x.vowel_depends_right or x.doubles or x.is_nukta:
            return None
        return SplitPoint(guard + x.char, len(self._romanize(guard + x.char)), guard, latin)

    def _abugida_guard(self, script: str) -> str | None:
        if script not in self._abugida_guards:
            self._abugida_guards[script] = self._find_guard(self._letters[script])
        return self._abugida_guards[script]

    def _find_guard(self, letters: Sequence[str]) -> str | None:
        """A vowel letter of a script, without rules of its own, that gives the same Latin letters in every context."""
        for letter in sorted(letters):
            character = self._tables.character(letter)
            texts = {rule["t"] for rule in character.rules_from}
            if (
                character.category == "Lo"
                and not (character.is_mark or character.is_numeric or character.asks_word_start)
                and self._tables.is_alone(letter)
                and len(texts) == 1
                and re.fullmatch("[a-z]+", texts.pop())
                and not character.vowel_depends_left
                and "VOCALIC" not in character.name
            ):
                return letter
        return None

    # ----------------------------------------------------------------------------------------------------- Thai

    def _split_thai(self, x: Character, y: Character, before: Character | None) -> SplitPoint | None:
        """Splits next to Thai letters."""
        if x.script == y.script:
            if before is None and self._thai.depends_on_before(x, y):
                return LOOK_BACK
            guards = self._thai.decide(before, x, y)
            return None if guards is None else self._with_guards(guards)
        # neither letter nor mark: the end of a syllable, like the end of the text
        other = x if y.script == "Thai" else y
        is_outside = other.category[0] not in "LM" and (other is x or y.never_continued)
        return PLAIN if is_outside and not x.reaches_right and word_edge_is_the_same(x, y) else None

    def _with_guards(self, guards: Guards) -> SplitPoint:
        if guards not in self._by_guards:
            before, after = guards
            latin = (len(self._romanize(guard)) if guard else 0 for guard in guards)
            self._by_guards[guards] = SplitPoint(before, next(latin), after, next(latin))
        return self._by_guards[guards]


def numbers_meet(x: Character, y: Character) -> bool:
    """Numbers are joined (`一百`), and what follows a digit is set off from it (`add_numbers`, `decomp_rom`)."""
    return (x.is_numeric and y.is_numeric) or (y.is_number and x.may_end_in_digit)


def in_one_tibetan_syllable(x: Character, y: Character) -> bool:
    """`pick_tibetan_vowel_edge` treats all letters between two tshegs together."""
    return x.is_tibetan_letter and y.is_tibetan_letter


def word_edge_is_the_same(x: Character, y: Character) -> bool:
    """Whether a word edge between x and y changes nothing: either there is one already, or no rule checks it.

    `cand_is_valid` checks it for rules that apply only at word edges, `add_default_abugida_vowel` for the vowel of a
    consonant, which at a word edge does not depend on the neighbour's script.
    """
    end_is_the_same = y.never_continued or not (x.asks_word_end or x.vowel_depends_right)
    start_is_the_same = x.never_continues_word or not (y.asks_word_start or y.vowel_depends_left)
    if y.vowel_depends_left and x.script == y.script:
        return False
    return end_is_the_same and start_is_the_same
