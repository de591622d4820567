"""Reads sentences with a tag for each word: NER and part-of-speech files, tab-separated or CoNLL-U.

Only tabs separate fields: no-break spaces and other white space inside a word are kept. Blank lines separate sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from translit_scale.corpus.lines import is_unicode
from translit_scale.errors import DataError
from translit_scale.testsets.conllu import Sentence, Word, blocks, conllu_sentences
from translit_scale.testsets.layouts import COMPRESSED, LANGUAGE, SPLIT, LanguageFiles, Layout
from translit_scale.testsets.names import TREEBANKS, WIKIANN, WIKIANN_VARIANTS, WORD_PREFIX
from translit_scale.testsets.parallel import nonzero, text_sha256

NER_LABELS = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")
POS_LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip
"""In the order of the classifier's outputs."""

_LINE = "token TAB tag, a blank line between sentences"
_UNITS = rf"\.conllu{COMPRESSED}"
_TREEBANK = rf"(?P<language>[a-z]{{2,3}})_(?P<variety>[a-z0-9]+)-ud-{SPLIT}{_UNITS}"
_EDITION = r"(?P<language>[a-z]{2,}(?:-[a-z]+)*(?:_[A-Z][a-z]{3})?)"
_TSV = Layout("{split}-{language}.tsv", "*-*.tsv*", rf"{SPLIT}-{LANGUAGE}\.tsv{COMPRESSED}", _LINE, 0)
NER_LAYOUTS = tuple(
    replace(layout, names=WIKIANN, variants=WIKIANN_VARIANTS)
    for layout in (
        replace(_TSV, pattern=rf"{SPLIT}-{_EDITION}\.tsv{COMPRESSED}"),
        Layout("{iso}/{split}", "*/*", rf"{_EDITION}/{SPLIT}{COMPRESSED}", _LINE, 0),
    )
)
_FILES_OF_TREEBANKS = tuple(
    Layout(f"{folder}{{iso}}_*-ud-{{split}}.conllu", f"{folder}*-ud-*.conllu*", pattern + _TREEBANK, "CoNLL-U", 1,
           several=True, names=TREEBANKS)
    for folder, pattern in (("", ""), ("UD_*/", "UD_[^/]+/"))
)  # fmt: skip
CONLLU_LAYOUTS = (
    Layout("{split}-{language}.conllu", "*-*.conllu*", rf"{SPLIT}-{LANGUAGE}{_UNITS}", "CoNLL-U", 1),
    *_FILES_OF_TREEBANKS,
)
POS_LAYOUTS = (_TSV, *CONLLU_LAYOUTS)


@dataclass(frozen=True)
class TaggedSentences:
    """Word j of sentence i has the tag `tags[i][j]`, an index into the task's labels.

    `language` is the code that was asked for, `name` what the folder calls it, `files` are the files that were read.
    `dropped` counts by reason what was left out, `noted` what is unusual and was kept.
    """

    language: str
    split: str
    words: list[list[str]]
    tags: list[list[int]]
    dropped: dict[str, int]
    noted: dict[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    name: str = ""

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of words, tags and their order, in hexadecimal; the same for any file layout."""
        return text_sha256(*self.words, *([str(tag) for tag in tags] for tags in self.tags))


def read_ner(files: LanguageFiles) -> TaggedSentences:
    """WikiAnn: `token TAB tag` a line.

    The original files begin every token with a prefix such as `en:`, which is removed. `noted["without_prefix"]` counts
    the tokens of such files that do not have it, `noted["inside_without_begin"]` the tags `I-x` that follow neither
    `B-x` nor `I-x`; all of them are kept.

    Raises:
        DataError: a line that is not two fields, an unknown tag, or no sentence is left.
    """
    noted: Counter[str] = Counter()
    sentences = _without_prefix([sentence for path in files.paths for sentence in _tsv_sentences(path)], noted)
    noted["inside_without_begin"] = sum(map(_inside_without_begin, sentences))
    return _tagged(sentences, NER_LABELS, files, Counter(), noted)


def read_pos(files: LanguageFiles, fused: bool = True) -> TaggedSentences:
    """Parts of speech: `token TAB tag` a line, or Universal Dependencies' CoNLL-U.

    Args:
        fused: a multiword token of CoNLL-U is one word, as in the papers (`conllu.py`); False: its syntactic words are.

    Raises:
        DataError: a line with too few or too many fields, an unknown tag, or no sentence is left.
    """
    dropped: Counter[str] = Counter()
    noted: Counter[str] = Counter()
    sentences: list[Sentence] = []
    for path in files.paths:
        is_conllu = ".conllu" in map(str.lower, path.suffixes)
        sentences += conllu_sentences(path, fused, dropped, noted) if is_conllu else _tsv_sentences(path)
    return _tagged(sentences, POS_LABELS, files, dropped, noted)


def _tsv_sentences(path: Path) -> Iterator[Sentence]:
    for block in blocks(path):
        for line, fields in block:
            if len(fields) != 2:
                raise DataError(f"{path}:{line}: expected token TAB tag, found {len(fields)} fields")
        yield [Word(f"{path}:{line}", token.strip(" "), tag.strip(" ")) for line, (token, tag) in block]


def _without_prefix(sentences: list[Sentence], noted: Counter[str]) -> list[Sentence]:
    """Removes a prefix such as `en:` that most tokens begin with; counts the tokens without it."""
    words = [word for sentence in sentences for word in sentence]
    prefixes = Counter(match[0] for word in words if (match := WORD_PREFIX.match(word.text)))
    prefix, count = max(prefixes.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count <= len(words):
        return sentences
    noted["without_prefix"] = len(words) - count
    return [[word._replace(text=word.text.removeprefix(prefix)) for word in sentence] for sentence in sentences]


def _inside_without_begin(sentence: Sentence) -> int:
    previous = ["O", *(word.tag for word in sentence)]
    return sum(
        word.tag.startswith("I-") and before[2:] != word.tag[2:]
        for before, word in zip(previous, sentence, strict=False)
    )


def _tagged(
    sentences: Iterable[Sentence],
    labels: Sequence[str],
    files: LanguageFiles,
    dropped: Counter[str],
    noted: Counter[str],
) -> TaggedSentences:
    """Sentences with known tags; words without text and sentences with bad bytes are dropped and counted."""
    paths = tuple(map(str, files.paths))
    index_of = {label: index for index, label in enumerate(labels)}
    words: list[list[str]] = []
    tags: list[list[int]] = []
    for sentence in sentences:
        for word in sentence:
            if word.tag not in index_of:
                raise DataError(f"{word.where}: unknown tag {word.tag!r}", f"expected one of {', '.join(labels)}")
        if not is_unicode("".join(word.text for word in sentence)):
            dropped["undecodable"] += 1
            continue
        kept = [word for word in sentence if word.text]
        dropped["empty_words"] += len(sentence) - len(kept)
        if kept:
            words.append([word.text for word in kept])
            tags.append([index_of[word.tag] for word in kept])
    if not words:
        raise DataError(f"{', '.join(paths)}: no sentence is left (dropped: {nonzero(dropped)})")
    return TaggedSentences(
        files.language, files.split, words, tags, nonzero(dropped), nonzero(noted), paths, files.name
    )
