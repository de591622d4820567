"""Histograms of the four similarities after paper A's Figures 1 and 2: models in rows, similarities in columns.

All panels of a figure share bins and x axis, so that models can be compared. Each panel has its own y axis: on a shared
one, a narrow peak (Polish and its romanization) would flatten all others. Needs matplotlib (extra `plots`). The user's
matplotlib settings are ignored: the same values and version give the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from numpy.typing import NDArray

from translit_scale.analyze.similarity import SIMILARITIES, Pairs
from translit_scale.files import atomic_open

WIDTH, ROW_HEIGHT, MARGINS = 7.0, 1.1, 1.2
"""Inches: text width of a page, a row of panels, and title, column heads and legend together."""
BINS = 50
MATCHED, RANDOM = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette, safe for colour blindness; in grey, filled and outlined differ."""
STYLE: dict[str, Any] = {
    "font.size": 7,
    "axes.titlesize": 6,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.titlesize": 8,
    "figure.labelsize": 7,
    "legend.frameon": False,
    "patch.linewidth": 0.8,
    "figure.dpi": 200,
    "pdf.fonttype": 42,
}


def shared_bins(values: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Edges [BINS + 1] of equal bins over the range of all values (cosines), rounded outwards to 0.05."""
    everything = np.clip(np.concatenate(list(values)), -1, 1)
    low, high = np.floor(everything.min() * 20) / 20, np.ceil(everything.max() * 20) / 20
    return np.linspace(low, max(high, low + 0.05), BINS + 1)


def similarity_figure(models: Mapping[str, Pairs], title: str) -> Figure:
    """One text with several models: matched and random pairs, their means and the gap.

    Args:
        models: by label, in the order of the rows.
    """
    bins = shared_bins(values for pairs in models.values() for both in pairs.values() for values in both)
    with context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, ROW_HEIGHT * len(models) + MARGINS), layout="constrained")
        panels = figure.subplots(len(models), len(SIMILARITIES), sharex=True, squeeze=False)
        for row, (label, pairs) in zip(panels, models.items(), strict=True):
            row[0].set_ylabel("\n".join(textwrap.wrap(label, 18)), fontweight="bold")
            for panel, name in zip(row, SIMILARITIES, strict=True):
                _draw_panel(panel, *pairs[name], bins)
        for top, bottom, (name, (first, second)) in zip(panels[0], panels[-1], SIMILARITIES.items(), strict=True):
            top.set_title(f"{name.replace('_', '–')}\nsim(${first}$, ${second}$)", pad=15)
            bottom.set_xlabel("cosine")
        figure.suptitle(title, parse_math=False)
        figure.supylabel("% of pairs")
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _draw_panel(
    panel: Axes, matched: NDArray[np.float64], random: NDArray[np.float64], bins: NDArray[np.float64]
) -> None:
    for values, colour, line, fill, label in (
        (matched, MATCHED, "-", True, "matched pairs (mean: solid line)"),
        (random, RANDOM, "--", False, "random pairs (mean: dashed line)"),
    ):
        heights, _ = np.histogram(np.clip(values, -1, 1), bins)
        panel.stairs(100 * heights / len(values), bins, fill=fill, color=colour, alpha=0.5 if fill else 1, label=label)
        panel.axvline(values.mean(), color=colour, linestyle=line, linewidth=1)
    panel.locator_params(axis="y", nbins=4)
    above: dict[str, Any] = {"y": 1.03, "transform": panel.transAxes, "va": "bottom"}
    panel.text(x=0, s=f"{random.mean():.2f}", color=RANDOM, ha="left", **above)
    panel.text(x=0.5, s=f"gap {(matched - random).mean():.2f}", ha="center", **above)
    panel.text(x=1, s=f"{matched.mean():.2f}", color=MATCHED, ha="right", **above)


def write_figure(figure: Figure, stem: Path) -> None:
    """Writes `<stem>.png` and `<stem>.pdf`, each atomically and without its date."""
    with context(["default", STYLE]):
        for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
            with atomic_open(stem.with_name(stem.name + suffix)) as file:
                figure.savefig(file, format=suffix[1:], metadata=metadata)
