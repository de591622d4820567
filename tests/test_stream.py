"""Batch t does not depend on the number of ranks and workers, nor on where training resumes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tiny import make_shards, make_tokenizer
from translit_scale.batch import prefetch, reader
from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.batch.prefetch import Prefetcher
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.stream import BatchStream, RankBatch
from translit_scale.config import MaskingConfig, MixtureConfig
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.errors import EXIT_LOST, DataError, LostError

LANGUAGES = {"ukr_Cyrl": 700, "bul_Cyrl": 90, "srp_Cyrl": 260, "mkd_Cyrl": 41}
BATCH = 48
Blocks = frozenset[tuple[str, int]]
MIXTURE = MixtureConfig(kind="temperature", alpha=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stream")
    make_shards(directory / "shards", LANGUAGES, block_rows=16)
    make_tokenizer(directory / "tokenizer")
    return directory


@pytest.fixture(scope="module")
def stream(world: Path) -> Callable[..., BatchStream]:
    shards, tokenizer = ShardSet.open(world / "shards"), load_tokenizer(str(world / "tokenizer"))
    order = PairOrder({language: shards.rows(language) for language in shards.languages}, MIXTURE, seed=2)
    vocabulary = Vocabulary(0, 2, len(tokenizer) - 1, len(tokenizer), first_position=2)

    def make(
        ranks: int = 1, rank: int = 0, micro: int = 48, damaged: frozenset[tuple[str, int]] = frozenset()
    ) -> BatchStream:
        return BatchStream(
            order, PairReader(shards, order.languages, damaged), TextEncoder(tokenizer, fast=False),
            Packer(MaskingConfig(), vocabulary, 64, with_tlm=True, split_tlm=False),
            BatchSizes(BATCH), BatchLayout(BATCH, ranks, micro), rank, np.full((len(order.languages), 2), 0.5),
            "transliteration",
        )  # fmt: skip

    return make


Sentences = Counter[tuple[str, tuple[int, ...]]]


def sentences(batches: list[RankBatch]) -> Sentences:
    """The masked sentences of all streams, on whichever rank they are."""
    found: Sentences = Counter()
    for micro in (micro for batch in batches for micro in batch.micro):
        for part in micro.parts:
            bounds = part.segments.cu_seqlens.tolist()
            for index, (start, end) in enumerate(pairwise(bounds)):
                name = ("orig", "latn", "tlm")[index // micro.pairs]
                found[name, tuple(part.input_ids[start:end].tolist())] += 1
    return found


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("micro", [1, 3, 48])
def test_all_ranks_together_make_the_batch_of_one(stream: Callable[..., BatchStream], ranks: int, micro: int) -> None:
    for t in (0, 7, 10**9):
        alone = stream().step(t)
        together = [stream(ranks, rank, micro).step(t) for rank in range(ranks)]
        assert sentences(together) == sentences([alone])
        assert {len(batch.micro) for batch in together} == {BatchLayout(BATCH, ranks, micro).micro_batches}
        assert all(batch.pairs_per_rank == together[0].pairs_per_rank for batch in together)
        assert [sum(m.pairs for m in batch.micro) for batch in together] == together[0].pairs_per_rank
        assert alone.pairs == together[0].pairs == BATCH


def test_world_sizes_may_change_on_the_way(stream: Callable[..., BatchStream]) -> None:
    """4 → 7 → 1 → 16 ranks give the stream of an uninterrupted run: every pair once per epoch of its language."""
    plan = [(4, range(3)), (7, range(3, 5)), (1, range(5, 9)), (16, range(9, 12))]
    for ranks, steps in plan:
        for t in steps:
            assert sentences([stream(ranks, r, 4).step(t) for r in range(ranks)]) == sentences([stream().step(t)])
    order = stream().order
    keys = order.batch(0, 12 * BATCH)
    visits = Counter(zip(keys.language.tolist(), keys.epoch.tolist(), keys.row.tolist(), strict=True))
    assert set(visits.values()) == {1}


def flat(batch: RankBatch) -> list[torch.Tensor]:
    tensors = []
    for micro in batch.micro:
        for part in micro.parts:
            tensors += [value for value in vars(part).values() if isinstance(value, torch.Tensor)]
            tensors += [
                part.segments.cu_seqlens,
                part.segments.padding.padded_from_flat,
                part.segments.padding.flat_from_padded,
            ]
            tensors += [mask for mask in part.segments.padding.key_masks if mask is not None]
    return tensors


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_make_the_same_batches(stream: Callable[..., BatchStream], workers: int) -> None:
    one = stream(2, 1, 8)
    made = list(Prefetcher(one, workers, ahead=2).batches(5, 12))
    assert len(made) == 7
    for t, batch in enumerate(made, 5):
        expected = one.step(t)
        assert isinstance(batch.micro[0], MicroBatch) and batch.pairs_per_rank == expected.pairs_per_rank
        assert all(torch.equal(a, b) for a, b in zip(flat(batch), flat(expected), strict=True))


def test_damage_met_by_a_worker_is_the_callers_error(
    world: Path, tmp_path: Path, stream: Callable[..., BatchStream]
) -> None:
    one = stream()

    def refuse(name: tuple[str, int]) -> object:
        raise DataError(f"{name} is damaged", "mend it")

    steps: Iterator[RankBatch] = Prefetcher(one, 1, ahead=1).batches(0, 3)
    one.reader._columns._read = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(DataError, match="is damaged") as error:
        next(steps)
    assert error.value.hint == "mend it"


def test_a_killed_worker_is_an_error_with_a_name(stream: Callable[..., BatchStream]) -> None:
    one = stream()
    step = one.step

    def die(t: int) -> RankBatch:
        if t == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(t)

    one.step = die  # type: ignore[method-assign]
    with pytest.raises(LostError, match=r"process \d+, which reads ahead, was killed \(exit code -9\)") as caught:
        list(Prefetcher(one, 1, ahead=1).batches(0, 4))
    assert caught.value.exit_code == EXIT_LOST


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_worker_killed_during_a_step_is_an_error_at_the_next_one(
    size: int, stream: Callable[..., BatchStream]
) -> None:
    """Also if it leaves a part of a batch that is larger than the pipe, after which nothing comes any more."""
    one = stream()
    step = one.step
    one.step = lambda t: replace(step(t), pairs_per_rank=[*step(t).pairs_per_rank, *range(size)])  # type: ignore
    others = set(multiprocessing.active_children())
    steps: Iterator[RankBatch] = Prefetcher(one, 1, ahead=2).batches(0, 4)
    next(steps)
    time.sleep(0.5)  # the worker begins to send the next one
    (worker,) = set(multiprocessing.active_children()) - others
    os.kill(worker.pid or 0, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:  # the step
        time.sleep(0.01)
    with pytest.raises(LostError, match="was killed"):
        next(steps)


def test_a_worker_ends_with_its_process_even_if_that_was_killed_before_it_began(
    stream: Callable[..., BatchStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = prefetch._start_worker

    def kill_parent_first(number: int) -> None:
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.001)
        start(number)

    monkeypatch.setattr(prefetch, "_start_worker", kill_parent_first)
    process = multiprocessing.get_context("fork").Process(target=lambda: list(Prefetcher(stream(), 1, 1).batches(0, 4)))
    process.start()
    assert wait([process.sentinel], timeout=20), "which the worker holds open as long as it is alive"
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_pairs_in_damaged_blocks_are_left_out_by_all_alike(stream: Callable[..., BatchStream]) -> None:
    damaged = frozenset({("ukr_Cyrl", 3), ("bul_Cyrl", 0)})
    lost = 0
    for t in range(20):
        alone = stream(damaged=damaged).step(t)
        together = [stream(3, rank, 4, damaged).step(t) for rank in range(3)]
        assert sentences(together) == sentences([alone])
        assert not sentences([alone]) - sentences([stream().step(t)])  # they are not replaced
        lost += BATCH - alone.pairs
    assert lost > 0


@pytest.mark.parametrize("cached_bytes", [4, 4 * 80, 1 << 20])
def test_lengths_are_those_of_the_blocks_however_few_are_kept(
    world: Path, stream: Callable[..., BatchStream], monkeypatch: pytest.MonkeyPatch, cached_bytes: int
) -> None:
    monkeypatch.setattr(reader, "CACHE_LENGTHS", cached_bytes)
    shards, one = ShardSet.open(world / "shards"), stream()
    for start in (0, 1000, 7):
        keys = one.order.batch(start, 60)
        expected = [
            shards.read_lengths(one.order.languages[language], row // 16)[row % 16].tolist()
            for language, row in zip(keys.language.tolist(), keys.row.tolist(), strict=True)
        ]
        assert one.reader.lengths(keys).tolist() == expected


def test_a_batch_of_which_nothing_is_left(stream: Callable[..., BatchStream], world: Path) -> None:
    shards = ShardSet.open(world / "shards")
    everything = frozenset((name, b) for name in shards.languages for b in range(len(shards.block_rows(name))))
    with pytest.raises(DataError, match="step 0: only 0 of 48 pairs are in undamaged blocks") as found:
        stream(damaged=everything).step(0)
    assert "first_batch_pairs" not in found.value.hint
    small = replace(stream(damaged=everything), sizes=BatchSizes(48, first=4, warmup_steps=9))
    with pytest.raises(DataError, match="step 0: only 0 of 4 pairs") as found:
        small.step(0)
    assert "or raise train.first_batch_pairs" in found.value.hint
