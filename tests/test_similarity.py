"""The four similarities against a loop, and their random pairs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.support.encoders import WORDS, save_encoder
from translit_scale.analyze.similarity import derangement, four_similarities, separability, similarity_gap
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
    assert found.separability == pytest.approx(8.5 / 9)  # 0.5 and 0.5 are a tie


few_values = st.integers(2, 20).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-4, 4), min_size=n, max_size=n).map(lambda x: np.array(x) / 4)] * 2)
)


@given(few_values)
def test_separability_is_the_area_under_the_roc_curve(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    matched, random = pairs
    kind = [1] * len(matched) + [0] * len(random)
    value, _ = separability(matched, random)
    assert value == pytest.approx(roc_auc_score(kind, np.concatenate([matched, random])))
    wins = [(m > r) + (m == r) / 2 for m in matched for r in random]
    assert value == pytest.approx(np.mean(wins))


def test_error_of_separability_is_the_spread_over_samples() -> None:
    """Sentences differ in how similar both of their pairs are, so their pairs are correlated."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        level = generator.normal(size=120)
        found.append(separability(level + generator.normal(1, 1, 120), level + generator.normal(0, 1, 120)))
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.1)


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
        score, back = result["scores"]["test"]
        assert (back["s"], back["t"], back["hf_subset"]) == ("pol_Latn", "ukr_Cyrl", "pol_Latn-ukr_Cyrl")
        assert back["retrieval"]["top1"] == score["retrieval"]["top1"] == 1
        assert (score["s"], score["t"], score["n"]) == ("ukr_Cyrl", "pol_Latn", 20)
        for name in ("transliteration", "translation", "transliteration_transliteration"):
            assert score[name]["matched"] == pytest.approx(1)
            assert score[name]["random"] < 0.999 and score[name]["separability"] == 1
        values = np.load(tmp_path / f"out/sr_x/{label}.similarity.npz")
        random = values["ukr_Cyrl-pol_Latn:translation:random"]
        assert score["translation"]["random"] == pytest.approx(random.mean()) and len(random) == 20
    assert results[0]["scores"]["test"][0]["translation"] != results[1]["scores"]["test"][0]["translation"]
    assert results[0]["settings"]["romanizer"]["lcode"] == "none"
    captured = capsys.readouterr()
    assert "s = ukr_Cyrl, t = pol_Latn, 20 pairs" in captured.out and "sim(r_s, t)" in captured.out
    charts = {path.name for path in (tmp_path / "out/sr_x").iterdir() if "json" not in path.name}
    names = [
        f"{kind}.{pair}" for kind in ("similarity", "comparison") for pair in ("ukr_Cyrl-pol_Latn", "pol_Latn-ukr_Cyrl")
    ]
    arrays = {"one.similarity.npz", "two.similarity.npz"}
    assert charts == {f"{name}.{ending}" for name in names for ending in ("png", "pdf", "csv")} | arrays
    progress = [line.split(":")[0] for line in captured.err.rstrip("\n").split("\n")]
    assert progress == ["romanizing", "embedding with one", "embedding with two", "drawing"]


def test_both_directions_have_the_same_random_pairs_and_the_retrieval_of_evaluate(tmp_path: Path) -> None:
    """Whichever language is named first, and however often a sentence occurs. Standard errors of a gap and of
    separability are over the sentences of the first side, whose random partners are others in each direction.
    """
    lines = [f"{WORDS[i % 17]} {WORDS[59 - i]} {WORDS[(7 * i) % 60]}" for i in range(20)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(f"{line} {WORDS[3]}" for line in lines[::-1][:19]) + "\nw1")
    model, files = save_encoder(tmp_path / "m"), [f"ukr_Cyrl:{tmp_path}/a.txt", f"pol_Latn:{tmp_path}/b.txt"]
    results = []
    for name, order in (("one", files), ("other", files[::-1])):
        arguments = ["--model", model, "--parallel", *order, "--out", str(tmp_path), "--name", name]
        assert main(["analyze", "similarity", *arguments, "--no-figure"]) == 0
        scores = json.loads((tmp_path / f"{name}/m.similarity.json").read_bytes())["scores"]["test"]
        results.append({score["hf_subset"]: score for score in scores})
    for name in ("ukr_Cyrl-pol_Latn", "pol_Latn-ukr_Cyrl"):
        one, other = ({**result[name], "text_sha256": None} for result in results)
        assert one == other
    there, back = results[0].values()
    for similarity in ("translation", "transliteration_transliteration"):
        for measure, value in there[similarity].items():
            if measure not in ("gap_se", "separability_se"):
                assert value == pytest.approx(back[similarity][measure], abs=1e-12)
    assert there["transliteration"]["random"] != back["transliteration"]["random"]
    assert (
        main(["evaluate", "retrieval", "--model", model, "--parallel", *files, "--out", str(tmp_path), "--name", "r"])
        == 0
    )
    for score in json.loads((tmp_path / "r/m.json").read_bytes())["scores"]["test"]:
        found = results[0][score["hf_subset"]]["retrieval"]
        assert {name: score[name] for name in found} == found


@pytest.mark.parametrize("installed", [True, False])
def test_figures_are_optional(
    installed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "vl_convert", None)
    (tmp_path / "a.txt").write_text("w1 w2\nw3\nw4 w5\n")
    files = [f"ukr_Cyrl:{tmp_path}/a.txt", f"pol_Latn:{tmp_path}/a.txt"]
    arguments = ["--model", save_encoder(tmp_path / "m"), "--parallel", *files, "--out", str(tmp_path / "out")]
    arguments += ["--no-figure"] if installed else []
    assert main(["analyze", "similarity", *arguments]) == 0
    captured = capsys.readouterr()
    assert "3 pairs" in captured.out
    assert ("note: no figures" in captured.err and "pip install 'vl-convert-python>=1.9'" in captured.err) != installed
    names = {path.name for path in (tmp_path / "out/similarity").iterdir()}
    assert names == {"m.similarity.json", "m.similarity.npz"}


def test_one_pair_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("w1\n")
    files = [f"ukr_Cyrl:{tmp_path}/a.txt", f"pol_Latn:{tmp_path}/a.txt"]
    assert main(["analyze", "similarity", "--model", "m", "--parallel", *files]) == 3
    assert "at least two" in capsys.readouterr().err
