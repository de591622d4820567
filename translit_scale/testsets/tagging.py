"""Sentences with a tag for each word: NER and part-of-speech files, tab-separated or CoNLL-U.

A word is what stands between two tabs: no-break spaces and other white space inside it stay. Blank lines separate
sentences, however many there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from translit_scale.corpus.text import is_unicode
from translit_scale.errors import DataError
from translit_scale.testsets.conllu import conllu_sentences
from translit_scale.testsets.layouts import LANGUAGE, SPLIT, Layout, find_files
from translit_scale.testsets.parallel import occurred, text_sha256
from translit_scale.testsets.words import Sentence, Word, blocks

NER_LABELS = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")
POS_LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip
"""The order decides which row of the classifier a tag is."""

TSV = Layout("{split}-{language}.tsv", "*-*.tsv*", rf"{SPLIT}-{LANGUAGE}\.tsv", 0)
WIKIANN = Layout("{iso}/{split}", "*/*", rf"{LANGUAGE}/{SPLIT}", 0)
CONLLU = Layout("{split}-{language}.conllu", "*-*.conllu*", rf"{SPLIT}-{LANGUAGE}\.conllu", 1)
_UD_NAME = r"(?P<language>[a-z]{2,3})_[a-z0-9]+-ud-" + SPLIT + r"\.conllu"
TREEBANKS = Layout("{iso}_*-ud-{split}.conllu", "*-ud-*.conllu*", _UD_NAME, 1, several=True)
TREEBANK_FOLDERS = Layout("UD_*/{iso}_*-ud-{split}.conllu", "UD_*/*.conllu*", rf"UD_[^/]+/{_UD_NAME}", 1, True)

NER_LAYOUTS = (TSV, WIKIANN)
CONLLU_LAYOUTS = (CONLLU, TREEBANKS, TREEBANK_FOLDERS)
POS_LAYOUTS = (TSV, *CONLLU_LAYOUTS)

_WIKIANN_PREFIX = re.compile(r"([a-z][a-z-]+):")


@dataclass(frozen=True)
class Tagged:
    """Word j of sentence i has the tag `tags[i][j]`, an index into the task's labels.

    `language` is the code asked for, `files` are those that were read. `dropped` counts what was left out and
    `noted` what was not but is worth knowing, both by reason (only reasons that occurred).
    """

    language: str
    split: str
    words: list[list[str]]
    tags: list[list[int]]
    dropped: dict[str, int]
    noted: dict[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of words, tags and their order, in hexadecimal; the same for any file layout."""
        return text_sha256(*self.words, *([str(tag) for tag in tags] for tags in self.tags))


def read_ner(folder: Path, language: str, split: str) -> Tagged:
    """One split of one language of WikiAnn: `{split}-{language}.tsv` or `{language}/{split}`, `token TAB tag` a line.

    The prefix `en:` of every token in the original files is taken away. `noted["inside_without_begin"]` counts tags
    `I-x` that follow neither `B-x` nor `I-x`: they stay as they are.

    Raises:
        DataError: no such file, a line that is not two fields, an unknown tag.
    """
    paths = find_files(folder, NER_LAYOUTS, language, split)
    sentences = _without_prefix([sentence for path in paths for sentence in _tsv_sentences(path)])
    noted = Counter({"inside_without_begin": sum(map(_inside_without_begin, sentences))})
    return _tagged(sentences, NER_LABELS, language, split, paths, Counter(), noted)


def read_pos(folder: Path, language: str, split: str, fused: bool = True) -> Tagged:
    """One split of one language's parts of speech: `{split}-{language}.tsv`, else Universal Dependencies' CoNLL-U.

    Args:
        fused: of multiword tokens in CoNLL-U, as in the papers, the token is the word (`conllu.py`); False takes the
            syntactic words instead, and reads no `.tsv`, which does not have them.

    Raises:
        DataError: no such file, a line with too few or too many fields, an unknown tag.
    """
    paths = find_files(folder, POS_LAYOUTS if fused else CONLLU_LAYOUTS, language, split)
    dropped: Counter[str] = Counter()
    noted: Counter[str] = Counter()
    sentences: list[Sentence] = []
    for path in paths:
        is_conllu = ".conllu" in path.suffixes
        sentences += conllu_sentences(path, fused, dropped, noted) if is_conllu else _tsv_sentences(path)
    return _tagged(sentences, POS_LABELS, language, split, paths, dropped, noted)


def _tsv_sentences(path: Path) -> Iterator[Sentence]:
    for block in blocks(path):
        for line, fields in block:
            if len(fields) != 2:
                raise DataError(f"{path}:{line}: expected token TAB tag, found {len(fields)} fields")
        yield [Word(f"{path}:{line}", token.strip(" "), tag.strip(" ")) for line, (token, tag) in block]


def _without_prefix(sentences: list[Sentence]) -> list[Sentence]:
    """Takes away `en:` where every token begins with the same such prefix."""
    words = [word for sentence in sentences for word in sentence]
    match = _WIKIANN_PREFIX.match(words[0].text) if words else None
    if match is None or not all(word.text.startswith(match[0]) for word in words):
        return sentences
    return [[word._replace(text=word.text.removeprefix(match[0])) for word in sentence] for sentence in sentences]


def _inside_without_begin(sentence: Sentence) -> int:
    previous = ["O", *(word.tag for word in sentence)]
    return sum(
        word.tag.startswith("I-") and before[2:] != word.tag[2:]
        for before, word in zip(previous, sentence, strict=False)
    )


def _tagged(
    sentences: Iterable[Sentence],
    labels: Sequence[str],
    language: str,
    split: str,
    paths: Sequence[Path],
    dropped: Counter[str],
    noted: Counter[str],
) -> Tagged:
    """Sentences with known tags; words without text and sentences with bad bytes are dropped and counted."""
    number = {label: index for index, label in enumerate(labels)}
    words: list[list[str]] = []
    tags: list[list[int]] = []
    for sentence in sentences:
        for word in sentence:
            if word.tag not in number:
                raise DataError(f"{word.where}: unknown tag {word.tag!r}", f"expected one of {', '.join(labels)}")
        if not is_unicode("".join(word.text for word in sentence)):
            dropped["undecodable"] += 1
            continue
        kept = [word for word in sentence if word.text]
        dropped["empty_words"] += len(sentence) - len(kept)
        if kept:
            words.append([word.text for word in kept])
            tags.append([number[word.tag] for word in kept])
    if not words:
        raise DataError(f"{', '.join(map(str, paths))}: no sentence is left (dropped: {occurred(dropped)})")
    return Tagged(language, split, words, tags, occurred(dropped), occurred(noted), tuple(map(str, paths)))
