"""The gradient of a step depends on (pairs, weights, seed) only: compared with a naive reference, over ranks ×
micro-batches × ZeRO stages."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from tests.support import naive
from tests.support.gradient_worker import Case, Found, Gradients, gradients_of, on_ranks, run_case, weights_of
from tests.support.one_graph import micro_batches_of_all, relative_difference, whole_batch
from tests.support.ranks import Ranks
from tests.support.tiny import make_config, make_shards, make_tokenizer
from translit_scale.batch.layout import BatchLayout
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.clean import same_letters
from translit_scale.corpus.manifest import FORMAT_VERSION, LanguageCounts, Manifest, write_manifest
from translit_scale.corpus.shards import encode_shard
from translit_scale.corpus.tokenizer import encode_batch
from translit_scale.files import write_bytes
from translit_scale.train.engine import parameter_groups, set_learning_rate, take_step
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.setup import Training, build_training, make_plan

STEP = 3
BATCH = (("train__batch_pairs", 16),)
DUPLICATES = (*BATCH, ("train__seed", 4), ("objectives__tcm__exclude_duplicates", True))
"""A batch in which two pairs have the same text."""
COSINE = (
    *DUPLICATES, ("objectives__tcm__similarity", "cosine"), ("objectives__tcm__temperature", 0.2),
)  # fmt: skip
SIGMOID = (
    *DUPLICATES, ("model__dropout", 0.2), ("objectives__tcm__loss", "sigmoid"),
    ("objectives__tcm__similarity", "cosine"), ("objectives__tcm__temperature", 0.1),
    ("objectives__tcm__learn_temperature", True), ("objectives__tcm__initial_bias", -2.0),
)  # fmt: skip
DROPOUT = (
    *BATCH, ("model__dropout", 0.2), ("objectives__tcm__temperature", 2.0), ("objectives__tcm__learn_temperature", True)
)  # fmt: skip


@pytest.fixture(scope="module")
def rank() -> Rank:
    """A world of one, in this process."""
    return start_rank()


@pytest.fixture
def training(tiny_world: Path, tmp_path: Path, rank: Rank) -> Callable[..., Training]:
    """Builds a training of the tiny world in this process."""

    def build(micro: int, stage: int = 2, world: Path = tiny_world, **changes: Any) -> Training:
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(
            json.dumps({"train_micro_batch_size_per_gpu": micro, "zero_optimization": {"stage": stage}})
        )
        return build_training(make_plan(make_config(world, **changes), ds_config, rank))

    return build


def naive_gradients(training: Training, t: int = STEP) -> tuple[Gradients, dict[str, float]]:
    """Gradient of step t's batch by tests/support/naive.py, from the same weights."""
    stream = training.stream
    trained = training.engine.module.lm
    model = AutoModelForMaskedLM.from_config(copy.deepcopy(trained.config))
    model.set_attn_implementation("eager")
    model.load_state_dict(trained.state_dict())
    keys = stream.batch(t)
    pairs = [
        naive.mask_pair(*(encode_batch(training.tokenizer, [side.decode()])[0] for side in pair), key, stream.packer)
        for *pair, key in zip(*stream.reader.texts(keys), keys.bits, strict=True)
    ]
    v = stream.packer.vocabulary
    losses = naive.losses(model, pairs, 2, v.bos_id, v.eos_id, training.tokenizer.pad_token_id)
    weights = {"mlm_orig": 1.0, "mlm_latn": 1.0, "tcm": 0.7, "tlm": 1.3}
    total = sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(()))
    total.backward()
    values = {name: loss.item() for name, loss in losses.items()} | {"total": total.item()}
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, values


@pytest.mark.parametrize("micro", [12, 3, 5])
def test_gradient_of_one_rank_equals_naive_padded_reference(training: Callable[..., Training], micro: int) -> None:
    run = training(micro)
    expected, losses = naive_gradients(run)
    result = run.step.accumulate(STEP, run.stream.step(STEP))
    assert relative_difference(gradients_of(run.engine), expected) < 1e-5
    assert result.losses == pytest.approx(losses, rel=1e-5)


IDENTICAL = {name: (*BATCH, ("objectives__identical", name)) for name in ("mlm", "mlm_once")}


@pytest.fixture(scope="module")
def mixed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three quarters of the pairs are their own transliterations."""
    folder = tmp_path_factory.mktemp("mixed")
    make_shards(folder / "shards", {"ukr_Cyrl": 20, "eng_Latn": 60}, identical={"eng_Latn": 1})
    make_tokenizer(folder / "tokenizer")
    return folder


@pytest.mark.parametrize("identical", ["mlm", "mlm_once"])
@pytest.mark.parametrize("micro", [16, 4, 1])
def test_pairs_that_are_their_own_transliteration(
    identical: str, micro: int, training: Callable[..., Training], mixed_world: Path
) -> None:
    """Left out of contrast and TLM, and masked once or twice: the naive reference decides it for each pair."""
    run = training(micro, world=mixed_world, **dict(IDENTICAL[identical]))
    expected, losses = naive_gradients(run)
    batch = run.stream.step(STEP)
    contrasted = sum(part.contrasted for part in batch.micro)
    assert 3 < contrasted < 13 and sum(part.identical for part in batch.micro) == 16 - contrasted
    result = run.step.accumulate(STEP, batch)
    assert relative_difference(gradients_of(run.engine), expected) < 1e-5
    assert result.losses == pytest.approx(losses, rel=1e-5)
    whole = training(micro, world=mixed_world, **dict(BATCH)).stream.step(STEP)
    assert sum(part.tokens for part in batch.micro) < 0.85 * sum(part.tokens for part in whole.micro)


@pytest.mark.parametrize("micro", [16, 4])
def test_nothing_to_contrast(micro: int, training: Callable[..., Training], mixed_world: Path) -> None:
    """If all pairs of a batch are their own transliterations, MLM is left."""
    changes = {**dict(IDENTICAL["mlm_once"]), "data__languages": "[eng_Latn]"}
    run = training(micro, world=mixed_world, **changes)
    expected, losses = naive_gradients(run)
    result = run.step.accumulate(STEP, run.stream.step(STEP))
    assert losses.keys() == {"mlm_orig", "total"}
    assert relative_difference(gradients_of(run.engine), expected) < 1e-5
    assert {name: result.losses[name] for name in ("mlm_latn", "tlm", "tcm")} == dict.fromkeys(
        ("mlm_latn", "tlm", "tcm"), 0.0
    )
    assert result.losses["total"] == pytest.approx(losses["total"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_identical_pairs_on_several_ranks(
    ranks: int, run_ranks: Ranks, mixed_world: Path, tmp_path: Path, training: Callable[..., Training]
) -> None:
    """Ranks and micro-batches have different numbers of embeddings, and some of them none."""
    cases = [Case(stage, 16 // (ranks * k), IDENTICAL["mlm_once"]) for stage, k in ((0, 1), (2, 1), (2, 2), (3, 4))]
    found = on_ranks(run_ranks, ranks, cases, mixed_world, tmp_path, STEP)
    run = training(16, world=mixed_world, **dict(IDENTICAL["mlm_once"]))
    expected, losses = naive_gradients(run)
    layout = BatchLayout(16, ranks, 16 // (4 * ranks))
    counts = [[part.contrasted for part in of_rank] for of_rank in micro_batches_of_all(run.stream, layout, STEP)]
    assert min(map(min, counts)) == 0 and len({sum(of_rank) for of_rank in counts}) > 1
    for case, one in found.items():
        assert isinstance(one, Found)
        assert relative_difference(one.gradients, expected) < 1e-5, case
        assert one.losses == pytest.approx(losses, rel=1e-5), case


def test_sides_that_differ_in_diacritics_only(training: Callable[..., Training], tmp_path: Path) -> None:
    assert same_letters("Żółty Åland".encode(), b"zo\xc5\x82ty aland") and same_letters(b"a", b"A")
    assert not same_letters("łódź".encode(), b"lodz") and not same_letters(b"ab", "аb".encode())
    blocks = [Block(("abc déf", "Abc", "аб"), ("abc def", "abc", "ab"))]
    data, entry = encode_shard("eng_Latn", 0, blocks)
    write_bytes(tmp_path / "shards" / entry.name, data)
    counts = LanguageCounts(read=3, dropped={}, rows=3, identical=0, fallbacks=0, orig_chars=9, latn_chars=9)
    manifest = Manifest(
        format_version=FORMAT_VERSION, name="x", languages={"eng_Latn": counts}, provenance={}, shards=[entry]
    )
    write_manifest(tmp_path / "shards", manifest)
    make_tokenizer(tmp_path / "tokenizer")
    for up_to, expected in (("nothing", 3), ("diacritics", 1)):
        changes = {"objectives__identical": "mlm", "objectives__identical_up_to": up_to, "train__batch_pairs": 3}
        run = training(3, world=tmp_path, data__max_unknown_fraction=1.0, **changes)
        (part,) = run.stream.step(0).micro
        assert part.contrasted == expected


@pytest.fixture(scope="module")
def computed(
    tiny_world: Path, tmp_path_factory: pytest.TempPathFactory, run_ranks: Ranks, rank: Rank
) -> Callable[[int], dict[Case, Found | str]]:
    """Gradients of one effective batch of 16 pairs on some ranks, in 1, 2 and 4 micro-batches."""

    @cache
    def on(ranks: int) -> dict[Case, Found | str]:
        micros = [16 // (ranks * k) for k in (1, 2, 4)]
        cases = [Case(stage, micro, BATCH) for stage, micro in product((0, 1, 2, 3), micros)]
        for changes in (DROPOUT, COSINE, SIGMOID):
            cases += [Case(2, micro, changes) for micro in micros]
            cases += [Case(stage, micros[1], changes) for stage in (0, 1, 3)]
        folder = tmp_path_factory.mktemp("gradients")
        if ranks == 1:
            return {case: run_case(case, tiny_world, folder, STEP, rank) for case in cases}
        return on_ranks(run_ranks, ranks, cases, tiny_world, folder, STEP)

    return on


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_gradient_does_not_depend_on_ranks_micro_batches_and_zero_stage(
    ranks: int, computed: Callable[[int], dict[Case, Found]], training: Callable[..., Training]
) -> None:
    """1, 2 and 4 ranks, 1, 2 and 4 micro-batches, every ZeRO stage."""
    expected, losses = naive_gradients(training(16, **dict(BATCH)))
    found = {case: one for case, one in computed(ranks).items() if case.changes == BATCH}
    assert len(found) == 12
    for case, (gradients, values, _) in found.items():
        assert relative_difference(gradients, expected) < 1e-5, case
        assert values == pytest.approx(losses, rel=1e-5), case


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "learned"),
    [(DROPOUT, ["scale_change"]), (COSINE, []), (SIGMOID, ["scale_change", "bias_change"])],
    ids=["dropout", "cosine", "sigmoid"],
)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_gradient_is_that_of_one_graph(
    ranks: int,
    changes: tuple[tuple[str, Any], ...],
    learned: list[str],
    computed: Callable[[int], dict[Case, Found]],
    training: Callable[..., Training],
) -> None:
    """Equal to one graph over the same forward passes, whatever ranks, micro-batches and ZeRO stage: with dropout and
    learned logit parameters, for both losses and similarities, without duplicates among the negatives."""
    found = {case: one for case, one in computed(ranks).items() if case.changes == changes}
    assert len(found) == 6
    for micro in {case.micro for case in found}:
        expected, total = whole_batch(training(micro * ranks, **dict(changes)), ranks, STEP)
        for case in found:
            if case.micro == micro:
                gradients = found[case].gradients
                assert relative_difference(gradients, expected) < 1e-5, case
                for name in learned:
                    assert gradients[name].item() == pytest.approx(expected[name].item(), rel=1e-4), (case, name)
                assert found[case].losses["total"] == pytest.approx(total, rel=1e-5), case


@pytest.mark.parametrize("changes", [COSINE, SIGMOID], ids=["cosine", "sigmoid"])
@pytest.mark.parametrize("micro", [16, 4])
def test_gradient_of_one_rank_is_that_of_one_graph(
    micro: int, changes: tuple[tuple[str, Any], ...], training: Callable[..., Training]
) -> None:
    run = training(micro, **dict(changes))
    expected, total = whole_batch(training(micro, **dict(changes)), 1, STEP)
    result = run.step.accumulate(STEP, run.stream.step(STEP))
    assert relative_difference(gradients_of(run.engine), expected) < 1e-5
    assert result.losses["total"] == pytest.approx(total, rel=1e-5)


def test_the_batch_of_these_tests_has_duplicates(training: Callable[..., Training]) -> None:
    """Otherwise they would not see whether duplicates are left out of the negatives."""
    (part,) = training(16, **dict(COSINE)).stream.step(STEP).micro
    numbers = part.text_hashes.flatten().tolist()
    assert len(set(numbers)) < len(numbers)


@pytest.mark.parametrize("pair_with", ["transliteration", "copy"])
def test_pairs_of_the_same_tokens_are_counted_as_a_fraction(pair_with: str, training: Callable[..., Training]) -> None:
    run = training(4, objectives__pair_with=pair_with)
    identical = run.step.accumulate(STEP, run.stream.step(STEP)).metrics["train_tcm/identical"]
    assert identical == (1.0 if pair_with == "copy" else 0.0)


def test_a_learned_bias_trains(training: Callable[..., Training]) -> None:
    """Adam's first update is the learning rate, in the direction of the smaller loss."""
    run = training(4, objectives__tcm__loss="sigmoid")
    part = run.stream.step(0).micro[0]
    before = run.engine(part).parameters.logit_bias.item()
    assert before == -10.0
    result = run.step.accumulate(0, run.stream.step(0))
    assert result.metrics["train_tcm/logit_bias"] == -10.0
    gradient = gradients_of(run.engine)["bias_change"].item()
    take_step(run.engine, run.config.train.max_grad_norm)
    after = run.engine(part).parameters.logit_bias.item()
    assert after - before == pytest.approx(-math.copysign(1e-3, gradient), rel=0.01)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_updates_are_those_of_torch_with_a_limit(stage: int, limit: float, training: Callable[..., Training]) -> None:
    """DeepSpeed limits the norm from stage 1 on, our own step at stage 0: two updates, the second with moments."""
    run = training(4, stage, train__max_grad_norm=limit)
    settings = run.config.train
    reference = copy.deepcopy(training(4, 0).engine.module)
    optimizer = torch.optim.AdamW(
        parameter_groups(reference, settings.weight_decay), settings.lr, settings.betas, settings.eps
    )
    for t in range(2):
        run.step.accumulate(t, run.stream.step(t))
        gradients = gradients_of(run.engine)
        for name, parameter in reference.lm.named_parameters():
            parameter.grad = gradients[name].clone()
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), limit or math.inf)
        optimizer.step()
        set_learning_rate(run.engine, settings.lr)
        update = take_step(run.engine, settings.max_grad_norm)
        assert update.applied and float(update.grad_norm) == pytest.approx(norm.item(), rel=1e-5)
        assert norm > 0.5
    for found, parameter in zip(weights_of(run), reference.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gradients_are_reduced_over_ranks_once_a_step(tiny_world: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """Every gradient once, with one micro-batch and with eight; eight times without our code. Stages 1 and 2 reduce to
    each of both ranks what it owns.
    """
    cases = [Case(stage, micro, BATCH) for stage, micro in product((0, 1, 2, 3), (8, 1))]
    careless = Case(2, 1, BATCH, "reduced_each_time")
    found = on_ranks(run_ranks, 2, [*cases, careless], tiny_world, tmp_path, STEP)
    whole = sum(gradient.nbytes for gradient in found[cases[0]].gradients.values())
    for case in cases:
        large = [size for size in found[case].reduced if size > whole / 8]
        assert len(large) == (2 if case.stage in (1, 2) else 1)
        assert whole <= sum(large) < 1.001 * whole, (case, found[case].reduced)  # stage 3 pads
    assert sum(size for size in found[careless].reduced if size > whole / 8) == 8 * whole


def test_loss_that_is_not_finite_is_reported_as_it_is(training: Callable[..., Training]) -> None:
    run = training(12)
    with torch.no_grad():
        run.engine.module.lm.lm_head.dense.weight.fill_(float("nan"))
    result = run.step.accumulate(STEP, run.stream.step(STEP))
    assert not result.is_finite and math.isnan(result.losses["mlm_orig"])


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"objectives__pair_with": "copy", "objectives__tcm__weight": 0, "objectives__tlm__weight": 0}, set()),
        ({"objectives__tcm__weight": 0, "objectives__tlm__weight": 0}, set()),
        ({"objectives__tlm__weight": 0}, {"tcm"}),
        ({"objectives__tcm__weight": 0}, {"tlm"}),
        ({}, {"tcm", "tlm"}),
    ],
)
def test_variants_of_paper_a_have_their_losses_and_equally_many_steps(
    training: Callable[..., Training], changes: dict[str, Any], names: set[str]
) -> None:
    run = training(4, train__max_steps="null", train__epochs=2, **changes)
    assert run.total_steps == 11  # 2 epochs of 63 pairs in batches of 12
    result = run.step.accumulate(STEP, run.stream.step(STEP))
    second = "mlm_copy" if changes.get("objectives__pair_with") == "copy" else "mlm_latn"
    assert result.losses.keys() == {"mlm_orig", second, "total"} | names


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_learned_temperature_trains(stage: int, training: Callable[..., Training]) -> None:
    """Adam's first update is the learning rate, in the direction of the smaller loss."""
    run = training(4, stage, objectives__tcm__learn_temperature=True, objectives__tcm__temperature=0.5)
    part = run.stream.step(0).micro[0]
    before = run.engine(part).parameters.logit_scale.item()
    assert before == pytest.approx(math.log(2), rel=1e-6)
    result = run.step.accumulate(0, run.stream.step(0))
    assert result.metrics["train_tcm/inverse_temperature"] == pytest.approx(2, rel=1e-6)
    gradient = gradients_of(run.engine)["scale_change"].item()
    take_step(run.engine, run.config.train.max_grad_norm)
    after = run.engine(part).parameters.logit_scale.item()
    assert after - before == pytest.approx(-math.copysign(1e-3, gradient), rel=0.01)


def test_all_masked_away_and_no_masked_token_are_defined(training: Callable[..., Training]) -> None:
    """A probability so small that nothing is masked: token losses are zero, gradients finite."""
    run = training(4, objectives__masking__mlm_probability=1e-9)
    result = run.step.accumulate(STEP, run.stream.step(STEP))
    assert result.losses["mlm_orig"] == result.losses["tlm"] == 0.0
    assert result.losses["tcm"] > 0
    assert all(torch.isfinite(g).all() for g in gradients_of(run.engine).values())


def test_the_loss_of_a_stream_with_one_masked_token_is_that_of_the_token(training: Callable[..., Training]) -> None:
    run = training(4, objectives__masking__mlm_probability=0.01, objectives__tlm__weight=0)
    for t in range(100):
        batch = run.stream.step(t)
        masked = [sum(numbers) for numbers in zip(*(micro.masked for micro in batch.micro), strict=True)]
        if masked[:2] in ([1, 0], [0, 1]):
            break
    result = run.step.accumulate(t, batch)
    name = ("mlm_orig", "mlm_latn")[masked.index(1)]
    assert result.language_losses[:, 1].sum() == 1
    assert (
        result.losses[name] == pytest.approx(result.language_losses[:, 0].sum(), rel=1e-5) and result.losses[name] > 0
    )
