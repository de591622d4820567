"""The monitor measures checkpoints beside training, logs what it has measured, and can never harm training."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.tiny import make_config, romanize, sentences
from translit_scale.config import Config
from translit_scale.errors import UserError
from translit_scale.train import monitor as module
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.loop import train
from translit_scale.train.monitor import GROUP, Monitor, measuring_command, metrics_of

ZERO2 = Path(__file__).resolve().parents[1] / "ds_configs" / "zero2.json"


@pytest.fixture(scope="module")
def verses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verses")
    texts = sorted(set(sentences(60, seed=5)), key=len)[-20:]
    for language, side in (("ukr_Cyrl", texts), ("hrv_Latn", [romanize(text) for text in texts])):
        (folder / f"{language}.tsv").write_text("".join(f"v{n}\t{text}\n" for n, text in enumerate(side)))
    return folder


def monitored(tiny_world: Path, verses: Path, out: Path, **changes: Any) -> Config:
    settings = {
        "monitor__task": "sr_b", "monitor__data": verses, "monitor__languages": "[ukr_Cyrl, hrv_Latn]",
        "run__dir": out, "run__checkpoint_every": 1, "run__log_every": 1, "run__keep_every": 1,
        "train__max_steps": 3,
    }  # fmt: skip
    return make_config(tiny_world, **settings | changes)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def result(steps: tuple[int, ...]) -> dict[str, Any]:
    """What `analyze dynamics` writes, shortened."""
    numbers = {"matched": 0.5, "matched_se": 0.1, "gap": 0.2, "separability": 0.75}
    entry = {"hf_subset": "a-b", "translation": numbers, "retrieval": {"top1": 0.25, "ci95": {"top1": [0, 1]}}}
    return {"runs": [{"key": "k"}], "scores": {"test": [{"step": step, **entry} for step in steps]}}


@pytest.fixture
def monitor(tiny_world: Path, verses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Monitor:
    """A monitor of a run with the checkpoints of steps 1 and 2."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    made = Monitor(monitored(tiny_world, verses, tmp_path))
    for step in (1, 2):
        folder = made.run / f"checkpoints/step_{step:06d}"
        folder.mkdir(parents=True)
        (folder / "COMPLETE.json").write_text("{}")
    return made


def python(monitor: Monitor, code: str) -> None:
    """Replaces the command of the monitor."""
    monitor.command = [sys.executable, "-S", "-c", code]


def writes(monitor: Monitor, *steps: int) -> str:
    folder = monitor.run / "analysis/sr_b"
    folder.mkdir(parents=True, exist_ok=True)
    return f"open({str(folder / 'dynamics.json')!r}, 'w').write({json.dumps(result(steps))!r})"


def test_results_are_returned_once_and_only_of_steps_so_far(monitor: Monitor) -> None:
    python(monitor, writes(monitor, 1, 2))
    assert monitor.look(1) == [] and monitor.process
    monitor.process.wait()
    (first,) = monitor.look(1)
    assert first.step == 1 and first.numbers == {
        f"{GROUP}/a-b/top1": 0.25, f"{GROUP}/a-b/translation/matched": 0.5,
        f"{GROUP}/a-b/translation/gap": 0.2, f"{GROUP}/a-b/translation/separability": 0.75,
    }  # fmt: skip
    assert monitor.process is None and monitor.seconds > 0  # both were tried: no second process
    assert metrics_of(result((1,))["scores"]["test"][0]) == first.numbers


def test_a_process_that_fails_is_reported_and_tried_again_with_the_next_checkpoint(
    monitor: Monitor, capfd: pytest.CaptureFixture[str]
) -> None:
    python(monitor, "import sys; print('the reason'); sys.exit(3)")
    monitor.look(2)
    assert monitor.process
    monitor.process.wait()
    assert monitor.look(2) == [] and monitor.process is None
    assert "exit code 3" in capfd.readouterr().out
    assert "the reason" in (monitor.run / "logs/monitor.log").read_text()
    (monitor.run / "checkpoints/step_000003").mkdir()
    (monitor.run / "checkpoints/step_000003/COMPLETE.json").write_text("{}")
    python(monitor, writes(monitor, 1, 2, 3))
    assert monitor.look(3) == [] and monitor.process
    assert [item.step for item in monitor.finish(3)] == [1, 2, 3]
    assert "not measured" not in capfd.readouterr().out


def test_a_program_that_cannot_start_harms_nothing(monitor: Monitor, capfd: pytest.CaptureFixture[str]) -> None:
    monitor.command = ["/no/such/program"]
    assert monitor.look(2) == [] and monitor.look(2) == [] and monitor.finish(2) == []
    assert capfd.readouterr().out.count("could not start") == 1


def test_the_end_waits_only_so_long_and_names_the_command(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.5)
    python(monitor, "import time; time.sleep(600)")
    monitor.look(2)
    process, began = monitor.process, time.monotonic()
    assert monitor.finish(2) == [] and time.monotonic() - began < 20
    assert process and process.wait() == -signal.SIGTERM
    assert "not measured: checkpoints 1, 2" in capfd.readouterr().out


def test_steps_that_are_in_the_metrics_are_not_logged_again(monitor: Monitor, tiny_world: Path, verses: Path) -> None:
    (monitor.run / "metrics.jsonl").write_text(
        f'{{"step": 1, "{GROUP}/a-b/top1": 0.5}}\n{{"step": 2, "train/loss": 1}}\n'
    )
    assert Monitor(monitored(tiny_world, verses, monitor.run.parent)).logged == {1}


def test_a_wrong_test_set_is_found_before_training(tiny_world: Path, verses: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="monitor: ") as caught:
        train(monitored(tiny_world, verses, tmp_path, monitor__data=tmp_path / "no"), ZERO2, "auto", start_rank())
    assert "monitor=null" in str(caught.value.hint)


@pytest.mark.slow
def test_training_logs_every_checkpoint_and_is_the_same_as_without(
    tiny_world: Path, verses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 280.0)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    for name in ("with", "without"):
        config = monitored(tiny_world, verses, tmp_path, run__name=name)
        torch.manual_seed(0)
        train(config if name == "with" else config.model_copy(update={"monitor": None}), ZERO2, "auto", start_rank())
    losses = [[r["train/loss"] for r in records(tmp_path / name) if "train/loss" in r] for name in ("with", "without")]
    assert losses[0] == losses[1]
    run = tmp_path / "with"
    found = {r["step"]: r for r in records(run) if f"{GROUP}/ukr_Cyrl-hrv_Latn/top1" in r}
    assert set(found) == {1, 2, 3}
    for entry in json.loads((run / "analysis/sr_b/dynamics.json").read_bytes())["scores"]["test"]:
        assert metrics_of(entry).items() <= found[entry["step"]].items()
    events = EventAccumulator(str(run / "tb"), size_guidance={"images": 0}).Reload()
    assert [e.step for e in events.Images(f"{GROUP}/ukr_Cyrl-hrv_Latn")] == [1, 2, 3]
    assert [e.step for e in events.Scalars(f"{GROUP}/ukr_Cyrl-hrv_Latn/translation/gap")] == [1, 2, 3]


def test_the_command_is_the_one_of_the_documentation(tiny_world: Path, verses: Path, tmp_path: Path) -> None:
    config = monitored(tiny_world, verses, tmp_path, monitor__limit=5, monitor__layer=0.5)
    assert config.monitor and config.monitor.limit == 5
    command = measuring_command(config.monitor, Path("runs/x"))
    assert command[3:7] == ["analyze", "dynamics", "--run", "runs/x"] and command[-4:] == [
        "--limit",
        "5",
        "--layer",
        "0.5",
    ]
    assert config.science() == config.model_copy(update={"monitor": None}).science()
