"""Sentences of files that have a word and its tag on each line, for comparison with training text.

`translit_scale.testsets` reads such files for evaluation, with all their tags. Here only the sentences matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

from translit_scale.corpus.lines import decode, read_lines

_CONLLU = ".conllu"
_HEAD_LINES = 300
_TAG = re.compile(
    "O|[BIES]-[A-Z]+|ADJ|ADP|ADV|AUX|CCONJ|DET|INTJ|NOUN|NUM|PART|PRON|PROPN|PUNCT|SCONJ|SYM|VERB|X|_", re.ASCII
)
"""Tags of named entities and universal parts of speech."""
_PREFIX = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:(?=.)")
"""The code of the language before every word of WikiAnn."""


def is_tagged(path: Path) -> bool:
    """Whether a file is CoNLL-U, or all its first lines are a word and a tag, with blank lines between sentences.

    Raises:
        DataError: missing, empty, damaged or unreadable file.
    """
    if _is_conllu(path):
        return True
    head = [_fields(decode(line)) for line in islice(read_lines(path), _HEAD_LINES)]
    words = [fields for fields in head if fields]
    return 0 < len(words) < len(head) and all(len(of) > 1 and _TAG.fullmatch(of[-1].strip()) for of in words)


def tagged_sentences(path: Path) -> Iterator[str]:
    """The words of each sentence with spaces between; errors are those of `is_tagged`."""
    words = _surface_words if _is_conllu(path) else _words
    lines = (_fields(decode(line)) for line in read_lines(path))
    for is_sentence, block in groupby(lines, bool):
        if is_sentence:
            yield " ".join(words(block))


def _is_conllu(path: Path) -> bool:
    return _CONLLU in map(str.lower, path.suffixes)  # also `a.conllu.gz`


def _fields(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()


def _words(block: Iterator[list[str]]) -> Iterator[str]:
    return (_PREFIX.sub("", fields[0]) for fields in block)


def _surface_words(block: Iterator[list[str]]) -> Iterator[str]:
    """The words as they stand in the text: a token that is several syntactic words comes before these, as `3-4`."""
    end = 0
    for fields in block:
        first, _, last = fields[0].partition("-")
        if first.isdecimal() and int(first) > end and len(fields) > 1:
            end = int(last) if last.isdecimal() else int(first)
            yield fields[1]
