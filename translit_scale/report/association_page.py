"""Tables, files and charts of correlations and of advice on sources."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from translit_scale.charts import Axes, Chart, Row, scatter_chart
from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.report.association import LANGUAGES, Correlation, Observation
from translit_scale.report.source_advice import BEST_SOURCE, Advice
from translit_scale.text_table import format_table

_MOST = 20
"""Lines of advice in the terminal; the files have all."""


def correlation_table(found: Sequence[Correlation]) -> str:
    """A table for each task, with intervals over target languages; an asterisk if one does not contain 0."""
    if not found:
        return "no correlation: fewer than four target languages have both a score of transfer and a predictor"
    parts = ["Correlation of transfer's F1 with alignment and overlap over n target languages"]
    columns = ["predictor", "model", "n", "Pearson [95 %]", "Spearman [95 %]"]
    for task in dict.fromkeys(item.task for item in found):
        lines = [
            [item.predictor, item.model or "(all)", str(item.languages), *map(_interval, (item.pearson, item.spearman))]
            for item in found
            if item.task == task
        ]
        parts.append(f"{task}\n{format_table(columns, lines, left=2)}")
    if any(item.model is None for item in found):
        parts.append("(all): over models and checkpoints, minus the mean of each pair of languages")
    return "\n\n".join(parts)


def _interval(estimate: Estimate) -> str:
    if not math.isfinite(estimate.low):
        return f"{estimate.value:+.2f}"
    mark = "*" if estimate.low > 0 or estimate.high < 0 else " "
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]{mark}"


def advice_tables(advice: Sequence[Advice]) -> Iterator[str]:
    """For each task and model, the rules and the source of each target."""
    for item in advice:
        title = f"{item.task}, {item.model}: which source? ({len(item.targets)} targets, {len(item.sources)} sources)"
        lines = []
        for score in item.rules:
            gain = "" if score.rule == BEST_SOURCE else points(score.minus_single)
            lines.append([score.rule, f"{100 * score.f1:.1f}", gain, f"{100 * score.right:.0f}"])
        lines.append(["best of each target, afterwards", f"{100 * item.rules[0].best:.1f}", "", "100"])
        table = format_table(["rule", "mean F1", "minus single source", "right %"], lines)
        shown = [f"{target} from {source}" for target, source in list(item.source_of.items())[:_MOST]]
        more = f"\n  … {len(item.source_of) - _MOST} more in the files" if len(item.source_of) > _MOST else ""
        pairs = "\n".join(f"  {'; '.join(shown[start : start + 3])}" for start in range(0, len(shown), 3))
        yield f"{title}\n{table}\nadvised: {item.rule}\n{pairs}{more}"


def points(estimate: Estimate) -> str:
    """A difference of fractions in points, with its interval; an asterisk if the interval does not contain 0."""
    value, low, high = (f"{100 * x:+.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]{'*' if estimate.low > 0 or estimate.high < 0 else ' '}"


def record(
    observations: Sequence[Observation], found: Sequence[Correlation], advice: Sequence[Advice]
) -> dict[str, Any]:
    """Everything, as JSON; fractions, and null for an interval that is not defined."""
    return {
        "correlations": [_finite(asdict(item)) for item in found],
        "sources": [_finite(asdict(item)) for item in advice],
        "points": [asdict(item) for item in observations],
    }


def _finite(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_rows(observations: Sequence[Observation]) -> list[Row]:
    """A row for each score of transfer with its predictors."""
    fixed = ("task", "model", "source", "target", "f1")
    return [{**{name: getattr(item, name) for name in fixed}, **item.predictors} for item in observations]


def association_charts(observations: Sequence[Observation], found: Sequence[Correlation]) -> Iterator[Chart]:
    """A chart for each predictor with a panel for each task: every pair of languages is a point."""
    for name in dict.fromkeys(item.predictor for item in found):
        tasks = {item.task for item in found if item.predictor == name and item.over == LANGUAGES}
        rows: list[Row] = [
            {
                "task": item.task, "model": item.model, "source": item.source, "target": item.target,
                name: 100 * item.predictors[name], "F1": 100 * item.f1,
            }
            for item in observations if name in item.predictors and item.task in tasks
        ]  # fmt: skip
        if rows:
            axes = Axes(name, "F1", "model", panel="task", x_title=f"{name} (%)", y_title="F1 of transfer (%)")
            file = f"association.{name.replace(' ', '_')}"
            yield scatter_chart(file, f"Transfer and {name}, a point for each source and target", rows, axes)
