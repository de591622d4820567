"""Sampling depends on the sentences and the seed alone; smaller samples are the beginning of larger ones."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.corpus import select as room
from translit_scale.corpus.clean import clean, fold
from translit_scale.corpus.select import sample_size, select, sentence_hash
from translit_scale.errors import DataError

sentences = st.lists(st.text("abcdeż", min_size=1, max_size=4).map(clean), max_size=60)


def reader(items: list[str]) -> Callable[[Counter[str]], Iterator[str]]:
    def read(counts: Counter[str]) -> Iterator[str]:
        for item in items:
            counts["read"] += 1
            yield item

    return read


@given(sentences, st.sets(st.text("abż", min_size=1, max_size=3)), st.floats(0.01, 1), st.integers(0, 20))
def test_select_against_its_definition(items: list[str], held_out: set[str], fraction: float, minimum: int) -> None:
    taken, counts = select(reader(items), held_out, 5, fraction, minimum)
    candidates = {item for item in items if fold(item) not in held_out}
    ranked = sorted(candidates, key=lambda item: sentence_hash(item, 5))
    assert taken == ranked[: sample_size(len(candidates), fraction, minimum)]
    assert counts["read"] == len(items)
    assert counts["held_out"] == sum(fold(item) in held_out for item in items)
    assert sum(counts.values()) - counts["read"] + len(taken) == len(items)


@given(sentences, st.randoms(use_true_random=False), st.floats(0.01, 1), st.floats(0.01, 1))
def test_order_of_the_input_does_not_matter_and_samples_are_nested(
    items: list[str], generator: random.Random, one: float, other: float
) -> None:
    shuffled = generator.sample(items, len(items))
    small, large = sorted((one, other))
    smaller, _ = select(reader(items), set(), 0, small, 0)
    larger, _ = select(reader(shuffled), set(), 0, large, 0)
    assert smaller == larger[: len(smaller)]


def test_another_seed_is_another_sample_in_another_order() -> None:
    items = [f"s{number}" for number in range(400)]
    first, second = (select(reader(items), set(), seed, 0.5, 0)[0] for seed in (0, 1))
    assert len(first) == len(second) == 200
    assert 70 < len(set(first) & set(second)) < 130  # two independent halves share a quarter: 100 ± 5
    assert first != sorted(first)


def test_the_hash_is_fixed() -> None:
    assert sentence_hash("żółw", 0) == 0xD1B3AF92C0A4A7BD
    assert sentence_hash("żółw", 1) == 0x911648693597EAE4


@pytest.mark.parametrize(
    ("n", "fraction", "minimum", "size"),
    [
        (0, 0.1, 10, 0),
        (5, 0.1, 10, 5),
        (70, 0.1, 0, 7),  # 0.1 * 70 is 7.000000000000001
        (71, 0.1, 0, 8),
        (250_000, 0.1, 10_000, 25_000),
        (30_000, 0.1, 10_000, 10_000),
        (30_000, 1.0, 10_000, 30_000),
        (1, 1e-9, 0, 1),
    ],
)
def test_sample_size(n: int, fraction: float, minimum: int, size: int) -> None:
    assert sample_size(n, fraction, minimum) == size


def test_equal_hashes_of_different_sentences_are_settled_by_the_alphabet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "sentence_hash", lambda sentence, seed: len(sentence))
    for items in (["b", "a", "cc"], ["cc", "a", "b"]):
        taken, counts = select(reader(items), set(), 0, 1.0, 0)
        assert taken == ["a", "cc"] and counts["duplicate"] == 1


def test_text_that_changes_between_the_passes_is_noticed() -> None:
    passes = iter((["a", "b"], ["a"]))
    with pytest.raises(DataError, match="changed while they were read"):
        select(lambda counts: iter(next(passes)), set(), 0, 1.0, 0)
