"""The four similarities of paper A (section 5.1), from the files that `analyze similarity` writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from translit_scale.charts import Axes, Chart, Row, interval_chart, line_chart
from translit_scale.errors import DataError
from translit_scale.report.page.elements import Cell, Section, Table
from translit_scale.report.page.inputs import Analysis, Inputs

NAMES = {
    "translation": "sim(s, t)",
    "transliteration": "sim(s, r_s)",
    "transliteration_translation": "sim(r_s, t)",
    "transliteration_transliteration": "sim(r_s, r_t)",
}
"""Field of a score → what it compares; s: sentence, t: translation, r: romanization."""
EXPLAINED = (
    "Cosines of a sentence s, its translation t and their romanizations r_s and r_t, for matched pairs and for random "
    "pairs. Retrieval needs the gap between both: a high similarity of matched pairs alone says little, because random "
    "pairs may be as similar (paper A, section 5). Intervals are 1.96 standard errors over sentences."
)
MOST_TEXTS = 30
"""Language pairs in a chart; the table has all."""


def similarities(inputs: Inputs) -> Section:
    """Gaps of all models, their course over the checkpoints of a run, and one table with all numbers."""
    section = Section("similarities", "Similarities")
    rows = [row for analysis in inputs.of_kind("similarity") for row in _rows(analysis, inputs)]
    if not rows:
        section.missing = (
            "There are no similarities. Make them with `translit-scale analyze similarity --model base=BASE_MODEL "
            f"--model RUN@best --parallel pol_Latn:FILE ukr_Cyrl:FILE --out {inputs.runs[0].path}/analysis`."
        )
        return section
    section.paragraphs.append(EXPLAINED)
    steps: dict[str, set[int]] = {}
    for row in rows:
        steps.setdefault(str(row["run"]), set()).add(row["step"])
    section.charts += _over_steps([row for row in rows if row["run"] and len(steps[row["run"]]) > 2])
    last = [row for row in rows if not row["run"] or row["step"] == max(steps[row["run"]])]
    section.charts += _models(last)
    section.tables.append(_table(rows))
    return section


def _rows(analysis: Analysis, inputs: Inputs) -> Iterator[dict[str, Any]]:
    """A row for each language pair and similarity of one model."""
    try:
        model = analysis.content["model"]
        step = re.search(r"/step_([0-9]+)$", model["path"])
        run = next((run.name for run in inputs.runs if run.holds(model["path"])), Path(model["path"]).parts[-3:-2])
        for score in analysis.content["scores"]["test"]:
            for name in NAMES:
                yield {
                    "model": model["label"], "run": str(run) if step else "", "step": int(step[1]) if step else 0,
                    "text": f"{analysis.content['task_name']}: {score['s']} → {score['t']}", "n": score["n"],
                    "similarity": NAMES[name], **score[name],
                }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        inputs.damaged.append(DataError(f"{analysis.path} is not a complete result: {error}", "analyze again"))


def _interval(row: dict[str, Any], name: str) -> dict[str, float]:
    margin = 1.96 * row[f"{name}_se"]
    return {"cosine": row[name], "low": row[name] - margin, "high": row[name] + margin}


def _models(rows: Sequence[dict[str, Any]]) -> Iterator[Chart]:
    texts = list(dict.fromkeys(row["text"] for row in rows))
    shown = [row for row in rows if row["text"] in texts[:MOST_TEXTS]]
    some = f", the first {MOST_TEXTS} language pairs" if len(texts) > MOST_TEXTS else ""
    names = ("text", "similarity", "model")
    gaps: list[Row] = [{name: row[name] for name in names} | _interval(row, "gap") for row in shown]
    axes = Axes("cosine", "text", "model", panel="similarity", low="low", high="high", x_title="gap", columns=2)
    yield interval_chart("similarity-gaps", f"Gap between matched and random pairs{some}", gaps, axes, zero=True)
    levels: list[Row] = [
        {name: row[name] for name in names} | {"pairs": kind} | _interval(row, kind)
        for row in shown
        if row["text"] in texts[:4]
        for kind in ("matched", "random")
    ]
    for number, text in enumerate(texts[:4], 1):
        of_text = [row for row in levels if row["text"] == text]
        axes = Axes("cosine", "model", "pairs", panel="similarity", low="low", high="high", x_title="cosine", columns=2)
        yield interval_chart(f"similarities.{number}", f"Matched and random pairs, {text}", of_text, axes)


def _over_steps(rows: Sequence[dict[str, Any]]) -> Iterator[Chart]:
    """Lines over the checkpoints, one chart for each language pair."""
    for number, text in enumerate(list(dict.fromkeys(row["text"] for row in rows))[:4], 1):
        lines: list[Row] = [
            {"run": row["run"], "step": row["step"], "similarity": row["similarity"], **_interval(row, "gap")}
            for row in sorted(rows, key=lambda row: row["step"])
            if row["text"] == text
        ]
        axes = Axes("step", "cosine", "run", "similarity", "low", "high", x_title="step", y_title="gap", columns=2)
        yield line_chart(f"similarity-steps.{number}", f"Gap over the steps of training, {text}", lines, axes)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    body: list[list[Cell | str]] = []
    for row in rows:
        cells = [Cell(f"{row[name]:.3f}", f"±{1.96 * row[f'{name}_se']:.3f}") for name in ("matched", "random", "gap")]
        higher = Cell(f"{100 * row['matched_higher']:.1f}")
        body.append([row["text"], row["model"], row["similarity"], *cells, higher, str(row["n"])])
    heads = ["text", "model", "similarity", "matched", "random", "gap", "matched higher, %", "pairs"]
    return Table("All similarities", heads, body, names=3, closed=True)
