"""The four similarities against a loop, and their random pairs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.encoders import WORDS, save_encoder
from translit_scale.analyze.similarity import derangement, four_similarities, similarity_gap
from translit_scale.cli import main


@given(n=st.integers(2, 60), seed=st.integers(0, 2**32))
def test_derangement_is_a_fixed_permutation_without_fixed_points(n: int, seed: int) -> None:
    order = derangement(n, seed)
    assert sorted(order) == list(range(n))
    assert (order != np.arange(n)).all()
    assert (order == derangement(n, seed)).all()


def test_every_derangement_is_as_likely() -> None:
    found = [tuple(derangement(4, seed)) for seed in range(1800)]
    counts = [found.count(order) for order in set(found)]
    assert len(counts) == 9 and min(counts) > 140 and max(counts) < 260
    with pytest.raises(ValueError, match="at least two"):
        derangement(1, 0)


def test_four_similarities_equal_a_loop() -> None:
    generator = np.random.default_rng(0)
    vectors = {side: generator.normal(size=(6, 5)).astype(np.float32) for side in ("s", "t", "r_s", "r_t")}
    order = np.array([1, 2, 3, 4, 5, 0])

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    found = four_similarities(vectors, order)
    expected = {
        "transliteration": ("s", "r_s"),
        "translation": ("s", "t"),
        "transliteration_translation": ("r_s", "t"),
        "transliteration_transliteration": ("r_s", "r_t"),
    }
    assert set(found) == set(expected)
    for name, (a, b) in expected.items():
        matched, random = found[name]
        np.testing.assert_allclose(matched, [cosine(vectors[a][i], vectors[b][i]) for i in range(6)], atol=1e-6)
        np.testing.assert_allclose(
            random, [cosine(vectors[a][i], vectors[b][(i + 1) % 6]) for i in range(6)], atol=1e-6
        )


def test_similarity_gap_by_hand() -> None:
    found = similarity_gap(np.array([0.9, 0.5, 0.7]), np.array([0.1, 0.5, 0.3]))
    assert found.matched == pytest.approx(0.7) and found.random == pytest.approx(0.3)
    assert found.gap == pytest.approx(0.4) and found.gap_se == pytest.approx(0.4 / np.sqrt(3))
    assert found.matched_se == pytest.approx(0.2 / np.sqrt(3))
    assert found.matched_higher == pytest.approx(2 / 3)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The source side is Latin already, so it is its own romanization; the target is the same text."""
    lines = "\n".join(f"{WORDS[i]} {WORDS[59 - i]} {WORDS[(7 * i) % 60]}" for i in range(20))
    (tmp_path / "a.txt").write_text(lines)
    models = [save_encoder(tmp_path / "one"), save_encoder(tmp_path / "two", seed=1)]
    arguments = ["--parallel", f"ukr_Cyrl:{tmp_path}/a.txt", f"pol_Latn:{tmp_path}/a.txt", "--name", "sr_x"]
    for model in models:
        arguments += ["--model", model]
    capsys.readouterr()  # what making the models printed
    assert main(["analyze", "similarity", *arguments, "--out", str(tmp_path / "out")]) == 0
    results = [json.loads((tmp_path / f"out/sr_x/{name}.similarity.json").read_bytes()) for name in ("one", "two")]
    for result, label in zip(results, ("one", "two"), strict=True):
        (score,) = result["scores"]["test"]
        assert (score["s"], score["t"], score["n"]) == ("ukr_Cyrl", "pol_Latn", 20)
        for name in ("transliteration", "translation", "transliteration_transliteration"):
            assert score[name]["matched"] == pytest.approx(1)
            assert score[name]["random"] < 0.999 and score[name]["matched_higher"] == 1
        values = np.load(tmp_path / f"out/sr_x/{label}.similarity.npz")
        random = values["ukr_Cyrl-pol_Latn:translation:random"]
        assert score["translation"]["random"] == pytest.approx(random.mean()) and len(random) == 20
    assert results[0]["scores"]["test"][0]["translation"] != results[1]["scores"]["test"][0]["translation"]
    assert results[0]["settings"]["romanizer"]["lcode"] == "none"
    captured = capsys.readouterr()
    assert "s = ukr_Cyrl, t = pol_Latn, 20 pairs" in captured.out and "sim(r_s, t)" in captured.out
    figures = {path.name for path in (tmp_path / "out/sr_x").glob("similarity.*")}
    assert figures == {"similarity.ukr_Cyrl-pol_Latn.png", "similarity.ukr_Cyrl-pol_Latn.pdf"}
    progress = [line.split(":")[0] for line in captured.err.rstrip("\n").split("\n")]
    assert progress == ["romanizing", "embedding with one", "embedding with two"]


@pytest.mark.parametrize("installed", [True, False])
def test_figures_are_optional(
    installed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "a.txt").write_text("w1 w2\nw3\nw4 w5\n")
    files = [f"ukr_Cyrl:{tmp_path}/a.txt", f"pol_Latn:{tmp_path}/a.txt"]
    arguments = ["--model", save_encoder(tmp_path / "m"), "--parallel", *files, "--out", str(tmp_path / "out")]
    arguments += ["--no-figure"] if installed else []
    assert main(["analyze", "similarity", *arguments]) == 0
    captured = capsys.readouterr()
    assert "3 pairs" in captured.out
    assert ("note: no figures" in captured.err and "pip install 'matplotlib>=3.9'" in captured.err) != installed
    names = {path.name for path in (tmp_path / "out/similarity").iterdir()}
    assert names == {"m.similarity.json", "m.similarity.npz"}


def test_one_pair_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("w1\n")
    files = [f"ukr_Cyrl:{tmp_path}/a.txt", f"pol_Latn:{tmp_path}/a.txt"]
    assert main(["analyze", "similarity", "--model", "m", "--parallel", *files]) == 3
    assert "at least two" in capsys.readouterr().err
