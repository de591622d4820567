"""The two kinds of task of `prepare`: selecting the sentences of one language, and making one shard of pairs.

The result of a task is a file with a hash of everything that it depends on in its name. So if the file exists, the task
is done, whoever did it, also after a kill; if input or settings change, so does the name. Until a task is done, it
writes into the folder of its run, which is removed at the end of the run.
"""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.blocks import Block
from translit_scale.corpus.clean import CLEANING_VERSION, fold
from translit_scale.corpus.compression import COMPRESSIONS
from translit_scale.corpus.manifest import FORMAT_VERSION, ShardEntry
from translit_scale.corpus.script import SCRIPT_DATA, script_fraction
from translit_scale.corpus.shards import encode_shard
from translit_scale.corpus.text import UNREADABLE, Sentence, read_all_cells, read_clean
from translit_scale.corpus.web import Kind, found_in, remove
from translit_scale.errors import DataError
from translit_scale.files import atomic_open, full_disk_as_error, read_json, sha256_file, write_bytes, write_json
from translit_scale.prepare.inputs import InputFile, content_key
from translit_scale.prepare.locking import one_at_a_time
from translit_scale.prepare.recipe import Recipe, Romanize
from translit_scale.prepare.select import Spool, parse_line, select
from translit_scale.progress import Advance
from translit_scale.romanize.transliterator import FromColumns, sources

WORK_VERSION = 5
"""Raised when the work of a task or the format of its file changes."""

_COMPRESSED = (*COMPRESSIONS, ".parquet")
_EXPANSION = 8
"""Estimated growth of compressed text, rather too large: it determines how much text is sorted at a time."""


class InputError(DataError):
    """A file of a language is damaged; the message names the language. Other languages can still be selected."""


class TextPart(NamedTuple):
    """Position of the lines of one shard in a selection's text."""

    rows: int
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Selection:
    """The result of a `SelectTask`: the sampled sentences of a language in their final order."""

    language: str
    text: Path
    """One line per sentence, see `select`."""
    counts: dict[str, int]
    unreadable: dict[str, dict[str, int]]
    """As in `LanguageCounts`."""
    parts: tuple[TextPart, ...]
    """One for each shard; empty if no sentence is left."""


@dataclass(frozen=True)
class SelectTask:
    """Reads, cleans, excludes held-out text, deduplicates and samples one language."""

    language: str
    recipe: Recipe
    """With the settings of the language."""
    data_dir: Path
    files: tuple[InputFile, ...]
    excluded: tuple[InputFile, ...]
    work_dir: Path
    run_dir: Path
    """For temporary files; on the same file system."""

    def __str__(self) -> str:
        return f"the selection of {self.language}"

    @property
    def input_bytes(self) -> int:
        """Size of the input files."""
        return sum(file.stamp.bytes for file in self.files)

    @property
    def target(self) -> Path:
        """File of the result; the sentences are beside it with the suffix `.txt`."""
        contents = [[(file.name, file.columns, file.sha256) for file in files] for files in (self.files, self.excluded)]
        recipe = self.recipe
        sample = recipe.sample.model_dump()
        settings = [sample, recipe.seed, recipe.max_chars, recipe.min_script_fraction, recipe.clean, recipe.shard_rows]
        versions = [WORK_VERSION, CLEANING_VERSION, unicodedata.unidata_version, SCRIPT_DATA]
        key = content_key([self.language, contents, settings, versions])
        return self.work_dir / f"select-{self.language}-{key}.json"

    def result(self) -> Selection:
        """Reads the result of the finished task."""
        value = read_json(self.target, "selection")
        parts = tuple(TextPart(*part) for part in value["parts"])
        return Selection(self.language, self.target.with_suffix(".txt"), value["counts"], value["unreadable"], parts)


def run_select(task: SelectTask, advance: Advance) -> None:
    """Makes a selection, or waits for another task that makes it; `advance` is called with bytes of input.

    Memory: that of a `Spool`, the held-out text, and the text of one shard.

    Raises:
        InputError: a file of the language cannot be read or changes while it is read.
        DataError: a held-out file cannot be read, or the disk is full.
    """
    with one_at_a_time(task.target):
        if task.target.exists():
            advance(task.input_bytes)
            return
        folder = task.run_dir / task.target.stem
        growth = (_EXPANSION if file.name.lower().endswith(_COMPRESSED) else 1 for file in task.files)
        size = sum(file.stamp.bytes * factor for file, factor in zip(task.files, growth, strict=True))
        spool = Spool(folder, size)
        counts: Counter[str] = Counter()
        unreadable: dict[str, dict[str, int]] = {}
        held_out = _held_out(task.data_dir, task.excluded, tuple(task.recipe.clean))
        try:
            with full_disk_as_error(task.target):
                sentences = _read(task, counts, unreadable, advance)
                lines = select(sentences, counts, held_out, task.recipe.seed, task.recipe.sample, spool)
                parts = _write_parts(lines, task)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        write_json(task.target, {"counts": counts, "unreadable": unreadable, "parts": parts})


def _read(
    task: SelectTask, counts: Counter[str], unreadable: dict[str, dict[str, int]], advance: Advance
) -> Iterator[Sentence]:
    """Cleaned sentences of the right script; if some have transliterations, those of the others are "".

    Args:
        counts, unreadable: are complete when all sentences have been read.
    """
    script, recipe = task.language.partition("_")[2], task.recipe
    without = "" if transliteration_columns(task.files) else None
    for file in task.files:
        path, of_file = task.data_dir / file.name, Counter[str]()
        try:
            for text, own in read_clean(path, file.columns, recipe.max_chars, of_file, advance, recipe.clean):
                if recipe.min_script_fraction and script_fraction(text, script) < recipe.min_script_fraction:
                    of_file["wrong_script"] += 1
                else:
                    yield Sentence(text, without if own is None else own)
            file.stamp.check(path)
        except DataError as error:
            raise InputError(f"{task.language}: {error.message}", error.hint) from None
        counts.update(of_file)
        for reason in UNREADABLE:
            if of_file[reason]:
                unreadable.setdefault(reason, {})[file.name] = of_file[reason]


def _write_parts(lines: Iterator[bytes], task: SelectTask) -> list[TextPart]:
    """Writes the lines of a selection; returns the position of those of each shard."""
    parts, offset = [], 0
    with atomic_open(task.target.with_suffix(".txt"), task.run_dir) as file:
        while of_shard := list(islice(lines, task.recipe.shard_rows)):
            text = b"".join(of_shard)
            file.write(text)
            parts.append(TextPart(len(of_shard), offset, len(text), hashlib.sha256(text).hexdigest()))
            offset += len(text)
    return parts


def transliteration_columns(files: Sequence[InputFile]) -> list[str]:
    """Names of the columns in which files of a language have transliterations; none where no file has."""
    return sorted({str(column) for file in files if (column := file.columns.transliteration) is not None})


@lru_cache(maxsize=1)
def _held_out(data_dir: Path, excluded: tuple[InputFile, ...], removed: tuple[Kind, ...]) -> frozenset[str]:
    """The `fold`ed cells of the held-out files, kept for all languages of a worker.

    Args:
        removed: what is removed from the text. The cells are there with it and without it.
    """
    folded = set()
    try:
        for file in excluded:
            for cell in read_all_cells(data_dir / file.name, file.columns):
                folded.add(fold(cell))
                if (shorter := remove(cell, removed)) != cell:
                    folded.add(fold(shorter))
    except DataError as error:
        raise DataError(f"exclude: {error.message}", error.hint) from None
    return frozenset(folded - {""})


@dataclass(frozen=True)
class ShardTask:
    """Transliterates the sentences of one shard and packs the pairs."""

    language: str
    number: int
    romanize: Romanize
    columns: tuple[str, ...]
    """Columns from which some or all of the sentences have transliterations."""
    text: Path
    part: TextPart
    block_rows: int
    work_dir: Path
    run_dir: Path
    """For temporary files; on the same file system."""

    def __str__(self) -> str:
        return f"shard {self.number} of {self.language}"

    @property
    def target(self) -> Path:
        """File of the result; the shard is beside it with the suffix `.tar`, unless it has no pairs."""
        of_text = [self.language, self.number, self.part.sha256, self.block_rows]
        made_by = sources(self.romanize.by, self.romanize.lcodes, self.language)
        of_latin = [self.columns, *(one.provenance() for one in made_by)]
        if self.columns and self.romanize.beside_column:
            of_latin.append("beside_column")
        key = content_key([of_text, of_latin, FORMAT_VERSION, WORK_VERSION])
        return self.work_dir / f"shard-{self.language}-{self.number:05d}-{key}.json"

    def transliterations(self, texts: Sequence[str], own: dict[str, str], counts: Counter[str]) -> list[list[str]]:
        """Columns with a transliteration of each text, or "" where a source has none; the first may repeat in others.

        Args:
            own: transliterations that texts have in the input; they are the first ones, and the only ones unless
                `romanize.beside_column`.
        """
        first, *others = sources(self.romanize.by, self.romanize.lcodes, self.language)
        beside = self.romanize.beside_column
        further = [(other, [text for text in texts if beside or text not in own]) for other in others]
        if self.columns and beside:  # of texts without one of their own, the first column has this already
            further.insert(0, (first, [text for text in texts if text in own]))
        main = FromColumns(self.columns, own, first) if self.columns else first
        columns = [main.transliterate(texts, self.language, counts)]
        for other, wanted in further:
            made = dict(zip(wanted, other.transliterate(wanted, self.language, Counter()), strict=True))
            columns.append([made.get(text, "") for text in texts])
        return columns

    @property
    def shard(self) -> Path:
        """The tar file, before the set is finished."""
        return self.target.with_suffix(".tar")

    def result(self) -> ShardResult:
        """Reads the result of the finished task."""
        value = read_json(self.target, "shard result")
        # JSON has no tuples, but pydantic's JSON parser turns arrays into them
        entry = ShardEntry.model_validate_json(value["entry"]) if value["entry"] else None
        return ShardResult(entry, value["counts"])

    def is_done(self, out_dir: Path) -> bool:
        """Whether the result exists, and the shard too: among the finished tasks, or already in its final place."""
        if not self.target.exists():
            return False
        if self.shard.exists():
            return True
        entry = self.result().entry
        if entry is None:
            return True
        final = out_dir / entry.name  # moved there by a killed finalize, or a shard of an older set
        return final.exists() and final.stat().st_size == entry.bytes and sha256_file(final) == entry.sha256


class ShardResult(NamedTuple):
    """The result of a `ShardTask`."""

    entry: ShardEntry | None
    """None if no pair is left."""
    counts: dict[str, int]
    """`empty_transliteration` and the counts of `LanguageCounts`, but `read`."""


def run_shard(task: ShardTask, advance: Advance) -> None:
    """Makes a shard; `advance` is called with numbers of sentences.

    Memory: the romanizer's, and about seven times the text of the shard.

    Raises:
        DataError: the selected text has changed, or the disk is full.
    """
    with task.text.open("rb") as file:
        file.seek(task.part.offset)
        text = file.read(task.part.bytes)
    if hashlib.sha256(text).hexdigest() != task.part.sha256:
        raise DataError(f"{task.text} is damaged", f"remove {task.work_dir} and run the same command again")
    sentences = list(map(parse_line, text.decode().split("\n")[:-1]))
    counts: Counter[str] = Counter()
    blocks = []
    for start in range(0, len(sentences), task.block_rows):
        of_block = sentences[start : start + task.block_rows]
        block = _transliterated(task, of_block, counts)
        if block.orig:
            blocks.append(block)
        advance(len(of_block))
    entry = None
    if blocks:
        data, entry = encode_shard(task.language, task.number, blocks)
        write_bytes(task.shard, data, task.run_dir)
    write_json(task.target, {"counts": counts, "entry": entry.model_dump_json() if entry else None})


def _transliterated(task: ShardTask, sentences: Sequence[Sentence], counts: Counter[str]) -> Block:
    """The pairs of one block, without those whose transliteration is empty."""
    texts = [sentence.text for sentence in sentences]
    own = {sentence.text: sentence.transliteration for sentence in sentences if sentence.transliteration}
    columns = task.transliterations(texts, own, counts)
    rows = [(row[0], *_distinct(row[1:])) for row in zip(texts, *columns, strict=True) if row[1]]
    orig, latn, *further = zip(*rows, strict=True) if rows else ((), ())
    counts["further"] += sum(latin != "" for column in further for latin in column)
    counts["empty_transliteration"] += len(texts) - len(orig)
    counts["rows"] += len(orig)
    counts["identical"] += sum(map(str.__eq__, orig, latn))
    counts.update(f"contains_{kind}" for text in orig for kind in found_in(text))
    counts["orig_chars"] += sum(map(len, orig))
    counts["latn_chars"] += sum(map(len, latn))
    return Block(orig, latn, tuple(further))


def _distinct(transliterations: Sequence[str]) -> list[str]:
    """The different transliterations in their order, and "" in the place of those that repeat or are missing."""
    distinct = [latin for latin in dict.fromkeys(transliterations) if latin]
    return distinct + [""] * (len(transliterations) - len(distinct))
