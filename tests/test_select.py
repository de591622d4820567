"""Sampling depends on the sentences and the seed alone; smaller samples are the beginning of larger ones."""

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.corpus.clean import clean, fold
from translit_scale.corpus.text import Sentence
from translit_scale.prepare import select as room
from translit_scale.prepare.recipe import Sample
from translit_scale.prepare.select import Spool, sample_size, select, sentence_hash

sentences = st.lists(st.text("abcdeż", min_size=1, max_size=4).map(clean), max_size=60)


def taken_of(
    items: list[str],
    held_out: set[str] = frozenset(),
    seed: int = 0,
    fraction: float = 1.0,
    minimum: int = 0,
    text_bytes: int = 1,
) -> tuple[list[str], Counter[str]]:
    """What is selected, and the counts."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        spool, sample = Spool(Path(folder) / "spool", text_bytes), Sample(fraction=fraction, minimum=minimum)
        lines = list(select(map(Sentence, items), counts, held_out, seed, sample, spool))
    assert all(line.endswith(b"\n") for line in lines)
    return [line.decode()[:-1] for line in lines], counts


@given(sentences, st.sets(st.text("abż", min_size=1, max_size=3)), st.floats(0.01, 1), st.integers(0, 20))
def test_select_against_its_definition(items: list[str], held_out: set[str], fraction: float, minimum: int) -> None:
    taken, counts = taken_of(items, held_out, 5, fraction, minimum)
    candidates = {item for item in items if fold(item) not in held_out}
    ranked = sorted(candidates, key=lambda item: sentence_hash(item, 5))
    assert taken == ranked[: sample_size(len(candidates), Sample(fraction=fraction, minimum=minimum))]
    assert counts["held_out"] == sum(fold(item) in held_out for item in items)
    assert counts.total() + len(taken) == len(items)


@given(sentences, st.integers(0, 7), st.integers(0, 2000), st.floats(0.01, 1))
def test_neither_buckets_nor_files_change_anything(items: list[str], bits: int, pending: int, fraction: float) -> None:
    expected = taken_of(items, seed=3, fraction=fraction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_BUCKET_BYTES", 1)
        patch.setattr(room, "_PENDING_BYTES", pending)
        assert taken_of(items, seed=3, fraction=fraction, text_bytes=2**bits) == expected


@pytest.mark.parametrize(("mebibytes", "buckets"), [(0, 1), (32, 1), (33, 2), (64, 2), (65, 4), (25_000, 1024)])
def test_a_bucket_has_at_most_32_mebibytes(tmp_path: Path, mebibytes: int, buckets: int) -> None:
    assert len(Spool(tmp_path, mebibytes * 2**20)._pending) == buckets


@given(sentences, st.randoms(use_true_random=False), st.floats(0.01, 1), st.floats(0.01, 1))
def test_order_of_the_input_does_not_matter_and_samples_are_nested(
    items: list[str], generator: random.Random, one: float, other: float
) -> None:
    shuffled = generator.sample(items, len(items))
    small, large = sorted((one, other))
    smaller, _ = taken_of(items, fraction=small)
    larger, _ = taken_of(shuffled, fraction=large)
    assert smaller == larger[: len(smaller)]


def test_another_seed_is_another_sample_in_another_order() -> None:
    items = [f"s{number}" for number in range(400)]
    first, second = (taken_of(items, seed=seed, fraction=0.5)[0] for seed in (0, 1))
    assert len(first) == len(second) == 200
    assert 70 < len(set(first) & set(second)) < 130  # two independent halves share a quarter: 100 ± 5
    assert first != sorted(first)


def test_the_hash_is_fixed() -> None:
    assert sentence_hash("żółw", 0) == 0xD1B3AF92C0A4A7BD
    assert sentence_hash("żółw", 1) == 0x911648693597EAE4


@pytest.mark.parametrize(
    ("n", "fraction", "minimum", "maximum", "size"),
    [
        (0, 0.1, 10, None, 0),
        (5, 0.1, 10, None, 5),
        (70, 0.1, 0, None, 7),  # 0.1 * 70 is 7.000000000000001
        (71, 0.1, 0, None, 8),
        (250_000, 0.1, 10_000, None, 25_000),
        (30_000, 0.1, 10_000, None, 10_000),
        (30_000, 1.0, 10_000, None, 30_000),
        (1, 1e-9, 0, None, 1),
        (250_000, 0.1, 10_000, 20_000, 20_000),
        (150_000, 0.1, 10_000, 20_000, 15_000),
        (30_000, 0.1, 10_000, 10_000, 10_000),
    ],
)
def test_sample_size(n: int, fraction: float, minimum: int, maximum: int | None, size: int) -> None:
    assert sample_size(n, Sample(fraction=fraction, minimum=minimum, maximum=maximum)) == size


def test_equal_hashes_of_different_sentences_are_settled_by_the_alphabet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "sentence_hash", lambda sentence, seed: len(sentence))
    for items in (["b", "a", "cc"], ["cc", "a", "b"]):
        taken, counts = taken_of(items)
        assert taken == ["a", "cc"] and counts["duplicate"] == 1
