"""Finds training sentences that occur in evaluation files: those that `exclude` in a recipe leaves out, and more.

Two sentences are equal if their `fold`s are. A near-duplicate is a training sentence that contains most of the
character n-grams of an evaluation sentence: another edition of a verse, a longer sentence around it, or the same
sentence with vowel points.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.clean import Without, fold
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.text import read_all_cells
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import ConfigError
from translit_scale.progress import Advance

N = 5
"""Length of the n-grams in letters, marks and digits. They span words, because `fold` removes spaces."""

EXTRA_GRAMS = 4
"""Number of n-grams that are indexed of an evaluation sentence beyond the necessary ones: near-duplicates have that
many more of them, and few other sentences do."""

MIN_GRAMS = 15
"""Evaluation sentences with fewer distinct n-grams are only compared exactly: they would be near by chance."""

TASK_BLOCKS = 100
"""Blocks that a process searches as one task."""


class Match(NamedTuple):
    """A training sentence and the line or cell of an evaluation file that it repeats."""

    language: str
    file: Path
    fraction: float
    """Fraction of the n-grams of `evaluation` that `training` has; 1 if they are equal."""
    training: str
    evaluation: str


class EvaluationText:
    """The lines and cells of evaluation files, indexed for search.

    Only the rarest n-grams of a sentence are indexed, but enough that every training sentence with a fraction of at
    least `near` has some of them: none is missed, and frequent n-grams cost nothing.
    """

    def __init__(self, files: Sequence[Path], near: float | None) -> None:
        """Reads the files: the lines of any, or the fields of a `.csv` or `.tsv`, header row included.

        Raises:
            ConfigError: `near` is not between 0 and 1.
            DataError: missing, empty, damaged or unreadable file.
        """
        if near is not None and not 0 < near <= 1:
            raise ConfigError(f"the fraction of a near-duplicate must lie between 0 and 1, found {near}")
        self._near = near
        self._cells: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        for file in files:
            for folded, cell in {fold(cell): cell for cell in read_all_cells(file)}.items():
                self._cells[folded].append((file, cell))
        self._cells.pop("", None)
        self._index: dict[str, list[str]] = defaultdict(list)
        self._required: dict[str, int] = {}
        """Minimal number of the indexed n-grams of a cell that a near-duplicate has."""
        if near is not None:
            self._index_rarest(near)

    def matches(self, sentence: str) -> Iterator[tuple[Path, str, float]]:
        """File, line or cell, and fraction for every evaluation sentence that a training sentence repeats."""
        folded = fold(sentence)
        for file, cell in self._cells.get(folded, ()):
            yield file, cell, 1.0
        if self._near is None:
            return
        grams = ngrams(folded)
        hits = Counter(chain.from_iterable(self._index[gram] for gram in self._index.keys() & grams))
        for candidate in sorted(candidate for candidate, count in hits.items() if count >= self._required[candidate]):
            expected = ngrams(candidate)
            fraction = len(expected & grams) / len(expected)
            if fraction >= self._near and candidate != folded:
                yield from ((file, cell, fraction) for file, cell in self._cells[candidate])

    def _index_rarest(self, near: float) -> None:
        frequency = Counter(chain.from_iterable(map(ngrams, self._cells)))
        for folded in self._cells:
            grams = sorted(ngrams(folded), key=frequency.__getitem__)
            if len(grams) >= MIN_GRAMS:
                # How many a near-duplicate may lack; 1e-9 corrects products such as 0.7 * 10.
                lacking = len(grams) - math.ceil(near * len(grams) - 1e-9)
                indexed = grams[: lacking + 1 + EXTRA_GRAMS]
                self._required[folded] = len(indexed) - lacking
                for gram in indexed:
                    self._index[gram].append(folded)


class SearchTask(NamedTuple):
    """Some blocks of one language of a shard set, to be searched for sentences of evaluation files."""

    directory: Path
    language: str
    blocks: range
    files: tuple[Path, ...]
    near: float | None

    def __str__(self) -> str:
        return f"the search in {self.language} blocks {self.blocks.start} to {self.blocks.stop - 1}"


def find_matches(
    shard_set: ShardSet, files: Sequence[Path], near: float | None, workers: int, advance: Advance
) -> list[Match]:
    """All matches of a shard set's original sentences, in stored order; errors are those of `EvaluationText`.

    Args:
        workers: processes, each with its own index of the files.
        advance: called with numbers of pairs.
    """
    tasks = [
        SearchTask(shard_set.directory, language, range(start, min(start + TASK_BLOCKS, blocks)), tuple(files), near)
        for language in shard_set.languages
        for blocks in [len(shard_set.block_rows(language))]
        for start in range(0, blocks, TASK_BLOCKS)
    ]
    _opened.cache_clear()  # set and files may have changed since the last search
    return [match for matches in run_tasks(search, tasks, workers, advance) for match in matches]


def search(task: SearchTask, advance: Advance) -> list[Match]:
    """The matches of one task."""
    shard_set, evaluation = _opened(task.directory, task.files, task.near)
    matches = []
    for number in task.blocks:
        block = shard_set.read_block(task.language, number)
        for sentence in block.orig:
            for file, cell, fraction in evaluation.matches(sentence):
                matches.append(Match(task.language, file, fraction, sentence, cell))
        advance(len(block.orig))
    return matches


@lru_cache(maxsize=1)
def _opened(directory: Path, files: tuple[Path, ...], near: float | None) -> tuple[ShardSet, EvaluationText]:
    """The set and the index, which all tasks of a process use."""
    return ShardSet.open(directory), EvaluationText(files, near)


def ngrams(folded: str) -> set[str]:
    """The distinct n-grams of a folded sentence without points and accents; none if it is too short."""
    letters = folded if folded.isascii() else folded.translate(_WITHOUT_POINTS)
    return {letters[start : start + N] for start in range(len(letters) - N + 1)}


_WITHOUT_POINTS = Without(unicodedata.combining)
"""Deletes dispensable marks: Arabic and Hebrew vowel points and separate accents. These are the marks with a combining
class; vowel signs of Indic scripts have none."""
