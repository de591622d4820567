"""Line charts of similarities and retrieval over the steps of runs, after Figures 3, 6, 9 and 10 of paper A."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from translit_scale.analyze.figures import MEASURES, interval
from translit_scale.analyze.similarity import SIMILARITIES, formula
from translit_scale.charts import Axes, Chart, Row, line_chart
from translit_scale.testsets.task import TOP_K


def dynamics_rows(entries: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row for each number, in the order of the entries of dynamics.json; averages have no interval."""
    rows: list[Row] = []
    for entry in entries:
        names = {"run": entry["run"], "step": entry["step"], "direction": entry["hf_subset"]}
        for name in SIMILARITIES:
            for measure in MEASURES:
                value, error = entry[name][measure], entry[name].get(f"{measure}_se")
                limits: Row = {"value": value, "low": None, "high": None}
                if error is not None:
                    limits = interval(value, error, measure)
                rows.append({**names, "what": formula(name), "measure": measure, **limits})
        for k in TOP_K:
            low, high = entry["retrieval"].get("ci95", {}).get(f"top{k}", (None, None))
            value = entry["retrieval"][f"top{k}"]
            rows.append({
                **names, "what": f"top-{k}", "measure": "retrieval", "value": value, "low": low, "high": high,
            })  # fmt: skip
    return rows


def dynamics_charts(task: str, direction: str, rows: Sequence[Row]) -> list[Chart]:
    """A chart for each measure, with a panel for each similarity, and one of retrieval with a panel for each top-k.

    Args:
        direction: `urd_Arab-hin_Deva`, or `average`.
        rows: as `dynamics_rows` returns them.
    """
    charts = []
    for measure, title in {**MEASURES, "retrieval": "retrieval from s to t"}.items():
        chosen = [row for row in rows if row["direction"] == direction and row["measure"] == measure]
        with_intervals = chosen[0]["low"] is not None
        axes = Axes(
            x="step", y="value", series="run", panel="what", x_title="step", columns=2,
            low="low" if with_intervals else None, high="high" if with_intervals else None,
            own_scales=() if measure == "retrieval" else ("y",),
        )  # fmt: skip
        name = f"dynamics.{direction}.{measure}"
        charts.append(line_chart(name, f"{task}, {direction}: {title}", chosen, axes))
    return charts
