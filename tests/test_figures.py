"""Charts of similarities: they show the numbers, share their bins, and are the same bytes again."""

from __future__ import annotations

import csv
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from translit_scale.analyze.figures import BINS, comparison, histograms, panel_bins, similarity_charts
from translit_scale.analyze.similarity import SIMILARITIES, Pairs, formula
from translit_scale.charts import Chart, write_chart


def invented(mean: float, n: int = 200, seed: int = 0, spread: float = 0.1) -> Pairs:
    """Matched pairs around `mean`, random pairs twice the spread below it."""
    generator = np.random.default_rng(seed)

    def around(centre: float) -> np.ndarray:
        return np.clip(generator.normal(centre, spread, n), -1, 1)

    return {name: (around(mean), around(mean - 2 * spread)) for name in SIMILARITIES}


def of_models(models: dict[str, Pairs]) -> dict[str, Any]:
    return {label: SimpleNamespace(pairs=pairs, name="a-b", title="s = a, t = b") for label, pairs in models.items()}


def panels(chart: Chart) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The rows of each panel and series."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in chart.rows:
        found.setdefault(str(row["panel"]), {}).setdefault(str(row["pairs"]), []).append(dict(row))
    return found


cosines = st.lists(st.floats(-1.0001, 1.0001), min_size=1, max_size=20).map(np.array)


@given(st.lists(cosines, min_size=1, max_size=4))
def test_bins_hold_all_values_and_fill_at_least_a_fifth_of_each_panel(columns: list[np.ndarray]) -> None:
    for (bins, enlarged), values in zip(panel_bins(columns), columns, strict=True):
        values = np.clip(values, -1, 1)
        assert len(bins) == BINS + 1 and np.ptp(np.diff(bins)) < 1e-12 < np.diff(bins).min()
        heights = np.histogram(values, bins)[0]
        assert heights.sum() == len(values) and heights[0] == heights[-1] == 0
        assert np.ptp(values) <= np.ptp(bins) and (np.ptp(values) >= 0.19 * np.ptp(bins) or np.ptp(values) < 1e-4)
        assert enlarged or (bins == panel_bins([np.concatenate(columns)])[0][0]).all()


def test_panels_show_the_values_in_the_same_bins() -> None:
    models = {"one": invented(0.9, 50), "two": invented(0.3, 80)}
    shown = panels(histograms("h", "title", of_models(models)))
    assert len(shown) == 8
    for number, (panel, series) in enumerate(shown.items()):
        label, name = list(models)[number // 4], list(SIMILARITIES)[number % 4]
        matched, random = models[label][name]
        auc = 100 * roc_auc_score(np.repeat([1, 0], len(matched)), np.concatenate([matched, random]))
        assert panel == f"{label} | {formula(name)}: AUC {auc:.1f} %"
        bins, _ = panel_bins([np.concatenate(pairs[name]) for pairs in models.values()])[0]
        for rows, values in zip((series["matched pairs"], series["random pairs"]), (matched, random), strict=True):
            *of_bins, of_mean = rows
            np.testing.assert_allclose([row["low"] for row in of_bins], bins[:-1], atol=1e-6)
            assert [row["high"] for row in of_bins[:-1]] == [row["low"] for row in of_bins[1:]]
            heights = [row["percent"] for row in of_bins]
            np.testing.assert_allclose(heights, 100 * np.histogram(values, bins)[0] / len(values), atol=1e-4)
            assert sum(heights) == pytest.approx(100, abs=0.01) and of_mean["mean"] == pytest.approx(
                values.mean(), abs=1e-6
            )


def test_a_panel_that_would_be_almost_empty_is_enlarged_and_says_so() -> None:
    models = {"narrow": invented(0.97, spread=0.003), "wide": invented(0.3)}
    shown = panels(histograms("h", "title", of_models(models)))
    names = [name.split(" | ")[0] for name in shown]
    assert names == ["narrow (enlarged)"] * 4 + ["wide"] * 4
    for series in shown.values():
        filled = [row for rows in series.values() for row in rows if row.get("percent")]
        edges = [row["low"] for rows in series.values() for row in rows if "low" in row]
        assert filled[-1]["high"] - min(row["low"] for row in filled) > 0.2 * np.ptp(edges)


def test_comparison_shows_means_gap_and_separability_with_their_intervals() -> None:
    models = {"one": invented(0.9, 50), "two": invented(0.3, 80)}
    rows = comparison("c", "title", of_models(models)).rows
    assert len(rows) == 4 * 2 * 4
    for row in rows:
        name = next(name for name in SIMILARITIES if formula(name) == row["similarity"])
        matched, random = models[str(row["model"])][name]
        kind = np.repeat([1, 0], len(matched))
        values = {
            "matched": matched.mean(), "random": random.mean(), "gap": matched.mean() - random.mean(),
            "separability": roc_auc_score(kind, np.concatenate([matched, random])),
        }  # fmt: skip
        measure = str(row["panel"]).split()[0]
        assert row["value"] == pytest.approx(values[measure])
        assert float(row["low"]) < float(row["value"]) < float(row["high"]) <= 1  # type: ignore[arg-type]
        if measure == "gap":
            error = (matched - random).std(ddof=1) / np.sqrt(len(matched))
            assert float(row["high"]) - float(row["low"]) == pytest.approx(2 * 1.96 * error)  # type: ignore[arg-type]


def test_files_are_not_blank_and_the_same_bytes_again(tmp_path: Path) -> None:
    for folder in ("one", "again"):
        for chart in similarity_charts("task: $x_1, 9 $", of_models({"m": invented(0.9), "n": invented(0.4)})):
            write_chart(chart, tmp_path / folder)
    endings = [f"{name}.a-b.{ending}" for name in ("similarity", "comparison") for ending in ("png", "pdf", "csv")]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(endings)
    for name in endings:
        if name.endswith(".pdf"):  # vl-convert orders the objects of a PDF anew each time
            assert (tmp_path / "one" / name).read_bytes().startswith(b"%PDF")
            continue
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    picture = (tmp_path / "one/similarity.a-b.png").read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 2000 and height > 800 and len(picture) > 50_000
    with (tmp_path / "one/similarity.a-b.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 2 * (BINS + 1) and {row["pairs"] for row in rows} == {"matched pairs", "random pairs"}


def test_values_without_any_spread() -> None:
    flat = {name: (np.ones(3), np.ones(3)) for name in SIMILARITIES}
    shown = panels(histograms("h", "", of_models({"collapsed": flat})))
    (panel, series), *_ = shown.items()
    assert panel == "collapsed | sim(s, t): AUC 50.0 %"
    assert sum(row.get("percent", 0) for row in series["matched pairs"]) == pytest.approx(100)
