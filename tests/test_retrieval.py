"""Ranks, intervals and differences against loops, and the command from files to JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.support.encoders import WORDS, save_encoder
from translit_scale.cli import build_parser, main
from translit_scale.errors import ConfigError
from translit_scale.evaluate.bootstrap import Estimate, accuracy, paired_difference
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.models import EmbeddingSettings, ModelName, name_models
from translit_scale.evaluate.retrieval import metrics as retrieval
from translit_scale.evaluate.retrieval.metrics import hits, ranks
from translit_scale.testsets.parallel import read_aligned
from translit_scale.text_table import format_table


def naive_ranks(queries: np.ndarray, candidates: np.ndarray, texts: list[str]) -> list[int]:
    """By the definition, one score at a time, in double precision."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        lengths = float(np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float)))
        return round(float(a.astype(float) @ b.astype(float)) / lengths, 5) if lengths else 0.0

    found = []
    for i, query in enumerate(queries):
        gold = cosine(query, candidates[i])
        rivals = [j for j in range(len(queries)) if texts[j] != texts[i] and cosine(query, candidates[j]) >= gold]
        found.append(1 + len(rivals))
    return found


@given(
    vectors=st.integers(1, 12).flatmap(
        lambda n: st.tuples(*[arrays(np.float32, (n, 3), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0]))] * 2)
    ),
    text_numbers=st.lists(st.integers(0, 5), min_size=12, max_size=12),
)
def test_ranks_equal_a_loop(vectors: tuple[np.ndarray, np.ndarray], text_numbers: list[int]) -> None:
    queries, candidates = vectors
    texts = [f"text {number}" for number in text_numbers[: len(queries)]]
    # Scores a rounding error apart are ties to the loop: leave out examples where that decides.
    scores = retrieval.normalise(queries) @ retrieval.normalise(candidates).T
    close = np.abs(scores - np.diag(scores)[:, None])
    assume(not ((close > 0) & (close < 1e-4)).any())
    assert ranks(queries, candidates, texts).tolist() == naive_ranks(queries, candidates, texts)


def test_ranks_equal_a_loop_on_random_vectors_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    queries = generator.normal(size=(50, 8)).astype(np.float32)
    candidates = (queries + generator.normal(size=(50, 8))).astype(np.float32)
    texts = [f"text {number}" for number in range(50)]
    expected = naive_ranks(queries, candidates, texts)
    assert len(set(expected)) > 5
    for scores_at_once in (1, 170, 10**6):
        monkeypatch.setattr(retrieval, "BLOCK_SCORES", scores_at_once)
        assert ranks(queries, candidates, texts).tolist() == expected


def test_direction_is_query_to_candidates() -> None:
    """Candidate 0 is a hub: it is the best answer to every query, but its own best answer is right."""
    queries = np.array([[1, 0.2, 0], [0.2, 1, 0], [0.2, 0, 1]], dtype=np.float32)
    candidates = np.array([[1, 1, 1], [-0.2, 1, -0.2], [-0.2, -0.2, 1]], dtype=np.float32)
    candidates[0] *= 7  # length does not matter
    queries[1:] += 0.8
    assert ranks(queries, candidates).tolist() == [1, 2, 2]
    assert ranks(candidates, queries).tolist() == [3, 1, 1]


def test_a_repeated_sentence_is_right_but_a_collapsed_encoder_is_not() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert ranks(vectors, vectors, ["same", "same", "other"]).tolist() == [1, 1, 1]
    assert ranks(vectors, vectors, ["one", "two", "other"]).tolist() == [2, 2, 1]
    point = np.full((40, 33), 0.1, dtype=np.float32)
    assert set(ranks(point, point).tolist()) == {40}
    assert set(ranks(np.zeros_like(point), point).tolist()) == {40}


def test_hits_and_shapes() -> None:
    assert hits(np.array([1, 5, 6, 10]), 5).tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="one shape"):
        ranks(np.zeros((2, 3), np.float32), np.zeros((3, 3), np.float32))


def test_interval_equals_resampling_by_hand() -> None:
    hit = np.arange(200) < 140
    estimate = accuracy(hit, seed=1)
    generator = np.random.default_rng(7)
    resampled = hit[generator.integers(0, 200, size=(10_000, 200))].mean(axis=1)
    assert estimate.value == pytest.approx(0.7)
    np.testing.assert_allclose([estimate.low, estimate.high], np.percentile(resampled, [2.5, 97.5]), atol=0.008)
    assert accuracy(hit, seed=1) == estimate


def test_paired_difference_equals_resampling_by_hand() -> None:
    generator = np.random.default_rng(0)
    a = generator.random(300) < 0.5
    b = a ^ (generator.random(300) < 0.1)
    estimate = paired_difference(a, b, seed=3)
    rows = generator.integers(0, 300, size=(10_000, 300))
    resampled = b[rows].mean(axis=1) - a[rows].mean(axis=1)
    assert estimate.value == pytest.approx(b.mean() - a.mean())
    np.testing.assert_allclose([estimate.low, estimate.high], np.percentile(resampled, [2.5, 97.5]), atol=0.008)
    reverse = paired_difference(b, a, seed=3)
    assert reverse.value == -estimate.value


def test_paired_interval_is_tighter_than_an_unpaired_one_and_zero_for_equal_answers() -> None:
    a = np.arange(400) % 2 == 0
    b = a.copy()
    b[1:20:2] = True
    paired = paired_difference(a, b)
    assert paired.value == pytest.approx(10 / 400) and paired.low > 0
    assert paired.high - paired.low < accuracy(a).high - accuracy(a).low
    assert paired_difference(a, a) == Estimate(0, 0, 0)
    with pytest.raises(ValueError, match="same items"):
        paired_difference(a, a[:5])


def write_pairs(folder: Path) -> list[str]:
    """Two aligned files in which line i of both shares one of two words; one line is empty."""
    source = [f"{a} {b}" for a, b in zip(WORDS[:30], WORDS[30:], strict=True)]
    target = [f"{b} {WORDS[(7 * i) % 60]}" for i, b in enumerate(WORDS[30:])]
    target[4] = ""
    source[7], target[7] = source[6], target[6]
    (folder / "a.txt").write_text("\n".join(source) + "\n")
    (folder / "b.txt").write_text("\n".join(target) + "\n")
    return ["--parallel", f"pol_Latn:{folder}/a.txt", f"ukr_Cyrl:{folder}/b.txt"]


def test_command_writes_json_ranks_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = save_encoder(tmp_path / "first"), save_encoder(tmp_path / "second", "bert", seed=5)
    out = tmp_path / "results"
    arguments = ["evaluate", "retrieval", "--model", first, "--model", f"other={second}", *write_pairs(tmp_path)]
    assert main([*arguments, "--name", "sr_x", "--layer", "0", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "sr_x" / "first.json").read_bytes())
    forward, backward = result["scores"]["test"]
    assert (forward["query"], forward["candidates"]) == ("pol_Latn", "ukr_Cyrl")
    assert (backward["query"], backward["candidates"]) == ("ukr_Cyrl", "pol_Latn")
    assert forward["languages"] == ["pol-Latn", "ukr-Cyrl"] and forward["hf_subset"] == "pol_Latn-ukr_Cyrl"
    assert forward["n"] == 29 and forward["dropped"] == {"empty": 1}
    assert forward["duplicates"] == {"pol_Latn": 1, "ukr_Cyrl": 1}
    items = np.load(out / "sr_x" / "first.items.npz")
    rank = items["rank:pol_Latn->ukr_Cyrl"]
    assert forward["top5"] == (rank <= 5).mean() and forward["main_score"] == forward["top1"]
    assert forward["ci95"]["top1"][0] <= forward["top1"] <= forward["ci95"]["top1"][1]
    assert "5" not in items["ids:pol_Latn->ukr_Cyrl"] and len(rank) == 29
    encoder, text = Encoder.load(first, layer=0), read_aligned(*write_pairs(tmp_path)[1:])
    a, b = (encoder.embed(side).vectors for side in (text.source, text.target))
    back = items["rank:ukr_Cyrl->pol_Latn"]
    assert rank.tolist() == naive_ranks(a, b, text.target) and back.tolist() == naive_ranks(b, a, text.source)
    assert (rank != back).any()
    assert result["settings"]["layer"] == 0 and result["settings"]["include_special"] is True
    comparison = json.loads((out / "sr_x" / "comparison.json").read_bytes())
    other = json.loads((out / "sr_x" / "other.json").read_bytes())
    assert comparison["first"] == result["model"]
    for entry, base, compared in zip(
        comparison["scores"], result["scores"]["test"], other["scores"]["test"], strict=True
    ):
        assert entry["model"] == "other"
        assert entry["top1"] == pytest.approx(compared["top1"] - base["top1"])
    assert "pol_Latn -> ukr_Cyrl" in printed and "minus first" in printed and "dropped: 1 empty" in printed
    assert f"{100 * forward['top1']:.1f} [" in printed


def test_results_are_the_same_bytes_again(tmp_path: Path) -> None:
    arguments = ["evaluate", "retrieval", "--model", save_encoder(tmp_path / "m"), *write_pairs(tmp_path)]
    contents = []
    for run in ("one", "two"):
        assert main([*arguments, "--out", str(tmp_path / run)]) == 0
        contents.append({file.name: file.read_bytes() for file in (tmp_path / run / "retrieval").iterdir()})
    assert contents[0] == contents[1] and set(contents[0]) == {"m.json", "m.items.npz"}


def test_one_direction_twice_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_pairs(tmp_path)
    assert main(["evaluate", "retrieval", "--model", "m", *pairs, *pairs]) == 2
    assert "occurs twice" in capsys.readouterr().err


def test_defaults_of_the_command_line_are_those_of_the_functions() -> None:
    for command in (["evaluate", "retrieval"], ["analyze", "similarity"]):
        args = build_parser().parse_args([*command, "--model", "m"])
        assert EmbeddingSettings() == EmbeddingSettings(
            args.layer, not args.exclude_special, args.batch_tokens, args.device
        )


@pytest.mark.parametrize(
    "arguments",
    [["--layer", "eight"], ["--layer", "1.5"], ["--layer", "nan"], ["--layer", "-1"], ["--batch-tokens", "0"]]
    + [["--name", name] for name in ("../up", "..", "")],
)
def test_arguments_out_of_range(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "retrieval", "--model", "m", *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err


def test_results_of_the_first_model_are_kept_when_the_second_fails(tmp_path: Path) -> None:
    arguments = ["evaluate", "retrieval", *write_pairs(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--model", save_encoder(tmp_path / "m"), "--model", str(tmp_path / "nothing")]) == 3
    assert (tmp_path / "out/retrieval/m.json").exists()


def test_labels_of_models(tmp_path: Path) -> None:
    folder = tmp_path / "lr=1e-4"
    folder.mkdir()
    assert name_models(["a/b", "x=a/b", str(folder)]) == [
        ModelName("b", "a/b"),
        ModelName("x", "a/b"),
        ModelName("lr=1e-4", str(folder)),
    ]
    with pytest.raises(ConfigError, match="two models have the label 'export'"):
        name_models(["runs/a/export", "runs/b/export"])
    with pytest.raises(ConfigError, match="not a label"):
        name_models(["a b=c"])


def test_table_is_aligned() -> None:
    lines = format_table(["name", "value"], [["a", "1"], ["longer", "12.5"]]).split("\n")
    assert lines == ["name    value", "------  -----", "a           1", "longer   12.5"]
