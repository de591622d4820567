"""Dynamics: every checkpoint is measured once, as an exported model is, and one that cannot be read ends nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny import make_config, romanize, sentences
from translit_scale.analyze import dynamics as module
from translit_scale.analyze.dynamics import AVERAGE, with_average
from translit_scale.analyze.figures import MEASURES
from translit_scale.analyze.similarity import SIMILARITIES, formula
from translit_scale.cli import main
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.loop import train

ZERO2 = Path(__file__).resolve().parents[1] / "ds_configs" / "zero2.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Invented sentences, and their romanizations as the other language."""
    folder = tmp_path_factory.mktemp("text")
    texts = sorted(set(sentences(60, seed=5)), key=len)[-20:]
    (folder / "a.txt").write_text("\n".join(texts))
    (folder / "b.txt").write_text("\n".join(map(romanize, texts)))
    return [f"ukr_Cyrl:{folder}/a.txt", f"hrv_Latn:{folder}/b.txt"]


@pytest.fixture(scope="module")
def trained(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps that keeps its checkpoints."""
    out = tmp_path_factory.mktemp("runs")
    changes = {"run__dir": out, "run__checkpoint_every": 1, "run__keep_every": 1, "train__max_steps": 3}
    train(make_config(tiny_world, train__lr=5e-3, **changes), ZERO2, "auto", start_rank())
    return out / "tiny"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels of the checkpoints that are measured."""
    labels, measure = list[str](), module.measure

    def counting(encoder: Any, texts: Any, embedding: Any, label: str, seed: int) -> Any:
        labels.append(label)
        return measure(encoder, texts, embedding, label, seed)

    monkeypatch.setattr(module, "measure", counting)
    return labels


def dynamics(files: list[str], out: Path, *runs: str, options: tuple[str, ...] = ("--no-figure",)) -> int:
    words = [word for run in runs for word in ("--run", run)]
    return main(["analyze", "dynamics", *words, "--parallel", *files, "--out", str(out), "--name", "x", *options])


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "x").iterdir())}


def test_a_checkpoint_is_measured_once_and_as_analyze_similarity_measures_it(
    trained: Path, files: list[str], tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "tiny")
    assert dynamics(files, tmp_path / "out", str(run)) == 0
    assert measured == ["tiny@1", "tiny@2", "tiny@3"] and "s = ukr_Cyrl, t = hrv_Latn" in capsys.readouterr().out
    first = content(tmp_path / "out")
    entries = json.loads(first["dynamics.json"])["scores"]["test"]
    assert [(entry["step"], entry["s"]) for entry in entries] == [
        (step, s) for step in (1, 2, 3) for s in ("ukr_Cyrl", "hrv_Latn")
    ]
    similarity = ["--parallel", *files, "--model", f"m={run}@2", "--out", str(tmp_path), "--name", "s", "--no-figure"]
    assert main(["analyze", "similarity", *similarity]) == 0
    scores = json.loads((tmp_path / "s/m.similarity.json").read_bytes())["scores"]["test"]
    for score, entry in zip(scores, entries[2:4], strict=True):
        assert {name: entry[name] for name in score} == score
    rows = list(csv.DictReader(first["dynamics.csv"].decode().splitlines()))
    assert len(rows) == 6 * (4 * 4 + 3)
    for row in rows:
        if row["measure"] in MEASURES:
            entry = next(e for e in entries if (str(e["step"]), e["hf_subset"]) == (row["step"], row["direction"]))
            name = next(name for name in SIMILARITIES if formula(name) == row["what"])
            assert float(row["value"]) == entry[name][row["measure"]]
    (
        run / "analysis/x" / Path(next((run / "analysis/x").glob("step_000002.*.json"))).name
    ).unlink()  # a kill came before it
    assert dynamics(files, tmp_path / "out", str(run)) == 0
    assert measured[3:] == ["tiny@2"] and content(tmp_path / "out") == first
    shutil.rmtree(run / "checkpoints/step_000001")  # training keeps only the newest ones
    assert dynamics(files, tmp_path / "out", str(run)) == 0 and len(measured) == 4
    assert content(tmp_path / "out") == first


def test_a_damaged_checkpoint_is_named_and_does_not_end_the_others(
    trained: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "tiny")
    (weights, *_) = (run / "checkpoints/step_000002").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    assert dynamics(files, tmp_path / "out", f"a={run}", f"b={tmp_path / 'none'}") == 3
    errors = capsys.readouterr().err
    assert (
        "a@2" in errors
        and "step_000002" in errors
        and f"b: the run folder {tmp_path / 'none'} does not exist" in errors
    )
    result = json.loads(content(tmp_path / "out")["dynamics.json"])
    assert [entry["step"] for entry in result["scores"]["test"]] == [1, 1, 3, 3] and len(result["not_measured"]) == 2
    assert dynamics(files, tmp_path / "out", f"a={run}", f"a={run}") == 2


def test_a_damaged_record_is_named_and_does_not_end_the_others(
    trained: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "tiny")
    assert dynamics(files, tmp_path / "out", str(run)) == 0
    record = next((run / "analysis/x").glob("step_000002.*.json"))
    record.write_text("{")
    assert dynamics(files, tmp_path / "out", str(run)) == 3
    errors = capsys.readouterr().err
    assert errors.count(record.name) == 1 and "remove it" in errors
    entries = json.loads(content(tmp_path / "out")["dynamics.json"])["scores"]["test"]
    assert {entry["step"] for entry in entries} == {1, 3}


def test_charts_have_a_line_for_each_run(trained: Path, files: list[str], tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "tiny")
    shutil.rmtree(run / "checkpoints/step_000003")
    shutil.copytree(run, tmp_path / "other")
    assert dynamics(files, tmp_path / "out", str(run), str(tmp_path / "other"), options=()) == 0
    charts = {f"dynamics.{pair}.{measure}" for pair in ("ukr_Cyrl-hrv_Latn", "hrv_Latn-ukr_Cyrl")
              for measure in (*MEASURES, "retrieval")}  # fmt: skip
    written = content(tmp_path / "out")
    assert set(written) - {"dynamics.json", "dynamics.csv"} == {
        f"{name}.{ending}" for name in charts for ending in ("png", "pdf", "csv")
    }
    rows = list(csv.DictReader(written["dynamics.ukr_Cyrl-hrv_Latn.gap.csv"].decode().splitlines()))
    assert {(row["run"], row["step"], row["what"]) for row in rows} == {
        (label, step, formula(name)) for label in ("tiny", "other") for step in "12" for name in SIMILARITIES
    }
    assert len(list((run / "analysis/x").glob("step_000001.*/ukr_Cyrl-hrv_Latn.png"))) == 1


def test_the_average_of_more_than_two_directions_is_unweighted() -> None:
    def score(value: float) -> dict[str, Any]:
        measures = dict.fromkeys(MEASURES, value)
        return {"hf_subset": "x", "retrieval": {f"top{k}": value for k in (1, 5, 10)}} | dict.fromkeys(
            SIMILARITIES, measures
        )

    assert with_average([score(0.1), score(0.2)]) == [score(0.1), score(0.2)]
    *_, average = with_average([score(value) for value in (0.1, 0.2, 0.3, 0.6)])
    assert average["hf_subset"] == AVERAGE and average["directions"] == 4
    assert average["translation"]["gap"] == average["retrieval"]["top5"] == pytest.approx(0.3)
