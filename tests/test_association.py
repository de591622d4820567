"""Correlations equal scipy's, and advice on sources equals a loop that leaves each language out."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from translit_scale.cli import main
from translit_scale.report.association import (
    LANGUAGES,
    MODELS,
    Observation,
    cluster_interval,
    correlations,
    mean_ranks,
    pearson,
    spearman,
)
from translit_scale.report.source_advice import BEST_SOURCE, advise

TARGETS = ["bel_Cyrl", "bul_Cyrl", "ces_Latn", "deu_Latn", "mkd_Cyrl", "rus_Cyrl", "slk_Latn", "spa_Latn"]


@given(values=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=20))
def test_correlations_equal_those_of_scipy(values: list[tuple[int, int]]) -> None:
    x, y = np.array(values, np.float64).T
    np.testing.assert_allclose(mean_ranks(x, np.ones((1, len(x))))[0], stats.rankdata(x))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(pearson(x, y)[0]) and math.isnan(spearman(x, y)[0])
        return
    assert pearson(x, y)[0] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert spearman(x, y)[0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(values=st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=3, max_size=12))
def test_a_point_that_is_drawn_several_times_stands_there_several_times(values: list[tuple[int, int, int]]) -> None:
    x, y, times = np.array(values, np.float64).T
    xs, ys = np.repeat(x, times.astype(int)), np.repeat(y, times.astype(int))
    for measure, reference in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        if len(set(xs)) < 2 or len(set(ys)) < 2:
            continue
        found = measure(x, y, np.stack([times, np.ones_like(times)]))
        assert found[0] == pytest.approx(reference(xs, ys).statistic, abs=1e-12)


def test_the_interval_is_that_of_a_bootstrap_of_scipy() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=60)
    y = x + generator.normal(size=60)
    found = cluster_interval(np.stack([x, y], axis=1), [str(i) for i in range(60)], pearson)
    reference = stats.bootstrap(
        (x, y), lambda a, b: stats.pearsonr(a, b).statistic, paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.03)


def test_points_of_a_language_are_drawn_together() -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(8, 2))
    names = [str(i) for i in range(8)]
    once = cluster_interval(values, names, pearson)
    five_times = cluster_interval(np.repeat(values, 5, axis=0), np.repeat(names, 5).tolist(), pearson)
    assert (five_times.low, five_times.high) == pytest.approx((once.low, once.high))


def observe(model: str, source: str, target: str, f1: float, **predictors: float) -> Observation:
    return Observation("sib200", model, source, target, f1, predictors)


def test_over_models_differences_between_languages_play_no_part() -> None:
    """Languages with a higher gap have a lower F1, but every model with a higher gap has a higher one."""
    items = [
        observe(
            f"m{step}",
            "eng_Latn",
            target,
            0.9 - 0.1 * number + 0.01 * step,
            gap=0.1 * number + 0.01 * step,
            same=number,
        )
        for number, target in enumerate(TARGETS)
        for step in range(3)
    ]
    found = {(item.predictor, item.over, item.model): item for item in correlations(items)}
    assert set(found) == {(name, LANGUAGES, f"m{step}") for name in ("gap", "same") for step in range(3)} | {
        ("gap", MODELS, None)
    }
    assert found["gap", LANGUAGES, "m0"].pearson.value == pytest.approx(-1)
    assert found["gap", MODELS, None].pearson.value == pytest.approx(1)
    assert found["gap", MODELS, None].points == 24 and found["gap", MODELS, None].languages == 8
    assert correlations(items[:9]) == []  # three languages


def test_advice_equals_a_loop_that_leaves_each_language_out() -> None:
    generator = np.random.default_rng(5)
    sources = ["eng_Latn", "rus_Cyrl", "pol_Latn"]
    f1 = {(s, t): generator.random() for s in sources for t in TARGETS if s != t}
    near = {pair: generator.random() for pair in f1}
    items = [observe("m", s, t, value, overlap=near[s, t]) for (s, t), value in f1.items()]
    (advice,) = advise(items, {"script": lambda code: code[4:]})
    assert advice.targets == tuple(TARGETS)
    reached: dict[str, list[float]] = {BEST_SOURCE: [], "best of the same script": [], "highest overlap": []}
    best = []
    for target in TARGETS:
        own = [s for s in sources if s != target]
        others = [t for t in TARGETS if t != target and t not in sources]
        same = [t for t in others if t[4:] == target[4:]] or others
        choices = {
            BEST_SOURCE: max(own, key=lambda s: np.mean([f1[s, t] for t in others])),
            "best of the same script": max(own, key=lambda s: np.mean([f1[s, t] for t in same])),
            "highest overlap": max(own, key=lambda s: near[s, target]),
        }
        for name, choice in choices.items():
            reached[name].append(f1[choice, target])
        best.append(max(f1[s, target] for s in own))
    assert [score.rule for score in advice.rules] == list(reached)
    for score in advice.rules:
        assert score.f1 == pytest.approx(np.mean(reached[score.rule]))
        assert score.best == pytest.approx(np.mean(best))
        difference = np.mean(reached[score.rule]) - np.mean(reached[BEST_SOURCE])
        assert score.minus_single.value == pytest.approx(difference)
        assert score.right == pytest.approx(np.mean(np.array(reached[score.rule]) == best))


def test_a_rule_is_advised_only_if_it_is_better_than_the_best_single_source() -> None:
    items = []
    for number, target in enumerate(TARGETS[:5] + TARGETS[6:]):
        right = number % 2  # the two sources are equally good over all
        for index, source in enumerate(["eng_Latn", "rus_Cyrl"]):
            items.append(
                observe("m", source, target, 0.8 if index == right else 0.5, overlap=index == right, noise=index)
            )
    (advice,) = advise(items, {})
    assert advice.rule == "highest overlap"
    assert advice.source_of["bel_Cyrl"] == "eng_Latn" and advice.source_of["bul_Cyrl"] == "rus_Cyrl"
    (without,) = advise([observe("m", i.source, i.target, i.f1, noise=i.predictors["noise"]) for i in items], {})
    assert without.rule == BEST_SOURCE
    assert advise([item for item in items if item.source == "eng_Latn"], {}) == []


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_results(folder: Path, labels: list[str]) -> dict[tuple[str, str, str], float]:
    """Invented results of transfer from two sources, retrieval, similarity, vocabulary and words; F1 by key."""
    generator = np.random.default_rng(7)
    sources = ["eng_Latn", "rus_Cyrl"]
    f1: dict[tuple[str, str, str], float] = {}
    for label in labels:
        model = {"label": label, "path": label, "tokenizer_sha256": "t"}
        base = {"schema": 1, "model": model}
        for source in sources:
            tests = []
            for target in TARGETS:
                f1[label, source, target] = value = float(generator.random())
                tests.append({"language": target, "main_score": value, "paper": {"macro_f1": value}})
            content = {**base, "task_name": "sib200", "task_type": "classification", "scores": {"test": tests}}
            write_json(
                folder / f"results/sib200/{label}.{source}.json",
                content | {"settings": {"source": [source], "seed": 1}},
            )
        pairs = [(s, t) for s in sources for t in TARGETS if s != t]
        tests = [
            {"query": a, "candidates": b, "top1": 0.1, "top5": 0.2, "top10": f1[label, s, t] / k}
            for s, t in pairs for k, (a, b) in enumerate([(s, t), (t, s)], 1)
        ]  # fmt: skip
        content = {**base, "task_name": "sr_b", "task_type": "retrieval", "settings": {}, "scores": {"test": tests}}
        write_json(folder / f"results/sr_b/{label}.json", content)
        tests = [{"s": s, "t": t, "translation": {"gap": 1 - f1[label, s, t]}} for s, t in pairs]
        content = {**base, "task_name": "sr_b", "task_type": "similarity", "scores": {"test": tests}}
        write_json(folder / f"analysis/sr_b/{label}.similarity.json", content)
    content = {"schema": 1, "task_type": "vocabulary", "tokenizer": {"label": "v", "tokenizer_sha256": "t"}}
    write_json(folder / "analysis/v.vocabulary.json", content)
    languages = [*TARGETS, "eng_Latn"]
    shared = np.minimum.outer(np.arange(2, 11), np.arange(2, 11)).astype(np.int32)
    arrays = {"languages": np.array(languages), "shared_original": shared, "shared_transliteration": shared}
    np.savez(folder / "analysis/v.vocabulary.npz", **arrays)
    return f1


def test_association_of_result_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    f1 = write_results(tmp_path, ["a", "b"])
    (tmp_path / "analysis/broken.json").write_text("{")
    other = {"schema": 1, "task_type": "similarity", "task_name": "x", "model": {"label": "c"}, "scores": {"test": []}}
    write_json(tmp_path / "analysis/other.json", other)
    command = [
        "report",
        "association",
        "--results",
        str(tmp_path / "results"),
        "--analysis",
        str(tmp_path / "analysis"),
    ]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 3
    printed = capsys.readouterr()
    assert "broken.json" in printed.err and "other.json belongs to no model" in printed.out
    tables = [line for line in printed.out.splitlines() if not line.startswith(("note:", "written"))]
    assert not [line for line in tables if len(line) > 80]
    content = json.loads((tmp_path / "out/association.json").read_text())
    values = {
        (item["predictor"], item["over"], item["model"]): item["pearson"]["value"] for item in content["correlations"]
    }
    assert values["sr_b top10", LANGUAGES, "a"] == pytest.approx(1)
    assert values["sr_b gap", LANGUAGES, "b"] == pytest.approx(-1)
    assert values["sr_b gap", MODELS, None] == pytest.approx(-1)
    with (tmp_path / "out/association.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The source itself is no target, and overlap is min / max of the numbers of types in the invented matrix.
    assert len(rows) == len(f1) - 2
    row = next(row for row in rows if (row["model"], row["source"], row["target"]) == ("a", "eng_Latn", "bul_Cyrl"))
    assert float(row["f1"]) == f1["a", "eng_Latn", "bul_Cyrl"]
    assert float(row["sr_b top10"]) == pytest.approx(0.75 * f1["a", "eng_Latn", "bul_Cyrl"])
    assert float(row["overlap"]) == pytest.approx(3 / 10)
    assert [item["model"] for item in content["sources"]] == ["a", "b"]
    assert content["sources"][0]["rule"] in {score["rule"] for score in content["sources"][0]["rules"]}
    assert (tmp_path / "out/association.sr_b_gap.png").exists()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".pdf"}
    assert main(command) == 3
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".pdf"}
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(command) == 3 and "note: no figures" in capsys.readouterr().err
