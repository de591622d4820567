"""`"auto"` as the micro-batch of a DeepSpeed JSON: the largest that fits, and half of it when memory was not enough."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import T5Config, XLMRobertaConfig

from tests.support.ranks import Ranks
from tests.support.train_script import without_clock
from tests.test_plan import GLOT500, workload
from translit_scale.config import load_config
from translit_scale.errors import EXIT_LOST, ConfigError
from translit_scale.files import read_json
from translit_scale.model.flops import Shape
from translit_scale.plan.machine import MEMORY_USABLE, gpu_machine
from translit_scale.plan.step import step_memory
from translit_scale.train.engine import Hardware, resolve_hardware
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.micro_batch import LIMIT, _shape, halve_when_memory_ends, largest_that_fits

ROOT = Path(__file__).resolve().parents[1]
AUTO = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 1}}


def open_hardware(tmp_path: Path, pairs: int, ranks: int = 1) -> Hardware:
    """As a JSON with `"auto"` gives it on a GPU."""
    path = tmp_path / "auto.json"
    path.write_text(json.dumps(AUTO))
    settings = ["data.shards=none", "model.tokenizer=none", "run.name=none", f"train.batch_pairs={pairs}"]
    hardware = resolve_hardware(path, load_config([], settings), Rank(0, ranks, torch.device("cpu")))
    assert hardware.layout.micro_batch_pairs == 32 and not hardware.micro_batch_is_open  # so on a CPU
    return replace(hardware, micro_batch_is_open=True)


@pytest.mark.parametrize("card", [24, 40, 80, 141])
def test_the_largest_micro_batch_that_fits_a_card(card: int, tmp_path: Path) -> None:
    """Glot500-base, all losses, 2 048 pairs on one GPU: one more micro-batch would have been enough, one less not."""
    memory = MEMORY_USABLE * card * 1e9
    w = workload(GLOT500, 2048, 1)
    open_one = replace(w, zero=replace(w.zero, micro_batch_pairs=None))
    pairs, why = largest_that_fits(open_one, open_hardware(tmp_path, 2048), memory, None)
    machine = gpu_machine("a100", 1, None)

    def needed(pairs: int) -> float:
        return step_memory(replace(w, zero=replace(w.zero, micro_batch_pairs=pairs)), machine, 1).total

    k = -(-2048 // pairs)
    assert needed(pairs) <= memory < needed(-(-2048 // (k - 1)))
    assert f"micro-batches of at most {pairs:,} pairs, the largest that fit: {needed(pairs) / 1e9:.1f} of" in why
    half, why = largest_that_fits(open_one, open_hardware(tmp_path, 2048), memory, pairs // 2)
    assert half == pairs // 2 and "because more did not fit before (micro_batch.json of the run)" in why


def test_one_micro_batch_where_possible_and_an_error_where_none_fits(tmp_path: Path) -> None:
    w = workload(GLOT500, 1024, 1)
    w = replace(w, zero=replace(w.zero, micro_batch_pairs=None))
    pairs, why = largest_that_fits(w, open_hardware(tmp_path, 1024, ranks=8), 80e9, None)
    assert pairs == 128 and "all that a rank has" in why
    with pytest.raises(ConfigError, match=r"a micro-batch of one pair needs .* GB by the cost model, and 4\.0 GB"):
        largest_that_fits(w, open_hardware(tmp_path, 1024), 4e9, None)


def test_losses_of_micro_batches_need_a_number(tmp_path: Path) -> None:
    path = tmp_path / "auto.json"
    path.write_text(json.dumps(AUTO))
    settings = ["data.shards=none", "model.tokenizer=none", "run.name=none", "objectives.tcm.scope=micro_batch"]
    with pytest.raises(ConfigError, match="depend on which pairs share a micro-batch"):
        resolve_hardware(path, load_config([], settings), Rank(0, 1, torch.device("cpu")))


def test_shapes_of_models_from_scratch_and_of_pretrained_ones(tmp_path: Path) -> None:
    """What the trainer refuses when it loads a model, it refuses here too, instead of failing with a traceback."""

    def shape(*words: str) -> tuple[Shape, int]:
        return _shape(load_config([], ["data.shards=none", "run.name=none", *words]), 999)

    assert shape("model.tokenizer=none", "model.max_length=64") == (Shape(768, 3072, 12, 999), 66)
    XLMRobertaConfig(vocab_size=70, max_position_embeddings=130, num_hidden_layers=3).save_pretrained(tmp_path)
    assert shape(f"model.pretrained={tmp_path}") == (Shape(768, 3072, 3, 70), 130)
    with pytest.raises(ConfigError, match=r"model\.pretrained: cannot load"):
        shape(f"model.pretrained={tmp_path / 'none'}")
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a 't5' model"):
        shape(f"model.pretrained={tmp_path}")


def test_only_an_open_micro_batch_is_halved(tmp_path: Path) -> None:
    hardware = open_hardware(tmp_path, 64)
    for given in (
        replace(hardware, micro_batch_is_open=False),
        replace(hardware, layout=replace(hardware.layout, micro_batch_pairs=1)),
    ):
        with pytest.raises(torch.OutOfMemoryError), halve_when_memory_ends(given, tmp_path):
            raise torch.OutOfMemoryError
    assert not (tmp_path / LIMIT).exists()


@pytest.mark.slow
def test_a_training_goes_on_with_half_the_micro_batch(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """The second of two ranks runs out of memory at step 2; the same command goes on from there with equal losses."""
    (tmp_path / "auto.json").write_text(json.dumps(AUTO))
    worker = ("tests/support/train_worker.py", tiny_world, tmp_path / "auto.json", "auto")
    changes = [f"run__dir={tmp_path}", "train__max_steps=4", "run__checkpoint_every=1", "run__log_every=1"]
    whole = run_ranks(2, *worker, "memory:1:99", *changes, "run__name=whole")
    assert "= 2 ranks × 1 micro-batch of about 6" in whole.stdout and "all that a rank has: " in whole.stdout
    stopped = run_ranks(2, *worker, "memory:1:2", *changes, "run__name=small", check=False)
    assert stopped.returncode == EXIT_LOST
    assert stopped.stderr.count("out of GPU memory with micro-batches of 6 pairs") == 1
    assert read_json(tmp_path / "small" / LIMIT, "limit")["at_most"] == 3
    resumed = run_ranks(2, *worker, "memory:1:2", *changes, "run__name=small")
    assert "× 2 micro-batches of about 3" in resumed.stdout
    assert re.search(r"steps [12] → 4 ", resumed.stdout), "step 2 may not have been written yet"
    for one, other in zip(without_clock(tmp_path / "whole"), without_clock(tmp_path / "small"), strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)
