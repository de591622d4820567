"""`translit-scale plan` from the user's end: the page, its inputs and their sources, calibration, mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny import make_config
from translit_scale.cli import main
from translit_scale.errors import DataError
from translit_scale.plan import machine
from translit_scale.plan.calibrate import Run

EXPERIMENT = ["--config", "paper_a/hin-urd", "paper_a/model5"]


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU rates that do not depend on what else this machine does."""
    monkeypatch.setattr(machine, "measure_cpu", lambda threads: (50e9, 2e9))


def planned(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The page."""
    assert main(["plan", *words]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    return page


def inputs(file: Path) -> dict[str, tuple[str, str]]:
    """Value and source of each input in the JSON of a plan."""
    return {row["name"]: (row["value"], row["source"]) for row in json.loads(file.read_text())["inputs"]}


def test_a_plan_needs_nothing_but_the_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = planned([*EXPERIMENT, "--nodes", "2", "--json", str(tmp_path / "plan.json")], capsys)
    for title in (
        "Inputs",
        "Training",
        "Memory of a rank",
        "Traffic that",
        "Time of a step",
        "Preparation",
        "From 1 to",
    ):
        assert f"\n{title}" in page
    assert "It stops scaling after" in page and "train.batch_pairs=4096" in page
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["steps"] == 50_000 and found["ranks"] == 16
    assert [row["ranks"] for row in found["scaling"]] == [2**i for i in range(11)]
    sources = inputs(tmp_path / "plan.json")
    assert "Glot500-c's counts" in sources["pairs"][1] and "assumption" in sources["tokens per pair"][1]
    assert all(source for _, source in sources.values())


def test_parts_of_the_json_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned([*EXPERIMENT, "--gpu", "a100", "--json", str(tmp_path / "plan.json")], capsys)
    step = json.loads((tmp_path / "plan.json").read_text())["step_seconds"]
    total, low, high = (step.pop(name) for name in ("total", "low", "high"))
    assert sum(step.values()) == pytest.approx(total) and low < total < high


def test_shards_and_tokenizer_are_measured(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(make_config(tiny_world, train__epochs=3, train__max_steps="null").to_yaml())
    words = ["--config", str(experiment), "--gpu", "cpu", "--gpus-per-node", "2", "--json", str(tmp_path / "a.json")]
    planned(words, capsys)
    found = inputs(tmp_path / "a.json")
    assert found["pairs"] == ("63 of 2 languages", f"{tiny_world}/shards/manifest.json")
    assert found["tokens per pair"][1].startswith("16 pairs of the shards") and "V 45" in found["model"][0]
    assert json.loads((tmp_path / "a.json").read_text())["steps"] == 16  # ⌈3 · 63 / 12⌉
    planned([*words, "model.tokenizer=later"], capsys)
    found = inputs(tmp_path / "a.json")
    assert found["tokens per pair"][1].startswith("assumption: 2.3") and "assumption" in found["model"][1]
    planned([*words, "--pairs", "1000000", "--tokens", "20", "30", "--vocabulary", "9000"], capsys)
    found = inputs(tmp_path / "a.json")
    assert found["pairs"] == ("1,000,000 of 1 languages", "--pairs") and "V 9,000" in found["model"][0]
    assert found["tokens per pair"] == ("20.0 + 30.0: 90.3, with TLM", "--tokens; log-normal, σ 0.6")


@pytest.mark.parametrize(
    ("gpu", "said"), [("h100", "K 1 micro-batches of at most 512"), ("l4", "K 4 micro-batches of at most 128")]
)
def test_with_auto_the_plan_is_for_the_largest_micro_batch_that_fits(
    gpu: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "glot500/glot500", "--ds_config", "zero2", "--gpu", gpu, "--json", str(tmp_path / "a.json")]
    page = " ".join(planned(words, capsys).split())
    assert f'= 8 ranks × {said} pairs ("auto"): fits, ' in page
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["fits"] and f"at most {found['micro_batch_pairs']} pairs" in page


def test_older_gpus_are_planned_in_fp16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = planned(["--config", "paper_a/pol-ukr", "paper_a/model5", "--gpu", "2080ti"], capsys)
    assert "of 53.8 TFLOP/s, fp16" in " ".join(page.split())


def write_run(folder: Path, world: Path, device: str, **speed: float) -> Path:
    """A run directory as `train` leaves it."""
    config = make_config(world)
    shutil.copytree(world / "tokenizer", folder / "model")
    (folder / "config.yaml").write_text(config.to_yaml())
    hardware = {"train_micro_batch_size_per_gpu": 6, "zero_optimization": {"stage": 1}}
    (folder / "ds_config.json").write_text(json.dumps(hardware))
    (folder / "environment.json").write_text(json.dumps({"device": device, "world_size": 2}))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 45}
    (folder / "model/config.json").write_text(json.dumps({**sizes, "max_position_embeddings": 66}))
    record: dict[str, Any] = {"step": 2, "train_loss_by_language/ukr_Cyrl": 3.0, "train_memory/host_peak_gb": 0.9}
    record |= {"train_speed/pairs_per_sec": 12.0, "train_speed/tokens_per_sec": 1200.0, "train_speed/step_seconds": 1.0}
    record |= {"train_memory/device_peak_gb": 0.2, **{f"train_speed/{name}": value for name, value in speed.items()}}
    (folder / "metrics.jsonl").write_text("".join(json.dumps({**record, "step": step}) + "\n" for step in (2, 4)))
    return folder


def test_a_calibrated_plan_of_the_run_itself_is_what_it_measured(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", tiny_world, "cpu", checkpoint_seconds=7.0, slowest_over_mean=1.02)
    words = ["--config", str(run / "config.yaml"), "--ds_config", str(run / "ds_config.json"), "--gpu", "cpu"]
    words += ["--gpus-per-node", "2", "--calibrate", str(run), "--json", str(tmp_path / "plan.json")]
    page = planned(words, capsys)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["step_seconds"]["total"] == pytest.approx(1.0, rel=1e-3)
    assert found["tokens_per_pair"] == pytest.approx(100)
    memory = found["memory_bytes"]
    assert sum(memory.values()) - memory["host"] == pytest.approx(0.9e9, rel=1e-3)
    assert found["checkpoints"]["wait"] == pytest.approx(7.0)
    rows = {row["name"]: row for row in found["calibration"]}
    assert rows["step"]["measured"] == 1.0 and rows["slowest rank over mean"]["measured"] == 1.02
    assert f"{rows['step']['error']:+.0%}" in page and str(run) in "".join(page.split())


def test_a_warmup_has_fewer_pairs_and_its_records_are_no_measurements(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", tiny_world, "cpu")
    settings = (run / "config.yaml").read_text().replace("first_batch_pairs: null", "first_batch_pairs: 4")
    (run / "config.yaml").write_text(settings.replace("batch_warmup_steps: null", "batch_warmup_steps: 4"))
    words = ["--config", str(run / "config.yaml"), "--ds_config", str(run / "ds_config.json"), "--gpu", "cpu"]
    text = " ".join(planned([*words, "--gpus-per-node", "2", "train.max_steps=9"], capsys).split())
    assert "pairs seen 84 (1.33 epochs)" in text and "steps 9 (of 4 to 12 pairs)" in text  # 4 + 4 + 8 + 8 + 5 · 12
    assert main(["plan", *words, "--calibrate", str(run)]) == DataError.exit_code
    assert "has no record of steps that begins after train.batch_warmup_steps=4" in capsys.readouterr().err
    steps = run / "metrics.jsonl"
    partly = steps.read_text().replace('"step": 4', '"step": 5')
    steps.write_text(partly)
    assert main(["plan", *words, "--calibrate", str(run)]) == DataError.exit_code  # steps 3 and 4 are smaller
    steps.write_text(partly + partly.replace('"step": 2', '"step": 7').partition("\n")[0] + "\n")
    assert [record["step"] for record in Run.read(run).records] == [7]


def test_a_run_on_another_device_gives_its_tokens_only(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", tiny_world, "NVIDIA A100-SXM4-80GB")
    words = ["--config", str(run / "config.yaml"), "--gpu", "h100", "--gpus-per-node", "2"]
    steps = []
    for calibration in ([], ["--calibrate", str(run)]):
        planned([*words, *calibration, "--json", str(tmp_path / "plan.json")], capsys)
        steps.append(json.loads((tmp_path / "plan.json").read_text()))
    assert steps[1]["tokens_per_pair"] == pytest.approx(100) != steps[0]["tokens_per_pair"]
    assert inputs(tmp_path / "plan.json")["speed"][1].endswith("ran on a100")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.shards=nowhere/demo"], "'demo' is no recipe for Glot500-c"),
        (["data.shards=shards/mine"], "say how much text there will be: --pairs N"),
        (["--recipe", "demo", "--calibrate", "nowhere"], "is no run that can be compared"),
        (["--gpu", "h1000"], "invalid choice: 'h1000'"),
        (["--nodes", "1024", "train.batch_pairs=64"], "8192 ranks cannot share a batch of 64 pairs"),
        (["model.pretrained=someone/model"], "the shape of someone/model is not known"),
        (["objectives.tcm.layer=20"], "objectives.tcm.layer is 20, but the model has 12 layers"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *EXPERIMENT, *words]) in (2, 3)
    captured = capsys.readouterr()
    assert message in captured.err and "  → " in captured.err and captured.out == ""


def test_damaged_metrics_of_a_run(tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", tiny_world, "cpu")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "train_spe')  # killed while it wrote
    planned(["--config", str(run / "config.yaml"), "--gpus-per-node", "2", "--calibrate", str(run)], capsys)
    (run / "metrics.jsonl").write_text("")
    assert main(["plan", *EXPERIMENT, "--calibrate", str(run)]) == 3
    assert "has no record of steps" in capsys.readouterr().err


def test_planning_for_gpus_does_not_load_torch() -> None:
    code = (
        "import sys; from translit_scale.cli import main; "
        "assert main(['plan', '--config', 'paper_b/mediterranean', 'paper_b/mlm', '--gpu', 'b200']) == 0; "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Plan of mediterranean-mlm on 8 × b200" in done.stdout
