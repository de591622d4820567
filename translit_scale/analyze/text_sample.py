"""Sentences of many languages with their transliterations, from shards or text files, sampled in a fixed way.

The sample of a language depends on the seed, the language and the order of its text, and on nothing else: not on the
other languages, the machine or the tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator

from translit_scale.corpus.find import find_files, matching_files
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.text import Columns, read_clean
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import check_language, language_code
from translit_scale.progress import Advance
from translit_scale.romanize.romanizer import Romanizer

Chunk = tuple[Sequence[str], Sequence[str]]
"""Some sentences of one language and their transliterations."""

_CHUNK = 1000
_MAX_CHARS = 10_000
"""Longer lines of text files are counted, not used."""


class TextSample(Protocol):
    """The sampled text of several languages."""

    languages: Sequence[str]
    dropped: Counter[str]
    """Lines that are not used, by reason, of all languages that were read."""

    def chunks(self, language: str) -> Iterator[Chunk]:
        """The sampled sentences of a language; raises a DataError if they cannot be read."""

    def provenance(self) -> dict[str, Any]:
        """What the sample was drawn from, as JSON."""


class ShardSample:
    """Sampled pairs of a shard set, with the transliterations of the set.

    Args:
        sentences: pairs of each language, drawn without replacement; None: all of them.
    """

    def __init__(self, directory: Path, sentences: int | None, seed: int) -> None:
        self._set, self._sentences, self._seed = ShardSet.open(directory), sentences, seed
        self.languages: Sequence[str] = self._set.languages
        self.dropped: Counter[str] = Counter()

    def chunks(self, language: str) -> Iterator[Chunk]:
        """As in `TextSample`, block by block; blocks without a sampled pair are not read."""
        ends = np.cumsum(self._set.block_rows(language))
        rows = int(ends[-1])
        chosen = np.arange(rows)
        if self._sentences is not None and self._sentences < rows:
            chosen = np.sort(_generator(self._seed, language).choice(rows, self._sentences, replace=False))
        for number, of_block in _by_block(chosen, ends):
            block = self._set.read_block(language, number)
            yield [block.orig[row] for row in of_block], [block.latn[row] for row in of_block]

    def provenance(self) -> dict[str, Any]:
        """As in `TextSample`."""
        return {"shards": self._set.fingerprint}


def _by_block(chosen: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> Iterator[tuple[int, list[int]]]:
    """Sorted row numbers of a language as numbers of blocks and rows in them."""
    blocks = np.searchsorted(ends, chosen, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    for number in np.unique(blocks):
        yield int(number), (chosen[blocks == number] - starts[number]).tolist()


class FileSample:
    """Sampled sentences of text files, cleaned as for training and romanized with uroman.

    Args:
        files: language → its files, with one sentence a line.
        sentences: of each language, drawn without replacement; None: all of them.
    """

    def __init__(self, files: dict[str, list[Path]], sentences: int | None, seed: int) -> None:
        self._files, self._sentences, self._seed = files, sentences, seed
        self._romanizer = Romanizer()
        self.languages: Sequence[str] = sorted(files)
        self.dropped: Counter[str] = Counter()

    def chunks(self, language: str) -> Iterator[Chunk]:
        """As in `TextSample`."""
        sentences = self._lines(language)
        if self._sentences is not None:
            sentences = iter(reservoir(sentences, self._sentences, _generator(self._seed, language)))
        found = 0
        while chunk := list(islice(sentences, _CHUNK)):
            latin = self._romanizer.transliterate(chunk, language, Counter())
            pairs = [pair for pair in zip(chunk, latin, strict=True) if pair[1]]
            self.dropped["no_transliteration"] += len(chunk) - len(pairs)
            found += len(pairs)
            yield [text for text, _ in pairs], [text for _, text in pairs]
        if not found:
            raise DataError(f"{language}: no sentence in {', '.join(map(str, self._files[language]))}")

    def _lines(self, language: str) -> Iterator[str]:
        for path in self._files[language]:
            counts: Counter[str] = Counter()
            for sentence in read_clean(path, Columns(), _MAX_CHARS, counts, _no_progress):
                yield sentence.text
            del counts["read"]
            self.dropped += counts

    def provenance(self) -> dict[str, Any]:
        """As in `TextSample`."""
        return {"romanizer": self._romanizer.provenance()}


def _no_progress(amount: int) -> None:
    """Progress is counted in languages."""


def reservoir(items: Iterator[str], size: int, generator: Generator) -> list[str]:
    """A uniform sample of `size` items without replacement, in one pass (Vitter's algorithm R); all if there are fewer.

    The items keep the order of the places in which they were drawn.
    """
    kept: list[str] = []
    for number, item in enumerate(items):
        if number < size:
            kept.append(item)
        elif (place := int(generator.integers(number + 1))) < size:
            kept[place] = item
    return kept


def _generator(seed: int, language: str) -> Generator:
    return np.random.default_rng([seed, *language.encode()])


def text_files(arguments: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each language: `pol_Latn:FILE` (or a quoted pattern), or a folder.

    Of a folder, those files at any depth are taken whose names begin with a code and a point and end in `.txt` or
    `.txt` with a compression, such as `bible/pol_Latn.txt` or `udhr/zho_Hani.cmn.txt`.

    Raises:
        ConfigError: an argument is neither.
        DataError: a file is missing, a code is unknown, or a folder has no such file.
    """
    files: dict[str, list[Path]] = {}
    for argument in arguments:
        language, colon, pattern = argument.partition(":")
        if Path(argument).is_dir():
            for code, path in _in_folder(Path(argument)):
                files.setdefault(code, []).append(path)
        elif colon and pattern:
            files.setdefault(language_code(language), []).extend(find_files(pattern))
        else:
            raise ConfigError(
                f"--text {argument}: no such folder", "write LANGUAGE:FILE, or a folder with pol_Latn.txt"
            )
    return files


def _in_folder(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for name in matching_files("**/*.txt", folder) + matching_files("**/*.txt.*", folder):
        path = folder / name
        code = path.name.partition(".")[0]
        try:
            found.append((check_language(code), path))
        except DataError:
            continue  # a file of another kind, such as README.txt
    if not found:
        raise DataError(f"no file in {folder} is named by its language", "name them for example pol_Latn.txt")
    return found


def open_sample(
    shards: Path | None, texts: Sequence[str], sentences: int | None, seed: int, languages: Sequence[str] | None
) -> TextSample:
    """The sample of a command: of a shard set or of files, for all or some languages.

    Raises:
        ConfigError: both are given, or none.
        DataError: the text cannot be opened, or has none of the languages.
    """
    if (shards is None) == (not texts):
        raise ConfigError("give either --shards or --text", "--shards shards/demo, or --text pol_Latn:pl.txt")
    sample: TextSample
    sample = ShardSample(shards, sentences, seed) if shards else FileSample(text_files(texts), sentences, seed)
    if languages:
        if missing := [code for code in languages if code not in sample.languages]:
            raise DataError(f"the text has no {', '.join(missing)}", f"it has {', '.join(sample.languages[:12])}")
        sample.languages = sorted(set(languages))
    return sample


def read_pairs(sample: TextSample, language: str, advance: Advance = _no_progress) -> tuple[list[str], list[str]]:
    """All sampled sentences of a language and their transliterations; raises a DataError if they cannot be read."""
    originals: list[str] = []
    transliterations: list[str] = []
    for orig, latn in sample.chunks(language):
        originals += orig
        transliterations += latn
        advance(len(orig))
    return originals, transliterations
