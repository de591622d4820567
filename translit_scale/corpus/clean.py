"""Cleans sentences, and folds them for comparison with held-out text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

CLEANING_VERSION = 1
"""Raised whenever `clean` or `fold` comes to return something else for some string."""

_SPACES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
"""Format characters (Cf) without a form or meaning of their own.

Kept are ZWNJ and ZWJ (Persian and Indic spelling), the Mongolian vowel separator, the Arabic, Syriac and
Kaithi signs that enclose numbers, and the joiners of hieroglyphs.
"""


def clean(text: str) -> str:
    """A sentence on one line in NFKC; `clean(clean(x)) == clean(x)`.

    Control characters and U+2028/2029 become spaces, invisible format characters are removed, and runs of white space
    become one space, none at the ends. Everything else stays, even `<s>` and `<mask>`: the tokenizer deals with them.
    """
    if text.isprintable():  # most text: then there are no such characters, even after NFKC
        return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).split())
    # NFKC last: the characters that it joins may become neighbours only when an invisible one between them is removed.
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    return " ".join(_SPACES.sub(" ", text).split())


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
