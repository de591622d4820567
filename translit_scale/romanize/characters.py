"""Properties of single characters, from uroman's tables, that determine where a text can be split.

uroman builds a lattice of edges (spans of the text with their romanizations) from rules (`key` → `t`, some only for
certain languages or positions in a word) and from special code, and then reads the longest edges from left to right. A
neighbour can matter in a few ways, and each property of `Character` is for one of them. They are read from the tables
where possible; facts that only uroman's code contains are named constants here. Names in back quotes are uroman's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import uroman

LCODES_IN_CODE = frozenset({"asm", "ben", "guj", "kas", "pan", "san"})
"""Language codes in the code of `add_default_abugida_vowel`; all others are in rules."""

THAI_O_ANG = "\u0e2d"
"""Silent unless between consonants, for which the text before it is read back (`expand_rom_with_special_chars`)."""

_KHMER_YO = "\u1799"
_GRAVE = "\u0300"
_DOUBLERS = "っッ\u0a71"
_ATTACHING_KANA = "ゃゅょャュョー"
THAI_CONSONANTS = frozenset(map(chr, range(0x0E01, 0x0E2F))) - {THAI_O_ANG}
_VOWELS = ("a", "e", "i", "o", "u")
_CONSONANT = re.compile("[bcdfghjklmnpqrstvwxyz]+[ao]*-?")
_AT_START = ("use-only-at-start-of-word", "dont-use-at-start-of-word", "use-only-for-whole-word")
_AT_END = ("use-only-at-end-of-word", "dont-use-at-end-of-word", "use-only-for-whole-word")


class Tables:
    """uroman's rules under one language code, by the characters of their keys.

    Args:
        source: uroman with its tables.
        lcode: a language code that uroman knows (`known_lcodes`), or None.
    """

    def __init__(self, source: uroman.Uroman, lcode: str | None) -> None:
        self.uroman = source
        self.abugidas = {s["script-name"] for s in source.scripts.values() if s["abugida-default-vowels"]} - {"Tibetan"}
        """Scripts with inherent vowels. Tibetan has its own rule, by runs of letters."""
        signs = [*source.fraction_connectors, *source.minus_signs, *source.plus_signs, "."]
        self.number_signs = frozenset("".join(signs))
        self.pairs_in_keys: set[str] = set()
        """All pairs of neighbouring characters in keys, except for the keys in `never_split`."""
        self.thai_pattern_ends: set[str] = set()
        """Characters after the consonant (–) in the keys of vowel patterns such as เ–า."""
        self.lcode = lcode
        self.characters: dict[str, Character] = {}
        """Those that were asked for."""
        self._all_from: dict[str, list[str]] = defaultdict(list)
        self._longer_from: dict[str, list[str]] = defaultdict(list)
        self._longer_to: dict[str, list[str]] = defaultdict(list)
        keys = [key for key, rules in source.rom_rules.items() if rules and len(key) > 1]
        begin_in_ascii = [key for key in keys if key[0].isascii() and not key.isascii()]
        uncut = [key for key, rules in source.rom_rules.items() if key and self._makes_uroman_fail(key)]
        for key in keys:
            self._all_from[key[0]].append(key)
            if self._is_own_romanization(key):
                uncut += [key + other[1:] for other in begin_in_ascii if key.endswith(other[0])]
            elif any(rule["use-only-for-whole-word"] for rule in source.rom_rules[key]):
                uncut.append(key)
            else:
                self._longer_from[key[0]].append(key)
                self._longer_to[key[-1]].append(key)
                self.pairs_in_keys.update(map("".join, pairwise(key)))
                self.thai_pattern_ends.update(key.partition("–")[2])
        self.never_split = re.compile("|".join(map(re.escape, sorted(uncut))))
        """Texts with a match are never split. Rules for whole words (μs, են) would otherwise forbid splits next to
        common letters; and uroman must fail on the same texts as before."""

    def _makes_uroman_fail(self, key: str) -> bool:
        """Whether `is_at_end_of_word` fails on the key, because a rule has no text (`፼`, only a number)."""
        return not key[0].isalpha() and any(rule["t"] is None for rule in self.uroman.rom_rules[key])

    def _is_own_romanization(self, key: str) -> bool:
        """Whether a key is ASCII and is romanized to itself (kn, St., ...).

        Its single letters are romanized to themselves as well, so such an edge makes no difference, unless the last
        letter of the key could also begin an edge that continues in another script (kn|n̂).
        """
        return key.isascii() and all(rule["t"] == key for rule in self.uroman.rom_rules[key])

    def character(self, char: str) -> Character:
        """The facts about a character."""
        if char not in self.characters:
            self.characters[char] = Character(char, self)
        return self.characters[char]

    def all_keys_from(self, char: str) -> list[str]:
        """Keys that begin with a character, the shorter first, those in `never_split` included."""
        return [char, *sorted(self._all_from.get(char, ()), key=len)]

    def keys_from(self, char: str) -> Iterator[str]:
        """Keys that begin with a character, except for those in `never_split`."""
        yield char
        yield from self._longer_from.get(char, ())

    def keys_to(self, char: str) -> Iterator[str]:
        """Keys that end with a character, except for those in `never_split`."""
        yield char
        yield from self._longer_to.get(char, ())

    def is_alone(self, char: str) -> bool:
        """Whether no longer key begins or ends with a character."""
        return char not in self._longer_from and char not in self._longer_to

    def rules(self, key: str) -> Iterator[Any]:
        """The rules of a key that have a romanization and apply to the language code."""
        for rule in self.uroman.rom_rules.get(key, ()):
            if rule["t"] is not None and (not rule["lcodes"] or self.lcode in rule["lcodes"]):
                yield rule

    def ordered_rules(self, key: str) -> list[Any]:
        """The same rules in the order in which uroman prefers them."""
        rules = list(self.rules(key))
        return sorted(rules, key=lambda rule: -(rule["n-restr"] or 0)) if len(rules) > 1 else rules


def known_lcodes(source: uroman.Uroman) -> frozenset[str]:
    """The language codes that make a difference to uroman."""
    in_rules = {lcode for rules in source.rom_rules.values() for rule in rules for lcode in rule["lcodes"] or ()}
    return LCODES_IN_CODE | in_rules


class Character:
    """Properties of one character; it is called x on the left of a possible split point and y on its right."""

    def __init__(self, char: str, tables: Tables) -> None:
        self.char = char
        self.is_alpha = char.isalpha()
        self.is_lower = char.islower()
        self.is_ascii = char.isascii()
        self.category = unicodedata.category(char)
        self.name: str = tables.uroman.chr_name(char)
        self.script: str = tables.uroman.chr_script_name(char)
        """uroman's name of the script; "" where it has none."""
        self._tables = tables
        self._decomposed = unicodedata.normalize("NFKD", char)

    @cached_property
    def rules_from(self) -> list[Any]:
        """Rules of edges that begin here."""
        return [rule for key in self._tables.keys_from(self.char) for rule in self._tables.rules(key)]

    @cached_property
    def rules_to(self) -> list[Any]:
        """Rules of edges that end here."""
        return [rule for key in self._tables.keys_to(self.char) for rule in self._tables.rules(key)]

    @cached_property
    def _endings(self) -> str:
        """The last characters of every text that an edge up to here may have by a rule or decomposition."""
        parts = (self._tables.rules(part) for part in self._decomposed)
        texts = [rule["t"] for rules in (self.rules_to, *parts) for rule in rules]
        return "".join(text[-1:] for text in texts) + self._decomposed[-1:]

    @cached_property
    def is_free(self) -> bool:
        """Nothing is checked across a split on either side of it (most ideographs and syllables).

        Only a rule with a key of several letters can join it with another such character.
        """
        is_common = not (self.is_ascii or self.script == "Thai" or self.script in self._tables.abugidas)
        return is_common and not (
            self.attaches
            or self.begins_with_space
            or self.is_numeric
            or self.may_end_in_digit
            or self.is_tibetan_letter
            or self.is_capital
            or self.reaches_right
            or self.asks_word_start
            or self.asks_word_end
            or self.vowel_depends_left
            or self.vowel_depends_right
        )

    # ------------------------------------------------------------------ what joins with the neighbour itself

    @cached_property
    def is_virama(self) -> bool:
        """Silences the vowel of the consonant before it and is part of its edge."""
        return bool(self._tables.uroman.dict_bool["is-virama", self.char])

    @cached_property
    def is_mark(self) -> bool:
        """A combining mark of any kind, or a sign that uroman treats as one."""
        flags = self._tables.uroman.dict_bool
        signs = ("is-vowel-sign", "is-medial-consonant-sign", "is-virama")
        return self.category[0] == "M" or any(flags[sign, self.char] for sign in signs)

    @cached_property
    def attaches(self) -> bool:
        """As y: changes or prolongs the edge before it (`add_default_abugida_vowel` asks for the signs, subjoined
        letters and Khmer yo; `expand_rom_with_special_chars` for small kana, ー, grave accent and virama)."""
        return self.is_mark or "SUBJOINED LETTER" in self.name or self.is_small_kana or self.char == _KHMER_YO

    @cached_property
    def is_small_kana(self) -> bool:
        """Joins with the kana before it, as ー does."""
        return self.char in _ATTACHING_KANA

    @cached_property
    def reaches_right(self) -> bool:
        """As x: changes the edge after it: small tsu and addak double it, a virama tells it that it is
        the end of a cluster, a Thai vowel written before its consonant goes into its edge; or a nukta,
        which `is_at_end_of_word` skips to look at what follows."""
        return self.doubles or self.is_virama or self.is_nukta or self.is_thai_prevowel

    @cached_property
    def doubles(self) -> bool:
        return self.char in _DOUBLERS

    @cached_property
    def is_nukta(self) -> bool:
        return "NUKTA" in self.name

    @cached_property
    def is_tibetan_letter(self) -> bool:
        """`pick_tibetan_vowel_edge` looks for one vowel in every run of these."""
        is_sign = self._tables.uroman.dict_bool["is-vowel-sign", self.char]
        return self.script == "Tibetan" and ("LETTER" in self.name or bool(is_sign))

    # ------------------------------------------------------------------------------- spaces, capitals, numbers

    @cached_property
    def begins_with_space(self) -> bool:
        """As y: its romanization loses a leading space at the start of the text and after a space."""
        return self.char == " " or any(rule["t"].startswith(" ") for rule in self.rules_from)

    @cached_property
    def looks_for_space(self) -> bool:
        """As x: its romanization is another one before a space (`。` gives ". ", and "." before a space)."""
        return f"{self.char} " in self._tables.pairs_in_keys or " " in self._endings

    @cached_property
    def is_capital(self) -> bool:
        """As x: romanized to several capitals, of which only the first stays one before a lower-case y."""
        return any(rule["t"].isupper() and rule["t"] != rule["t"].capitalize() for rule in self.rules_to)

    @cached_property
    def is_numeric(self) -> bool:
        """Can be part of a number (`add_numbers`, `decomp_rom`)."""
        return self.is_number or self.char in self._tables.number_signs or _is_numeric(self.char)

    @cached_property
    def is_number(self) -> bool:
        """As y: becomes a number, which looks for a digit at the end of the edge before it."""
        return bool(self._tables.uroman.num_props.get(self.char))

    @cached_property
    def may_end_in_digit(self) -> bool:
        """As x: an edge up to here may end in a digit."""
        return any(map(_is_numeric, self._endings))

    # ------------------------------------------------------------------------------------- start and end of word

    @cached_property
    def asks_word_start(self) -> bool:
        """As y: a rule from here on applies only at the start of a word, or only elsewhere."""
        return any(rule[slot] for rule in self.rules_from for slot in _AT_START)

    @cached_property
    def asks_word_end(self) -> bool:
        """As x: a rule up to here applies only at the end of a word, or only elsewhere."""
        return any(rule[slot] for rule in self.rules_to for slot in _AT_END)

    @cached_property
    def always_continues_word(self) -> bool:
        """As x: `is_at_start_of_word` is False after it, as it is alphabetic or is always romanized to letters."""
        own = list(self._tables.rules(self.char))
        is_sure = any(not rule["n-restr"] for rule in own)
        return self.is_alpha or (is_sure and all(rule["t"][-1:].isalpha() for rule in own))

    @cached_property
    def never_continues_word(self) -> bool:
        """As x: `is_at_start_of_word` is True after it: no edge up to here has a text that ends in a letter."""
        is_swallowed = self.is_virama or self.char == _GRAVE or self.char in self._tables.thai_pattern_ends
        may_get_vowel = self.is_tibetan_letter  # even an apostrophe
        return not (self.is_alpha or is_swallowed or may_get_vowel or any(map(str.isalpha, self._endings)))

    @cached_property
    def never_continued(self) -> bool:
        """As y: `is_at_end_of_word` is True before it: not alphabetic, and no rule from here on, of whatever
        language, has a text with letters."""
        keys = self._tables.keys_from(self.char)
        texts = [rule["t"] for key in keys for rule in self._tables.uroman.rom_rules.get(key, ())]
        return not self.is_alpha and not any(map(str.isalpha, "".join(text or "" for text in texts)))

    # -------------------------------------------------------------------------------------------------- abugidas

    @cached_property
    def vowel_depends_left(self) -> bool:
        """As y: an edge from here on may be a consonant whose inherent vowel depends on what is before it."""
        return any(self._has_inherent_vowel(rule) for rule in self.rules_from)

    @cached_property
    def vowel_depends_right(self) -> bool:
        """As x: an edge up to here may be a consonant whose inherent vowel depends on what follows."""
        return any(self._has_inherent_vowel(rule) for rule in self.rules_to)

    def _has_inherent_vowel(self, rule: Any) -> bool:
        """`add_default_abugida_vowel` changes only a text of consonants, perhaps with an inherent vowel."""
        is_in_abugida = self._tables.uroman.chr_script_name(rule["s"][0]) in self._tables.abugidas
        return is_in_abugida and _CONSONANT.fullmatch(rule["t"]) is not None

    # ------------------------------------------------------------------------------------------------------ Thai

    @cached_property
    def is_thai_prevowel(self) -> bool:
        """Written before its consonant and spoken after it."""
        return bool(self._tables.uroman.dict_str["syllable-info", self.char])

    @cached_property
    def is_thai_consonant(self) -> bool:
        return self.char in THAI_CONSONANTS

    @cached_property
    def is_thai_tone_mark(self) -> bool:
        """Looked over at the end of a syllable."""
        return bool(self._tables.uroman.dict_str["tone-mark", self.char])

    @cached_property
    def is_thai_vowel(self) -> bool:
        """As x: every edge up to here ends in a vowel, so it cannot close a syllable."""
        is_other = self.is_thai_consonant or self.is_thai_prevowel or self.char == THAI_O_ANG
        texts = [rule["t"] for rule in self.rules_to]
        return self.script == "Thai" and not is_other and bool(texts) and all(text.endswith(_VOWELS) for text in texts)

    @cached_property
    def has_syllable_end(self) -> bool:
        """Has another text at the end of a syllable."""
        return any(rule["t-at-end-of-syllable"] is not None for rule in self._tables.rules(self.char))

    def texts_to(self, before: str | None) -> list[str]:
        """All texts of edges up to here, if `before` is before this character; after any character if it is None."""
        keys = self._tables.keys_to(self.char)
        if before is not None:
            keys = (key for key in keys if len(key) == 1 or key[-2] in (before, "–"))
        rules = [rule for key in keys for rule in self._tables.rules(key)]
        ends = [rule["t-at-end-of-syllable"] for rule in rules]
        return [text for text in (*(rule["t"] for rule in rules), *ends) if text is not None]

    def texts_from(self, length: int) -> list[str]:
        """All texts of keys of up to `length` characters from here."""
        keys = (key for key in self._tables.keys_from(self.char) if len(key) <= length)
        return [rule["t"] for key in keys for rule in self._tables.rules(key)]


def _is_numeric(char: str) -> bool:
    return unicodedata.numeric(char, None) is not None
