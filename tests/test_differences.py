"""Differences in single languages: paired, as certain as loops over resamples say, and corrected for their number."""

from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from tests.test_tables import write_retrieval, write_transfer
from translit_scale.cli import main
from translit_scale.errors import DataError
from translit_scale.evaluate import significance
from translit_scale.evaluate.bootstrap import mean_draws, paired_difference
from translit_scale.evaluate.significance import compare_draws, compare_hits, false_discovery_rates
from translit_scale.evaluate.transfer.metrics import main_count, paired_draws
from translit_scale.files import read_json, write_json
from translit_scale.report.differences import DifferenceBlock, difference_blocks
from translit_scale.report.results import Results
from translit_scale.testsets.registry import transfer_tasks


def compare(gained: int, lost: int, n: int) -> significance.Comparison:
    return compare_hits(np.array([gained]), np.array([lost]), np.array([n]))[0]


@pytest.mark.parametrize(("gained", "lost", "same"), [(2, 1, 2), (3, 0, 2), (0, 4, 1), (1, 1, 3), (5, 0, 0), (0, 0, 5)])
def test_the_bootstrap_distribution_is_that_of_all_samples(gained: int, lost: int, same: int) -> None:
    items = [1] * gained + [-1] * lost + [0] * same
    n, observed = len(items), sum(items)
    sums = np.array([sum(sample) for sample in product(items, repeat=n)])
    found = compare(gained, lost, n)
    assert found.estimate.value == pytest.approx(observed / n)
    low, high = np.percentile(sums, [2.5, 97.5], method="inverted_cdf") / n
    assert (found.estimate.low, found.estimate.high) == pytest.approx((low, high))
    assert found.p == pytest.approx((np.abs(sums - observed) >= abs(observed)).mean())


@settings(max_examples=5, deadline=None)
@given(st.integers(20, 300), st.integers(0, 2**32 - 1))
def test_many_languages_at_once_equal_resamples_of_each(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.random((2, 4, n)) < generator.random((4, 1))
    found = compare_hits((b & ~a).sum(axis=1), (a & ~b).sum(axis=1), np.array([n] * 4))
    for row in range(4):
        drawn = paired_difference(a[row], b[row])
        assert found[row].estimate.value == pytest.approx(drawn.value)
        assert found[row].estimate.low == pytest.approx(drawn.low, abs=2.5 / n)
        assert found[row].estimate.high == pytest.approx(drawn.high, abs=2.5 / n)
        change = b[row].astype(int) - a[row]
        value, draws = mean_draws([([str(i) for i in range(n)], change)])
        assert found[row].p == pytest.approx(compare_draws(value, draws).p, abs=0.03)


def test_languages_with_different_numbers_of_items_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    gained, lost, items = np.array([[9, 2, 30, 0, 4], [3, 2, 10, 6, 4], [50, 20, 50, 50, 8]])
    together = compare_hits(gained, lost, items)
    assert together == [compare(*map(int, row)) for row in zip(gained, lost, items, strict=True)]
    monkeypatch.setattr(significance, "_BLOCK", 1)
    assert compare_hits(gained, lost, items) == together


def test_a_p_value_of_draws_is_the_share_as_far_away_as_zero() -> None:
    draws = np.random.default_rng(0).normal(0.02, 0.02, 2000)
    found = compare_draws(0.02, draws)
    far = [draw for draw in draws if abs(draw - 0.02) >= 0.02]
    assert found.p == pytest.approx((len(far) + 1) / 2001)
    assert [found.estimate.low, found.estimate.high] == pytest.approx(np.percentile(draws, [2.5, 97.5]))
    assert compare_draws(0.2, draws + 0.18).p == pytest.approx(1.5e-23, rel=2)  # ten standard deviations from 0
    assert compare_draws(0.0, draws - 0.02).p == 1
    assert compare_draws(0.1, np.full(2000, 0.1)).p == pytest.approx(1 / 2001)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_adjusted_p_values_are_those_of_scipy(p: list[float]) -> None:
    np.testing.assert_allclose(false_discovery_rates(np.array(p)), false_discovery_control(p), atol=1e-12)
    assert len(false_discovery_rates(np.array([]))) == 0


def test_of_equal_models_hardly_any_language_is_called_different() -> None:
    """500 languages without a difference: single intervals call about 25 different, the correction mostly none."""
    generator = np.random.default_rng(0)
    called, alone = 0, 0
    for _ in range(10):
        changes = generator.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=(500, 300))
        found = compare_hits((changes > 0).sum(axis=1), (changes < 0).sum(axis=1), np.full(500, 300))
        alone += sum(c.estimate.low > 0 or c.estimate.high < 0 for c in found)
        called += bool((false_discovery_rates(np.array([c.p for c in found])) <= 0.05).any())
    assert 15 < alone / 10 < 35 and called <= 2


def answers(seed: int, share: float, n: int = 60) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    gold = [i % 6 for i in range(n)]
    return gold, [label if generator.random() < share else int(generator.integers(6)) for label in gold]


def test_paired_draws_equal_scores_of_drawn_sentences() -> None:
    task = transfer_tasks()["taxi1500"]
    sides = [answers(seed, 0.6) for seed in range(4)]
    counts = [main_count(task, "paper", *map(np.array, side)) for side in sides]
    drawn = np.random.default_rng(7).integers(0, 60, size=(50, 60))
    found = paired_draws(counts[:2], counts[2:], seed=7, resamples=50)
    for row, sample in enumerate(drawn):
        scores = [main_count(task, "paper", [g[i] for i in sample], [p[i] for i in sample]).score for g, p in sides]
        assert found[row] == pytest.approx([scores[2] - scores[0], scores[3] - scores[1]], abs=1e-6)


def blocks_of(folder: Path, *models: str, profile: str = "paper") -> tuple[list[DifferenceBlock], list[str]]:
    damaged: list[DataError] = []
    found = difference_blocks(Results(folder), {name: name for name in models}, profile, damaged)
    assert not damaged
    return found


def test_seeds_and_items_are_resampled_and_only_common_seeds_count(tmp_path: Path) -> None:
    task = transfer_tasks()["taxi1500"]
    sides = {label: [answers(10 * i + seed, share) for seed in range(3)]
             for i, (label, share) in enumerate({"base": 0.5, "tcm": 0.8}.items())}  # fmt: skip
    for label, of_seeds in sides.items():
        for seed, side in enumerate(of_seeds[: 2 if label == "base" else 3]):
            write_transfer(tmp_path, label, "taxi1500", "eng_Latn", seed, {"tur_Latn": side, "eng_Latn": side})
    ((block,), notes) = blocks_of(tmp_path, "base", "tcm")
    assert (block.task, block.source, block.measure, block.minus) == ("taxi1500", "eng_Latn", "macro_f1", "base")
    ((judged,), _) = block.languages, notes
    found = judged.difference
    assert (found.language, found.items, found.seeds) == ("tur_Latn", 60, 2) and not notes
    scores = [np.mean([main_count(task, "paper", *side).score for side in sides[label][:2]]) for label in sides]
    assert (found.first, found.value) == pytest.approx(tuple(scores))
    generator, means = np.random.default_rng(5), []
    for _ in range(600):
        sample, chosen = generator.integers(0, 60, 60), generator.integers(0, 2, 2)
        a, b = ([main_count(task, "paper", [g[i] for i in sample], [p[i] for i in sample]).score
                 for g, p in sides[label][:2]] for label in sides)  # fmt: skip
        means.append(np.mean([b[seed] - a[seed] for seed in chosen]))
    assert found.comparison is not None
    low, high = np.percentile(means, [2.5, 97.5])
    assert (found.comparison.estimate.low, found.comparison.estimate.high) == pytest.approx((low, high), abs=0.03)
    assert judged.verdict == "better"


def write_two_models(folder: Path) -> None:
    """100 sentences: `tcm` loses 30 in Maltese, gains 30 in Turkish, and 2 in Greek; both directions are written."""
    codes = ("tur_Latn", "mlt_Latn", "ell_Grek")
    hits_of = {"base": (50, 50, 50), "tcm": (80, 20, 52)}
    for label, right in hits_of.items():
        ranks = {}
        for code, hit in zip(codes, right, strict=True):
            ranks["eng_Latn", code] = [1] * hit + [60] * (100 - hit)
            ranks[code, "eng_Latn"] = [1] * 100
        write_retrieval(folder, label, "sr_b", ranks)


def test_the_table_starts_with_the_languages_that_became_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_two_models(tmp_path)
    command = ["report", "tables", "--results", str(tmp_path), "--table", "languages"]
    models = ["--model", "base", "--model", "new=tcm"]
    assert main([*command, *models]) == 0
    printed = capsys.readouterr().out
    expected = "SR-B from eng\\_Latn, top-10, new minus base: 1 better, 1 worse, 1 unclear of 3 languages, mean +0.7"
    assert expected in printed
    rows = [line for line in printed.split("\n") if line.startswith("| ") and "_" in line]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == ["mlt\\_Latn", "ell\\_Grek", "tur\\_Latn"]
    assert "-30.0 [-39.0, -21.0] | worse" in rows[0] and max(map(len, rows)) < 80
    assert main([*command, *models, "--format", "csv"]) == 0
    records = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(records) == 9 and {record["measure"] for record in records} == {"top1", "top5", "top10"}
    assert records[0]["name"] == "Maltese (Latin)" and records[0]["difference"] == "-30.00"
    assert float(records[0]["q"]) == pytest.approx(float(records[0]["p"]) * 3 / 2, rel=0.5)
    assert main([*command, *models, "--format", "tex", "--measure", "top1", "--out", str(tmp_path / "out")]) == 0
    assert "top-1, new minus base: 1 better" in capsys.readouterr().out
    assert (
        "mlt\\_Latn & 100 & 50.0 & 20.0 & -30.0 [-39.0, -21.0] & worse" in (tmp_path / "out/languages.tex").read_text()
    )


def test_what_cannot_be_compared_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_two_models(tmp_path)
    path = tmp_path / "sr_b/tcm.json"
    result = read_json(path, "result")
    result["scores"]["test"][0]["text_sha256"] = "of other verses"  # eng_Latn → tur_Latn
    write_json(path, result)
    blocks, notes = blocks_of(tmp_path, "base", "tcm")
    assert [len(block.languages) for block in blocks] == [2, 2, 2]
    assert notes == ["tcm, sr_b: left out, because the models were tested on different texts: tur_Latn"]
    (tmp_path / "sr_b/base.items.npz").unlink()
    blocks, notes = blocks_of(tmp_path, "base", "tcm")
    assert "no interval and no verdict, because a result lacks its .items.npz: mlt_Latn, ell_Grek" in notes[1]
    assert {(j.verdict, j.difference.comparison, j.q) for block in blocks for j in block.languages} == {
        ("unclear", None, None)
    }
    command = ["report", "tables", "--results", str(tmp_path), "--table", "languages"]
    assert main([*command, "--model", "base"]) == 3
    assert "no language has results of base and of another model (there is none)" in capsys.readouterr().err
    result["scores"]["test"][2]["top5"] = "many"  # eng_Latn → mlt_Latn
    write_json(path, result)
    assert main(command) == 3
    captured = capsys.readouterr()
    assert "| ell\\_Grek |" in captured.out and "| mlt\\_Latn |" not in captured.out
    assert captured.err.count("eng_Latn -> mlt_Latn has no top5 that is a number") == 1


def test_between_all_pairs_a_language_is_the_mean_over_its_directions(tmp_path: Path) -> None:
    codes = ("tur_Latn", "mlt_Latn", "ell_Grek")
    pairs = [(a, b) for a in codes for b in codes if a < b]
    generator, right = np.random.default_rng(0), {}
    for label, share in (("base", 0.5), ("tcm", 0.6)):
        right[label] = {(a, b): generator.random(80) < share for pair in pairs for a, b in (pair, pair[::-1])}
        ranks = {direction: np.where(hit, 1, 40).tolist() for direction, hit in right[label].items()}
        write_retrieval(tmp_path, label, "sr_b", ranks)
    blocks, _ = blocks_of(tmp_path, "base", "tcm")
    assert {block.source for block in blocks} == {"every other language"}
    (block,) = (block for block in blocks if block.measure == "top10")
    (found,) = (j.difference for j in block.languages if j.difference.language == "mlt_Latn")
    change = np.mean(
        [right["tcm"][d].astype(int) - right["base"][d] for d in right["tcm"] if d[1] == "mlt_Latn"], axis=0
    )
    assert found.difference == pytest.approx(change.mean()) and found.items == 80
    drawn = change[np.random.default_rng(1).integers(0, 80, (4000, 80))].mean(axis=1)
    assert found.comparison is not None
    estimate = found.comparison.estimate
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.015)
