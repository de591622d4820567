"""A killed run that goes on equals one never interrupted: bit for bit on as many ranks, else up to rounding."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest
import torch

from tests.support.ranks import Ranks
from tests.support.train_script import without_clock
from translit_scale.errors import DataError
from translit_scale.train.checkpointing.checkpoint import checkpoint_name, checkpoint_step, complete_checkpoints
from translit_scale.train.checkpointing.restoring import CheckpointState, consolidated_weights
from translit_scale.train.checkpointing.state import MOMENTS, WEIGHTS

pytestmark = pytest.mark.slow
STEPS = 6


def ds_json(path: Path, stage: int, micro: int) -> Path:
    path.write_text(json.dumps({"train_micro_batch_size_per_gpu": micro, "zero_optimization": {"stage": stage}}))
    return path


def settings(run_dir: Path, steps: int, every: int) -> list[str]:
    return [
        f"run__dir={run_dir}", "model__dropout=0.1", f"train__max_steps={steps}",
        f"run__checkpoint_every={every}", "run__log_every=1",
    ]  # fmt: skip


def last_record(run: Path) -> int:
    """Step of the last whole record."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def assert_equal_runs(one: Path, other: Path, steps: int) -> None:
    """Bit for bit: whole state (weights and moments) and all records."""
    states = [CheckpointState(run / "checkpoints" / checkpoint_name(steps)) for run in (one, other)]
    for kind in (WEIGHTS, *MOMENTS):
        names = states[0].names(kind)
        assert names and set(names) == set(states[1].names(kind))
        assert all(torch.equal(states[0].read(kind, name), states[1].read(kind, name)) for name in names)
    assert without_clock(one) == without_clock(other)
    assert [record["step"] for record in without_clock(one)] == list(range(1, steps + 1))


@pytest.mark.parametrize(("stage", "kill"), [(2, "step:1:13"), (1, "file:1:20"), (3, "step:0:11"), (0, "record:0:20")])
def test_ten_steps_and_ten_more_equal_twenty(
    stage: int, kill: str, tiny_world: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    """Dropout on, accumulation on, two ranks; killed at a step, and in the middle of writing a checkpoint."""
    worker = ("tests/support/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", stage, 3))
    changes = settings(tmp_path, steps=20, every=10)
    run_ranks(2, *worker, "auto", "never", *changes, "run__name=whole")
    killed = run_ranks(2, *worker, "auto", kill, *changes, "run__name=broken", check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in complete_checkpoints(tmp_path / "broken/checkpoints")] == ["step_000010"]
    assert (tmp_path / "broken/checkpoints/latest").read_text() == "step_000010\n"
    resumed = run_ranks(2, *worker, "auto", "never", *changes, "run__name=broken")
    assert "steps 10 → 20 " in resumed.stdout
    assert_equal_runs(tmp_path / "whole", tmp_path / "broken", 20)


def test_a_rank_that_cannot_write_ends_the_training_and_leaves_no_half(
    tiny_world: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    worker = ("tests/support/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", 2, 6))
    changes = settings(tmp_path, STEPS, every=2)
    done = run_ranks(2, *worker, "auto", "full:1:4", *changes, "run__name=broken", check=False)
    assert done.returncode == DataError.exit_code
    assert done.stderr.count(f"could not write the checkpoint {tmp_path}/broken/checkpoints/step_000004: I/O") == 1
    left = {path.name for path in (tmp_path / "broken/checkpoints").iterdir()}
    assert left == {"latest", "step_000002"}


def random_kill(generator: random.Random, start: int, every: int, steps: int) -> str:
    """A moment after `start` in which 2 ranks may be killed, before the training is done."""
    ahead = min(steps, (start // every + generator.randint(1, 2)) * every)
    victim = generator.choice(["0", "1", "all"])
    moment = generator.choice(["step", "after", "file", "record", "rename"])
    if moment == "step":
        return f"step:{victim}:{generator.randrange(start, min(steps, start + 2 * every))}"
    if moment == "after":
        return f"after:{victim}:{generator.uniform(0, 0.25):.3f}"
    return f"{moment}:{'0' if moment == 'rename' else victim}:{ahead}"


KILLED_STEPS, KILLED_EVERY = 80, 2


@pytest.fixture(scope="module")
def never_killed(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory, run_ranks: Ranks) -> Path:
    folder = tmp_path_factory.mktemp("never_killed")
    worker = ("tests/support/train_worker.py", tiny_world, ds_json(folder / "ds.json", 2, 6))
    run_ranks(2, *worker, "auto", "never", *settings(folder, KILLED_STEPS, KILLED_EVERY), "run__name=whole")
    return folder / "whole"


@pytest.mark.parametrize("seed", [0, 1])
def test_twenty_kills_lose_no_more_than_the_steps_since_the_last_checkpoint(
    seed: int, never_killed: Path, tiny_world: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    """Of one rank or both, between any two steps, and in every phase of a save; 40 in two trainings."""
    steps, every, generator = KILLED_STEPS, KILLED_EVERY, random.Random(seed)
    worker = ("tests/support/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", 2, 6))
    changes = settings(tmp_path, steps, every)
    broken, start = tmp_path / "broken", 0
    for number in range(20):
        kill = random_kill(generator, start, every, steps)
        done = run_ranks(2, *worker, "auto", kill, *changes, "run__name=broken", check=False)
        assert done.returncode == -signal.SIGKILL, (number, kill, done.stderr)
        early = kill.startswith("after") and not done.stdout  # when the first rank had said nothing yet
        assert early or f"steps {start} → {steps} " in done.stdout, (number, kill)
        left = complete_checkpoints(broken / "checkpoints")
        start = checkpoint_step(left[-1]) if left else 0
        taken = last_record(broken)
        # The last checkpoint that was begun may not have been published yet; the one before it must be. A step is
        # recorded before its checkpoint is begun.
        assert start >= ((taken - 1) // every - 1) * every, (number, kill)
    assert f"steps {start} → {steps} " in run_ranks(2, *worker, "auto", "never", *changes, "run__name=broken").stdout
    assert_equal_runs(never_killed, broken, steps)


def test_ranks_and_zero_stage_may_change_on_the_way(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """2 ranks at stage 2, then 1 at stage 3, then 4 at stage 1: the curve and the weights of 2 undisturbed ranks."""
    changes = [
        f"run__dir={tmp_path}", f"train__max_steps={STEPS}", "run__checkpoint_every=2", "run__log_every=1",
    ]  # fmt: skip
    worker = "tests/support/train_worker.py", tiny_world
    files = {stage: ds_json(tmp_path / f"ds{stage}.json", stage, 3) for stage in (1, 2, 3)}
    run_ranks(2, *worker, files[2], "auto", "never", *changes, "run__name=whole")
    for ranks, stage, kill in ((2, 2, "step:0:2"), (1, 3, "step:0:4"), (4, 1, "never")):
        run_ranks(ranks, *worker, files[stage], "auto", kill, *changes, "run__name=moved", check=kill == "never")
    whole, moved = without_clock(tmp_path / "whole"), without_clock(tmp_path / "moved")
    assert len(whole) == len(moved) == STEPS
    for a, b in zip(whole, moved, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    final = f"checkpoints/step_{STEPS:06d}"
    weights, others = (consolidated_weights(tmp_path / name / final) for name in ("whole", "moved"))
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-6)
