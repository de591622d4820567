"""Means over languages by script, family, head and tail, seen and unseen, with intervals over languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from translit_scale.evaluate.bootstrap import Estimate, mean_over_languages
from translit_scale.languages import is_head, matching_codes
from translit_scale.report.families import family_of
from translit_scale.report.language_scores import Measures, Scores
from translit_scale.report.results import TABLE_RESAMPLES
from translit_scale.report.trained_languages import Languages

Grouping = Callable[[str], str]
"""Language → name of its group."""


@dataclass(frozen=True)
class Average:
    """Means of one model over the languages of a group, or of its differences to the first model there."""

    by: str
    """A key of `groupings`."""
    group: str
    model: str
    minus: str | None
    """The first model, if these are differences to it."""
    languages: tuple[str, ...]
    """Those of the mean; for differences those that both models have."""
    estimates: Mapping[str, Estimate]
    """By measure."""

    @property
    def title(self) -> str:
        """Its group, as a table names it."""
        return f"{self.by} {self.group}" if self.by in ("script", "family", "pairs") else self.group


@dataclass(frozen=True)
class AverageBlock:
    """All averages of one task and source."""

    task: str
    source: str
    averages: list[Average]

    @property
    def measures(self) -> list[str]:
        """Names of the measures, in the order of the columns."""
        return list(dict.fromkeys(name for average in self.averages for name in average.estimates))


def groupings(families: Mapping[str, str] | None, seen: Languages | None) -> dict[str, Grouping]:
    """What languages are grouped by.

    Args:
        families: as `read_families` returns them; None: no groups by family.
        seen: languages of the training and their pairs; None: no groups of seen and unseen languages, or by pairs.
    """
    found: dict[str, Grouping] = {
        "all": lambda code: "all",
        "head or tail": lambda code: "head" if is_head(code) else "tail",
    }
    if seen is not None:
        available = sorted(seen)
        found["training"] = lambda code: "seen" if matching_codes(code, available) else "unseen"
        found["pairs"] = lambda code: _amount(sum(seen[name] for name in matching_codes(code, available)))
    found["script"] = lambda code: code.partition("_")[2] or "unknown"
    if families is not None:
        found["family"] = lambda code: family_of(code, families)
    return found


def _amount(pairs: int) -> str:
    """The power of ten that a number of pairs belongs to: `100 to 999`."""
    if not pairs:
        return "0"
    low = int(10 ** (len(str(pairs)) - 1))
    return f"{low:,} to {10 * low - 1:,}"


def average_blocks(scores: Scores, groups: Mapping[str, Grouping], first: str) -> list[AverageBlock]:
    """A block for each task and source that has scores.

    Args:
        scores: as `language_scores` returns them.
        groups: as `groupings` returns them.
        first: the model that the others are compared with; a block without it has no differences.
    """
    blocks = [
        AverageBlock(task, source, list(_averages(by_model, groups, first)))
        for (task, source), by_model in scores.items()
    ]
    return [block for block in blocks if block.averages]


def _averages(
    by_model: Mapping[str, Mapping[str, Measures]], groups: Mapping[str, Grouping], first: str
) -> Iterator[Average]:
    languages = list(dict.fromkeys(code for by_language in by_model.values() for code in by_language))
    for by, grouping in groups.items():
        members: dict[str, list[str]] = {}
        for code in languages:
            members.setdefault(grouping(code), []).append(code)
        for group in sorted(members, key=lambda name: _rank(by, name, len(members[name]))):
            yield from _of_group(by, group, members[group], by_model, first)


def _rank(by: str, group: str, languages: int) -> tuple[int, str]:
    """Sorts groups: the largest script or family first, the smallest amount of text first, others by name."""
    if by == "pairs":
        return len(group), group
    return (-languages if by in ("script", "family") else 0), group


def _of_group(
    by: str, group: str, members: Sequence[str], by_model: Mapping[str, Mapping[str, Measures]], first: str
) -> Iterator[Average]:
    """The means of every model, each followed by its paired differences to the first model."""
    of_first = by_model.get(first, {})
    for model, of_model in by_model.items():
        languages = tuple(code for code in members if code in of_model)
        if languages:
            yield Average(by, group, model, None, languages, _means([of_model[code] for code in languages]))
        both = tuple(code for code in languages if code in of_first)
        if both and model != first:
            differences = [_difference(of_model[code], of_first[code]) for code in both]
            yield Average(by, group, model, first, both, _means(differences))


def _difference(measures: Measures, of_first: Measures) -> Measures:
    return {name: measures[name] - of_first[name] for name in measures if name in of_first}


def _means(of_languages: Sequence[Measures]) -> dict[str, Estimate]:
    """Unweighted means over languages of the measures that all of them have."""
    names = [name for name in of_languages[0] if all(name in measures for measures in of_languages)]
    values = np.array([[measures[name] for name in names] for measures in of_languages])
    return dict(zip(names, mean_over_languages(values, resamples=TABLE_RESAMPLES), strict=True))
