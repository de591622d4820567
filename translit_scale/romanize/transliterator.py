"""Where transliterations come from: the protocol of a source, and the sources that a recipe can name.

Another source is one class with the two methods of `Transliterator`, and its name in `SOURCES`. A recipe cannot give it
settings of its own: those would be fields of `prepare.recipe.Romanize` that every caller of `source` hands over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from translit_scale.romanize.romanizer import LcodePolicy, Romanizer


class Transliterator(Protocol):
    """A source of transliterations."""

    def transliterate(self, texts: Sequence[str], language: str, counts: Counter[str]) -> list[str]:
        """The Latin text of each cleaned text, on one line; "" where there is none, and the pair is left out.

        Args:
            language: of all texts, `iso3_Script`.
            counts: `fallbacks` goes up by the number of texts that could not be transliterated as a whole.
        """

    def provenance(self) -> dict[str, Any]:
        """What the output depends on besides text and language, as JSON: if it changes, shards are made again."""


class FromColumns:
    """Transliterations that the input files have in columns of their own; other texts go to another source.

    Args:
        columns: names of the columns.
        table: transliteration of each text, as cleaned.
    """

    def __init__(self, columns: Sequence[str], table: Mapping[str, str], others: Transliterator) -> None:
        self._columns, self._table, self._others = columns, table, others

    def transliterate(self, texts: Sequence[str], language: str, counts: Counter[str]) -> list[str]:
        """As in `Transliterator`; `from_column` counts the texts that are in the table."""
        missing = [text for text in texts if text not in self._table]
        others = iter(self._others.transliterate(missing, language, counts))
        counts["from_column"] += len(texts) - len(missing)
        return [self._table[text] if text in self._table else next(others) for text in texts]

    def provenance(self) -> dict[str, Any]:
        """The columns; what is in them belongs to the input."""
        return {"implementation": "columns of the input", "columns": list(self._columns)}


SOURCES: dict[str, Callable[[LcodePolicy], Transliterator]] = {"uroman": Romanizer}
"""What `romanize.by` in a recipe can be: each is called with `romanize.lcode`."""


@lru_cache(maxsize=2)
def source(by: str, lcode: LcodePolicy) -> Transliterator:
    """One source per process and setting."""
    return SOURCES[by](lcode)


def sources(by: str, lcodes: Sequence[LcodePolicy], language: str) -> list[Transliterator]:
    """One source for each policy, in their order, without those that give the same as the first in this language."""
    first, *others = (source(by, lcode) for lcode in lcodes)
    if others and isinstance(first, Romanizer) and first.lcode_of(language.partition("_")[0]) is None:
        return [first]
    return [first, *others]
