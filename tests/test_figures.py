"""Histograms of similarities: they show the numbers, share their bins, and are the same bytes again."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch
from matplotlib.style import context
from matplotlib.text import Text

from translit_scale.analyze.figures import BINS, MATCHED, RANDOM, STYLE, shared_bins, similarity_figure, write_figure
from translit_scale.analyze.similarity import SIMILARITIES, Pairs


def invented(mean: float, n: int = 200, seed: int = 0) -> Pairs:
    """Matched pairs around `mean`, random pairs 0.2 below it."""
    generator = np.random.default_rng(seed)

    def around(centre: float) -> np.ndarray:
        return np.clip(generator.normal(centre, 0.1, n), -1, 1)

    return {name: (around(mean), around(mean - 0.2)) for name in SIMILARITIES}


def example(models: int = 2) -> Figure:
    return similarity_figure({f"model{i}": invented(0.9 / (i + 1), seed=i) for i in range(models)}, "task: $x_1, 9 $")


cosines = st.lists(st.floats(-1.0001, 1.0001), min_size=1, max_size=20).map(np.array)


@given(st.lists(cosines, min_size=1, max_size=4))
def test_bins_hold_all_values_whatever_their_order(values: list[np.ndarray]) -> None:
    bins = shared_bins(values)
    assert len(bins) == BINS + 1 and np.ptp(np.diff(bins)) < 1e-12 < np.diff(bins).min()
    assert bins[0] <= max(-1, min(map(np.min, values))) and bins[-1] >= min(1, max(map(np.max, values)))
    assert bins[0] >= -1 and bins[-1] <= 1.05
    assert (bins == shared_bins([np.concatenate(values)[::-1]])).all()


def test_panels_show_the_values_in_the_same_bins() -> None:
    models = {"one": invented(0.9, 50), "two": invented(0.3, 80)}
    panels = np.array(similarity_figure(models, "").axes).reshape(2, 4)
    bins = shared_bins(values for pairs in models.values() for both in pairs.values() for values in both)
    for row, pairs in zip(panels, models.values(), strict=True):
        for panel, name in zip(row, SIMILARITIES, strict=True):
            shapes = [patch.get_data() for patch in panel.patches if isinstance(patch, StepPatch)]
            assert len(shapes) == 2
            for (heights, edges, _), values in zip(shapes, pairs[name], strict=True):
                assert (edges == bins).all() and heights.sum() == pytest.approx(100)
                np.testing.assert_allclose(heights, 100 * np.histogram(values, bins)[0] / len(values))
            matched, random = (values.mean() for values in pairs[name])
            assert [line.get_xdata()[0] for line in panel.lines] == [matched, random]
            shown = [text.get_text() for text in panel.texts]
            assert shown == [f"{random:.2f}", f"gap {matched - random:.2f}", f"{matched:.2f}"]
    assert panels[0, 0].get_title() == "translation\nsim($s$, $t$)"
    assert len({panel.get_xlim() for panel in panels.flat}) == 1


def undrawn_tick_labels(figure: Figure) -> set[Text]:
    """Matplotlib makes ticks beyond the ends of an axis too and leaves them out when it draws."""
    return {
        tick.label1
        for panel in figure.axes
        for axis, (low, high) in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim()))
        for tick in axis.get_major_ticks()
        if not low <= tick.get_loc() <= high
    }


@pytest.mark.parametrize("labels", [["m"], ["mlm", "a-model-with-a-long-name-and-its-seed_17"], list("abcdef")])
def test_no_text_covers_another_or_leaves_the_page(labels: list[str]) -> None:
    with context(["default", STYLE]):
        figure = similarity_figure(
            {label: invented(0.5, seed=i) for i, label in enumerate(labels)}, "task: s = a, t = b"
        )
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        texts = [text for text in texts if text not in undrawn_tick_labels(figure)]
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert len(texts) > 12 * len(labels)
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    for (one, box), (other, its) in combinations(zip(texts, boxes, strict=True), 2):
        assert not box.overlaps(its), (one, other)


def test_files_are_not_blank_and_the_same_bytes_again(tmp_path: Path) -> None:
    write_figure(example(), tmp_path / "a.b")
    with mpl.rc_context({"font.size": 30, "savefig.dpi": 20, "axes.facecolor": "black"}):  # a user's own settings
        write_figure(example(), tmp_path / "again")
    assert {path.name for path in tmp_path.iterdir()} == {"a.b.png", "a.b.pdf", "again.png", "again.pdf"}
    for suffix in (".png", ".pdf"):
        content = (tmp_path / f"a.b{suffix}").read_bytes()
        assert content == (tmp_path / f"again{suffix}").read_bytes()
        assert b"CreationDate" not in content
    picture = imread(io.BytesIO((tmp_path / "a.b.png").read_bytes()))[..., :3]
    assert picture.shape[1] == 1400
    for colour in (MATCHED, RANDOM):
        close = np.abs(picture - np.array(mpl.colors.to_rgb(colour))).max(axis=-1) < 0.02
        assert close.sum() > 500


def test_values_without_any_spread() -> None:
    flat = {name: (np.ones(3), np.ones(3)) for name in SIMILARITIES}
    panel = similarity_figure({"collapsed": flat}, "").axes[0]
    assert panel.patches[0].get_data().values.sum() == pytest.approx(100)
    assert panel.texts[1].get_text() == "gap 0.00"
