"""How transfer goes with alignment and overlap, and which source the data advise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.report.association import FEWEST, MODELS, Correlation, correlations
from translit_scale.report.association_data import ANALYSES, read_observations
from translit_scale.report.association_page import association_charts
from translit_scale.report.page.elements import Cell, Section, Table
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.scores import estimate_cell, mark
from translit_scale.report.source_advice import BEST_SOURCE, Advice, advise, rule_groups

MOST_CHARTS = 6
"""Predictors with a chart; the table has all."""
EXPLAINED = (
    "Does a model that aligns languages better also transfer better? A correlation of one model is over its pairs of "
    "source and target language. One over models (and checkpoints) takes from each pair what its models differ in, so "
    "that differences between languages play no part. Intervals at 95 % are over target languages; those with * do not "
    "contain 0, as one in twenty does by chance. A model whose F1 is the same for all languages has no correlation. No "
    "correlation says that one thing causes the other (`translit-scale docs tables`)."
)


def association(inputs: Inputs, profile: str, families: Path | None) -> Section:
    """Correlations of transfer with alignment, and advice on sources.

    Raises:
        DataError: `families` cannot be read.
    """
    section = Section("association", "Transfer beside alignment")
    if inputs.results is None:
        return section
    # Files that cannot be read are listed by the readers of the other sections.
    analyses = [(analysis.path, analysis.content) for analysis in inputs.analyses if analysis.kind in ANALYSES]
    observations, _ = read_observations(inputs.results, analyses, inputs.models, profile, [])
    found = correlations(observations)
    advice = advise(observations, rule_groups(families))
    if not found:
        section.missing = (
            f"How transfer goes with alignment cannot be said: it needs at least {FEWEST} target languages with a "
            "result of transfer and one of retrieval or similarity, see `translit-scale docs tables`."
        )
        return section
    section.paragraphs += [EXPLAINED, *_over_models(found)]
    charts = list(association_charts(observations, found))
    section.charts += charts[:MOST_CHARTS]
    section.tables.append(_correlations(found))
    if advice:
        section.tables += [_rules(advice), _sources(advice)]
    return section


def _over_models(found: Sequence[Correlation]) -> Iterator[str]:
    """A sentence about each correlation over models whose interval does not contain 0."""
    for item in found:
        if item.over == MODELS and (item.pearson.low > 0 or item.pearson.high < 0):
            than = "higher" if item.pearson.value > 0 else "lower"
            yield (
                f"For the same languages, models with a higher {item.predictor} have a {than} F1 of {item.task}: "
                f"Pearson {item.pearson.value:+.2f} [{item.pearson.low:+.2f}, {item.pearson.high:+.2f}]."
            )


def _correlations(found: Sequence[Correlation]) -> Table:
    rows: list[list[Cell | str]] = [
        [
            item.task, item.predictor, item.model or "over models", str(item.languages),
            _coefficient(item.pearson), _coefficient(item.spearman),
        ]
        for item in found
    ]  # fmt: skip
    heads = ["transfer", "predictor", "model", "target languages", "Pearson", "Spearman"]
    return Table("Correlation of F1 with alignment and overlap", heads, rows, names=3, closed=len(rows) > 12)


def _coefficient(estimate: Estimate) -> Cell:
    if not math.isfinite(estimate.low):
        return Cell(f"{estimate.value:+.2f}")
    without_0 = estimate.low > 0 or estimate.high < 0
    interval = f"[{estimate.low:+.2f}, {estimate.high:+.2f}]{'*' * without_0}"
    return Cell(f"{estimate.value:+.2f}", interval, best=without_0)


def _rules(advice: Sequence[Advice]) -> Table:
    rows: list[list[Cell | str]] = []
    for item in advice:
        for score in item.rules:
            n = len(item.targets)
            is_single = score.rule == BEST_SOURCE
            gain = "–" if is_single else estimate_cell(score.minus_single, "+", mark(score.minus_single, n))
            name = Cell(score.rule, "advised" if score.rule == item.rule else "", best=score.rule == item.rule)
            rows.append([item.task, item.model, name, f"{100 * score.f1:.1f}", gain, f"{100 * score.right:.0f}"])
    heads = ["transfer", "model", "rule", "mean F1", "minus the best single source", "right, %"]
    note = "Each rule chooses a source for every target without looking at F1 of that target."
    return Table("Which source language?", heads, rows, names=2, note=note, closed=len(rows) > 12)


def _sources(advice: Sequence[Advice]) -> Table:
    rows = [[item.task, item.model, *pair] for item in advice for pair in item.source_of.items()]
    return Table(
        "Advised source of every target", ["transfer", "model", "target", "source"], rows, names=3, closed=True
    )
