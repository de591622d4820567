"""Charts as Vega-Lite specifications: the report page draws them, and vl-convert makes PNG and PDF files of the same.

A chart contains its numbers (`rows`), which are also written as CSV. Several panels are one facet that wraps, so that
the page can put as many of them side by side as its width allows. Series differ in colour, and in shape or dash as
well: the colours are those of Okabe and Ito, which colour-blind readers can tell apart, and a grey print still shows
which series is which. Vega-Lite is given the rows as they are; nothing is computed in the chart.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from translit_scale.escaping import escape_csv
from translit_scale.extras import install_command
from translit_scale.files import write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
"""Okabe and Ito's palette; yellow is replaced by grey, because it is hard to see on white."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 1], [1, 1], [10, 3], [3, 1, 1, 1])
MATCHED, RANDOM = COLOURS[0], COLOURS[1]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
PANEL_WIDTH, PANEL_HEIGHT, WIDTH = 160, 120, 480
"""Pixels of a panel, and the width of a chart without panels."""

Row = Mapping[str, str | float | int | None]


@dataclass(frozen=True)
class Chart:
    """A chart and its numbers.

    Attributes:
        name: of its files, without an ending.
        title: what it shows, for captions and for readers who cannot see it.
        spec: the Vega-Lite specification, with `rows` as its data.
        rows: all numbers that are shown, one row for each mark.
    """

    name: str
    title: str
    spec: Mapping[str, Any]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Axes:
    """What a chart shows: names of the columns of its rows, and titles of its axes.

    Attributes:
        x, y: columns of the axes.
        series: column that colour and shape tell apart.
        panel: column with a panel for each of its values; None for a chart without panels.
        low, high: columns of an interval around the value; None for no interval.
        mean: of histograms: column of means, which have rows of their own without bins.
        columns: panels side by side, where there is room for so many.
        own_scales: `x` and `y` for panels whose scale follows their own values instead of those of all panels.
    """

    x: str
    y: str
    series: str
    panel: str | None = None
    low: str | None = None
    high: str | None = None
    mean: str | None = None
    x_title: str = ""
    y_title: str = ""
    columns: int = 4
    own_scales: tuple[str, ...] = ()


HISTOGRAM = Axes(
    x="low", y="percent", series="pairs", panel="panel", low="low", high="high", mean="mean",
    x_title="cosine (lines: means)", y_title="% of pairs",
)  # fmt: skip
"""Of matched and random pairs, which `analyze similarity` and the report page draw."""


def line_chart(name: str, title: str, rows: Sequence[Row], axes: Axes) -> Chart:
    """A line for each series over a number such as the step, with a band for its interval."""
    shared = {"x": _number(axes.x, axes.x_title), "y": _number(axes.y, axes.y_title)}
    series = _values(rows, axes.series)
    layers: list[dict[str, Any]] = []
    if axes.low and axes.high:
        band = {**shared, "y": {**shared["y"], "field": axes.low}, "y2": {"field": axes.high}}
        layers.append({"mark": {"type": "area", "opacity": 0.15}, "encoding": band})
    layers.append({"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {
        **shared, "strokeDash": _scale(axes.series, series, DASHES),
    }})  # fmt: skip
    layers.append({"mark": {"type": "point", "filled": True, "size": 18}, "encoding": {
        **shared, "shape": _scale(axes.series, series, SHAPES), "tooltip": _tooltip(rows),
    }})  # fmt: skip
    return _chart(name, title, rows, axes, {"encoding": {"color": _scale(axes.series, series, COLOURS)}}, layers)


def interval_chart(name: str, title: str, rows: Sequence[Row], axes: Axes, zero: bool = False) -> Chart:
    """A point with its interval for each category (`y`) and series, the series of a category below each other.

    Args:
        zero: draws a line at 0, for differences.
    """
    series = _values(rows, axes.series)
    shared = {
        "x": _number(axes.x, axes.x_title),
        "y": {"field": axes.y, "type": "nominal", "sort": None, "title": axes.y_title or None},
        "yOffset": {"field": axes.series, "sort": series},
    }
    layers: list[dict[str, Any]] = [{"mark": {"type": "rule", "strokeDash": [2, 2]}, "encoding": {"x": {"datum": 0}}}]
    layers = layers if zero else []
    if axes.low and axes.high:
        interval = {**shared, "x": {**shared["x"], "field": axes.low}, "x2": {"field": axes.high}}
        layers.append({"mark": "rule", "encoding": interval | {"color": _scale(axes.series, series, COLOURS)}})
    layers.append({"mark": {"type": "point", "filled": True, "size": 30}, "encoding": {
        **shared, "color": _scale(axes.series, series, COLOURS), "shape": _scale(axes.series, series, SHAPES),
        "tooltip": _tooltip(rows),
    }})  # fmt: skip
    return _chart(name, title, rows, axes, {"height": {"step": 9 + 3 * (len(series) == 1)}}, layers)


def scatter_chart(name: str, title: str, rows: Sequence[Row], axes: Axes) -> Chart:
    """A point for each row; the tooltip has all of its columns."""
    series = _values(rows, axes.series)
    encoding = {
        "x": _number(axes.x, axes.x_title), "y": _number(axes.y, axes.y_title),
        "color": _scale(axes.series, series, COLOURS), "shape": _scale(axes.series, series, SHAPES),
        "tooltip": _tooltip(rows),
    }  # fmt: skip
    points = {"mark": {"type": "point", "filled": True, "size": 30, "opacity": 0.8}, "encoding": encoding}
    return _chart(name, title, rows, axes, {}, [points])


def histogram_chart(name: str, title: str, rows: Sequence[Row], axes: Axes) -> Chart:
    """Histograms: rows are bins from `low` to `high` with the height `y`. The first series is filled, others outlined.

    Bins of a series must touch each other, and the last one must be empty, because an outline ends at its left edge.
    A panel has its own scales: on a shared one, a narrow peak would flatten all others. A vertical rule marks the mean
    of each series.
    """
    assert axes.low and axes.high
    series = _values(rows, axes.series)
    x = _number(axes.low, axes.x_title) | {"scale": {"zero": False, "nice": False}}
    shared = {
        "x": x,
        "y": _number(axes.y, axes.y_title) | {"scale": {"zero": True}},
        "color": _scale(axes.series, series, COLOURS),
    }
    first = {"field": axes.series, "equal": series[0]}
    bins = {"field": axes.low, "valid": True}
    outline = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.2}
    layers: list[dict[str, Any]] = [
        {"transform": [{"filter": {"and": [bins, first]}}], "mark": {"type": "bar", "opacity": 0.5, "binSpacing": 0},
         "encoding": {**shared, "x": {**x, "bin": {"binned": True}}, "x2": {"field": axes.high}}},
        {"transform": [{"filter": {"and": [bins, {"not": first}]}}], "mark": outline, "encoding": shared},
    ]  # fmt: skip
    if axes.mean:
        layers.append({
            "transform": [{"filter": {"field": axes.mean, "valid": True}}],
            "mark": {"type": "rule", "strokeWidth": 1.2},
            "encoding": {
                "x": {**x, "field": axes.mean}, "color": shared["color"],
                "strokeDash": _scale(axes.series, series, DASHES),
            },
        })  # fmt: skip
    return _chart(name, title, rows, replace(axes, own_scales=("x", "y")), {}, layers)


def can_draw() -> bool:
    """Whether charts can be written; says so if not."""
    if find_spec("vl_convert") is None:
        print(f"note: no figures without vl-convert: {install_command('plots')}", file=sys.stderr)
        return False
    return True


def write_chart(chart: Chart, folder: Path) -> None:
    """Writes `<name>.png`, `<name>.pdf` and `<name>.csv` into the folder.

    The same chart gives the same PNG and CSV; vl-convert orders the objects of a PDF anew each time.
    """
    import vl_convert

    spec = {**chart.spec, "config": STYLE, "background": "white"}
    write_bytes(folder / f"{chart.name}.png", vl_convert.vegalite_to_png(spec, scale=3))
    write_bytes(folder / f"{chart.name}.pdf", vl_convert.vegalite_to_pdf(spec))
    write_bytes(folder / f"{chart.name}.csv", comma_separated(chart.rows).encode())


def same_marks(chart: Chart, models: Sequence[str]) -> Chart:
    """Gives models the colours and shapes that they have in a chart of all `models`."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"domain", "range"}:
            marks: Sequence[Any] = next(m for m in (COLOURS, SHAPES, DASHES) if value["range"][0] in m)
            chosen = [marks[models.index(name) % len(marks)] for name in value["domain"]]
            return {"domain": value["domain"], "range": chosen}
        return {name: inner if name == "data" else moved(inner) for name, inner in value.items()}

    return replace(chart, spec=moved(dict(chart.spec)))


def comma_separated(rows: Sequence[Row]) -> str:
    """Rows as CSV, with a header and an empty cell for None; text that a spreadsheet would run is made harmless."""
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(escape_csv, names))
    for row in rows:
        cells = (row.get(name) for name in names)
        writer.writerow(["" if cell is None else escape_csv(cell) if isinstance(cell, str) else cell for cell in cells])
    return file.getvalue()


STYLE: dict[str, Any] = {
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 9,
        "titleFontSize": 9,
        "titleFontWeight": "normal",
        "gridOpacity": 0.4,
        "labelSeparation": 4,
    },
    "header": {"labelFontSize": 9, "labelFontWeight": "bold"},
    "legend": {"orient": "bottom", "title": None, "labelFontSize": 9, "symbolSize": 60, "labelLimit": 300},
    "title": {"fontSize": 11, "anchor": "start"},
}
"""Of files on white paper; the report page has colours of its own for light and dark screens."""


def _chart(
    name: str, title: str, rows: Sequence[Row], axes: Axes, unit: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]
) -> Chart:
    spec: dict[str, Any] = {"$schema": SCHEMA, "title": title, "data": {"values": list(rows)}}
    width = PANEL_WIDTH if axes.panel else WIDTH
    body = {"width": width, "height": PANEL_HEIGHT if axes.panel else WIDTH // 2, **unit, "layer": list(layers)}
    if axes.panel is None:
        return Chart(name, title, spec | body, rows)
    # A name such as "tcm | top-1" takes two lines above its panel.
    header = {"labelExpr": "split(datum.label, ' | ')", "title": None}
    facet = {"field": axes.panel, "type": "nominal", "header": header, "sort": _values(rows, axes.panel)}
    spec |= {"facet": facet, "columns": axes.columns, "spec": body}
    if axes.own_scales:
        spec["resolve"] = {"scale": dict.fromkeys(axes.own_scales, "independent")}
    return Chart(name, title, spec, rows)


def _values(rows: Sequence[Row], column: str) -> list[Any]:
    """The values of a column in the order of the rows, each once."""
    return list(dict.fromkeys(row[column] for row in rows))


def _number(field: str, title: str) -> dict[str, Any]:
    # Labels stay at their ticks: moved inwards, the last one of an axis touches the one before it.
    return {
        "field": field, "type": "quantitative", "title": title or None, "scale": {"zero": False},
        "axis": {"labelFlush": False},
    }  # fmt: skip


def _scale(field: str, values: Sequence[Any], marks: Sequence[Any]) -> dict[str, Any]:
    """One mark for each value, which are used again where there are more values; without a legend for a single one."""
    chosen = [marks[index % len(marks)] for index in range(len(values))]
    scale = {"domain": list(values), "range": chosen}
    shown = {} if len(values) > 1 else {"legend": None}
    return {"field": field, "type": "nominal", "scale": scale, **shown}


def _tooltip(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """All columns; numbers with four digits."""
    first = rows[0] if rows else {}
    kinds = {name: "nominal" if isinstance(value, str) else "quantitative" for name, value in first.items()}
    return [
        {"field": name, "type": kind, **({"format": ".4~g"} if kind == "quantitative" else {})}
        for name, kind in kinds.items()
    ]
