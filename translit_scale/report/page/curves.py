"""Training curves: losses, learning rate, validation and whatever else metrics.jsonl has, a chart for each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from translit_scale.charts import Axes, Chart, Row, interval_chart, line_chart, same_marks
from translit_scale.report.page.elements import Section
from translit_scale.report.page.runs import MOST_RECORDS, Run
from translit_scale.train.metric_names import BY_LANGUAGE, BY_SCRIPT

TITLES = {
    "train": "Losses and learning rate",
    "validation": "Validation: scores of checkpoints during training",
    "train_tcm": "Contrastive objective: similarities, and how often the positive is the nearest",
    BY_SCRIPT: "Loss by script (mean over both halves of a pair: compare runs with the same kind of pairs only)",
    BY_LANGUAGE: "Loss by language (mean over both halves of a pair: compare runs with the same kind of pairs only)",
    "train_optimizer": "Gradient norm, and updates that were skipped",
    "train_speed": "Speed",
    "train_memory": "Memory",
}
"""Groups of metrics in the order of the page; others, such as those of monitoring, follow the validation."""
MOST_PANELS = 24
"""Metrics of a group; with more languages than this, metrics.jsonl alone has their losses."""


def curves(runs: Sequence[Run]) -> Section:
    """The charts of all runs, a panel for each metric and a line for each run."""
    section = Section("training", "Training")
    for group, metrics in _groups(runs):
        if len(metrics) > MOST_PANELS:
            section.paragraphs.append(
                f"metrics.jsonl has {len(metrics)} curves of the group {group}, too many to be shown here."
            )
            continue
        rows: list[Row] = [
            {"run": run.name, "metric": _panel(metric), "step": record["step"], "value": value}
            for metric in metrics
            for run in runs
            for record in run.records
            if (value := record.get(metric)) is not None
        ]
        title = TITLES.get(group, f"{group.replace('_', ' ').capitalize()} over the steps of training")
        if len(runs) > 1 and len(only := {row["run"] for row in rows}) == 1:
            title += f", of {only.pop()} only"
        axes = Axes("step", "value", "run", panel="metric", x_title="step")
        drawn = line_chart(f"curves.{group}", title, rows, axes)
        section.charts.append(_independent(same_marks(drawn, [run.name for run in runs])))
    if chart := _selection(runs):
        section.charts.append(chart)
    if thinned := [run for run in runs if run.record_count > MOST_RECORDS]:
        names = ", ".join(f"{run.name} ({run.record_count:,} records)" for run in thinned)
        section.paragraphs.append(
            f"Long runs are thinned: at most {MOST_RECORDS + 1} records at equal distances are shown of {names}. "
            "metrics.jsonl in the run directory has all of them."
        )
    if not section.charts:
        section.missing = "There are no records of training yet: metrics.jsonl of the runs is missing or empty."
    return section


def _groups(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    """The groups of metrics with the metrics that change or have several values."""
    names = dict.fromkeys(name for run in runs for record in run.records for name in record if "/" in name)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition("/")[0], []).append(name)
    if BY_SCRIPT in groups:
        groups.pop(BY_LANGUAGE, None)
    order = list(TITLES)
    for group in sorted(groups, key=lambda group: order.index(group) if group in order else 1.5):
        yield group, groups[group]


def _panel(metric: str) -> str:
    name = metric.partition("/")[2].replace("_", " ")
    return "learning rate" if name == "lr" else name


def _independent(chart: Chart) -> Chart:
    """Panels with a vertical scale of their own, because their units differ."""
    spec: dict[str, Any] = {**chart.spec, "resolve": {"scale": {"y": "independent"}}}
    return replace(chart, spec=spec)


def _selection(runs: Sequence[Run]) -> Chart | None:
    """The scores of checkpoints in best.json, with their intervals."""
    rows: list[Row] = []
    tasks = []
    for run in runs:
        for entry in run.best.get("ranked") or []:
            if isinstance(entry, dict) and {"checkpoint", "value"} <= entry.keys():
                low, high = entry.get("ci95") or (None, None)
                names = {"checkpoint": str(entry["checkpoint"]), "run": run.name}
                rows.append({**names, "score": entry["value"], "low": low, "high": high})
        tasks += [f"{run.best.get('measure')} of {run.best.get('task')}"] if run.best.get("ranked") else []
    if not rows:
        return None
    rows.sort(key=lambda row: str(row["checkpoint"]))
    title = f"Scores by which a checkpoint was chosen ({', '.join(dict.fromkeys(tasks))}), with 95 % intervals"
    axes = Axes("score", "checkpoint", "run", low="low", high="high", x_title="score")
    return interval_chart("selection", title, rows, axes)
