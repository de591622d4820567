"""The two kinds of task of `prepare`: the selection of one language and the romanization of one block.

The result of a task is a file whose name is a hash of everything the result depends on. So a task whose
file exists is done, also after a kill, and one whose input or settings have changed has another name.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from translit_scale.corpus.clean import CLEANING_VERSION, fold
from translit_scale.corpus.recipe import Sample
from translit_scale.corpus.romanize import LcodePolicy, Romanizer
from translit_scale.corpus.script import SCRIPT_DATA, script_share
from translit_scale.corpus.select import select
from translit_scale.corpus.shards import Block
from translit_scale.corpus.text import read_all_cells, read_clean
from translit_scale.errors import DataError
from translit_scale.files import read_json, write_bytes, write_json
from translit_scale.progress import Advance

WORK_VERSION = 1
"""Raised when a task comes to do something else or its file to look different."""

_REPORT_EVERY = 100


class InputFile(NamedTuple):
    """A text file of a recipe."""

    name: str
    """Below the data directory, with `/`."""
    column: str | None
    sha256: str


class TextBlock(NamedTuple):
    """Where the originals of one block lie in a selection's text."""

    rows: int
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Selection:
    """The result of a `SelectTask`: the sampled sentences of a language in their final order."""

    language: str
    text: Path
    """One sentence per line."""
    counts: dict[str, int]
    blocks: tuple[TextBlock, ...]


@dataclass(frozen=True)
class SelectTask:
    """Read, clean, leave out what is held out, deduplicate and sample one language."""

    language: str
    data_dir: Path
    files: tuple[InputFile, ...]
    excluded: tuple[InputFile, ...]
    sample: Sample
    seed: int
    max_chars: int
    script_share: float
    block_rows: int
    work_dir: Path

    def __str__(self) -> str:
        return f"the selection of {self.language}"

    @property
    def input_bytes(self) -> int:
        """Size of the input, which is read twice."""
        return sum((self.data_dir / file.name).stat().st_size for file in self.files)

    @property
    def target(self) -> Path:
        """File of the result; the sentences are beside it with the suffix `.txt`."""
        settings = [self.sample.model_dump(), self.seed, self.max_chars, self.script_share, self.block_rows]
        versions = [WORK_VERSION, CLEANING_VERSION, unicodedata.unidata_version, SCRIPT_DATA]
        key = _key([self.language, self.files, self.excluded, settings, versions])
        return self.work_dir / f"select-{self.language}-{key}.json"

    def result(self) -> Selection:
        """Reads the result of the finished task."""
        value = read_json(self.target, "selection")
        blocks = tuple(TextBlock(*block) for block in value["blocks"])
        return Selection(self.language, self.target.with_suffix(".txt"), value["counts"], blocks)


def run_select(task: SelectTask, advance: Advance) -> None:
    """Does a selection; `advance` is called with bytes of input, each counted twice.

    Raises:
        DataError: an input cannot be read, or no sentence is left.
    """

    script = task.language.partition("_")[2]

    def read(counts: Counter[str]) -> Iterator[str]:
        for file in task.files:
            for sentence in read_clean(task.data_dir / file.name, file.column, task.max_chars, counts, advance):
                if task.script_share and script_share(sentence, script) < task.script_share:
                    counts["wrong_script"] += 1
                else:
                    yield sentence

    held_out = _held_out(task.data_dir, task.excluded)
    sentences, counts = select(read, held_out, task.seed, task.sample.fraction, task.sample.minimum)
    if not sentences:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n and reason != "read")
        raise DataError(
            f"{task.language}: no sentence is left of {counts['read']:,} in "
            f"{', '.join(file.name for file in task.files)} ({reasons or 'no lines'})"
        )
    parts, blocks, offset = [], [], 0
    for start in range(0, len(sentences), task.block_rows):
        rows = sentences[start : start + task.block_rows]
        part = "".join(f"{sentence}\n" for sentence in rows).encode()
        blocks.append(TextBlock(len(rows), offset, len(part), hashlib.sha256(part).hexdigest()))
        parts.append(part)
        offset += len(part)
    write_bytes(task.target.with_suffix(".txt"), b"".join(parts))
    write_json(task.target, {"counts": dict(counts), "blocks": blocks})


@lru_cache(maxsize=1)
def _held_out(data_dir: Path, excluded: tuple[InputFile, ...]) -> frozenset[str]:
    """The `fold`ed cells of the held-out files; the languages of a worker share them."""
    folded = {fold(cell) for file in excluded for cell in read_all_cells(data_dir / file.name)}
    return frozenset(folded - {""})


@dataclass(frozen=True)
class RomanizeTask:
    """Romanize one block."""

    language: str
    number: int
    lcode: LcodePolicy
    text: Path
    block: TextBlock
    work_dir: Path

    def __str__(self) -> str:
        return f"the romanization of {self.language} block {self.number}"

    @property
    def target(self) -> Path:
        """File of the result."""
        key = _key([self.language, romanizer(self.lcode).provenance(), self.block.sha256, WORK_VERSION])
        return self.work_dir / f"block-{self.language}-{key}.json"

    def result(self) -> RomanizedBlock:
        """Reads the result of the finished task."""
        value = read_json(self.target, "romanized block")
        return RomanizedBlock(Block(tuple(value["orig"]), tuple(value["latn"])), value["fallbacks"], value["empty"])


@dataclass(frozen=True)
class RomanizedBlock:
    """The result of a `RomanizeTask`."""

    pairs: Block
    fallbacks: int
    """Pairs whose transliteration is a fallback."""
    empty: int
    """Sentences left out because nothing of them has a Latin form."""


def run_romanize(task: RomanizeTask, advance: Advance) -> None:
    """Romanizes a block; `advance` is called with numbers of sentences."""
    with task.text.open("rb") as file:
        file.seek(task.block.offset)
        text = file.read(task.block.bytes)
    romanize = romanizer(task.lcode)
    orig, latn, fallbacks, empty = [], [], 0, 0
    sentences = text.decode().split("\n")[:-1]
    for start in range(0, len(sentences), _REPORT_EVERY):
        part = sentences[start : start + _REPORT_EVERY]
        for sentence in part:
            latin, is_fallback = romanize(sentence, task.language)
            if not latin:
                empty += 1
                continue
            orig.append(sentence)
            latn.append(latin)
            fallbacks += is_fallback
        advance(len(part))
    write_json(task.target, {"fallbacks": fallbacks, "empty": empty, "orig": orig, "latn": latn})


@lru_cache(maxsize=2)
def romanizer(lcode: LcodePolicy) -> Romanizer:
    """One romanizer per process and policy: its tables take 2 s to load."""
    return Romanizer(lcode)


def _key(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
