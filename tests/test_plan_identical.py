"""Pairs that are their own transliterations in the plan, against real batches of a shard set that has them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny import make_config, make_shards, make_tokenizer
from tests.test_plan import CORE, GLOT500, H100, experiment, workload
from translit_scale.batch.order import total_steps
from translit_scale.batch.pack import MicroBatch, Vocabulary
from translit_scale.cli import main
from translit_scale.config import Config
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.manifest import FORMAT_VERSION, LanguageCounts, Manifest, write_manifest
from translit_scale.corpus.shards import encode_shard
from translit_scale.files import write_bytes
from translit_scale.model.flops import Shape
from translit_scale.plan.inputs import Inputs, open_corpus, sample_pairs
from translit_scale.plan.memory import contrastive_bytes, embedding_bytes
from translit_scale.plan.step import computing_seconds, step_memory, step_sent
from translit_scale.plan.workload import PairSample, PairTokens, log_normal_lengths
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.setup import make_plan, make_stream

ROWS = {"ukr_Cyrl": 500, "pol_Latn": 700, "eng_Latn": 200}
IDENTICAL = {"pol_Latn": 0.4, "eng_Latn": 1.0}
SETTINGS = ("keep", "mlm", "mlm_once")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards in which none, some or all pairs of a language are identical, and a tokenizer."""
    folder = tmp_path_factory.mktemp("mixed")
    make_shards(folder / "shards", ROWS, block_rows=400, identical=IDENTICAL)
    make_tokenizer(folder / "tokenizer")
    return folder


def real_batches(config: Config, folder: Path) -> list[MicroBatch]:
    """Micro-batches of one epoch."""
    (folder / "ds.json").write_text(json.dumps({"train_micro_batch_size_per_gpu": 25}))
    plan = make_plan(config, folder / "ds.json", start_rank())
    stream = make_stream(plan, Vocabulary(0, 2, len(plan.tokenizer) - 1, len(plan.tokenizer), 2))
    return [micro for step in range(plan.total_steps) for micro in stream.step(step).micro]


def expected(config: Config) -> tuple[PairTokens, dict[str, tuple[str, str]]]:
    """What a plan expects of a pair, and its inputs."""
    inputs = Inputs()
    corpus = open_corpus(config, inputs)
    assert corpus
    sample = sample_pairs(config, corpus, total_steps(config.train, corpus.total), None, inputs)
    return PairTokens.of(sample, config), {name: (value, source) for name, value, source in inputs.rows}


@pytest.mark.parametrize("tlm", [1.0, 0.0])
@pytest.mark.parametrize("setting", SETTINGS)
def test_counts_are_those_of_real_batches(setting: str, tlm: float, mixed: Path, tmp_path: Path) -> None:
    """Identical pairs are shorter than others here, and small languages are seen more often than they are large."""
    mixture = {"data__mixture__kind": "temperature", "data__mixture__alpha": 0.5}
    settings = {"objectives__identical": setting, "objectives__tlm__weight": tlm, "train__batch_pairs": 50}
    config = make_config(mixed, **mixture, **settings, train__max_steps=56)
    micro = real_batches(config, tmp_path)
    pairs = sum(part.pairs for part in micro)
    tokens, inputs = expected(config)
    found = np.array([part.token_counts for part in micro]).sum(axis=0)
    counts = np.sum(tokens.counts(pairs), axis=0)
    np.testing.assert_allclose(counts, found, rtol=0.04)
    assert counts[0] == pytest.approx(found[0], rel=0.02)
    assert tokens.identical == pytest.approx(sum(part.identical for part in micro) / pairs, rel=0.02)
    assert tokens.contrasted == pytest.approx(sum(part.contrasted for part in micro) / pairs, rel=0.02)
    shares = np.sqrt([ROWS[language] for language in sorted(ROWS)])
    share = shares @ [IDENTICAL.get(language, 0) for language in sorted(ROWS)] / shares.sum()
    value, source = inputs["identical pairs"]
    assert value == f"{100 * share:.3g} % of a batch, objectives.identical={setting}" and "manifest" in source


def test_without_a_tokenizer_the_manifest_tells_how_many_are_identical(mixed: Path) -> None:
    tokens, _ = expected(make_config(mixed, model__tokenizer="later", objectives__identical="mlm"))
    assert tokens.identical == pytest.approx((0.4 * 700 + 200) / 1400)
    assert tokens.contrasted == pytest.approx(1 - tokens.identical)


def test_sides_that_differ_in_diacritics_are_counted_in_the_sample(tmp_path: Path) -> None:
    """The manifest knows of none of them."""
    blocks = [Block(("abc déf", "Abc", "аб", "ав"), ("abc def", "abc", "ab", "av"))]
    data, entry = encode_shard("eng_Latn", 0, blocks)
    write_bytes(tmp_path / "shards" / entry.name, data)
    counts = LanguageCounts(read=4, dropped={}, rows=4, identical=0, fallbacks=0, orig_chars=14, latn_chars=14)
    manifest = {"format_version": FORMAT_VERSION, "name": "d", "languages": {"eng_Latn": counts}, "provenance": {}}
    write_manifest(tmp_path / "shards", Manifest(**manifest, shards=[entry]))
    make_tokenizer(tmp_path / "tokenizer")
    for up_to, fraction, said in (("nothing", 0, "manifest"), ("diacritics", 0.5, "the same pairs of the shards")):
        settings = {"objectives__identical": "mlm", "objectives__identical_up_to": up_to}
        tokens, inputs = expected(make_config(tmp_path, **settings))
        assert tokens.identical == fraction == 1 - tokens.contrasted and said in inputs["identical pairs"][1]
    _, inputs = expected(make_config(tmp_path, **settings, model__tokenizer="later"))
    assert inputs["identical pairs"][1].startswith("assumption: no more than the manifest counts")


def test_one_of_several_transliterations_is_drawn(tmp_path: Path) -> None:
    """They have two and three times as many letters as the first one, and are never the same text as the sentence."""
    make_shards(
        tmp_path / "shards", {"ukr_Cyrl": 600}, block_rows=600, identical={"ukr_Cyrl": 0.5}, further={"ukr_Cyrl": 2}
    )
    make_tokenizer(tmp_path / "tokenizer")
    for choice, said in (("draw", "several transliterations"), ("first", "mixture of the experiment")):
        config = make_config(tmp_path, data__transliterations=choice, train__batch_pairs=50, train__max_steps=60)
        micro = real_batches(config, tmp_path)
        pairs = sum(part.pairs for part in micro)
        tokens, inputs = expected(config)
        counts = np.sum(tokens.counts(pairs), axis=0)
        np.testing.assert_allclose(counts[0], sum(part.token_counts[0] for part in micro), rtol=0.03)
        assert tokens.identical == pytest.approx(sum(part.identical for part in micro) / pairs, rel=0.05)
        assert inputs["identical pairs"][1].count(said)


def test_operations_memory_and_traffic_follow() -> None:
    """A quarter of the tokens of another pair where both sides are the same text, TLM is on and MLM is of one side."""
    lengths = log_normal_lengths((40.0, 40.0))
    whole, none, half = (
        PairTokens.of(PairSample(lengths, same=same), experiment(objectives__identical="mlm_once"))
        for same in (0.0, 1.0, 0.5)
    )
    assert (none.tokens, none.masked) == pytest.approx((whole.tokens / 4, whole.masked / 4), rel=0.01)
    before, after = (replace(workload(GLOT500, 4096, 64), tokens=tokens) for tokens in (whole, half))
    assert after.contrasted == 2048
    sent = step_sent(before, 8), step_sent(after, 8)
    assert sent[1].embeddings == sent[0].embeddings // 2 and sent[1].gradients == sent[0].gradients
    memory = [step_memory(w, H100, 8) for w in (before, after)]
    assert memory[1].activations < 0.75 * memory[0].activations
    less = embedding_bytes(GLOT500, 4096, 8) - embedding_bytes(GLOT500, 2048, 8)
    assert memory[0].batch - memory[1].batch > less
    time = [computing_seconds(w, H100, 8) for w in (before, after)]
    assert time[1].products == pytest.approx(0.625 * time[0].products, rel=0.03)


def test_contrast_is_between_the_pairs_that_take_part() -> None:
    """With one micro-batch the contrast has no pass of its own; with a tiny head it is the largest moment."""
    shape = Shape(64, 96, 2, 100)
    whole = workload(shape, 4096, 4096)
    half = replace(whole, tokens=whole.tokens._replace(contrasted=0.5))
    times = [computing_seconds(w, H100, 1).embeddings for w in (whole, half)]
    assert times[1] == pytest.approx(times[0] / 4)
    memory = [step_memory(w, CORE, 1).contrast for w in (whole, half)]
    assert memory == [contrastive_bytes(shape, pairs, 1) for pairs in (4096, 2048)] and memory[0] > memory[1]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_page_says_what_it_saves(
    setting: str, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mixed.yaml").write_text(make_config(mixed, objectives__identical=setting).to_yaml())
    words = ["--config", str(tmp_path / "mixed.yaml"), "--gpus-per-node", "1", "train.batch_pairs=1000"]
    words += ["model.num_layers=12", "model.hidden_size=768", "model.intermediate_size=3072"]
    assert main(["plan", *words, "--json", str(tmp_path / "plan.json")]) == 0
    page = " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "plan.json").read_text())
    about, saved = found["identical"], found["identical"]["saved"]
    assert about["setting"] == setting and about["fraction"] == pytest.approx(480 / 1400)
    assert f"34.3 % of a batch, objectives.identical={setting}" in page
    if setting == "keep":
        assert saved == {"tokens": 0, "step_seconds": 0} and about["contrasted_pairs"] == 1000 and "saves" not in page
    else:
        assert about["contrasted_pairs"] == 657 and 0 < saved["step_seconds"] < saved["tokens"] < 0.3
        assert f"saves {saved['tokens']:.0%} of the tokens and {saved['step_seconds']:.0%} of the time" in page


def test_pairs_before_there_is_text_may_have_a_mixture(capsys: pytest.CaptureFixture[str]) -> None:
    """Of languages that the number of pairs says nothing about."""
    weights = ["data.mixture.kind=weights", "data.mixture.weights={ukr_Cyrl: 1, pol_Latn: 2}"]
    assert main(["plan", "--config", "glot500/glot500", "--pairs", "1000000", *weights]) == 0, capsys.readouterr().err


def test_a_copy_of_a_sentence_is_the_same_text(mixed: Path) -> None:
    tokens, inputs = expected(make_config(mixed, objectives__pair_with="copy"))
    assert tokens.identical == tokens.contrasted == 1 and "identical pairs" not in inputs


def test_nothing_is_left_out_before_there_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan that errs needs more memory than the training, not less."""
    words = ["--config", "glot500/glot500", "objectives.identical=mlm_once", "--json", str(tmp_path / "plan.json")]
    assert main(["plan", *words]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "assumption: none, as there is no text to count them in; with some, training costs less" in page
    assert json.loads((tmp_path / "plan.json").read_text())["identical"]["fraction"] == 0
