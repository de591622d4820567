"""Reads sentences of words with tags, separated by blank lines; of CoNLL-U, the words with their UPOS.

A token of CoNLL-U (https://universaldependencies.org/format.html) may be several syntactic words (`vámonos` = `vamos
nos`). With `fused`, as in the papers' data, the token is one word: its tag is that of the part which is highest in the
tree, and among equals the first in `PRECEDENCE`; spaces and U+200C inside words are removed. Otherwise every syntactic
word is a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.text import read_records
from translit_scale.errors import DataError

PRECEDENCE = (
    "VERB", "NOUN", "PROPN", "PRON", "ADJ", "NUM", "ADV", "INTJ", "AUX",
    "ADP", "DET", "PART", "CCONJ", "SCONJ", "X", "PUNCT", "SYM",
)  # fmt: skip
"""As in the papers' data; SYM, which is missing there, comes last."""
_COLUMNS = 10
_WITHHELD = "_"


class Word(NamedTuple):
    """A word with its tag in the file, and `file:line` for messages."""

    where: str
    text: str
    tag: str


Sentence = list[Word]


def blocks(path: Path) -> Iterator[list[tuple[int, list[str]]]]:
    """Blocks of lines between blank lines: the number and the fields of each line.

    Raises:
        DataError: the file is missing, empty, damaged or unreadable, or a line is too long.
    """
    block: list[tuple[int, list[str]]] = []
    for line, fields in read_records(path):
        if any(field.strip(" ") for field in fields):
            block.append((line, fields))
        elif block:
            yield block
            block = []
    if block:
        yield block


class _Node(NamedTuple):
    """A line of a sentence: syntactic words first..last (one word, or those of a multiword token)."""

    line: int
    first: int
    last: int
    form: str
    tag: str
    head: str


def conllu_sentences(path: Path, fused: bool, dropped: Counter[str], noted: Counter[str]) -> Iterator[Sentence]:
    """The sentences of a file.

    Args:
        dropped: counts `empty_nodes` (ids such as `8.1`) and `withheld`: sentences whose words, all or all but one, are
            `_` because the text may not be redistributed.
        noted: counts `multiword`, the tokens that are several words.

    Raises:
        DataError: as `blocks`, a line that does not have ten columns, or ids that are not in order.
    """
    for block in blocks(path):
        nodes = list(_nodes(path, block, dropped))
        parts = {node.first: node for node in nodes if node.first == node.last}
        tokens = [node for node in nodes if node.last > node.first]
        noted["multiword"] += len(tokens)
        if list(parts) != list(range(1, len(parts) + 1)) or any(node.last > len(parts) for node in tokens):
            raise DataError(f"{path}:{block[0][0]}: the ids of this sentence are not 1 to {len(parts)} in order")
        words = list(_fused(nodes, parts)) if fused else list(parts.values())
        sentence = [Word(f"{path}:{node.line}", _joined(node.form) if fused else node.form, node.tag) for node in words]
        withheld = sum(word.text == _WITHHELD for word in sentence)
        if withheld and withheld >= len(sentence) - 1:
            dropped["withheld"] += 1
        elif sentence:
            yield sentence


def _nodes(path: Path, block: list[tuple[int, list[str]]], dropped: Counter[str]) -> Iterator[_Node]:
    for line, fields in block:
        if fields[0].startswith("#"):
            continue
        if len(fields) != _COLUMNS:
            raise DataError(f"{path}:{line}: expected {_COLUMNS} columns separated by tabs, found {len(fields)}")
        key, form, tag, head = fields[0], fields[1], fields[3], fields[6]
        if "." in key:
            dropped["empty_nodes"] += 1
            continue
        first, _, last = key.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise DataError(f"{path}:{line}: {key!r} is not an id", "expected 3, 3-4 or 3.1")
        yield _Node(line, int(first), int(last or first), form.strip(" "), tag, head)


def _fused(nodes: list[_Node], parts: dict[int, _Node]) -> Iterator[_Node]:
    """The tokens of the text: a multiword token in place of its parts."""
    end = 0
    for node in nodes:
        if node.last > node.first:
            end = node.last
            yield node._replace(tag=_tag([parts[index] for index in range(node.first, node.last + 1)], parts))
        elif node.first > end:
            yield node


def _tag(span: list[_Node], parts: dict[int, _Node]) -> str:
    """The tag of the part that is highest in the tree; among several, the first in PRECEDENCE."""
    depths = [_depth(node, parts) for node in span]
    highest = [node.tag for node, depth in zip(span, depths, strict=True) if depth == min(depths)]
    return min(highest, key=lambda tag: PRECEDENCE.index(tag) if tag in PRECEDENCE else len(PRECEDENCE))


def _depth(node: _Node, parts: dict[int, _Node]) -> int:
    """Steps to the root; the path also ends at a missing head or a cycle."""
    depth, seen = 0, {node.first}
    while node.head.isdecimal() and (head := int(node.head)) in parts and head not in seen:
        node, depth = parts[head], depth + 1
        seen.add(head)
    return depth


def _joined(form: str) -> str:
    return form.replace("\u200c", "").replace(" ", "")
