"""Which source language the data advise for a target, and how good each rule of advice would have been.

Every rule chooses the source of a target without looking at F1 of that target, so its choice can be compared with the
F1 that each source really gives (leaving one language out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from translit_scale.evaluate.bootstrap import Estimate, mean_over_languages
from translit_scale.report.association import FEWEST, Observation
from translit_scale.report.averages import Grouping, groupings
from translit_scale.report.families import read_families
from translit_scale.report.results import TABLE_RESAMPLES

BEST_SOURCE = "best single source"
"""The source with the highest mean F1 over the other targets: the rule that all others are compared with."""
Choose = Callable[[str], str | None]
"""Target → source; None if the rule cannot decide."""


@dataclass(frozen=True)
class RuleScore:
    """F1 that a rule would have reached, as a mean over target languages."""

    rule: str
    f1: float
    best: float
    """The same with the best source of each target, known only afterwards."""
    minus_single: Estimate
    """Difference to `BEST_SOURCE`, paired by target, with an interval over targets."""
    right: float
    """Fraction of targets for which the rule chooses their best source."""


@dataclass(frozen=True)
class Advice:
    """Advice for one task and model."""

    task: str
    model: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    """Those that the rules are compared on: all rules decide, and all sources have a result."""
    rules: list[RuleScore]
    rule: str
    """The rule that is advised."""
    source_of: Mapping[str, str]
    """Target → source by this rule."""


def rule_groups(families: Path | None) -> dict[str, Grouping]:
    """What the rules group targets by: their script, and their family if a file says it.

    Raises:
        DataError: `families` cannot be read.
    """
    groups = groupings(read_families(families) if families else None, None)
    return {name: groups[name] for name in ("script", "family") if name in groups}


def advise(observations: Sequence[Observation], group_of: Mapping[str, Callable[[str], str]]) -> list[Advice]:
    """Advice for every task and model with at least two sources, and enough targets that all rules decide.

    The rules are `BEST_SOURCE`; for each grouping, the source with the highest mean F1 over the other targets of the
    same group (of all if there are none); and for each predictor, the source with the highest value. The advised rule
    is the one with the highest mean F1 if the interval of its difference to `BEST_SOURCE` is above 0, else
    `BEST_SOURCE`.

    Args:
        group_of: name, such as `script` → group of a language.
    """
    found = []
    for task, model in dict.fromkeys((item.task, item.model) for item in observations):
        of_model = [item for item in observations if (item.task, item.model) == (task, model)]
        if len({item.source for item in of_model}) > 1 and (advice := _advise(task, model, of_model, group_of)):
            found.append(advice)
    return found


def without_advice(observations: Sequence[Observation], advice: Sequence[Advice]) -> list[str]:
    """A sentence about each task with several sources whose rules cannot be compared."""
    sources: dict[tuple[str, str], set[str]] = {}
    for item in observations:
        sources.setdefault((item.task, item.model), set()).add(item.source)
    several = {pair for pair, names in sources.items() if len(names) > 1}
    missing = sorted({task for task, _ in several - {(item.task, item.model) for item in advice}})
    return [
        f"no source is advised for {', '.join(missing)}: fewer than {FEWEST} targets have results from all sources and "
        "a choice by every rule"
    ] * bool(missing)


def _advise(
    task: str, model: str, items: Sequence[Observation], group_of: Mapping[str, Callable[[str], str]]
) -> Advice | None:
    sources = tuple(dict.fromkeys(item.source for item in items))
    by_pair = {(item.source, item.target): item for item in items}
    targets = [
        target
        for target in dict.fromkeys(item.target for item in items)
        if len(candidates(target, sources)) > 1
        and all((source, target) in by_pair for source in candidates(target, sources))
    ]
    rules = _rules(by_pair, sources, targets, group_of)
    choices = {name: {target: choose(target) for target in targets} for name, choose in rules.items()}
    decided = {name: of_rule for name, of_rule in choices.items() if any(of_rule.values())}
    common = [target for target in targets if all(of_rule[target] for of_rule in decided.values())]
    if len(common) < FEWEST or BEST_SOURCE not in decided:
        return None

    def f1(source: str | None, target: str) -> float:
        return by_pair[str(source), target].f1

    best = np.array([max(f1(source, target) for source in candidates(target, sources)) for target in common])
    reached = {name: np.array([f1(of_rule[t], t) for t in common]) for name, of_rule in decided.items()}
    scores = []
    for name, values in reached.items():
        (difference,) = mean_over_languages((values - reached[BEST_SOURCE])[:, None], resamples=TABLE_RESAMPLES)
        scores.append(
            RuleScore(name, float(values.mean()), float(best.mean()), difference, float((values == best).mean()))
        )
    first = max(scores, key=lambda score: score.f1)
    rule = first.rule if first.minus_single.low > 0 else BEST_SOURCE
    advised = {target: source for target, source in decided[rule].items() if source}
    return Advice(task, model, sources, tuple(common), scores, rule, advised)


def candidates(target: str, sources: Sequence[str]) -> list[str]:
    """The sources that can be advised for a target: all but the target itself."""
    return [source for source in sources if source != target]


def _rules(
    by_pair: Mapping[tuple[str, str], Observation],
    sources: Sequence[str],
    targets: Sequence[str],
    group_of: Mapping[str, Callable[[str], str]],
) -> dict[str, Choose]:
    """All rules by name."""

    def highest_mean(target: str, group: Callable[[str], str]) -> str | None:
        """By F1 over other targets, which are no sources, so that every source has the same ones."""
        others = [other for other in targets if other != target and other not in sources]
        used = [other for other in others if group(other) == group(target)] or others
        if not used:
            return None
        means = {s: float(np.mean([by_pair[s, other].f1 for other in used])) for s in candidates(target, sources)}
        return max(means, key=lambda source: means[source])

    def highest(target: str, predictor: str) -> str | None:
        values = {s: by_pair[s, target].predictors.get(predictor) for s in candidates(target, sources)}
        known = {source: value for source, value in values.items() if value is not None}
        return max(known, key=lambda source: known[source]) if len(known) == len(values) else None

    rules: dict[str, Choose] = {BEST_SOURCE: partial(highest_mean, group=lambda code: "")}
    for name, group in group_of.items():
        rules[f"best of the same {name}"] = partial(highest_mean, group=group)
    for predictor in dict.fromkeys(name for item in by_pair.values() for name in item.predictors):
        rules[f"highest {predictor}"] = partial(highest, predictor=predictor)
    return rules
