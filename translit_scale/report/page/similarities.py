"""The four similarities of paper A (section 5), of models and over training, from the files that `analyze` writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from translit_scale.charts import HISTOGRAM, Axes, Chart, Row, histogram_chart, interval_chart, line_chart
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
    "pairs. A high similarity of matched pairs alone says little, because random pairs may be as similar (paper A, "
    "section 5): what counts is how well both can be told apart. Separability (AUC) says how often a matched pair is "
    "more similar than a random one; 50 % is chance. Compare models by it, and by retrieval: the gap between the means "
    "depends on how far apart a model puts all sentences, so a model with a smaller gap may still separate better. "
    "Intervals are 1.96 standard errors over sentences."
)
MOST_STEPS = 4
"""Directions with a chart over the steps; of more the average."""
MOST_HISTOGRAMS = 4
"""Histograms, the first ones; all of them are beside the results."""
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
    section.charts += [*_models(rows), *_histograms(inputs)]
    section.tables += [_table(rows)] if rows else []
    return section


def dynamics(inputs: Inputs) -> Section:
    """Gaps and retrieval over the checkpoints of runs, from the files that `analyze dynamics` writes."""
    section = Section("dynamics", "Dynamics")
    rows = [row for analysis in inputs.of_kind("dynamics") for row in _steps(analysis, inputs)]
    if not rows:
        runs = " ".join(f"--run {run.path}" for run in inputs.runs)
        section.missing = (
            "There are no similarities over the steps of training. Make them with `translit-scale analyze dynamics "
            f"{runs} --parallel pol_Latn:FILE ukr_Cyrl:FILE --out {inputs.runs[0].path}/analysis`."
        )
        return section
    texts = list(dict.fromkeys(row["text"] for row in rows))
    averages = [text for text in texts if text.endswith(": average")]
    for number, text in enumerate(averages or texts[:MOST_STEPS], 1):
        of_text = [{name: row[name] for name in row if name != "text"} for row in rows if row["text"] == text]
        axes = Axes("step", "value", "run", panel="measure", x_title="step", columns=2)
        title = f"Gaps, separability and retrieval over the steps of training, {text}"
        chart = line_chart(f"dynamics.{number}", title, of_text, axes)
        section.charts.append(replace(chart, spec={**chart.spec, "resolve": {"scale": {"y": "independent"}}}))
    if averages:
        section.paragraphs.append(
            "The charts show the average over all directions; the file dynamics.json has each of them."
        )
    elif len(texts) > MOST_STEPS:
        section.paragraphs.append(f"The charts show {MOST_STEPS} of {len(texts)} directions; dynamics.json has all.")
    return section


def _steps(analysis: Analysis, inputs: Inputs) -> Iterator[dict[str, Any]]:
    """A row for each run, step, direction and measure."""
    try:
        for entry in analysis.content["scores"]["test"]:
            measures = {f"gap {NAMES[name]}": entry[name]["gap"] for name in NAMES}
            for name in NAMES:
                if (separability := entry[name].get("separability")) is not None:
                    measures[f"separability {NAMES[name]}, percent"] = 100 * separability
            measures |= {f"top-{k}, percent": 100 * entry["retrieval"][f"top{k}"] for k in (1, 10)}
            for name, value in measures.items():
                if value is not None:
                    text = f"{analysis.content['task_name']}: {entry['hf_subset']}"
                    yield {"run": entry["run"], "step": entry["step"], "text": text, "measure": name, "value": value}
    except (KeyError, TypeError) as error:
        inputs.damaged.append(DataError(f"{analysis.path} is not a complete result: {error}", "analyze again"))


def _rows(analysis: Analysis, inputs: Inputs) -> Iterator[dict[str, Any]]:
    """A row for each language pair and similarity of one model."""
    try:
        model = analysis.content["model"]
        for score in analysis.content["scores"]["test"]:
            for name in NAMES:
                yield {
                    "model": model["label"],
                    "text": f"{analysis.content['task_name']}: {score['s']} → {score['t']}", "n": score["n"],
                    "similarity": NAMES[name], **score[name],
                }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        inputs.damaged.append(DataError(f"{analysis.path} is not a complete result: {error}", "analyze again"))


def _histograms(inputs: Inputs) -> Iterator[Chart]:
    """Those that `analyze similarity` has drawn, from their numbers."""
    folders = dict.fromkeys(analysis.path.parent for analysis in inputs.of_kind("similarity"))
    paths = [path for folder in folders for path in sorted(folder.glob("similarity.*.csv"))]
    for number, path in enumerate(paths[:MOST_HISTOGRAMS], 1):
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = [_histogram_row(row) for row in csv.DictReader(file)]
            text = path.name.removeprefix("similarity.").removesuffix(".csv").replace("-", " → ")
            title = f"Histograms of matched and random pairs, {path.parent.name}: {text}"
            yield histogram_chart(f"histograms.{number}", title, rows, HISTOGRAM)
        except (OSError, KeyError, ValueError, IndexError) as error:
            inputs.damaged.append(DataError(f"{path} has no histograms: {error}", "analyze again"))


def _histogram_row(row: Mapping[str, str]) -> Row:
    return {"panel": row["panel"], "pairs": row["pairs"]} | {
        name: float(row[name]) for name in ("low", "high", "percent", "mean") if row[name]
    }


def _interval(row: dict[str, Any], name: str, scale: float = 1) -> dict[str, float]:
    margin = 1.96 * row.get(f"{name}_se", 0)
    return {"value": scale * row[name], "low": scale * (row[name] - margin), "high": scale * (row[name] + margin)}


def _models(rows: Sequence[dict[str, Any]]) -> Iterator[Chart]:
    texts = list(dict.fromkeys(row["text"] for row in rows))
    shown = [row for row in rows if row["text"] in texts[:MOST_TEXTS]]
    some = f", the first {MOST_TEXTS} language pairs" if len(texts) > MOST_TEXTS else ""
    names = ("text", "similarity", "model")
    gaps: list[Row] = [{name: row[name] for name in names} | _interval(row, "gap") for row in shown]
    separable: list[Row] = [
        {name: row[name] for name in names} | _interval(row, "separability", 100)
        for row in shown
        if "separability" in row
    ]
    if separable:
        axes = Axes("value", "text", "model", panel="similarity", low="low", high="high", x_title="percent", columns=2)
        title = f"Separability (AUC): 50 % is chance{some}"
        yield interval_chart("separability", title, separable, axes)
    axes = Axes("value", "text", "model", panel="similarity", low="low", high="high", x_title="gap", columns=2)
    yield interval_chart("similarity-gaps", f"Gap between matched and random pairs{some}", gaps, axes, zero=True)
    levels: list[Row] = [
        {name: row[name] for name in names} | {"pairs": kind} | _interval(row, kind)
        for row in shown
        if row["text"] in texts[:4]
        for kind in ("matched", "random")
    ]
    for number, text in enumerate(texts[:4], 1):
        of_text = [row for row in levels if row["text"] == text]
        axes = Axes("value", "model", "pairs", panel="similarity", low="low", high="high", x_title="cosine", columns=2)
        yield interval_chart(f"similarities.{number}", f"Matched and random pairs, {text}", of_text, axes)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    separated = all("separability" in row for row in rows)
    body: list[list[Cell | str]] = []
    for row in rows:
        cells = [Cell(f"{row[name]:.3f}", f"±{1.96 * row[f'{name}_se']:.3f}") for name in ("matched", "random", "gap")]
        error = f"±{196 * row['separability_se']:.1f}" if "separability_se" in row else ""
        higher = [Cell(f"{100 * row['separability']:.1f}", error)] if separated else []
        body.append([row["text"], row["model"], row["similarity"], *cells, *higher, str(row["n"])])
    heads = ["text", "model", "similarity", "matched", "random", "gap"]
    heads += [*(["separability (AUC), %"] if separated else []), "pairs"]
    return Table("All similarities", heads, body, names=3, closed=True)
