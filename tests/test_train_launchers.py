"""`scripts/train.py` on several ranks: under every launcher, and when some rank fails or is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.ranks import ROOT, Ranks
from tests.support.tiny import SHARD_BLOCKS, make_shards
from tests.support.train_script import (
    SCRIPT,
    SECONDS_TO_END,
    SPOILT,
    STEPS,
    ZERO2,
    assert_no_traceback,
    assert_said_once,
    finish,
    launch,
    launch_until_step_3,
    records,
    without_clock,
)
from translit_scale.batch.order import PairOrder
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import ConfigError, DataError, NumericError
from translit_scale.train.checkpointing.checkpoint import complete_checkpoints, read_info
from translit_scale.train.checkpointing.restoring import consolidated_weights

pytestmark = pytest.mark.slow

OFFLOAD = ROOT / "ds_configs" / "zero3_offload.json"


def tensorboard_values(run: Path) -> dict[tuple[str, int], float]:
    events = EventAccumulator(str(run / "tb")).Reload()
    return {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}


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
        ".lock", "config.yaml", "STATUS.json", "logs", "starts.jsonl", "ds_config.json", "environment.json",
        "metrics.jsonl", "tb", "model", "checkpoints",
    }  # fmt: skip
    assert "lr: 0.002" in (run / "config.yaml").read_text()
    assert {path.name for path in (run / "logs").iterdir()} == {"rank_0000.log", "rank_0001.log"}
    record = json.loads((run / "environment.json").read_text())
    assert record["job"] == {"launcher": "deepspeed"}
    assert record["hosts"] == [{"host": os.uname().nodename, "ranks": [0, 1], "devices": {"cpu": 2}}]
    assert [path.name for path in complete_checkpoints(run / "checkpoints")] == ["step_000002", "step_000004"]
    assert (run / "checkpoints" / "latest").read_text() == "step_000004\n"
    written = {(name, record["step"]): v for record in records(run) for name, v in record.items() if name != "step"}
    assert tensorboard_values(run) == pytest.approx(written, rel=1e-6)  # TensorBoard stores 32 bits

    trained = {launcher: without_clock(tmp_path / "runs" / launcher) for launcher in jobs}
    assert [record["step"] for record in trained["python"]] == list(range(1, STEPS + 1))
    assert trained["torchrun"] == trained["deepspeed"]
    for one_rank, two_ranks in zip(trained["python"], trained["deepspeed"], strict=True):
        assert two_ranks == pytest.approx(one_rank, rel=1e-4)


def test_hub_id_without_network(experiment: Path) -> None:
    job = launch(
        "python", "--config", experiment, "model.pretrained=nobody/nothing", "model.tokenizer=null", HF_HUB_OFFLINE="1"
    )
    assert_said_once(finish(job, DataError.exit_code), "error: cannot load a tokenizer from 'nobody/nothing'.*")


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


def test_damaged_block_that_one_rank_meets(experiment: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """Blocks of one pair: the one with the flipped bit is read by rank 1 alone, in step 2."""
    shards = make_shards(tmp_path / "shards", {"ukr_Cyrl": 40}, block_rows=1)
    victim = int(PairOrder({"ukr_Cyrl": 40}).batch(2 * 12, 12).row.max())  # the last rank has the last rows
    number, block = divmod(victim, SHARD_BLOCKS)
    tar = shards / f"ukr_Cyrl-{number:05d}.tar"
    damaged = bytearray(tar.read_bytes())
    damaged[ShardSet.open(shards).manifest.shards[number].blocks[block].offset + 1024 + 512] ^= 1
    tar.write_bytes(damaged)
    failed = run_ranks(2, SCRIPT, "--config", experiment, f"data.shards={shards}", check=False)
    assert failed.returncode == DataError.exit_code
    assert_said_once(failed.stderr, rf"error on rank 1: .*ukr_Cyrl-{number:05d}-{block:04d}: .*crc32")
    assert [record["step"] for record in records(tmp_path / "runs" / "tiny")] == [1, 2]
    status = json.loads((tmp_path / "runs" / "tiny" / "STATUS.json").read_text())
    assert status["state"] == "failed" and "error on rank 1: " in status["reason"] and status["step"] == 2
    assert status["exit_code"] == DataError.exit_code


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_full_disk_keeps_the_previous_checkpoint(experiment: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """Files larger than 64 KiB cannot be written: the second checkpoint fails, and later the run goes on."""
    run_ranks(2, SCRIPT, "--config", experiment)
    checkpoints = tmp_path / "runs" / "tiny" / "checkpoints"
    whole = consolidated_weights(checkpoints / "step_000004")
    shutil.rmtree(checkpoints / "step_000004")

    (tmp_path / "script.py").write_text(LIMITED)
    failed = run_ranks(2, tmp_path / "script.py", SCRIPT, "--config", experiment, check=False)
    assert failed.returncode == DataError.exit_code
    assert_said_once(failed.stderr, r"error.*: could not write the checkpoint .*step_000004: ")
    assert [path.name for path in checkpoints.glob("step_*")] == ["step_000002"]

    assert "resumed from" in run_ranks(2, SCRIPT, "--config", experiment).stdout
    resumed = consolidated_weights(checkpoints / "step_000004")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_checkpoints_are_written_by_time_too(experiment: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """The clock of the first rank decides for all."""
    words = ("run.checkpoint_every=1000", "run.checkpoint_minutes=1e-6", "run.keep_checkpoints=9")
    output = run_ranks(2, SCRIPT, "--config", experiment, *words).stdout
    assert "checkpoint every 1,000 steps or 1e-06 minutes" in output
    written = complete_checkpoints(tmp_path / "runs" / "tiny" / "checkpoints")
    assert [path.name for path in written] == [f"step_{step:06d}" for step in range(1, STEPS + 1)]


STARTS = """
import gc, os, runpy, sys
gc.unfreeze()
from translit_scale.train import loop

take_step = loop.take_step
def checked(*arguments):
    print(gc.isenabled(), gc.get_freeze_count() > 100_000)
    print("torch._inductor.compile_fx" in sys.modules, "setuptools" in sys.modules, flush=True)
    assert "TORCHDYNAMO_DISABLE" not in os.environ
    return take_step(*arguments)
loop.take_step = checked
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_a_rank_starts_without_the_compiler_and_trains_without_searching_its_modules(
    experiment: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    """Both would take seconds, at the start or while the other ranks wait."""
    (tmp_path / "script.py").write_text(STARTS)
    output = run_ranks(1, tmp_path / "script.py", SCRIPT, "--config", experiment).stdout
    assert output.count("True True\nFalse False\n") == STEPS, output


@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun", "python"])
def test_ctrl_c_writes_a_checkpoint_and_says_so(launcher: str, experiment: Path, tmp_path: Path) -> None:
    """Every process of the terminal's group gets the signal, and torchrun passes it on to its ranks."""
    job = launch_until_step_3(launcher, experiment)
    os.killpg(job.pid, signal.SIGINT)
    output, _ = job.communicate(timeout=SECONDS_TO_END)
    assert_no_traceback(output)
    (left,) = complete_checkpoints(tmp_path / "runs" / "tiny" / "checkpoints")
    assert output.count("Ctrl-C: a checkpoint is written after this step") == 1
    assert output.count(f"asked to stop: checkpoint {left} is written") == 1
    if launcher == "python":  # launchers have exit codes of their own
        assert job.returncode == 130
    assert read_info(left).step > 3


@pytest.mark.parametrize(("launcher", "number"), [("deepspeed", signal.SIGUSR1), ("torchrun", signal.SIGTERM)])
def test_a_job_that_is_asked_to_stop_writes_a_checkpoint(
    launcher: str, number: signal.Signals, experiment: Path, tmp_path: Path
) -> None:
    """One rank gets SIGUSR1, or all processes SIGTERM, as from SLURM, and the ranks once more from their launcher."""
    job = launch_until_step_3(launcher, experiment)
    if number == signal.SIGUSR1:
        found = subprocess.run(["pgrep", "-g", str(job.pid), "-f", "local_rank=1"], capture_output=True, text=True)
        os.kill(int(found.stdout.split()[0]), number)
    else:
        os.killpg(job.pid, number)
    output, _ = job.communicate(timeout=SECONDS_TO_END)
    assert_no_traceback(output)
    (left,) = complete_checkpoints(tmp_path / "runs" / "tiny" / "checkpoints")
    assert output.count(f"asked to stop: checkpoint {left} is written") == 1
    if launcher == "deepspeed":  # torchrun has exit codes of its own
        assert job.returncode == 75
    assert read_info(left).step > 3
