"""For every language: how each model differs from the first one, and whether it is worse there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from translit_scale.errors import DataError
from translit_scale.evaluate.significance import FALSE_DISCOVERIES, false_discovery_rates
from translit_scale.languages import listed
from translit_scale.report.paired import Difference, Note, retrieval_differences, transfer_differences
from translit_scale.report.results import Results

WORSE, UNCLEAR, BETTER = VERDICTS = ("worse", "unclear", "better")


@dataclass(frozen=True)
class Judged:
    """A difference beside all others of its block."""

    difference: Difference
    q: float | None
    """The p-value adjusted for the number of languages (Benjamini & Hochberg); None without items."""

    @property
    def verdict(self) -> str:
        """`worse` or `better` if q is at most 5 %, else `unclear`."""
        if self.q is None or self.q > FALSE_DISCOVERIES:
            return UNCLEAR
        return WORSE if self.difference.difference < 0 else BETTER


@dataclass(frozen=True)
class DifferenceBlock:
    """All languages of one task, source, measure and model."""

    task: str
    source: str
    measure: str
    """`top1`, `top5`, `top10`, or the main score of transfer."""
    model: str
    minus: str
    """The first model."""
    languages: list[Judged]
    """Worse languages first, then unclear ones, then better ones, each in the order of their differences."""

    def count(self, verdict: str) -> int:
        """Number of languages with this verdict."""
        return sum(judged.verdict == verdict for judged in self.languages)

    @property
    def mean(self) -> float:
        """Unweighted mean of the differences."""
        return float(np.mean([judged.difference.difference for judged in self.languages]))


def difference_blocks(
    results: Results, models: Mapping[str, str], profile: str, damaged: list[DataError]
) -> tuple[list[DifferenceBlock], list[str]]:
    """A block for each task, source, measure and model but the first, and notes about what was left out.

    Args:
        models: row → label of results; the first one is that which the others are compared with.
        profile: of transfer scores, `paper` or `strict`.
        damaged: gets an error about every result that cannot be read; the others are used.
    """
    (first, of_first), *others = models.items()
    blocks: list[DifferenceBlock] = []
    notes: list[str] = []

    def add(task: str, source: str, measure: str, row: str, differences: Sequence[Difference]) -> None:
        if differences:
            blocks.append(DifferenceBlock(task, source, measure, row, first, judge(differences)))

    for task in dict.fromkeys(task for task, _ in results.retrieval):
        for row, label in others:
            pair = [results.retrieval.get((task, name)) for name in (of_first, label)]
            if pair[0] and pair[1]:
                found = retrieval_differences(pair[0], pair[1], damaged, _noting(notes, f"{row}, {task}"))
                for source, measure, differences in found:
                    add(task, source, measure, row, differences)
    for task, source in dict.fromkeys((task, source) for task, _, source in results.transfer):
        for row, label in others:
            seeds = [results.transfer.get((task, name, source)) for name in (of_first, label)]
            if seeds[0] and seeds[1]:
                note = _noting(notes, f"{row}, {task} from {source}")
                args = seeds[0], seeds[1], task, source, profile, damaged, note
                measure, differences = transfer_differences(*args)
                add(task, source, measure, row, differences)
    return blocks, notes


def judge(differences: Sequence[Difference]) -> list[Judged]:
    """Adjusts the p-values for their number, and puts the worse languages first."""
    p = {d.language: d.comparison.p for d in differences if d.comparison is not None}
    rates = dict(zip(p, false_discovery_rates(np.array(list(p.values()))).tolist(), strict=True))
    judged = [Judged(difference, rates.get(difference.language)) for difference in differences]
    return sorted(judged, key=lambda j: (VERDICTS.index(j.verdict), j.difference.difference, j.difference.language))


def _noting(notes: list[str], where: str) -> Note:
    def note(reason: str, languages: list[str]) -> None:
        if languages:
            notes.append(f"{where}: {reason}: {listed(languages)}")

    return note
