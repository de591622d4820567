"""Cleans sentences, and brings them into a form in which they are compared.

A sentence stays as the user wrote it, because uroman and tokenizers have rules for the characters of real text: in NFKC
Thai `คำ` would become `khmaa` instead of `kham`. docs/data-formats.md has a table of all classes of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import regex

CLEANING_VERSION = 2
"""Raised whenever `clean`, `deduplication_key`, `fold` or `web.remove` comes to return something else for a string."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HALFWIDTH_KATAKANA = re.compile("[\uff65-\uff9f]+")
_DECOMPOSED = regex.compile(
    r"[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?|[\uac00-\ud7a3][\u11a8-\u11c2]"  # Hangul letters
    r"|\P{M}\p{M}+"  # a letter and its marks
    r"|[\uf900-\ufad9\U0002f800-\U0002fa1d]"  # compatibility ideographs
)
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
"""Format characters (Cf) without a form or meaning of their own.

Others are ZWNJ and ZWJ (Persian and Indic spelling), the Mongolian vowel separator, the Arabic, Syriac and Kaithi signs
that enclose numbers, and the joiners of hieroglyphs.
"""


def clean(text: str) -> str:
    """A sentence on one line, "" if nothing in it is visible; `clean(clean(x)) == clean(x)`.

    Runs of white space and control characters become one space, none at the ends. Letters that are written as several
    characters become one where Unicode has it, and half-width katakana get their usual form: uroman reads only these.
    Everything else stays, even `<s>` and `<mask>`: the tokenizer deals with them.
    """
    if not text.isprintable():
        text = _CONTROLS.sub(" ", text) if _INVISIBLE.sub("", text).strip() else ""
    if not text.isascii():
        if not unicodedata.is_normalized("NFC", text):
            text = _DECOMPOSED.sub(_composed, text)
        text = _HALFWIDTH_KATAKANA.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return " ".join(text.split())


def _composed(match: regex.Match[str]) -> str:
    """The canonical composition; what NFC takes apart (Bengali `ড়`) stays, because uroman knows it."""
    composed = unicodedata.normalize("NFC", match[0])
    return composed if len(composed) < len(match[0]) or len(match[0]) == 1 else match[0]


def deduplication_key(sentence: str) -> str:
    """NFKC without invisible characters, of a cleaned sentence: sentences that are equal in it are duplicates."""
    if sentence.isascii():
        return sentence
    # NFKC last: the characters that it joins may become neighbours only when an invisible one between them is removed.
    visible = sentence if sentence.isprintable() else _INVISIBLE.sub("", sentence)
    return " ".join(unicodedata.normalize("NFKC", visible).split())


class Without(dict[int, int | None]):
    """Table for `str.translate` that deletes some characters; filled as characters occur.

    Args:
        is_deleted: whether a character is one of them.
    """

    def __init__(self, is_deleted: Callable[[str], object]) -> None:
        super().__init__()
        self._is_deleted = is_deleted

    def __missing__(self, code: int) -> int | None:
        self[code] = None if self._is_deleted(chr(code)) else code
        return self[code]


_FOLD = Without(lambda char: unicodedata.category(char)[0] not in "LMN")


def fold(text: str) -> str:
    """Letters, marks and digits, casefolded: held-out sentences are compared in this form.

    Marks are kept: Indic vowel signs are marks, and without them different words would be equal.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_FOLD)


def same_letters(orig: bytes, latn: bytes) -> bool:
    """Whether two sentences differ in diacritics and case only."""
    return orig == latn or _letters(orig) == _letters(latn)


def _letters(text: bytes) -> str:
    decomposed = unicodedata.normalize("NFKD", text.decode())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
