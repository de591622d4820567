"""Maps a position of the training stream to a pair: a pure function of (manifest, mixture, seed, position).

The languages are spread evenly over the stream (`cycle.py`). The pairs of a language are visited in a keyed permutation
in each epoch: windows of neighbouring rows in random order, and the rows of a window in random order, so that reads
stay local. Rows are stored in the order of their hashes, so a window is a random sample of the language. The position
is the only state.

A change of mixture starts a new phase of the stream, in which every language resumes where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from translit_scale.batch.cycle import Indices, Stream
from translit_scale.batch.mixture import cap_proportions, language_proportions
from translit_scale.batch.random_bits import Bits, derive, key, permute
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import DataConfig, MixtureConfig, TrainConfig
from translit_scale.errors import ConfigError
from translit_scale.languages import listed

EXACT_CYCLE = 1 << 22
"""Up to this many pairs, a cycle of `concatenate` is exactly one epoch. Computing it takes some seconds at startup."""
MIN_WINDOW, MAX_WINDOW, ALL_WINDOWS = 1 << 12, 1 << 14, 1 << 18
"""Bounds of the rows shuffled together in one language, and their sum over all languages: some 100 MB of text."""


@dataclass(frozen=True)
class PairKeys:
    """Identifies n visits of pairs."""

    language: Indices
    """[n] index into `PairOrder.languages`."""
    epoch: Indices
    """[n] number of completed passes through the language."""
    row: Indices
    """[n] row among the language's pairs in the shard set."""
    language_keys: Bits
    """[L] random key of each language."""

    @property
    def bits(self) -> Bits:
        """[n] random key of each visit. Masks are drawn from it, so they do not depend on the rank.

        It is computed on request, because a rank needs the keys of its own pairs only.
        """
        return derive(derive(self.language_keys[self.language], self.epoch), self.row)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: slice | Indices | npt.NDArray[np.bool_]) -> PairKeys:
        return PairKeys(self.language[chosen], self.epoch[chosen], self.row[chosen], self.language_keys)


@dataclass(frozen=True)
class Phase:
    """A part of the stream with one mixture."""

    start: int
    """First position."""
    proportions: npt.NDArray[np.float64]
    """[L] of the languages."""
    stream: Stream
    visited: Indices
    """[L] pairs of each language visited before this phase."""

    def languages(self, start: int, end: int) -> npt.NDArray[np.int32]:
        """[n] language at the positions start … end − 1 of this phase."""
        return self.stream.languages(start - self.start, end - start)

    def visited_at(self, position: int) -> Indices:
        """[L] pairs of each language visited before a position of this phase, or before its end."""
        return self.visited + self.stream.counts(position - self.start)


def total_steps(train: TrainConfig, pairs: int) -> int:
    """Optimizer steps of an experiment on so many pairs.

    Raises:
        ConfigError: the epochs end before the batch-size warm-up does.
    """
    if train.max_steps:
        return train.max_steps
    warmup = train.batch_warmup_steps or 0
    smaller, all_pairs = BatchSizes.of(train).before(warmup), train.epochs * pairs
    if smaller > all_pairs:
        raise ConfigError(
            f"train.batch_warmup_steps is {warmup:,}: these steps have {smaller:,} pairs, but train.epochs "
            f"{train.epochs:g} of {pairs:,} pairs are {all_pairs:,.0f}",
            "lower train.batch_warmup_steps, train longer, or train on more pairs",
        )
    return warmup + math.ceil((all_pairs - smaller) / train.batch_pairs)


def check_mixtures(data: DataConfig, train: TrainConfig, pairs: Mapping[str, int]) -> None:
    """Checks that the languages of each mixture have a pair for each place of its batches, and that epochs are clear.

    Args:
        pairs: of each language of the experiment.

    Raises:
        ConfigError: a batch has more pairs than its languages, or the steps follow from epochs of languages that do not
            all take part; or a mixture names a language without pairs.
    """
    pairs = {language: n for language, n in pairs.items() if n}
    steps, sizes, mixtures = total_steps(train, sum(pairs.values())), BatchSizes.of(train), data.mixtures
    for (first, mixture), following in zip(mixtures, [*(step for step, _ in mixtures[1:]), steps], strict=True):
        proportions = language_proportions(mixture, list(pairs), np.array(list(pairs.values())))
        own = {language: n for (language, n), part in zip(pairs.items(), proportions, strict=True) if part}
        if len(own) < len(pairs) and not train.max_steps:
            raise ConfigError(
                f"train.epochs is {train.epochs:g} passes over the pairs of all languages, but the mixture from step "
                f"{first:,} on leaves out {listed([language for language in pairs if language not in own])}",
                f"set train.max_steps instead (train.epochs would be {steps:,} steps), or leave languages out of the "
                "whole training: data.languages",
            )
        last, most = min(following, steps) - 1, sum(own.values())
        if first <= last and sizes.at(last) > most:
            raise ConfigError(
                f"the batch of step {last:,} has {sizes.at(last):,} pairs (train.batch_pairs), but {data.shards} has "
                f"{most:,} of {listed(list(own))}, the languages of the mixture from step {first:,} on: a pair would "
                "be its own negative",
                f"set train.batch_pairs to {most:,} or less, or train on more pairs",
            )


class Runs(NamedTuple):
    """R runs of consecutive visits of one language, in one window of one epoch."""

    language: Indices
    """[R] index of the language."""
    epoch: Indices
    """[R] number of completed passes through the language."""
    window: Indices
    """[R] number of earlier windows in the epoch; the last one, which is shorter, contains the remaining rows."""
    inside: Indices
    """[R] number of earlier visits in the window."""
    visits: Indices
    """[R] length."""


class PairOrder:
    """The infinite stream of pairs.

    Args:
        pairs: number of pairs of each language.
        mixture: proportions of the languages.
        changes: (first position, mixture) of further phases, in ascending order.
        seed: seed of the permutations and of the visits' keys.
        length: number of positions that training will use, to which `max_repeats` refers.
        steps: first steps of the further phases, which messages name; default: their positions.

    Raises:
        ConfigError: there are no pairs, or a mixture does not fit them.
    """

    def __init__(
        self,
        pairs: Mapping[str, int],
        mixture: MixtureConfig | None = None,
        changes: Sequence[tuple[int, MixtureConfig]] = (),
        seed: int = 0,
        length: int | None = None,
        steps: Sequence[int] | None = None,
    ) -> None:
        self.pairs = {language: n for language, n in sorted(pairs.items()) if n}
        if not self.pairs:
            raise ConfigError("no pairs to train on: every language is empty")
        self.languages = tuple(self.pairs)
        self.total = sum(self.pairs.values())
        # With few languages the windows are wide, so that each of many ranks reads whole blocks of its own.
        self.window_rows = max(MIN_WINDOW, min(MAX_WINDOW, ALL_WINDOWS // len(self.languages)))
        self._pairs = np.array(list(self.pairs.values()))
        self._keys = np.array([key(seed, "order", language) for language in self.languages])
        self.phases: list[Phase] = []
        phases = [(0, mixture or MixtureConfig()), *changes]
        first_steps = [0, *steps] if steps is not None else [start for start, _ in phases]
        for (start, changed), step in zip(phases, first_steps, strict=True):
            # Limits refer to the end of training, not of the phase: a later change must not move earlier pairs.
            self.phases.append(self._phase(start, changed, None if length is None else length - start, step))

    def _phase(self, start: int, mixture: MixtureConfig, left: int | None, step: int) -> Phase:
        proportions = language_proportions(mixture, self.languages, self._pairs)
        visited = self.phases[-1].visited_at(start) if self.phases else np.zeros(len(self._pairs), np.int64)
        if mixture.max_repeats is not None and left is not None and left > 0:
            allowed = np.maximum(mixture.max_repeats * self._pairs - visited, 0)
            proportions = cap_proportions(proportions, allowed / left, self.languages, step)
        epoch = int(self._pairs[proportions > 0].sum())
        is_exact = mixture.kind == "concatenate" and mixture.max_repeats is None and epoch <= EXACT_CYCLE
        return Phase(start, proportions, Stream(proportions, epoch if is_exact else None), visited)

    @classmethod
    def of_experiment(cls, data: DataConfig, train: TrainConfig, pairs: Mapping[str, int]) -> tuple[PairOrder, int]:
        """The order of an experiment on shards with so many pairs of each language, and its number of steps.

        Raises:
            ConfigError: as for the class.
        """
        steps, sizes = total_steps(train, sum(pairs.values())), BatchSizes.of(train)
        changes = [(sizes.before(step), mixture) for step, mixture in data.mixtures[1:]]
        first_steps = [step for step, _ in data.mixtures[1:]]
        return cls(pairs, data.mixture, changes, train.seed, sizes.before(steps), first_steps), steps

    def visits_before(self, position: int) -> dict[str, int]:
        """How many pairs of each language stand before a position; a pair counts as often as it is repeated."""
        visited = self.phase_at(position).visited_at(position)
        return dict(zip(self.languages, visited.tolist(), strict=True))

    def phase_at(self, position: int) -> Phase:
        """The phase of the stream that a position is in."""
        return [phase for phase in self.phases if phase.start <= position][-1]

    def batch(self, start: int, count: int) -> PairKeys:
        """The pairs at positions start … start + count − 1."""
        end = start + count
        cuts = [start, *(phase.start for phase in self.phases if start < phase.start < end), end]
        parts = [self._in_phase(self.phase_at(first), first, last) for first, last in pairwise(cuts)]
        language, epoch, row = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        return PairKeys(language, epoch, row, self._keys)

    def _in_phase(self, phase: Phase, start: int, end: int) -> tuple[Indices, Indices, Indices]:
        """[n] language, epoch and row at the positions start … end − 1 of one phase."""
        language = phase.languages(start, end)
        # A language's visits in a batch follow one another. So sorted by language, they are a few runs. Small integers
        # are sorted in linear time.
        by_language = np.argsort(language.astype(np.min_scalar_type(len(self.languages))), kind="stable")
        visits = np.bincount(language, minlength=len(self.languages))
        present = np.flatnonzero(visits)
        runs = self._runs(present, phase.visited_at(start)[present], visits[present])
        epoch, row = np.empty(end - start, np.int64), np.empty(end - start, np.int64)
        epoch[by_language], row[by_language] = np.repeat(runs.epoch, runs.visits), self._rows(runs)
        return language.astype(np.int64), epoch, row

    def _runs(self, language: Indices, first_visit: Indices, visits: Indices) -> Runs:
        """Cuts intervals of visits, one for each of some languages, where an epoch or a window ends."""
        size = self._pairs[language]
        windows = size // self.window_rows
        # The windows of all epochs are numbered through; each epoch has one more for the remainder, which may be empty.
        first, last = (
            visit // size * (windows + 1) + visit % size // self.window_rows
            for visit in (first_visit, first_visit + visits - 1)
        )
        runs = last - first + 1
        of = np.repeat(np.arange(len(language)), runs)
        language, size, windows = language[of], size[of], windows[of]
        epoch, window = np.divmod(np.arange(len(of)) + np.repeat(first - np.cumsum(runs) + runs, runs), windows + 1)
        opened = epoch * size + window * self.window_rows
        closed = np.where(window < windows, opened + self.window_rows, (epoch + 1) * size)
        start = np.maximum(opened, first_visit[of])
        end = np.minimum(closed, (first_visit + visits)[of])
        return Runs(language, epoch, window, start - opened, end - start)

    def _rows(self, runs: Runs) -> Indices:
        """[n] rows of the visits of all runs.

        Full windows are visited in random order and the shorter remainder last. A random rotation shifts the borders of
        the windows in every epoch.
        """
        size = self._pairs[runs.language]
        windows = size // self.window_rows
        epoch_key = derive(self._keys[runs.language], runs.epoch)
        is_full = runs.window < windows
        window = permute(np.where(is_full, runs.window, 0), np.maximum(windows, 1), derive(epoch_key, 1))
        window = np.where(is_full, window, windows)
        width = np.where(is_full, self.window_rows, size - windows * self.window_rows)
        rotation = (derive(epoch_key, 0) % size.astype(np.uint64)).astype(np.int64)
        window_key = derive(derive(epoch_key, 2), window)
        shift = (window * self.window_rows + rotation) % size

        first = np.cumsum(runs.visits) - runs.visits
        inside = np.arange(runs.visits.sum()) + np.repeat(runs.inside - first, runs.visits)
        row = permute(inside, np.repeat(width, runs.visits), np.repeat(window_key, runs.visits))
        row += np.repeat(shift, runs.visits)
        size = np.repeat(size, runs.visits)
        return row - size * (row >= size)
