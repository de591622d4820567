"""Charts of the four similarities, after the figures of paper A."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from translit_scale.analyze.measurement import Similarities
from translit_scale.analyze.similarity import SIMILARITIES, formula, similarity_gap
from translit_scale.charts import HISTOGRAM, Axes, Chart, Row, histogram_chart, interval_chart, write_chart
from translit_scale.progress import Progress

BINS = 50
DRAWN = 8
"""Directions with charts, at most; the files have the numbers of all."""
ENLARGED = 5
"""A panel has bins of its own if its values take less than one part in so many of the range of its column."""
MEASURES = {
    "matched": "matched pairs",
    "random": "random pairs",
    "gap": "gap (matched minus random)",
    "separability": "separability (area under the ROC curve)",
}
"""Fields of a result file and their titles."""


def similarity_charts(task: str, models: Mapping[str, Similarities]) -> list[Chart]:
    """The histograms and the comparison of several models in one direction.

    Args:
        models: by label, in the order in which they are shown.
    """
    first = next(iter(models.values()))
    title = f"{task}: {first.title}"
    return [
        histograms(f"similarity.{first.name}", title, models),
        comparison(f"comparison.{first.name}", title, models),
    ]


def histograms(name: str, title: str, models: Mapping[str, Similarities]) -> Chart:
    """Matched and random pairs, their means and separability: a row of panels for each model (Figures 1 and 4)."""
    rows: list[Row] = []
    bins = {
        similarity: panel_bins([np.concatenate(of_model.pairs[similarity]) for of_model in models.values()])
        for similarity in SIMILARITIES
    }
    for number, (label, of_model) in enumerate(models.items()):
        for similarity, (matched, random) in of_model.pairs.items():
            edges, enlarged = bins[similarity][number]
            auc = 100 * similarity_gap(matched, random).separability
            panel = f"{label}{' (enlarged)' if enlarged else ''} | {formula(similarity)}: AUC {auc:.1f} %"
            for series, values in (("matched pairs", matched), ("random pairs", random)):
                rows += _bin_rows({"panel": panel, "pairs": series}, values, edges)
                rows.append({"panel": panel, "pairs": series, "mean": round(float(values.mean()), 6)})
    return histogram_chart(name, title, rows, HISTOGRAM)


def panel_bins(columns: Sequence[NDArray[np.float64]]) -> list[tuple[NDArray[np.float64], bool]]:
    """Edges [BINS + 1] of equal bins for each panel of a column, and whether they are the panel's own.

    The panels of a column have the same bins, so that models can be compared, but for a panel that would be almost
    empty. The first and the last bin are empty.
    """
    shared = _edges(np.concatenate(columns))
    own = [_edges(values) for values in columns]
    return [(edges, True) if ENLARGED * np.ptp(edges) < np.ptp(shared) else (shared, False) for edges in own]


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.clip(values, -1, 1)
    low, high = values.min(), max(values.max(), values.min() + 1e-4)
    margin = 1.2 * (high - low) / BINS  # more than the width of a bin
    return np.linspace(low - margin, high + margin, BINS + 1)


def _bin_rows(names: Row, values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[Row]:
    percent = 100 * np.histogram(np.clip(values, -1, 1), edges)[0] / len(values)
    limits = [round(float(edge), 6) for edge in edges]
    return [
        {**names, "low": low, "high": high, "percent": round(float(height), 4)}
        for low, high, height in zip(limits, limits[1:], percent, strict=False)
    ]


def comparison(name: str, title: str, models: Mapping[str, Similarities]) -> Chart:
    """Means, gap and separability of the four similarities over models (Figures 2, 5, 7 and 8)."""
    rows: list[Row] = []
    for measure, panel in MEASURES.items():
        for label, of_model in models.items():
            for similarity, values in of_model.pairs.items():
                gap = vars(similarity_gap(*values))
                rows.append({
                    "panel": panel, "model": label, "similarity": formula(similarity),
                    **interval(gap[measure], gap[f"{measure}_se"], measure),
                })  # fmt: skip
    axes = Axes(
        x="value", y="model", series="similarity", panel="panel", low="low", high="high", columns=2,
        own_scales=("x",),
    )  # fmt: skip
    return interval_chart(name, title, rows, axes)


def interval(value: float, error: float, measure: str) -> dict[str, float]:
    """A value and its 95 % interval, for a row of a chart."""
    highest = 1.0 if measure != "gap" else 2.0
    low, high = value - 1.96 * error, min(value + 1.96 * error, highest)
    return {"value": value, "low": low, "high": high}


def draw(charts: Sequence[Chart], folder: Path) -> None:
    """Writes PNG, PDF and CSV of all charts."""
    with Progress("drawing", len(charts), "charts") as progress:
        for chart in charts:
            write_chart(chart, folder)
            progress.advance(1)


def drawn_directions(names: Sequence[str]) -> list[str]:
    """The directions that charts show, the first ones; a note tells if these are not all."""
    if len(names) > DRAWN:
        print(f"note: charts show the first {DRAWN} of {len(names)} directions; the files have all", file=sys.stderr)
    return list(names[:DRAWN])
