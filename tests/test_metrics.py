"""Metrics mean what docs/launching.md says, and are the same in metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.full_disk import full_disk
from tests.support.tiny import make_config
from translit_scale.batch.pack import TLM
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.token_counts import TokenCounts
from translit_scale.errors import DataError, UserError
from translit_scale.model.flops import Shape, contrastive_flops, training_flops
from translit_scale.train.launching.preemption import Preempted
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.meter import MOST_LANGUAGES, Meter, MeterContext
from translit_scale.train.metrics import MetricLogger
from translit_scale.train.setup import build_training, make_plan
from translit_scale.train.step import StepResult

SHAPE = Shape(hidden=8, intermediate=16, layers=2, vocabulary=50)
LANGUAGES = np.array([[60.0, 20], [20.0, 20], [0.0, 0]])
RESULT = StepResult(
    {"total": 1.0}, LANGUAGES, TokenCounts(100, 900, 15, 140, 900, 140), 125, 1.0, pairs=10, contrasted=7, truncated=1
)
UPDATE = {"train/lr": 0.0, "train_optimizer/grad_norm": 1.0}


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_rates_leave_out_first_step_and_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 pairs: 9 s for the first, then 1 s each, and a checkpoint of 5 s after the third."""
    clock = [0.0]
    monkeypatch.setattr("translit_scale.train.metrics.time.monotonic", lambda: clock[0])
    context = MeterContext(
        ("ukr_Cyrl", "bul_Cyrl", "hin_Deva"), SHAPE, 2, peak_flops=1e6, unpadded=False, sizes=BatchSizes(10)
    )
    with MetricLogger(tmp_path, context, start=0, total_steps=5, every=2) as logger:
        for step in range(1, 6):
            clock[0] += 9 if step == 1 else 1
            logger.step(
                step,
                replace(RESULT, slowest=1.0 + step / 8),
                {"train/lr": 0, "train_optimizer/grad_norm": step},
                waited=step / 4,
            )
            if step == 3:
                clock[0] += 5
                logger.wrote_checkpoint(5)
    second, fourth, fifth = records(tmp_path)
    assert [(r["step"], r["train/truncated"], r["train_optimizer/grad_norm"]) for r in (second, fourth, fifth)] == [
        (2, 2, 2), (4, 4, 4), (5, 5, 5)
    ]  # fmt: skip
    for record in (second, fourth, fifth):
        assert record["train_speed/pairs_per_sec"] == 10 and record["train_speed/step_seconds"] == 1
        assert record["train_speed/data_wait_seconds"] == 0.25
        assert record["train_speed/packing_efficiency"] == 0.8
        assert record["train_speed/mfu"] == pytest.approx(training_flops(SHAPE, RESULT.token_counts) / 2 / 1e6)
        assert record["train_loss_by_language/ukr_Cyrl"] == 3 and record["train_loss_by_language/bul_Cyrl"] == 1
        assert "train_loss_by_language/hin_Deva" not in record
        assert 0.01 < record["train_memory/host_peak_gb"] < 100
    assert [r["train_speed/slowest_over_mean"] for r in (second, fourth, fifth)] == [1.25, 1.4375, 1.625]
    assert fourth["train_speed/checkpoint_seconds"] == 5 and "train_speed/checkpoint_seconds" not in second | fifth


@pytest.mark.parametrize(
    ("error", "raised"), [(None, r"cannot write .*metrics\.jsonl"), (Preempted("asked to stop"), "asked to stop")]
)
def test_the_end_on_a_full_disk_keeps_its_reason(error: Exception | None, raised: str, tmp_path: Path) -> None:
    """What could not be written is still in the buffers, and cannot be written when the files are closed either."""
    context = MeterContext(("ukr_Cyrl", "bul_Cyrl"), SHAPE, 1, None, True, BatchSizes(10))
    logger = MetricLogger(tmp_path, context, 0, 2, 1)
    logger.file.write("half of a record")
    with full_disk(), pytest.raises(UserError, match=raised), logger:
        if error:
            raise error
        logger.step(1, replace(RESULT, language_losses=LANGUAGES[:2]), UPDATE, waited=0.0)


def test_files_that_cannot_be_closed_are_an_error_with_a_name(tmp_path: Path) -> None:
    context = MeterContext(("ukr_Cyrl",), SHAPE, 1, None, True, BatchSizes(10))
    logger = MetricLogger(tmp_path, context, 0, 2, 1)
    logger.file.write("half of a record")
    with full_disk(), pytest.raises(DataError, match=r"cannot write .*metrics\.jsonl"), logger:
        pass


def test_operations_are_those_of_the_pairs_that_are_contrasted() -> None:
    context = MeterContext(("ukr_Cyrl",), SHAPE, 1, peak_flops=None, unpadded=False, sizes=BatchSizes(10))
    meter = Meter(context, 0.0, 0.0)
    meter.add(replace(RESULT, losses={"total": 2.0, "tcm": 1.0}, language_losses=LANGUAGES[:1]))
    assert meter.flops == training_flops(SHAPE, RESULT.token_counts) + contrastive_flops(SHAPE, 7)


def test_sentences_that_were_cut_are_counted_on_after_a_kill(tmp_path: Path) -> None:
    """Four steps, of which the last is repeated, because the checkpoint is of step 3."""
    context = MeterContext(
        ("ukr_Cyrl", "bul_Cyrl", "hin_Deva"), SHAPE, 2, peak_flops=None, unpadded=False, sizes=BatchSizes(10)
    )
    for steps in (range(1, 5), range(4, 7)):
        with MetricLogger(tmp_path, context, start=steps[0] - 1, total_steps=9, every=1) as logger:
            for step in steps:
                logger.step(step, RESULT, {"train/lr": 0, "train_optimizer/grad_norm": 1}, waited=0.0)
    assert [(r["step"], r["train/truncated"]) for r in records(tmp_path)] == [(n, n) for n in range(1, 7)]


@pytest.mark.parametrize(("count", "shown"), [(MOST_LANGUAGES, "language"), (MOST_LANGUAGES + 1, "script")])
def test_many_languages_are_grouped_by_script_in_tensorboard(count: int, shown: str, tmp_path: Path) -> None:
    languages = tuple(f"a{chr(97 + i // 26)}{chr(97 + i % 26)}_{'Latn' if i % 2 else 'Cyrl'}" for i in range(count))
    result = replace(RESULT, language_losses=np.stack([np.arange(count) * 2.0, np.full(count, 2.0)], axis=1))
    with MetricLogger(tmp_path, MeterContext(languages, SHAPE, 1, None, True, BatchSizes(10)), 0, 1, 1) as logger:
        logger.step(1, result, UPDATE, waited=0.0)
    (record,) = records(tmp_path)
    found = EventAccumulator(str(tmp_path / "tb")).Reload().Tags()["scalars"]
    for group in ("language", "script"):
        written = {name for name in record if name.startswith(f"train_loss_by_{group}/")}
        assert len(written) == (count if group == "language" else 2 if group == shown else 0)
        in_tensorboard = {name for name in found if name.startswith(f"train_loss_by_{group}/")}
        assert in_tensorboard == (written if group == shown else set())
    assert record["train_loss_by_language/aab_Latn"] == 1.0
    assert record.get("train_loss_by_script/Latn") == (32 if shown == "script" else None)  # the mean of 1, 3, …, 63
    assert "train_speed/mfu" not in record and record["train_speed/packing_efficiency"] == 1


def test_losses_of_languages_and_similarities_are_what_they_are_called(tiny_world: Path, tmp_path: Path) -> None:
    """Against the forward passes of the micro-batches, one pair of rows and one language at a time."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 5, "zero_optimization": {"stage": 1}}))
    run = build_training(make_plan(make_config(tiny_world), ds_config, start_rank()))
    batch = run.stream.step(0)
    result = run.step.accumulate(0, batch)
    sums, orig, latn = np.zeros((2, 2)), [], []
    with torch.no_grad():
        for micro in batch.micro:
            passed = run.engine.module(micro, torch.ones(3))
            orig += passed.embeddings[: micro.pairs]
            latn += passed.embeddings[micro.pairs :]
            columns = (torch.cat([getattr(p, name) for p in micro.parts]) for name in ("mask_stream", "mask_language"))
            for stream, language, loss in zip(*columns, passed.token_losses, strict=True):
                if stream != TLM:
                    sums[language] += float(loss), 1
    np.testing.assert_allclose(result.language_losses, sums, rtol=1e-5)
    rows = orig + latn
    others = [float(a @ b) for i, a in enumerate(rows) for j, b in enumerate(rows) if (i - j) % len(orig)]
    positives = [float(a @ b) for a, b in zip(orig, latn, strict=True)]
    assert result.metrics["train_tcm/negative_similarity"] == pytest.approx(np.mean(others), rel=1e-4)
    assert result.metrics["train_tcm/positive_similarity"] == pytest.approx(np.mean(positives), rel=1e-4)
    assert result.token_counts.tokens == sum(m.tokens for m in batch.micro) <= result.padded_tokens
