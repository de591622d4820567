"""Languages that a mixture leaves out or that join later, in the other parts of the program."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.support.tiny import make_config, make_tokenizer
from tests.test_resume import ds_json
from translit_scale.batch.pack import Vocabulary
from translit_scale.cli import main
from translit_scale.config import Config
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.manifest import FORMAT_VERSION, LanguageCounts, Manifest, write_manifest
from translit_scale.corpus.shards import ShardSet, encode_shard
from translit_scale.errors import ConfigError, DataError
from translit_scale.files import write_bytes, write_json
from translit_scale.report.trained_languages import visited_languages
from translit_scale.train.checkpointing.checkpoint import COMPLETE, FORMAT, EngineCounts, check_same_experiment
from translit_scale.train.engine import resolve_hardware
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.micro_batch import _workload
from translit_scale.train.setup import Plan, make_plan, make_stream

BULGARIAN_JOINS: dict[str, Any] = {
    "data__mixture": "{languages: [ukr_Cyrl]}",
    "data__mixture_schedule": "[{from_step: 3, mixture: {}}]",
}


@pytest.fixture(scope="module")
def rank() -> Rank:
    """A world of one, in this process."""
    return start_rank()


@pytest.fixture
def plan(tiny_world: Path, tmp_path: Path, rank: Rank) -> Callable[..., Plan]:
    """The plan of a training on the tiny world: 40 pairs of ukr_Cyrl and 23 of bul_Cyrl, 4 steps of 12 pairs."""

    def make(**changes: Any) -> Plan:
        config: Config = make_config(tiny_world, **changes)
        return make_plan(config, ds_json(tmp_path / "ds.json", 2, 12), rank)

    return make


def test_a_checkpoint_names_the_languages_that_its_steps_have_visited(plan: Callable[..., Plan]) -> None:
    joins = plan(**BULGARIAN_JOINS)
    before, after = joins.info(3), joins.info(4)
    assert before.pairs == after.pairs == {"bul_Cyrl": 23, "ukr_Cyrl": 40}
    assert before.visits == {"bul_Cyrl": 0, "ukr_Cyrl": 36}
    assert visited_languages(before) == {"ukr_Cyrl": 40} and visited_languages(after) == after.pairs
    for info in (before, after):  # a record from before `visits` was stored
        assert visited_languages(replace(info, visits=None)) == visited_languages(info)


def test_a_batch_has_no_more_pairs_than_the_languages_of_its_mixture(plan: Callable[..., Plan]) -> None:
    with pytest.raises(
        ConfigError, match=r"step 2 has 41 pairs \(train\.batch_pairs\), but .* has 40 of ukr_Cyrl, .* from step 0 "
    ):
        plan(**BULGARIAN_JOINS, train__batch_pairs=41)
    larger = {"train__batch_pairs": 60, "train__first_batch_pairs": 20, "train__batch_warmup_steps": 4}
    plan(**BULGARIAN_JOINS, **larger)  # 20 and 40 pairs, before Bulgarian joins
    plan(data__mixture_schedule="[{from_step: 4, mixture: {languages: [bul_Cyrl]}}]", train__batch_pairs=60)
    with pytest.raises(ConfigError, match=r"step 3 has 24 pairs \(train\.batch_pairs\), but .* has 23 of bul_Cyrl"):
        plan(data__mixture_schedule="[{from_step: 2, mixture: {languages: [bul_Cyrl]}}]", train__batch_pairs=24)
    with pytest.raises(
        ConfigError, match=r"step 3 has 64 pairs \(train\.batch_pairs\), but .* has 63 of bul_Cyrl, ukr_Cyrl"
    ):
        plan(train__batch_pairs=64)


@pytest.mark.parametrize("setting", ["data__mixture", "data__mixture_schedule"])
def test_epochs_are_refused_where_languages_are_left_out(setting: str, plan: Callable[..., Plan]) -> None:
    few = "{kind: weights, weights: {ukr_Cyrl: 1}}"
    mixture = {setting: few if setting == "data__mixture" else f"[{{from_step: 2, mixture: {few}}}]"}
    with pytest.raises(ConfigError, match=r"train\.epochs is 2 passes .* on leaves out bul_Cyrl") as found:
        plan(**mixture, train__max_steps="null", train__epochs=2)
    assert "train.epochs would be 11 steps" in found.value.hint
    assert plan(**mixture, train__max_steps=11).total_steps == 11


def test_a_run_of_epochs_may_go_on_with_as_many_steps(plan: Callable[..., Plan], tmp_path: Path) -> None:
    """So that older runs whose mixture leaves languages out can be resumed."""
    of_epochs, of_steps = plan(train__max_steps="null", train__epochs=2), plan(train__max_steps=11)
    record = {"format": FORMAT, "files": {}, "counts": asdict(EngineCounts(3, 0, {})), **asdict(of_epochs.info(3))}
    write_json(tmp_path / "step_000003" / COMPLETE, record)
    assert check_same_experiment(tmp_path / "step_000003", of_steps.info(0)) == 3
    with pytest.raises(DataError, match=r"train\.max_steps: 11 in the checkpoint, 12 now"):
        check_same_experiment(tmp_path / "step_000003", plan(train__max_steps=12).info(0))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a language with short sentences and of one with long ones, and a tokenizer of letters."""
    folder, shards, counts = tmp_path_factory.mktemp("uneven"), [], {}
    for language, letters in {"bul_Cyrl": 4, "ukr_Cyrl": 40}.items():
        pairs = [letters + number % 3 for number in range(200)]
        block = Block(tuple("а" * n for n in pairs), tuple("a" * n for n in pairs))
        data, entry = encode_shard(language, 0, [block])
        write_bytes(folder / "shards" / entry.name, data)
        shards.append(entry)
        size = {"orig_chars": sum(pairs), "latn_chars": sum(pairs)}
        counts[language] = LanguageCounts(read=200, dropped={}, rows=200, identical=0, fallbacks=0, **size)
    manifest = Manifest(format_version=FORMAT_VERSION, name="u", languages=counts, provenance={}, shards=shards)
    write_manifest(folder / "shards", manifest)
    make_tokenizer(folder / "tokenizer")
    return folder


LONG_JOINS = {"data__mixture": "{languages: [bul_Cyrl]}", "data__mixture_schedule": "[{from_step: 30, mixture: {}}]"}


def test_a_plan_has_the_time_of_all_mixtures_and_the_memory_of_the_longest(
    uneven: Path, tmp_path: Path, rank: Rank, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(uneven, **LONG_JOINS, train__max_steps=40)
    real = make_plan(config, ds_json(tmp_path / "ds.json", 2, 12), rank)
    stream = make_stream(real, Vocabulary(0, 2, len(real.tokenizer) - 1, len(real.tokenizer), 2))
    tokens = [sum(micro.token_counts[0] for micro in stream.step(t).micro) / 12 for t in range(40)]
    (tmp_path / "x.yaml").write_text(config.to_yaml())
    words = ["plan", "--config", str(tmp_path / "x.yaml"), "--ds_config", str(tmp_path / "ds.json")]
    words += ["--gpus-per-node", "1", "--json", str(tmp_path / "plan.json")]
    assert main(words) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["tokens_per_pair"] == pytest.approx(mean(tokens), rel=0.05)
    inputs = {row["name"]: row["value"] for row in found["inputs"]}
    assert float(inputs["… of the longest mixture"]) == pytest.approx(mean(tokens[30:]), rel=0.05)
    assert main([*words, "data.mixture.languages=null", "data.mixture_schedule=[]"]) == 0
    late = json.loads((tmp_path / "plan.json").read_text())
    assert late["memory_bytes"] == found["memory_bytes"] and late["hours"] > found["hours"]
    assert "longest" not in capsys.readouterr().out.rpartition("Plan of")[2]


def test_an_open_micro_batch_fits_the_longest_mixture(uneven: Path, tmp_path: Path, rank: Rank) -> None:
    (tmp_path / "auto.json").write_text('{"train_micro_batch_size_per_gpu": "auto"}')
    sizes = []
    for changes in (LONG_JOINS, {}, {"data__mixture": "{languages: [bul_Cyrl]}"}):
        config = make_config(uneven, **changes, train__max_steps=40)
        hardware = resolve_hardware(tmp_path / "auto.json", config, rank)
        sizes.append(_workload(hardware, config, ShardSet.open(config.data.shards), 45).tokens.tokens)
    assert sizes[0] == sizes[1] > 2 * sizes[2]
