"""uroman's romanization, remembered for words and parts of words.

`Uroman.romanize_string` builds a lattice for every text, at some hundred lines a second. Here a line is split into
words, and unknown words into parts at places where that provably changes nothing (`split_points.py`), and every part
is read once (`best_path.py`; by uroman itself if it is unusual). The output is the same byte for byte;
`benchmarks/romanize.py` and the tests compare it on real text and on random text made to break it.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from itertools import chain
from operator import add
from types import SimpleNamespace
from typing import Any

import regex
import uroman
from uroman import uroman as uroman_code

from translit_scale.errors import ConfigError
from translit_scale.romanize.best_path import BestPath, Letters, UnusualTextError
from translit_scale.romanize.characters import Tables
from translit_scale.romanize.split_points import LOOK_BACK, PLAIN, SplitPoint, SplitPoints
from translit_scale.romanize.table_cache import load_tables

VERSION = "1.3.1.1"
"""The version of uroman for which this code was written, line by line."""
MEMO_BYTES = 512 * 2**20
"""Approximate limit of all memos of a `Memory`; they are emptied when it is reached."""

_BRAILLE = re.compile("[\u2800-\u28ff]")
_WORD_AND_SPACES = re.compile("[^ ]* *")
_MANY_DIGITS = 4000
"""uroman cannot read a number of more than 4 300 digits."""
_LOOK_UP_BYTES = 300
"""Approximate growth of uroman's tables for every character that is new in its context."""
_LETTER_BYTES = 4000
"""Approximate size of all that is remembered of one character."""
_LONGEST_WORD = 40
"""Longer words are mostly sentences in scripts without spaces, which do not occur again."""
_ENTRY_BYTES = 120
"""Approximate overhead of a dictionary per entry."""


@lru_cache(maxsize=1000)
def _compiled(pattern: str, flags: int = 0) -> regex.Pattern[str]:
    return regex.compile(pattern, flags)


uroman_code.regex = SimpleNamespace(
    **vars(regex)
    | {
        "match": lambda pattern, text, flags=0: _compiled(pattern, flags).match(text),
        "search": lambda pattern, text, flags=0: _compiled(pattern, flags).search(text),
        "sub": lambda pattern, repl, text, count=0, flags=0: _compiled(pattern, flags).sub(repl, text, count),
    }
)
"""What uroman calls as `regex`. regex looks up compiled patterns so slowly that it took 40 % of uroman's time."""


class Lattice(uroman_code.Lattice):
    """uroman's lattice of one text; it also notices whether text before it could change the result."""

    needs_left_context = False

    def check_for_scripts(self) -> None:
        """Same as uroman's, which searches the text for Braille once per character."""
        for char in set(self.s):
            self.contains_script[self.uroman.chr_script_name(char)] = True
        if _BRAILLE.search(self.s):
            self.contains_script["Braille"] = True

    def add_numbers(self, source: uroman.Uroman, **kwargs: Any) -> None:
        """Same as uroman's, which looks at every character and edge even if none is numeric."""
        if any(source.num_props.get(char) or unicodedata.numeric(char, None) is not None for char in self.s):
            super().add_numbers(source, **kwargs)

    def find_rom_edge_path_backwards(self, start: int, end: int, *args: Any, **kwargs: Any) -> Any:
        """Searches backwards from อ, over silent signs and spaces, for the last romanized letter; used only for อ
        between Thai neighbours. If the search ends at the start of the text, text before it would change the result."""
        latin = super().find_rom_edge_path_backwards(start, end, *args, **kwargs)
        neighbours = (self.s[end - 1 : end], self.s[end + 1 : end + 2])
        if not latin and all(self.uroman.chr_script_name(char) == "Thai" for char in neighbours):
            self.needs_left_context = True
        return latin


def load_uroman() -> uroman.Uroman:
    """uroman with its tables, 70 MB; takes about 2 s the first time and 0.2 s when they are in the user's cache.

    Raises:
        ConfigError: another version is installed, whose output and split points could differ.
    """
    if uroman_code.__version__ != VERSION:
        raise ConfigError(
            f"uroman {VERSION} is needed, found {uroman_code.__version__}", f"pip install uroman=={VERSION}"
        )
    return load_tables()


class _UromanError(Exception):
    """uroman raised an exception on a part of a text."""


class Memory:
    """Dictionaries that are emptied together when they exceed an estimated `limit` in bytes.

    Only speed depends on their contents. uroman's own tables are `defaultdict`s and grow with every string that is
    looked up in them, so `clear` also removes these entries.
    """

    def __init__(self, source: uroman.Uroman, limit: int = MEMO_BYTES) -> None:
        self.source = source
        self.limit = limit
        self.held = 0
        self.memos: list[dict[Any, Any]] = []

    def count(self, *strings: str | None, more: int = 0) -> None:
        """Counts an entry of these strings and `more` bytes; may clear all."""
        self.held += _ENTRY_BYTES + sum(map(sys.getsizeof, strings)) + more
        if self.held > self.limit:
            self.clear()

    def clear(self) -> None:
        """Empties the memos and trims uroman's tables."""
        self.held = 0
        for memo in self.memos:
            memo.clear()
        for name in ("dict_bool", "dict_str", "rom_rules", "num_props"):
            table = getattr(self.source, name)
            for key in [key for key, value in table.items() if not value]:
                del table[key]


class ExactUroman(dict[str, str | None]):
    """Romanizes like `Uroman().romanize_string(text, lcode)`, and remembers.

    It is itself the memo of words: word → romanization, or None if that depends on the neighbours.

    Args:
        memory: uroman's tables and the limit of memory.
        lcode: language code, or None.
    """

    def __init__(self, memory: Memory, lcode: str | None = None) -> None:
        super().__init__()
        self._memory = memory
        self._lcode = lcode
        self._tables = tables = Tables(memory.source, lcode)
        self._never_split = tables.never_split
        self._letters = Letters(tables, lambda char: memory.count(char, more=_LETTER_BYTES))
        self._split_points = SplitPoints(tables, self._plain, memory.count)
        self._parts: dict[tuple[str, str, str], str | None] = {}
        self._pieces: dict[str, str | None] = {}
        memory.memos += [self, self._split_points, self._parts, self._pieces, self._letters, tables.characters]

    def romanize(self, text: str) -> str:
        """The romanization of a text of any length, including its white space.

        Raises:
            Exception: whatever uroman raises on this text (AttributeError on `一分之微`, ValueError on a number
                of more than 4 300 digits). ASCII is returned unchanged, whatever uroman would do.
        """
        if text.isascii():
            return text
        try:
            words = list(map(self.__getitem__, text.split(" ")))
            # The romanization of a word depends at most on the space after it, unless it is None.
            return " ".join(words) if None not in words else self._in_context(text)  # type: ignore[arg-type]
        except _UromanError:  # raised for a part: uroman gets the whole text, and raises its own error
            return self._plain(text)

    def romanize_always(self, text: str) -> tuple[str, bool]:
        """As `romanize`, or word by word (failing words by character) if uroman fails; and whether that was needed."""
        latin = self._attempt(text)
        if latin is not None:
            return latin, False
        words = []
        for word in text.split(" "):
            latin = self._attempt(word)
            words.append("".join(self._attempt(char) or "" for char in word) if latin is None else latin)
        return " ".join(words), True

    def _attempt(self, text: str) -> str | None:
        try:
            return self.romanize(text)
        except Exception:  # uroman's bugs raise AttributeError, ValueError, ...: no sentence must be lost
            return None

    def __missing__(self, word: str) -> str | None:
        if word.isascii() and len(word) < _MANY_DIGITS:
            latin: str | None = word
        elif _BRAILLE.search(word) or self._tables.character(word[-1]).looks_for_space:
            latin = None
        else:
            latin = self._unit(word)
        if len(word) <= _LONGEST_WORD:
            self._memory.count(word, None if latin is word else latin)
            self[word] = latin
        return latin

    def _in_context(self, text: str) -> str:
        """Romanizes words with the spaces after them, together with the text before them if that matters."""
        if _BRAILLE.search(text):  # signs for capitals and numbers act over any distance
            return self._plain(text)
        done: list[tuple[str, str]] = []
        for piece in _WORD_AND_SPACES.findall(text):
            latin = self._piece(piece)
            while latin is None and done:
                piece = done.pop()[0] + piece
                latin = self._piece(piece)
            done.append((piece, self._plain(piece) if latin is None else latin))
        return "".join(latin for _, latin in done)

    def _piece(self, text: str) -> str | None:
        if text not in self._pieces:
            latin = self._unit(text)
            if len(text) > _LONGEST_WORD:
                return latin
            self._memory.count(text, latin)
            self._pieces[text] = latin
        return self._pieces[text]

    def _unit(self, text: str) -> str | None:
        """The romanization of a text between plain split points; None if it depends on the text before it."""
        if self._never_split.search(text):
            return self._part(PLAIN, text, PLAIN)
        points, parts = self._split_points, self._parts
        begins: list[tuple[int, SplitPoint]] = []
        latins: list[str] = []
        begin, before = 0, PLAIN
        splits = map(points.__getitem__, map(add, text, text[1:]))
        for end, split in enumerate(chain(splits, [PLAIN]), 1):
            if split is LOOK_BACK:
                split = points[text[end - 2 : end + 1] if end > 1 else f" {text[:2]}"]
            if split is None:
                continue
            part = text[begin:end]
            latin = parts.get((before.before_right, part, split.after_left)) or self._part(before, part, split)
            while latin is None:  # together with the part before it
                if not begins:
                    return None
                begin, before = begins.pop()
                latins.pop()
                latin = self._part(before, text[begin:end], split)
            begins.append((begin, before))
            latins.append(latin)
            begin, before = end, split
        return "".join(latins)

    def _part(self, before: SplitPoint, text: str, after: SplitPoint) -> str | None:
        """The romanization of a text between two split points; None if it depends on the text before it."""
        if text.isascii() and before is PLAIN and after is PLAIN and len(text) < _MANY_DIGITS:
            return text
        key = (before.before_right, text, after.after_left)
        if key not in self._parts:
            try:
                latin, needs_left_context = self._read("".join(key))
            except Exception as error:
                raise _UromanError from error
            latin = latin[before.before_right_latin : len(latin) - after.after_left_latin]
            self._memory.count(*key, latin)
            self._parts[key] = None if needs_left_context else latin
        return self._parts[key]

    def _plain(self, text: str) -> str:
        """uroman's own romanization."""
        return self._read(text)[0]

    def _read(self, text: str) -> tuple[str, bool]:
        """`Uroman.romanize_string_core` for a string, and whether the result depends on the text before it."""
        try:
            path = BestPath(self._letters, text)
            return path.latin(), path.needs_left_context
        except UnusualTextError:
            return self._read_by_uroman(text)

    def _read_by_uroman(self, text: str) -> tuple[str, bool]:
        self._memory.count(more=_LOOK_UP_BYTES * len(text))
        lattice = Lattice(text, self._memory.source, self._lcode)
        lattice.pick_tibetan_vowel_edge()
        lattice.prep_braille()
        lattice.add_romanization()
        lattice.add_numbers(self._memory.source)
        lattice.add_braille_numbers()
        lattice.add_rom_fall_back_singles()
        latin = str(lattice.edge_path_to_surf(lattice.best_rom_edge_path(0, len(text))))
        return latin, lattice.needs_left_context
