"""Zero-shot transfer: it learns, chooses without the targets, repeats to the byte, and skips nothing in silence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.support.labelled_world import SIZES, save_learner, write_ner, write_sib200
from translit_scale.cli import main

LANGUAGES = ("eng_Latn", "hin_Deva", "urd_Arab")
QUICK = ["--epochs", "2", "--lr", "5e-3", "--batch-size", "8", "--num-seeds", "1", "--workers", "1"]
LONG = ["--epochs", "12"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, and a model in the folder `model`."""
    folder = tmp_path_factory.mktemp("world")
    save_learner(folder / "model")
    return write_ner(write_sib200(folder, LANGUAGES), LANGUAGES)


def transfer(world: Path, out: Path, *more: str, task: str = "sib200", source: str = "eng_Latn") -> int:
    words = ["evaluate", "transfer", "--model", f"tiny={world / 'model'}", "--data", str(world), "--task", task]
    return main([*words, "--source", source, "--out", str(out), *QUICK, *more])


def result(out: Path, name: str = "sib200/tiny.eng_Latn.seed42") -> dict:
    return json.loads((out / f"{name}.json").read_bytes())


def copy_of(world: Path, folder: Path) -> Path:
    return Path(shutil.copytree(world, folder))


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one job of each task."""
    out = tmp_path_factory.mktemp("results")
    assert transfer(world, out, "--task", "ner") == 0
    return out


def test_a_separable_task_is_learned_and_transferred(world: Path, tmp_path: Path) -> None:
    assert transfer(world, tmp_path, "--task", "ner", *LONG) == 0
    for task, key in (("sib200", "ids"), ("ner", "words")):
        record = result(tmp_path, f"{task}/tiny.eng_Latn.seed42")
        assert [score["language"] for score in record["scores"]["test"]] == list(LANGUAGES)
        assert all(score["main_score"] > 0.85 and score["n"] == SIZES["test"] for score in record["scores"]["test"])
        assert record["chosen"]["dev"] == max(epoch["dev"] for epoch in record["epochs"]) > 0.9
        assert record["epochs"][-1]["loss"] < record["epochs"][0]["loss"] / 2
        assert record["settings"]["source"] == ["eng_Latn"] and record["settings"]["max_length"] == 20
        items = np.load(tmp_path / task / "tiny.eng_Latn.seed42.items.npz")
        gold, predicted = items["gold:urd_Arab"], items["predicted:urd_Arab"]
        score = record["scores"]["test"][2]
        accuracy = score["strict"]["accuracy" if task == "sib200" else "token_accuracy"]
        assert (gold == predicted).mean() == pytest.approx(accuracy)
        assert len(gold) == (len(items["ids:urd_Arab"]) if key == "ids" else items["words:urd_Arab"].sum())


def test_the_choice_of_the_epoch_does_not_see_the_targets(world: Path, finished: Path, tmp_path: Path) -> None:
    other = copy_of(world, tmp_path / "world")
    write_sib200(other, ("hin_Deva", "urd_Arab"), noisy=True)
    for language in ("hin_Deva", "urd_Arab"):
        for split in ("train", "dev"):
            (other / "sib200" / language / f"{split}.tsv").unlink()
    assert transfer(other, tmp_path / "out") == 0
    expected, found = result(finished), result(tmp_path / "out")
    assert found["epochs"] == expected["epochs"] and found["chosen"] == expected["chosen"]
    assert found["scores"]["test"][0] == expected["scores"]["test"][0]
    assert found["scores"]["test"][1]["main_score"] != expected["scores"]["test"][1]["main_score"]
    name = "sib200/tiny.eng_Latn.seed42.items.npz"
    before, after = np.load(finished / name), np.load(tmp_path / "out" / name)
    np.testing.assert_array_equal(before["predicted:hin_Deva"], after["predicted:hin_Deva"])


def test_a_seed_is_the_whole_result(world: Path, finished: Path, tmp_path: Path) -> None:
    assert transfer(world, tmp_path, "--num-seeds", "2") == 0
    for ending in ("json", "items.npz"):
        first, second, again = (
            (folder / f"sib200/tiny.eng_Latn.seed{seed}.{ending}").read_bytes()
            for folder, seed in ((tmp_path, 42), (tmp_path, 43), (finished, 42))
        )
        assert first == again != second
    assert result(tmp_path)["epochs"] != result(tmp_path, "sib200/tiny.eng_Latn.seed43")["epochs"]


def test_several_sources_are_one_training_set(
    world: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer(world, tmp_path, "--source", "eng_Latn", source="eng_Latn+urd_Arab") == 0
    record = result(tmp_path, "sib200/tiny.eng_Latn+urd_Arab.seed42")
    assert [part["n"] for part in record["data"]["train"]] == [SIZES["train"]] * 2
    assert [part["files"] for part in record["data"]["dev"]] == [["eng_Latn/dev.tsv"], ["urd_Arab/dev.tsv"]]
    table = capsys.readouterr().out
    assert "eng_Latn+urd_Arab" in table and "mean without source (1, 2)" in table
    assert result(tmp_path) == result(finished)


def test_what_is_done_is_not_done_again(
    world: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = (tmp_path / "out/sib200/tiny.eng_Latn.seed42.json").stat().st_mtime_ns
    assert transfer(world, tmp_path / "out", "--task", "ner", "--num-seeds", "2") == 0
    streams = capsys.readouterr()
    assert "finished before: 2 of 4 jobs" in streams.err and "4/4 jobs" in streams.err
    assert (tmp_path / "out/sib200/tiny.eng_Latn.seed42.json").stat().st_mtime_ns == before
    (tmp_path / "out/ner/tiny.eng_Latn.seed42.items.npz").unlink()
    assert transfer(world, tmp_path / "out", "--task", "ner", "--num-seeds", "2") == 0
    assert "finished before: 3 of 4 jobs" in capsys.readouterr().err
    assert (tmp_path / "out/ner/tiny.eng_Latn.seed42.items.npz").exists()


def change_weights(world: Path) -> None:
    weights = load_file(world / "model/model.safetensors")
    weights["roberta.encoder.layer.0.output.dense.bias"] += 0.5
    save_file(weights, world / "model/model.safetensors", metadata={"format": "pt"})


def change_train(world: Path) -> None:
    path = world / "sib200/eng_Latn/train.tsv"
    path.write_text(path.read_text() + "new\ttravel\tw1 w2\n")


def change_test(world: Path) -> None:
    path = world / "sib200/hin_Deva/test.tsv"
    path.write_text(path.read_text() + "new\ttravel\tw1 w2\n")


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        (lambda world: None, ["--lr", "1e-3"], r"settings.lr 0.005, now 0.001"),
        (lambda world: None, ["--languages", "hin_Deva"], r"test.eng_Latn [0-9a-f]{12}…, now None"),
        (change_weights, [], r"model.weights_sha256 [0-9a-f]{12}…, now [0-9a-f]{12}…"),
        (change_train, [], r"data.train.eng_Latn [0-9a-f]{12}…"),
        (change_test, [], "test.hin_Deva"),
    ],
)
def test_a_result_of_something_else_is_an_error(
    world: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change,
    options: list[str],
    named: str,
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    other = copy_of(world, tmp_path / "world")
    change(other)
    assert transfer(other, tmp_path / "out", *options) == 3
    streams = capsys.readouterr()
    assert "sib200/tiny.eng_Latn.seed42.json was made with other settings, weights or texts" in streams.err
    assert re.search(named, streams.err), streams.err
    assert (tmp_path / "out/sib200/tiny.eng_Latn.seed42.json").read_bytes() == (
        finished / "sib200/tiny.eng_Latn.seed42.json"
    ).read_bytes()
    assert transfer(other, tmp_path / "out", *options, "--force") == 0
    assert result(tmp_path / "out") != result(finished)


def test_a_result_that_is_none_is_an_error(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sib200").mkdir()
    for ending in ("json", "items.npz"):
        (tmp_path / f"sib200/tiny.eng_Latn.seed42.{ending}").write_text('{"schema": 1')
    assert transfer(world, tmp_path) == 3
    assert "is not a result of this command" in capsys.readouterr().err
    assert transfer(world, tmp_path, "--force") == 0


def test_a_job_that_fails_is_named_and_the_others_go_on(
    world: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy_of(world / "model", tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["roberta.encoder.layer.0.output.dense.bias"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    words = ["evaluate", "transfer", "--model", f"broken={broken}", "--model", f"tiny={world / 'model'}"]
    words += ["--data", str(world), "--task", "sib200", "--source", "eng_Latn", "--out", str(tmp_path / "out")]
    assert main([*words, *QUICK]) == 4
    streams = capsys.readouterr()
    assert "error: sib200/broken.eng_Latn.seed42: " in streams.err and "step 1 of 22: the loss is nan" in streams.err
    assert "1 of 2 jobs failed: sib200/broken.eng_Latn.seed42" in streams.err
    assert "sib200: broken, 1 seed: no result" in streams.out and "sib200: tiny, 1 seed" in streams.out
    assert result(tmp_path / "out") == result(finished)


def test_parts_of_a_job_array_make_the_whole(
    world: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (0, 1):
        assert transfer(world, tmp_path, "--task", "ner", "--task-id", str(part), "--num-tasks", "2") == 0
        assert f"task {part} of 2: 1 of its 1 jobs are finished" in capsys.readouterr().out
    assert transfer(world, tmp_path, "--task", "ner") == 0
    assert "finished before: 2 of 2 jobs" in capsys.readouterr().err
    assert result(tmp_path) == result(finished)
    assert transfer(world, tmp_path, "--num-tasks", "2") == 2


def test_the_table_leaves_the_source_out_of_the_mean(
    world: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer(world, tmp_path, "--num-seeds", "2") == 0
    lines = capsys.readouterr().out.split("\n")
    scores = {
        seed: {s["language"]: s for s in result(tmp_path, f"sib200/tiny.eng_Latn.seed{seed}")["scores"]["test"]}
        for seed in (42, 43)
    }
    others = [100 * np.mean([scores[s][t]["strict"]["macro_f1"] for t in LANGUAGES[1:]]) for s in (42, 43)]
    paper = [100 * np.mean([scores[s][t]["paper"]["macro_f1"] for t in LANGUAGES[1:]]) for s in (42, 43)]
    (line,) = [line for line in lines if line.startswith("mean without source (2)")]
    assert (
        line.split("  ")[-1].strip() == f"{np.mean(others):.1f} ± {np.std(others, ddof=1):.1f} ({np.mean(paper):.1f})"
    )
    assert "truncated" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda w: (w / "sib200/eng_Latn/train.tsv").unlink(), [], "no train data for eng_Latn"),
        (lambda w: (w / "sib200/eng_Latn/dev.tsv").unlink(), [], "no dev data for eng_Latn"),
        (lambda w: shutil.rmtree(w / "sib200"), [], "no files of sib200 in"),
        (lambda w: None, ["--languages", "pol_Latn"], "no test data for pol_Latn"),
        (
            lambda w: (w / "sib200/urd_Arab/test.tsv").write_text("index_id\tcategory\ttext\n1\tfood\tw1\n"),
            [],
            "unknown label 'food'",
        ),
    ],
)
def test_missing_and_wrong_data_end_it_before_training(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, options: list[str], message: str
) -> None:
    other = copy_of(world, tmp_path / "world")
    change(other)
    assert transfer(other, tmp_path / "out", *options) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [["--source", "eng_Latn"], ["--lr", "2"], ["--num-seeds", "0"], ["--max-length", "2"]]
)
def test_wrong_options(world: Path, tmp_path: Path, options: list[str]) -> None:
    try:
        assert transfer(world, tmp_path, *options) == 2
    except SystemExit as exit_of_the_parser:
        assert exit_of_the_parser.code == 2


def test_bf16_learns_too(world: Path, tmp_path: Path) -> None:
    assert transfer(world, tmp_path, "--precision", "bf16", "--languages", "hin_Deva", *LONG) == 0
    record = result(tmp_path)
    assert record["settings"]["precision"] == "bf16" and record["scores"]["test"][0]["main_score"] > 0.8


def test_a_language_may_have_another_name_in_the_folder(world: Path, tmp_path: Path) -> None:
    other = copy_of(world, tmp_path / "world")
    (other / "sib200/urd_Arab").rename(other / "sib200/pes_Arab")
    assert transfer(other, tmp_path / "out", source="fas_Arab") == 0
    record = result(tmp_path / "out", "sib200/tiny.fas_Arab.seed42")
    assert [score["language"] for score in record["scores"]["test"]] == ["eng_Latn", "hin_Deva", "fas_Arab"]
