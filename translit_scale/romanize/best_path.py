"""uroman's best path through the lattice of a text, without the lattice: the same output at a tenth of the time.

`BestPath` does what `Lattice` of uroman does in `add_romanization`, `add_rom_fall_back_singles` and
`best_rom_edge_path`, in the same order, and leaves out what cannot change the text it is given. Names in back quotes
are uroman's. A text that needs more than that raises `UnusualTextError`; it is for uroman's lattice.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import regex
from uroman.uroman import Lattice

from translit_scale.romanize.characters import THAI_O_ANG, Tables

_CONSONANTS = regex.compile("[bcdfghjklmnpqrstvwxyz]+$")
_CONSONANT = regex.compile("[bcdfghjklmnpqrstvwxyz]")
_CONSONANTS_FOR_O_ANG = regex.compile("[bcdfghjklmnpqrstvwxz]+$")
_CONSONANT_AT_END = regex.compile("[bcdfghjklmnpqrstvxz]$")
_VOWEL = regex.compile("[aeiou]")
_VOWEL_AFTER_R = regex.compile("r[aeiou]")
_TAIL = regex.compile(r"\+(m|ng|n|h|r)")
_LETTER = regex.compile(r"\pL")
_LETTER_OR_MARK = regex.compile(r"(?:\pL|\pM)")
_KHMER_YO = "\u1799"
_KHMER_BEFORE_YO = "bcdfghklmnpqrstvwz"
_ONLY_FINAL_VOWELS_KEPT = ("asm", "ben", "guj", "kas", "pan")


class UnusualTextError(Exception):
    """Only uroman's own lattice treats this text as uroman does."""


class Letters(dict[str, "Letter"]):
    """Character → what the path needs to know about it; determined at the first look-up.

    Args:
        tables: uroman's rules under one language code.
        count: called with every new character.
    """

    def __init__(self, tables: Tables, count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count
        self.tables = tables
        self.uroman = tables.uroman
        self.lcode = tables.lcode
        self.none = Letter("\0", tables)
        """Stands for what is before and after a text."""
        self.none.char = ""

    def __missing__(self, char: str) -> Letter:
        self._count(char)
        self[char] = letter = Letter(char, self.tables)
        return letter


class Rule:
    """One of uroman's rules, with a text and for this language code."""

    __slots__ = ("if_allowed", "is_tail", "syllable_end", "text")

    def __init__(self, rule: Any) -> None:
        text = rule["t"]
        self.is_tail = text[:1] == "+" and _TAIL.match(text) is not None
        self.text: str = text[1:] if self.is_tail else text
        self.syllable_end: str | None = rule["t-at-end-of-syllable"]
        self.if_allowed = rule if rule["n-restr"] else None
        """The same rule, if it applies only at some positions in words."""


class Letter:
    """What the path needs to know about a character."""

    def __init__(self, char: str, tables: Tables) -> None:
        source = tables.uroman
        facts = tables.character(char)
        flags = source.dict_bool
        self.char = char
        self.script = facts.script
        self.is_alpha, self.is_lower = char.isalpha(), char.islower()
        self.is_letter_or_mark = _LETTER_OR_MARK.match(char) is not None
        self.is_nonspacing_mark = facts.category == "Mn"
        self.is_nukta = self.is_nonspacing_mark and facts.is_nukta
        self.is_virama = facts.is_virama
        self.is_vocalic = "VOCALIC" in facts.name
        self.is_sign = bool(flags["is-vowel-sign", char]) or facts.is_virama
        """A vowel sign or virama: the consonant before it has no inherent vowel, even with a mark between them."""
        self.takes_vowel = self.is_sign or flags["is-medial-consonant-sign", char] or "SUBJOINED LETTER" in facts.name
        self.is_prevowel = facts.is_thai_prevowel
        self.is_tone_mark = facts.is_thai_tone_mark
        script = source.scripts.get(facts.script.lower())
        self.abugida = script if script and script["abugida-default-vowels"] else None
        """uroman's record of its script, if that has an inherent vowel."""
        keys = tables.all_keys_from(char)
        every = [(key, source.rom_rules[key]) for key in keys if key in source.rom_rules]
        self.first_text = every[0][1][0]["t"] if every and every[0][0] == char and every[0][1] else None
        self.keys = [(key, rules) for key, _ in every if (rules := [Rule(rule) for rule in tables.ordered_rules(key)])]
        """Keys from here that have rules for the language code, the shorter first."""
        self.keys_with_letters = [key for key, rules in every if any(_continues_word(rule) for rule in rules)]
        self.hangul = source.unicode_hangul_romanization(char)
        is_decomposed = unicodedata.decomposition(char).startswith("<")
        self.decomposed = Lattice(char, source, tables.lcode).decomp_rom(0) if is_decomposed else None
        self.is_usual = not (
            facts.is_number
            or unicodedata.numeric(char, None) is not None
            or facts.script in ("Tibetan", "Braille", "Coptic")
            or "\u2800" <= char <= "\u28ff"
            or facts.doubles
            or facts.is_small_kana
            or any(rule["t"] is None for _, rules in every for rule in rules)
        )
        """False for numbers, which `add_numbers` joins, and where `expand_rom_with_special_chars` and
        `pick_tibetan_vowel_edge` do more than they do here."""
        is_silent = facts.category in ("Mn", "Cf", "Co")
        is_kept = char == " " or not any(True for _ in tables.rules(char))
        self.alone = "" if is_silent else char if is_kept else None
        """What is left of it if no edge begins here; None if that is for its own rules to say."""


def _continues_word(rule: Any) -> bool:
    return not rule["use-only-at-start-of-word"] and _LETTER.search(rule["t"] or "") is not None


class BestPath:
    """The best path through the lattice of one text.

    Args:
        letters: the facts about characters, under one language code.
        text: any text.

    Raises:
        UnusualTextError: the text needs uroman's own lattice.
    """

    def __init__(self, letters: Letters, text: str) -> None:
        self.needs_left_context = False
        """Whether text before this one could change the result (`exact.Lattice.find_rom_edge_path_backwards`)."""
        self._letters = letters
        self._text = text
        self._of = [letters[char] for char in text]
        self._none = letters.none
        size = len(text)
        self._from: list[dict[int, str]] = [{} for _ in range(size)]
        """For each position the edges from it: end → text."""
        self._to: list[list[tuple[int, str]]] = [[] for _ in range(size + 1)]
        """For each position the edges to it: start and text."""
        self._starts: dict[int, bool] = {}
        self._ends: dict[int, bool] = {}

    def latin(self) -> str:
        """The romanization."""
        if not all(letter.is_usual for letter in self._of):
            raise UnusualTextError
        for start, letter in enumerate(self._of):
            for key, rules in letter.keys:
                if len(key) == 1 or self._text.startswith(key, start):
                    self._add_key(rules, start, start + len(key))
            if letter.hangul:
                self._add(start, start + 1, letter.hangul)
            if letter.decomposed:
                self._to[start + 1].append((start, letter.decomposed))
                self._from[start].setdefault(start + 1, letter.decomposed)
        return "".join(self._path())

    def _path(self) -> Iterator[str]:
        """From left to right the longest edges."""
        position = 0
        while position < len(self._text):
            edges = self._from[position]
            if edges:
                position, text = max(edges.items())
                yield text
            else:
                letter = self._of[position]
                if letter.alone is None:
                    raise UnusualTextError
                yield letter.alone
                position += 1

    def _add(self, start: int, end: int, text: str) -> None:
        if self._from[start].setdefault(end, text) != text:  # uroman has both, in a set, and takes either
            raise UnusualTextError
        self._to[end].append((start, text))

    def _at(self, position: int) -> Letter:
        return self._of[position] if 0 <= position < len(self._of) else self._none

    # ---------------------------------------------------------------------------------------------------- rules

    def _add_key(self, rules: list[Rule], start: int, end: int) -> None:
        """Adds the edge of a key, as `add_romanization`."""
        rule = self._rule(rules, start, end)
        if rule is None:
            return
        text = rule.text
        if rule.syllable_end is not None and self._ends_syllable(end):
            text = rule.syllable_end
        if self._of[start].abugida is not None:
            text = self._with_vowel(text, start, end, rule.is_tail)
        if text:
            start, end, text = self._expanded(text, start, end)
        self._add(start, end, text)

    def _rule(self, rules: list[Rule], start: int, end: int) -> Rule | None:
        """The first of a key's rules that applies, as `simple_top_romanization_candidate_for_span` with
        `simple_search`."""
        for rule in rules:
            if rule.if_allowed is None or self._is_allowed(rule.if_allowed, start, end):
                return rule
        return None

    def _text_by_rules(self, start: int, end: int) -> str | None:
        """The text of the key between two positions, whether at the end of a syllable or not."""
        for key, rules in self._of[start].keys:
            if len(key) == end - start and self._text.startswith(key, start):
                rule = self._rule(rules, start, end)
                return None if rule is None else rule.text
        return None

    def _is_allowed(self, rule: Any, start: int, end: int) -> bool:
        """As `cand_is_valid`."""
        return not (
            (rule["dont-use-at-start-of-word"] and self._starts_word(start))
            or (rule["use-only-at-start-of-word"] and not self._starts_word(start))
            or (rule["dont-use-at-end-of-word"] and self._ends_word(end))
            or (rule["use-only-at-end-of-word"] and not self._ends_word(end))
            or (rule["use-only-for-whole-word"] and not (self._starts_word(start) and self._ends_word(end)))
        )

    def _starts_word(self, position: int) -> bool:
        """As `is_at_start_of_word`; the first answer stays, though edges may be added later."""
        if position not in self._starts:
            is_after_letter = self._at(position - 1).is_alpha
            self._starts[position] = not (is_after_letter or any(t[-1:].isalpha() for _, t in self._to[position]))
        return self._starts[position]

    def _ends_word(self, position: int) -> bool:
        """As `is_at_end_of_word`."""
        if position not in self._ends:
            self._ends[position] = not self._is_word_continued(position)
        return self._ends[position]

    def _is_word_continued(self, position: int) -> bool:
        size = len(self._text)
        if position < size and self._of[position].is_alpha:
            return True
        while position + 1 < size and self._of[position].is_nukta:
            position += 1
        return position < size and any(
            self._text.startswith(key, position) for key in self._of[position].keys_with_letters
        )

    def _ends_syllable(self, position: int) -> bool:
        """As `is_at_end_of_syllable`."""
        before = self._at(position - 2)
        if position < 2 or not before.is_letter_or_mark or before.is_prevowel:
            return False
        after = position + 1 if self._at(position).is_tone_mark else position
        following = self._at(after)
        if following.is_prevowel or not following.is_letter_or_mark:  # or the end of the text
            return True
        if _CONSONANT_AT_END.search(self._left_edge(position - 1)[1]):
            return False
        texts = (self._text_by_rules(after, after + length) for length in (2, 1))
        if not _VOWEL.match(next((text for text in texts if text is not None), "?").lower()):
            return True
        if following.char != THAI_O_ANG or after + 1 >= len(self._text):
            return False
        return _VOWEL.match((self._text_by_rules(after + 1, after + 2) or "?").lower()) is not None

    def _left_edge(self, position: int) -> tuple[int, str]:
        """As `best_left_neighbor_edge`: the longest edge up to here; (here, "") if there is none."""
        return min(self._to[position], key=lambda edge: edge[0], default=(position, ""))

    # ------------------------------------------------------------------------------------------------- abugidas

    def _with_vowel(self, text: str, start: int, end: int, is_tail: bool) -> str:
        """As `add_default_abugida_vowel`, which has taken the text apart before."""
        letter, before, after = self._of[start], self._at(start - 1), self._at(end)
        parts = self._letters.uroman.abugida_cache.get((letter.abugida, text))
        if parts is None:
            raise UnusualTextError
        base, with_vowel, text = parts
        if base is None or is_tail:
            return text
        if after.char == _KHMER_YO and (base in _KHMER_BEFORE_YO or base == "ng"):
            return base
        if after.takes_vowel or (after.is_nonspacing_mark and self._at(end + 1).is_sign):
            return base
        if before.is_virama or (self._starts_word(start) and not _VOWEL_AFTER_R.search(text)):
            return with_vowel
        if self._ends_word(end):
            is_kept = self._letters.lcode in _ONLY_FINAL_VOWELS_KEPT
            is_hindi = letter.script == "Devanagari" and self._letters.lcode != "san"
            return text if is_kept or is_hindi else with_vowel
        if before.script != letter.script:
            return with_vowel
        if self._of[end - 1].is_vocalic:
            return base
        return with_vowel if after.script == letter.script else text

    # ----------------------------------------------------------------------------------------- what joins edges

    def _expanded(self, text: str, start: int, end: int) -> tuple[int, int, str]:
        """As `expand_rom_with_special_chars`: start, end and text of the edge."""
        letter, before, after = self._of[start], self._at(start - 1), self._at(end)
        if end == start + 1 and after.is_lower and text.isupper():
            text = text.capitalize()
        if letter.script == "Thai":
            if before.is_prevowel and _CONSONANT.match(text):
                return self._with_prevowel(text, start, end)
            if letter.char == THAI_O_ANG and end == start + 1 and not self._is_between_consonants(start):
                return start, end, ""
        if after.is_virama:
            return start, end + 1, text
        if text[0] == " " and before.char in ("", " "):
            text = text[1:]
        if text[-1:] == " " and after.char == " ":
            text = text[:-1]
        return start, end, text

    def _with_prevowel(self, text: str, start: int, end: int) -> tuple[int, int, str]:
        """The edge of a consonant together with the vowel written before it and the vowel signs after it."""
        vowel = self._of[start - 1]
        if end == start + 1 and _CONSONANTS.match(text):
            for stop in range(min(end + 3, len(self._text)), end, -1):
                rules = self._letters.uroman.rom_rules.get(f"{vowel.char}–{self._text[end:stop]}")
                if rules:
                    return start - 1, stop, text + rules[0]["t"]
        return start - 1, end, text + (vowel.first_text or "")

    def _is_between_consonants(self, position: int) -> bool:
        """Whether อ has Thai consonants on both sides and is not silent."""
        before, after = self._at(position - 1), self._at(position + 1)
        text = self._text_backwards(position)
        if before.script != "Thai" or after.script != "Thai":
            return False
        if not text:
            self.needs_left_context = True
        if not _CONSONANTS_FOR_O_ANG.match(text):
            return False
        if after.first_text is None:  # uroman fails
            raise UnusualTextError
        return _CONSONANTS_FOR_O_ANG.match(after.first_text) is not None

    def _text_backwards(self, position: int) -> str:
        """As `find_rom_edge_path_backwards` until the first text; after a silent edge it skips one more character."""
        text = ""
        while position > 0 and not text:
            position, text = self._left_edge(position)
            position -= 1
        return text
