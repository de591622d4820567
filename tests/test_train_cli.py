"""`scripts/train.py` as a user meets it: under every launcher, with good settings and with bad ones."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import SHARD_BLOCKS, make_config, make_shards, make_tokenizer
from translit_scale.batch.order import PairOrder
from translit_scale.cli import main as console_script
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import ConfigError, DataError, NumericError
from translit_scale.train.checkpoint import complete_checkpoints, consolidated_weights, read_info
from translit_scale.train.engine import take_step

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "train.py"
TOOLS = Path(sys.executable).parent
ZERO2 = ROOT / "ds_configs" / "zero2.json"
OFFLOAD = ROOT / "ds_configs" / "zero3_offload.json"
STEPS = 4
SPOILT = "train.lr=1e30 train.max_skipped_steps=0"
SECONDS_TO_END = 120
"""Upper limit from start to end of a job that fails; its start takes most of it on a busy machine."""

Train = Callable[..., str]


@pytest.fixture
def experiment(tiny_world: Path, tmp_path: Path) -> Path:
    """The tiny experiment as a YAML file; its runs go to runs/ beside it."""
    path = tmp_path / "tiny.yaml"
    changes = {"run__dir": tmp_path / "runs", "run__log_every": 1, "run__checkpoint_every": 2}
    path.write_text(make_config(tiny_world, train__max_steps=STEPS, **changes).to_yaml())
    return path


@pytest.fixture(scope="module")
def script() -> Any:
    """scripts/train.py as a module."""
    spec = importlib.util.spec_from_file_location("train_script", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(script: Any, experiment: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Runs the script's main function in this process, a world of one; returns what it printed."""

    def run(*words: object) -> str:
        script.main(["--config", str(experiment), *map(str, words)])
        return capsys.readouterr().out

    return run


def launch(
    launcher: str, *words: object, limit_file_bytes: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Starts the script: `python` (one rank), or `deepspeed` or `torchrun` with two CPU ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = {
        "python": [sys.executable],
        "deepspeed": [str(TOOLS / "deepspeed"), "--master_port", port, "--num_gpus", "2"],
        "torchrun": [str(TOOLS / "torchrun"), "--master-port", port, "--nproc-per-node", "2"],
    }[launcher]

    def limit() -> None:
        if limit_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_bytes, limit_file_bytes))

    return subprocess.Popen(
        [*command, str(SCRIPT), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, preexec_fn=limit,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
    )  # fmt: skip


def finish(job: subprocess.Popen[str], expected: int = 0) -> str:
    """Waits for a job; its output. No process of it may be left."""
    try:
        output, _ = job.communicate(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)
        pytest.fail(f"still running after {SECONDS_TO_END} s: {job.communicate()[0]}")
    assert job.returncode == expected, output
    with pytest.raises(ProcessLookupError):
        os.killpg(job.pid, 0)
    return output


def launch_until_step_3(launcher: str, experiment: Path) -> subprocess.Popen[str]:
    """A job without end that has taken some steps."""
    job = launch(launcher, "--config", experiment, "train.max_steps=100000", "run.checkpoint_every=100000")
    assert job.stdout
    line = ""
    while not line.startswith("step 3/"):
        line = job.stdout.readline()
        assert line, "ended before step 3"
    return job


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_said_once(output: str, message: str) -> None:
    assert len(re.findall(message, output)) == 1, output
    assert_no_traceback(output)


def assert_no_traceback(output: str) -> None:
    """None of ours; torchrun always shows one of its own."""
    assert f'File "{SCRIPT}' not in output and f'File "{ROOT}/translit_scale' not in output, output


def tensorboard_values(run: Path) -> dict[tuple[str, int], float]:
    events = EventAccumulator(str(run / "tb")).Reload()
    return {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}


# ------------------------------------------------------------------------------------------------ good settings


@pytest.mark.slow
def test_same_training_under_every_launcher(experiment: Path, tmp_path: Path) -> None:
    """Overrides in all places; no compiler, offload included; a run directory; same losses on one rank and on two."""
    (tmp_path / "empty").mkdir()
    no_compiler = {"PATH": str(tmp_path / "empty"), "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")}
    jobs = {
        "deepspeed": ["run.name=deepspeed", "--ds_config", ZERO2, "--config", experiment, "train.lr=2e-3"],
        "torchrun": ["--config", experiment, "run.name=torchrun", "--ds_config", ZERO2, "train.lr=2e-3"],
        "python": ["run.name=python", "--ds_config", OFFLOAD, "train.lr=2e-3", "--config", experiment],
    }
    for launcher, words in jobs.items():
        finish(launch(launcher, *words, **no_compiler))
    assert not (tmp_path / "extensions").exists()

    run = tmp_path / "runs" / "deepspeed"
    there = {path.name for path in run.iterdir()}
    assert there == {
        ".lock", "config.yaml", "ds_config.json", "environment.json", "metrics.jsonl", "tb", "model", "checkpoints"
    }  # fmt: skip
    assert "lr: 0.002" in (run / "config.yaml").read_text()
    assert [path.name for path in complete_checkpoints(run / "checkpoints")] == ["step_000002", "step_000004"]
    assert (run / "checkpoints" / "latest").read_text() == "step_000004\n"
    written = {(name, record["step"]): v for record in records(run) for name, v in record.items() if name != "step"}
    assert tensorboard_values(run) == pytest.approx(written, rel=1e-6)  # TensorBoard stores 32 bits

    trained = {
        launcher: [
            {name: value for name, value in record.items() if name == "step" or name.startswith("train/")}
            for record in records(tmp_path / "runs" / launcher)
        ]
        for launcher in jobs
    }
    assert [record["step"] for record in trained["python"]] == list(range(1, STEPS + 1))
    assert trained["torchrun"] == trained["deepspeed"]
    for one_rank, two_ranks in zip(trained["python"], trained["deepspeed"], strict=True):
        assert two_ranks == pytest.approx(one_rank, rel=1e-4)


def test_finished_run_says_so_and_trains_nothing(train: Train, tmp_path: Path) -> None:
    train()
    run = tmp_path / "runs" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    said = train()
    assert f"nothing to train: {run}/checkpoints/step_000004 is step 4 of 4" in said
    assert f"translit-scale export --run {run}" in said and "run.name=tiny-2" in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before


def test_resumed_run_continues_schedule_and_metrics(train: Train, tmp_path: Path) -> None:
    """Set back to step 2 with records beyond it: learning rates and all other numbers as if never interrupted."""
    train("train.warmup_steps=1")
    run = tmp_path / "runs" / "tiny"
    whole = [{k: v for k, v in r.items() if k.startswith("train/")} for r in records(run)]
    shutil.rmtree(run / "checkpoints" / "step_000004")
    (run / "checkpoints" / "step_000004.tmp").mkdir()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lr"')  # killed while writing
    assert f"resumed from {run}/checkpoints/step_000002" in train("train.warmup_steps=1")
    assert [{k: v for k, v in r.items() if k.startswith("train/")} for r in records(run)] == whole
    assert [r["train/lr"] for r in records(run)] == pytest.approx([1e-3, 1e-3, 2e-3 / 3, 1e-3 / 3])
    assert not list((run / "checkpoints").glob("*.tmp"))


def test_pretrained_model_from_an_exported_folder(train: Train, tmp_path: Path) -> None:
    train()
    assert console_script(["export", "--run", str(tmp_path / "runs" / "tiny")]) == 0
    folder = tmp_path / "runs" / "tiny" / "export"
    again = ("model.tokenizer=null", f"model.pretrained={folder}", "train.max_steps=1", "train.lr=1e-12")
    train(*again, "run.name=again")
    exported, continued = (
        consolidated_weights(complete_checkpoints(tmp_path / "runs" / name / "checkpoints")[-1])
        for name in ("tiny", "again")
    )
    assert exported.keys() == continued.keys()
    assert all(torch.allclose(exported[name], continued[name], atol=1e-6) for name in exported)


@pytest.mark.parametrize(
    ("words", "given", "precision", "note"),
    [
        (["train.precision=bf16_autocast"], {}, "bf16_autocast", 0),
        ([], {"bf16": {"enabled": True}}, "bf16", 0),
        ([], {"fp16": {"enabled": True}}, "fp32", 1),
    ],
)
def test_precisions_of_a_cpu(
    train: Train, tmp_path: Path, words: list[str], given: dict[str, Any], precision: str, note: int
) -> None:
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps(json.loads(ZERO2.read_text()) | given))
    said = train("--ds_config", ds_config, *words)
    run = tmp_path / "runs" / "tiny"
    assert said.count("note: fp16 does not run on CPU: running fp32") == note
    assert json.loads((run / "environment.json").read_text())["precision"] == precision
    assert f", {precision}, ZeRO-2" in said
    losses = [record["train/loss/total"] for record in records(run)]
    assert len(losses) == STEPS and losses[0] == pytest.approx(14.8, abs=0.1)


# ------------------------------------------------------------------------------------------------- bad settings


def change_shards(world: Path, directory: Path, change: Callable[[Path], None]) -> Path:
    shutil.copytree(world / "shards", directory)
    change(directory)
    return directory


def other_format(shards: Path) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps(manifest | {"format_version": 9}))


def flip_bit_of_last_block(shards: Path) -> None:
    shard = ShardSet.open(shards).manifest.shards[-1]
    path, entry = shards / shard.name, shard.blocks[-1]
    damaged = bytearray(path.read_bytes())
    damaged[entry.offset + 512] ^= 1
    path.write_bytes(damaged)


def test_shards_that_are_missing_of_another_format_or_damaged(train: Train, tiny_world: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no local directory with a shard set: .*none/manifest.json does not exist\n  → make the set"
    ):
        train(f"data.shards={tmp_path / 'none'}")
    newer = change_shards(tiny_world, tmp_path / "newer", other_format)
    with pytest.raises(DataError, match=r"manifest.json has format version 9, expected 2"):
        train(f"data.shards={newer}")
    damaged = change_shards(tiny_world, tmp_path / "damaged", flip_bit_of_last_block)
    with pytest.raises(DataError, match=r"tar:ukr_Cyrl-00001-0001: .*crc32.*\n  → translit-scale shards"):
        train(f"data.shards={damaged}")


@pytest.mark.parametrize(("letters", "side"), [("а-я", "sentences"), ("a-z", "transliterations")])
def test_tokenizer_that_does_not_know_a_script(letters: str, side: str, train: Train, tmp_path: Path) -> None:
    path = make_tokenizer(tmp_path / "other") / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] = {
        re.sub(f"^[{letters}]$", lambda letter: letter[0] + "0", token): i
        for token, i in content["model"]["vocab"].items()
    }
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"100.0% of the tokens of the {side} of .* unknown .*\n  → train one"):
        train(f"model.tokenizer={tmp_path / 'other'}")


def test_settings_that_contradict_each_other_or_the_data(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.max_step: unknown setting; did you mean 'max_steps'\?"):
        train("train.max_step=3")
    with pytest.raises(ConfigError, match="unrecognized arguments: --max_steps"):
        train("--max_steps=3")
    with pytest.raises(ConfigError, match=r"train.batch_pairs is 64, but .*shards has 63 pairs"):
        train("train.batch_pairs=64")
    with pytest.raises(ConfigError, match=r"data.languages: deu_Latn not in"):
        train("data.languages=[deu_Latn]")
    ds_config = tmp_path / "ds.json"
    for given, message in [
        ({"train_batch_size": 256}, "train_batch_size = 256, the experiment says 12"),
        ({"zero_optimization": 2}, "zero_optimization must be an object, found 2"),
        ({"zero_optimization": {"stage": 2, "overlap": True}}, r"(?s)DeepSpeed refuses .*ds.json: .*overlap"),
    ]:
        ds_config.write_text(
            json.dumps({"train_micro_batch_size_per_gpu": 8, "zero_optimization": {"stage": 2}} | given)
        )
        with pytest.raises(ConfigError, match=message):
            train("--ds_config", ds_config)


def test_run_directory_that_cannot_be_written(train: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to the run directory .*file/tiny: .*\n  → choose another"):
        train(f"run.dir={tmp_path / 'file'}")


def test_second_job_in_a_run_directory_touches_nothing(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the first one, another process, is killed."""
    monkeypatch.setattr("translit_scale.locks.GRACE_SECONDS", 0.2)
    run = tmp_path / "runs" / "tiny"
    hold = (
        "import sys, time; from pathlib import Path; from translit_scale.locks import only_user\n"
        "with only_user(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(run)], stdout=subprocess.PIPE) as first:
        assert first.stdout and first.stdout.readline() == b"held\n"
        message = (
            rf"runs/tiny is in use: process {first.pid} on {os.uname().nodename}, since 20.*\n  → wait for its end"
        )
        with pytest.raises(DataError, match=message):
            train()
        assert [path.name for path in run.iterdir()] == [".lock"]
        first.kill()
    train()


def test_resume_with_other_settings_data_or_a_damaged_checkpoint(train: Train, tmp_path: Path) -> None:
    train()
    run = tmp_path / "runs" / "tiny"
    with pytest.raises(DataError) as found:
        train("train.lr=3e-3", "train.precision=bf16", "objectives.tcm.layer=1", "run.log_every=3")
    assert str(found.value) == (
        f"{run}/checkpoints/step_000004 belongs to another experiment:\n"
        "    objectives.tcm.layer: 2 in the checkpoint, 1 now\n"
        "    train.lr: 0.001 in the checkpoint, 0.003 now\n"
        "    train.precision: 'fp32' in the checkpoint, 'bf16' now\n"
        "  → go back to what the checkpoint says, or start a run of its own: run.name=NEW_NAME"
    )
    make_shards(tmp_path / "other", {"ukr_Cyrl": 40, "bul_Cyrl": 24})
    with pytest.raises(DataError, match=r"(?s)belongs to another experiment:.*shards: '"):
        train(f"data.shards={tmp_path / 'other'}")
    with pytest.raises(ConfigError, match="tiny already has the checkpoint step_000004"):
        train("--resume", "none")
    with pytest.raises(DataError, match=r"checkpoint record not found: nowhere/COMPLETE.json"):
        train("--resume", "nowhere")
    weights = run / "checkpoints" / "step_000004" / "state-00000.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"expected [\d,]+ bytes, found [\d,]+\n  → remove .*step_000004 to go on"):
        train()
    weights.write_bytes(bytes(len(whole)))
    shutil.rmtree(run / "checkpoints" / "step_000002")
    (run / "checkpoints" / "step_000004").rename(run / "checkpoints" / "step_000002")  # so that there is work left
    record = run / "checkpoints" / "step_000002" / "COMPLETE.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"step": 2}))
    with pytest.raises(DataError, match="step_000002 is damaged: "):
        train()


def test_loss_that_is_not_finite(train: Train, tmp_path: Path) -> None:
    with pytest.raises(NumericError, match=r"(?s)step \d: .* not finite.*lower train.lr"):
        train(*SPOILT.split())
    assert records(tmp_path / "runs" / "tiny")  # the steps before are on record


def test_out_of_memory_says_which_setting_to_lower(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(engine: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("translit_scale.train.loop.take_step", out_of_memory)
    with pytest.raises(ConfigError, match=r"micro-batches of 32 pairs: CUDA .*\n  → lower train_micro_batch_size_per"):
        train()


def test_fp16_that_overflows_at_every_loss_scale() -> None:
    scaler = DynamicLossScaler(1.0, scale_window=10, min_scale=1.0, delayed_shift=1, consecutive_hysteresis=False)
    engine = SimpleNamespace(
        global_steps=7, step=lambda: scaler.update_scale(overflow=True), zero_optimization_stage=lambda: 1,
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}]),
    )  # fmt: skip
    with pytest.raises(NumericError, match="step 7: the gradient overflows fp16 at any loss scale"):
        take_step(engine)


@pytest.mark.slow
def test_hub_id_without_network(experiment: Path) -> None:
    job = launch(
        "python", "--config", experiment, "model.pretrained=nobody/nothing", "model.tokenizer=null", HF_HUB_OFFLINE="1"
    )
    assert_said_once(finish(job, DataError.exit_code), "error: cannot load a tokenizer from 'nobody/nothing'.*")


# --------------------------------------------------------------------------------- failures among several ranks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "code", "override", "message"),
    [
        (
            "deepspeed",
            ConfigError.exit_code,
            "train.lrr=1",
            r"error: override 'train.lrr=1': train.lrr: unknown setting",
        ),
        ("torchrun", 1, "train.batch_pairs=1", r"error.*: 2 ranks cannot share a batch of 1 pairs"),
        ("deepspeed", NumericError.exit_code, SPOILT, r"error.*: step \d: the (loss|gradient) is not finite"),
    ],
)
def test_error_of_all_ranks_is_said_once(
    launcher: str, code: int, override: str, message: str, experiment: Path
) -> None:
    """Before and after the ranks have met; torchrun's own exit code is always 1."""
    assert_said_once(finish(launch(launcher, "--config", experiment, *override.split()), code), message)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "code"), [("deepspeed", DataError.exit_code), ("torchrun", 1)])
def test_damaged_block_that_one_rank_meets(launcher: str, code: int, experiment: Path, tmp_path: Path) -> None:
    """Blocks of one pair: the one with the flipped bit is read by rank 1 alone, in step 2."""
    shards = make_shards(tmp_path / "shards", {"ukr_Cyrl": 40}, block_rows=1)
    victim = int(PairOrder({"ukr_Cyrl": 40}).batch(2 * 12, 12).row.max())  # the last rank has the last rows
    number, block = divmod(victim, SHARD_BLOCKS)
    tar = shards / f"ukr_Cyrl-{number:05d}.tar"
    damaged = bytearray(tar.read_bytes())
    damaged[ShardSet.open(shards).manifest.shards[number].blocks[block].offset + 1024 + 512] ^= 1
    tar.write_bytes(damaged)
    output = finish(launch(launcher, "--config", experiment, f"data.shards={shards}"), code)
    assert_said_once(output, rf"error on rank 1: .*ukr_Cyrl-{number:05d}-{block:04d}: .*crc32")
    assert [record["step"] for record in records(tmp_path / "runs" / "tiny")] == [1, 2]


@pytest.mark.slow
def test_full_disk_keeps_the_previous_checkpoint(experiment: Path, tmp_path: Path) -> None:
    """Files larger than 64 KiB cannot be written: the second checkpoint fails, and later the run goes on."""
    finish(launch("torchrun", "--config", experiment))
    checkpoints = tmp_path / "runs" / "tiny" / "checkpoints"
    whole = consolidated_weights(checkpoints / "step_000004")
    shutil.rmtree(checkpoints / "step_000004")

    output = finish(launch("deepspeed", "--config", experiment, limit_file_bytes=1 << 16), DataError.exit_code)
    assert_said_once(output, r"error.*: could not write the checkpoint .*step_000004: ")
    assert [path.name for path in checkpoints.glob("step_*")] == ["step_000002"]

    assert "resumed from" in finish(launch("torchrun", "--config", experiment))
    resumed = consolidated_weights(checkpoints / "step_000004")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_interrupt_ends_quickly_and_quietly(launcher: str, experiment: Path) -> None:
    job = launch_until_step_3(launcher, experiment)
    began = time.monotonic()
    os.killpg(job.pid, signal.SIGINT)
    output, _ = job.communicate(timeout=SECONDS_TO_END)
    assert time.monotonic() - began < 15
    assert job.returncode != 0
    assert output.count("interrupted: the same command goes on") <= 1  # the launcher may be faster than rank 0
    assert_no_traceback(output)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "number"), [("deepspeed", signal.SIGUSR1), ("torchrun", signal.SIGTERM)])
def test_a_job_that_is_asked_to_stop_writes_a_checkpoint(
    launcher: str, number: signal.Signals, experiment: Path, tmp_path: Path
) -> None:
    """One rank gets SIGUSR1, or the launcher SIGTERM; the same command goes on."""
    job = launch_until_step_3(launcher, experiment)
    if number == signal.SIGUSR1:
        found = subprocess.run(["pgrep", "-g", str(job.pid), "-f", "local_rank=1"], capture_output=True, text=True)
        os.kill(int(found.stdout.split()[0]), number)
    else:
        os.kill(job.pid, number)
    output, _ = job.communicate(timeout=SECONDS_TO_END)
    assert_no_traceback(output)
    (left,) = complete_checkpoints(tmp_path / "runs" / "tiny" / "checkpoints")
    assert output.count(f"asked to stop: checkpoint {left} is written") == 1
    if launcher == "deepspeed":  # torchrun has exit codes of its own
        assert job.returncode == 75
    assert read_info(left).step > 3
