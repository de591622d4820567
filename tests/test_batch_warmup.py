"""A batch-size warm-up cuts the same stream into other batches: pairs, gradients and resumed runs are as without it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gradient_worker import Case, Found, gradients_of, on_ranks
from tests.support.one_graph import micro_batches_of_all, relative_difference, whole_batch
from tests.support.ranks import Ranks
from tests.support.tiny import make_config
from tests.support.train_script import without_clock
from tests.test_metrics import RESULT, SHAPE
from tests.test_plan import GLOT500, H100, workload
from tests.test_resume import assert_equal_runs, ds_json
from tests.test_step import naive_gradients
from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairOrder, total_steps
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import DataConfig, MixtureChange, MixtureConfig, TrainConfig
from translit_scale.errors import ConfigError
from translit_scale.plan.step import step_seconds
from translit_scale.plan.training import make_row, scaling
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.meter import MeterContext
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.setup import Training, build_training, make_plan

WARMUP = (
    ("train__batch_pairs", 16), ("train__first_batch_pairs", 4), ("train__batch_warmup_steps", 6),
    ("train__max_steps", 9),
)  # fmt: skip
SIZES = [4, 4, 8, 8, 12, 12, 16, 16, 16]
Build = Callable[..., Training]


@pytest.fixture(scope="module")
def rank() -> Rank:
    """A world of one, in this process."""
    return start_rank()


@pytest.fixture
def training(tiny_world: Path, tmp_path: Path, rank: Rank) -> Build:
    """Builds a training of the tiny world in this process."""

    def build(micro: int, **changes: Any) -> Training:
        hardware = ds_json(tmp_path / "ds.json", 2, micro)
        return build_training(make_plan(make_config(tiny_world, **changes), hardware, rank))

    return build


def naive_size(t: int, first: int, full: int, steps: int) -> int:
    """Pairs of batch t, by the formula of docs/launching.md."""
    return first * (1 + t * (full // first - 1) // steps) if t < steps else full


@given(st.integers(1, 9), st.integers(2, 40), st.integers(1, 60), st.integers(0, 120))
def test_sizes_are_those_of_the_formula_and_positions_their_sums(first: int, times: int, steps: int, t: int) -> None:
    sizes = BatchSizes(first * times, first, steps)
    expected = [naive_size(u, first, first * times, steps) for u in range(t)]
    assert [sizes.at(u) for u in range(t)] == expected
    assert sizes.before(t) == sum(expected)
    assert [pairs for pairs, number in sizes.stages(t) for _ in range(number)] == expected


def test_each_smaller_size_has_as_many_steps() -> None:
    """As of ModernBERT-base, from 768 to 4,608, but in steps."""
    assert list(BatchSizes(4608, 768, 1000).stages(5000)) == [
        (768, 200), (1536, 200), (2304, 200), (3072, 200), (3840, 200), (4608, 4000),
    ]  # fmt: skip


@given(st.integers(1, 99), st.integers(0, 10**12))
def test_without_a_warmup_all_batches_are_full(pairs: int, t: int) -> None:
    sizes = BatchSizes.of(TrainConfig(batch_pairs=pairs))
    assert (sizes.at(t), sizes.before(t), list(sizes.stages(7))) == (pairs, t * pairs, [(pairs, 7)])


@given(st.integers(1, 5), st.integers(2, 9), st.integers(1, 20), st.floats(0.1, 9), st.integers(1, 5000))
def test_epochs_end_with_the_batch_that_completes_them(
    first: int, times: int, warmup: int, epochs: float, pairs: int
) -> None:
    train = TrainConfig(
        batch_pairs=first * times, first_batch_pairs=first, batch_warmup_steps=warmup, epochs=epochs, max_steps=None
    )
    sizes = BatchSizes.of(train)
    if sizes.before(warmup) > epochs * pairs:
        with pytest.raises(ConfigError, match=rf"train\.batch_warmup_steps is {warmup}: these steps have "):
            total_steps(train, pairs)
        return
    steps = total_steps(train, pairs)
    assert sizes.before(steps) >= epochs * pairs - 1e-6
    assert steps == warmup or sizes.before(steps - 1) < epochs * pairs


def test_a_mixture_changes_at_its_step() -> None:
    data = DataConfig(
        shards=Path("none"), mixture_schedule=[MixtureChange(from_step=5, mixture=MixtureConfig(kind="temperature"))]
    )
    train = TrainConfig(batch_pairs=16, first_batch_pairs=4, batch_warmup_steps=6, max_steps=9)
    order, steps = PairOrder.of_experiment(data, train, {"ukr_Cyrl": 40, "bul_Cyrl": 23})
    assert steps == 9 and [phase.start for phase in order.phases] == [0, sum(SIZES[:5])]


def columns(training: Training, steps: int) -> np.ndarray:
    """[3, n] language, epoch and row of the pairs of some steps, one after another."""
    keys = [training.stream.batch(t) for t in range(steps)]
    return np.concatenate([np.stack([k.language, k.epoch, k.row]) for k in keys], axis=1)


def test_batches_are_the_same_stream_cut_differently(training: Build) -> None:
    grown, constant = training(4, **dict(WARMUP)), training(4, train__batch_pairs=16)
    assert [len(grown.stream.batch(t)) for t in range(9)] == SIZES
    assert np.array_equal(columns(grown, 9), columns(constant, sum(SIZES) // 16))


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_all_ranks_together_make_each_batch(ranks: int, micro: int, training: Build) -> None:
    """With equally many micro-batches on all of them; more as the batch grows."""
    stream = training(16, **dict(WARMUP)).stream
    for (t, size), equal_split in product(enumerate(SIZES), (False, True)):
        together = micro_batches_of_all(stream, BatchLayout(16, ranks, micro), t, equal_split)
        assert [len(of_rank) for of_rank in together] == [-(-size // (ranks * micro))] * ranks
        (alone,) = stream.step(t).micro
        found = torch.cat([part.text_hashes for of_rank in together for part in of_rank])
        assert sorted(found.tolist()) == sorted(alone.text_hashes.tolist()) and len(found) == size


@pytest.mark.parametrize(("micro", "t", "micro_batches"), [(8, 3, 1), (8, 7, 2), (2, 3, 4), (2, 7, 8)])
def test_gradient_of_one_rank_is_that_of_its_batch(micro: int, t: int, micro_batches: int, training: Build) -> None:
    run = training(micro, **dict(WARMUP))
    expected, losses = naive_gradients(run, t)
    batch = run.stream.step(t)
    assert (len(batch.micro), batch.pairs) == (micro_batches, SIZES[t])
    result = run.step.accumulate(t, batch)
    assert relative_difference(gradients_of(run.engine), expected) < 1e-5
    assert result.losses == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize(("micro", "t"), [(8, 3), (8, 7), (2, 3)])
def test_with_dropout_it_is_that_of_one_graph(micro: int, t: int, training: Build) -> None:
    """Dropout is replayed at the steps with several micro-batches; with one there is nothing to replay."""
    changes = {**dict(WARMUP), "model__dropout": 0.2}
    expected, total = whole_batch(training(micro, **changes), 1, t)
    run = training(micro, **changes)
    result = run.step.accumulate(t, run.stream.step(t))
    assert relative_difference(gradients_of(run.engine), expected) < 1e-5
    assert result.losses["total"] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("t", [3, 7])
def test_gradient_does_not_depend_on_ranks_micro_batches_and_zero_stage(
    ranks: int, t: int, run_ranks: Ranks, tiny_world: Path, tmp_path: Path, training: Build
) -> None:
    """In the warm-up and after it: mean losses and negatives are those of the whole batch of that step."""
    expected, losses = naive_gradients(training(16, **dict(WARMUP)), t)
    cases = [Case(stage, micro, WARMUP) for stage, micro in product((0, 1, 2, 3), (8 // ranks, 2, 1))]
    for case, one in on_ranks(run_ranks, ranks, cases, tiny_world, tmp_path, t).items():
        assert isinstance(one, Found)
        assert relative_difference(one.gradients, expected) < 1e-5, case
        assert one.losses == pytest.approx(losses, rel=1e-5), case


def words(folder: Path, name: str, dropout: float) -> list[str]:
    """Batches of 4, 4, 8, 8 and then 12 pairs."""
    return [
        f"run__dir={folder}", f"run__name={name}", "run__log_every=1", "run__checkpoint_every=2", "train__max_steps=8",
        "train__first_batch_pairs=4", "train__batch_warmup_steps=4", f"model__dropout={dropout}",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kill"), [(0, "step:1:3"), (2, "step:0:5"), (3, "step:1:3"), (3, "step:0:7")])
def test_a_run_resumed_in_or_after_the_warmup_equals_an_uninterrupted_one(
    stage: int, kill: str, tiny_world: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    """Bit for bit, with dropout, on two ranks whose micro-batches of 2 pairs become 1, 2 and 3."""
    worker = ("tests/support/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", stage, 2), "auto")
    run_ranks(2, *worker, "never", *words(tmp_path, "whole", 0.1))
    killed = run_ranks(2, *worker, kill, *words(tmp_path, "broken", 0.1), check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = run_ranks(2, *worker, "never", *words(tmp_path, "broken", 0.1))
    assert f"steps {int(kill[-1]) - 1} → 8 " in resumed.stdout
    assert_equal_runs(tmp_path / "whole", tmp_path / "broken", 8)


@pytest.mark.slow
def test_a_training_is_the_same_on_other_ranks(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """At stage 3 DeepSpeed has recorded in which order weights are used when the number of micro-batches grows."""
    for ranks, stage, micro in ((1, 0, 12), (2, 3, 2), (4, 3, 1)):
        worker = ("tests/support/train_worker.py", tiny_world, ds_json(tmp_path / "ds.json", stage, micro), "auto")
        run_ranks(ranks, *worker, "never", *words(tmp_path, f"on{ranks}", 0.0))
    one, *others = (without_clock(tmp_path / f"on{ranks}") for ranks in (1, 2, 4))
    assert [record["train/batch_pairs"] for record in one] == [4, 4, 8, 8, 12, 12, 12, 12]
    for other in others:
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


def test_batches_that_ranks_cannot_share() -> None:
    """The first batch decides: all others are multiples of it."""
    sizes = BatchSizes(1024, 64, 100)
    assert BatchLayout.of(sizes, 64, 1) == BatchLayout(1024, 64, 1)
    with pytest.raises(ConfigError, match=r"train.first_batch_pairs=64: 128 ranks cannot share a batch of 64") as found:
        BatchLayout.of(sizes, 128, 8)
    assert found.value.hint == "start fewer processes or raise train.first_batch_pairs"
    with pytest.raises(ConfigError, match="64 pairs cannot fill 48 ranks × 2 micro-batches of 1"):
        BatchLayout.of(sizes, 48, 1)
    with pytest.raises(ConfigError, match=r"^64 ranks cannot share a batch of 32 pairs"):
        BatchLayout.of(BatchSizes(32), 64, 1)


def test_time_of_a_training_is_that_of_all_its_batches() -> None:
    w = workload(GLOT500, 4096, 32, sizes=BatchSizes(4096, 512, 20))
    row = make_row(w, H100, 8, 50, alone=1.0)
    each = [step_seconds(workload(GLOT500, w.sizes.at(t), 32), H100, 8).total for t in range(50)]
    assert row.hours == pytest.approx(sum(each) / 3600)
    full = make_row(workload(GLOT500, 4096, 32), H100, 8, 50, alone=1.0)
    assert row.seconds == full.seconds and row.hours < full.hours == pytest.approx(50 * full.seconds.total / 3600)
    assert scaling(w, H100, 50)[-1].ranks == 512
    with pytest.raises(ConfigError, match="1024 ranks cannot share a batch of 512 pairs"):
        w.layout(1024)


def test_the_time_that_is_left_counts_the_larger_batches_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps of 10 pairs took a second each; the 60 pairs of the three steps that follow take 6 seconds."""
    clock = [0.0]
    monkeypatch.setattr("translit_scale.train.metrics.time.monotonic", lambda: clock[0])
    context = MeterContext(("a", "b", "c"), SHAPE, 1, None, unpadded=False, sizes=BatchSizes(20, 10, 2))
    with MetricLogger(tmp_path, context, start=0, total_steps=5, every=2) as logger:
        for step in (1, 2):
            clock[0] += 1
            update = {"train/lr": 0.1, "train_optimizer/grad_norm": 1.0}
            logger.step(step, replace(RESULT, pairs=10), update, waited=0.0)
    assert capsys.readouterr().out.rstrip().endswith("eta 6s")
