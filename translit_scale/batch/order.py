"""Maps a position of the training stream to a pair: a pure function of (manifest, mixture, seed, position).

The languages repeat in cycles. A cycle has q_l slots for language l, spread so evenly that at every prefix of the
stream the number of its pairs is within one of its proportion. The pairs of a language are visited in a keyed
permutation in each epoch: windows of neighbouring rows in random order, and the rows of a window in random order, so
that reads stay local. Rows are stored in the order of their hashes, so a window is a random sample of the language.
The position is the only state.

A change of mixture starts a new phase of the stream, in which every language resumes where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from translit_scale.batch.mixture import apportion, cap_proportions, interleave, language_proportions
from translit_scale.batch.random_bits import Bits, derive, key, permute
from translit_scale.config import DataConfig, MixtureConfig, TrainConfig
from translit_scale.errors import ConfigError

EXACT_CYCLE = 1 << 22
"""Up to this many pairs, a cycle of `concatenate` is exactly one epoch. Computing it takes some seconds at startup."""
LONG_CYCLE = 1 << 18
"""Slots of any other cycle: proportions are exact to 1/262 144."""
MIN_WINDOW, MAX_WINDOW, ALL_WINDOWS = 1 << 12, 1 << 14, 1 << 18
"""Bounds of the rows shuffled together in one language, and their sum over all languages: some 100 MB of text."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairKeys:
    """Identifies n visits of pairs. Masks are drawn from `bits`, so they do not depend on the rank."""

    language: Indices
    """[n] index into `PairOrder.languages`."""
    epoch: Indices
    """[n] number of completed passes through the language."""
    row: Indices
    """[n] row among the language's pairs in the shard set."""
    bits: Bits
    """[n] random key of the visit."""

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: slice | Indices | npt.NDArray[np.bool_]) -> PairKeys:
        return PairKeys(self.language[chosen], self.epoch[chosen], self.row[chosen], self.bits[chosen])


@dataclass(frozen=True)
class Phase:
    """A part of the stream with one mixture."""

    start: int
    """First position."""
    quotas: Indices
    """[L] slots of each language in a cycle."""
    slot_language: npt.NDArray[np.int32]
    """[C] language of each slot."""
    slot_rank: Indices
    """[C] number of earlier slots of that language in the cycle."""
    visited: Indices
    """[L] pairs of each language visited before this phase."""

    def visits(self, position: Indices) -> tuple[Indices, Indices]:
        """[n] language, and [n] number of its earlier visits, at positions [n] of this phase."""
        cycle, slot = np.divmod(position - self.start, len(self.slot_language))
        language = self.slot_language[slot].astype(np.int64)
        visit = self.visited[language] + cycle.astype(np.int64) * self.quotas[language] + self.slot_rank[slot]
        return language, visit

    def visited_at(self, position: int) -> Indices:
        """[L] pairs of each language visited before a position of this phase, or before its end."""
        cycles, slots = divmod(position - self.start, len(self.slot_language))
        return self.visited + cycles * self.quotas + np.bincount(self.slot_language[:slots], minlength=len(self.quotas))


def total_steps(train: TrainConfig, pairs: int) -> int:
    """Optimizer steps of an experiment on so many pairs."""
    return train.max_steps or math.ceil(train.epochs * pairs / train.batch_pairs)


class PairOrder:
    """The infinite stream of pairs.

    Args:
        pairs: number of pairs of each language.
        mixture: proportions of the languages.
        changes: (first position, mixture) of further phases, in ascending order.
        seed: seed of the permutations and of the visits' keys.
        length: number of positions that training will use, to which `max_repeats` refers.

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
        for start, changed in [(0, mixture or MixtureConfig()), *changes]:
            # Limits refer to the end of training, not of the phase: a later change must not move earlier pairs.
            self.phases.append(self._phase(start, changed, None if length is None else length - start))

    def _phase(self, start: int, mixture: MixtureConfig, left: int | None) -> Phase:
        proportions = language_proportions(mixture, self.languages, self._pairs)
        visited = self.phases[-1].visited_at(start) if self.phases else np.zeros(len(self._pairs), np.int64)
        if mixture.max_repeats is not None and left is not None and left > 0:
            allowed = np.maximum(mixture.max_repeats * self._pairs - visited, 0)
            proportions = cap_proportions(proportions, allowed / left, self.languages)
        exact = mixture.kind == "concatenate" and mixture.max_repeats is None and self.total <= EXACT_CYCLE
        quotas = apportion(proportions.tolist(), self.total if exact else max(LONG_CYCLE, len(proportions)))
        return Phase(start, np.array(quotas), *interleave(quotas), visited)

    @classmethod
    def of_experiment(cls, data: DataConfig, train: TrainConfig, pairs: Mapping[str, int]) -> tuple[PairOrder, int]:
        """The order of an experiment on shards with so many pairs of each language, and its number of steps.

        Raises:
            ConfigError: as for the class.
        """
        steps = total_steps(train, sum(pairs.values()))
        changes = [(change.from_step * train.batch_pairs, change.mixture) for change in data.mixture_schedule]
        return cls(pairs, data.mixture, changes, train.seed, steps * train.batch_pairs), steps

    def visits_before(self, position: int) -> dict[str, int]:
        """How many pairs of each language stand before a position; a pair counts as often as it is repeated."""
        visited = self.phase_at(position).visited_at(position)
        return dict(zip(self.languages, visited.tolist(), strict=True))

    def phase_at(self, position: int) -> Phase:
        """The phase of the stream that a position is in."""
        return [phase for phase in self.phases if phase.start <= position][-1]

    def batch(self, start: int, count: int) -> PairKeys:
        """The pairs at positions start … start + count − 1."""
        position = np.arange(start, start + count)
        cuts = np.searchsorted(position, [phase.start for phase in self.phases[1:]])
        parts = [phase.visits(p) for phase, p in zip(self.phases, np.split(position, cuts), strict=True) if len(p)]
        language, visit = (np.concatenate(column) for column in zip(*parts, strict=True))
        size = self._pairs[language]
        epoch, offset = np.divmod(visit, size)
        epoch_key = derive(self._keys[language], epoch)
        row = self._row(offset, size, epoch_key)
        return PairKeys(language, epoch, row, derive(epoch_key, row))

    def _row(self, offset: Indices, size: Indices, epoch_key: Bits) -> Indices:
        """[n] row at position `offset` of an epoch's permutation of 0 … size−1.

        Full windows are visited in random order and the shorter remainder last. A random rotation shifts the borders of
        the windows in every epoch.
        """
        windows = size // self.window_rows
        window, inside = np.divmod(offset, self.window_rows)
        is_full = window < windows
        window = permute(np.where(is_full, window, 0), np.maximum(windows, 1), derive(epoch_key, 1)) * is_full + (
            windows * ~is_full
        )
        width = np.where(is_full, self.window_rows, np.maximum(size - windows * self.window_rows, 1))
        inside = permute(inside, width, derive(derive(epoch_key, 2), window))
        rotation = (derive(epoch_key, 0) % size.astype(np.uint64)).astype(np.int64)
        return (window * self.window_rows + inside + rotation) % size
