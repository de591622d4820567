"""Training sentences that occur in evaluation files: what `exclude` in a recipe would have left out, and more.

Two sentences are the same if their `fold`s are. A near-duplicate is a training sentence that contains most
of the character n-grams of an evaluation sentence: another edition of a verse, or a sentence inside a longer one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.clean import fold
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.text import decode, read_all_cells, read_lines
from translit_scale.errors import ConfigError
from translit_scale.progress import Advance

N = 5
"""Length of the n-grams, in letters, marks and digits; they run across words, which `fold` joins."""

MIN_GRAMS = 15
"""Evaluation sentences with fewer distinct n-grams are compared exactly only: chance would make them near."""


class Match(NamedTuple):
    """A training sentence and the line or cell of an evaluation file that it repeats."""

    language: str
    file: Path
    share: float
    """Share of the n-grams of `evaluation` that `training` has; 1 if they are the same."""
    training: str
    evaluation: str


class EvaluationText:
    """The lines and cells of evaluation files, indexed for look-ups.

    Only the rarest n-grams of a sentence are indexed, so many that a training sentence with a share of at least
    `near` must have one of them: nothing is missed, and frequent n-grams cost nothing.
    """

    def __init__(self, files: Sequence[Path], near: float | None) -> None:
        """Reads the files: the lines of any, or the fields of a `.csv` or `.tsv`, header row included.

        Raises:
            ConfigError: `near` is not between 0 and 1.
            DataError: missing, empty, damaged or unreadable file.
        """
        if near is not None and not 0 < near <= 1:
            raise ConfigError(f"the share that makes a near-duplicate lies between 0 and 1, found {near}")
        self._near = near
        self._cells: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        for file in files:
            for folded, cell in {fold(cell): cell for cell in _cells(file)}.items():
                self._cells[folded].append((file, cell))
        self._cells.pop("", None)
        self._index: dict[str, list[str]] = defaultdict(list)
        if near is not None:
            self._index_rarest(near)

    def matches(self, sentence: str) -> Iterator[tuple[Path, str, float]]:
        """File, line or cell, and share for everything that a training sentence repeats."""
        folded = fold(sentence)
        for file, cell in self._cells.get(folded, ()):
            yield file, cell, 1.0
        if self._near is None:
            return
        found = ngrams(folded)
        candidates = {candidate for gram in found if gram in self._index for candidate in self._index[gram]}
        for candidate in sorted(candidates - {folded}):
            wanted = ngrams(candidate)
            share = len(wanted & found) / len(wanted)
            if share >= self._near:
                yield from ((file, cell, share) for file, cell in self._cells[candidate])

    def _index_rarest(self, near: float) -> None:
        frequency = Counter(gram for folded in self._cells for gram in ngrams(folded))
        for folded in self._cells:
            grams = sorted(ngrams(folded), key=lambda gram: (frequency[gram], gram))
            if len(grams) >= MIN_GRAMS:
                # One more than a near-duplicate may lack; the subtrahend is for products such as 0.7 * 10.
                needed = math.ceil(near * len(grams) - 1e-9)
                for gram in grams[: len(grams) - needed + 1]:
                    self._index[gram].append(folded)


def find_matches(shard_set: ShardSet, evaluation: EvaluationText, advance: Advance) -> Iterator[Match]:
    """Every match of a shard set's original sentences; `advance` is called with numbers of pairs.

    Raises:
        DataError: a shard is damaged.
    """
    for language in shard_set.languages:
        for number, rows in enumerate(shard_set.block_rows(language)):
            for sentence in shard_set.read_block(language, number).orig:
                for file, cell, share in evaluation.matches(sentence):
                    yield Match(language, file, share, sentence, cell)
            advance(rows)


def ngrams(folded: str) -> set[str]:
    """The distinct n-grams of a folded sentence; none if it is shorter."""
    return {folded[start : start + N] for start in range(len(folded) - N + 1)}


def _cells(path: Path) -> Iterator[str]:
    if path.suffix in (".csv", ".tsv"):
        yield from read_all_cells(path)
    else:  # Tatoeba's files end in the code of their language
        yield from (decode(line).encode(errors="ignore").decode() for line in read_lines(path))
