"""Metrics of classification and tagging equal scikit-learn and seqeval; intervals equal a naive bootstrap."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as sklearn_f1

from translit_scale.evaluate.transfer.metrics import (
    ClassCounts,
    label_counts,
    main_counts,
    main_estimates,
    metric_counts,
    profiles,
    resampled,
    span_counts,
)
from translit_scale.testsets.registry import transfer_tasks
from translit_scale.testsets.task import TransferTask as Task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of seqeval, about tags it was not made for

SIB200, NER, POS = transfer_tasks()["sib200"], transfer_tasks()["ner"], transfer_tasks()["pos"]


def names(task: Task, sentences: list[list[int]]) -> list[list[str]]:
    return [[task.labels[label] for label in sentence] for sentence in sentences]


def numbers(task: Task, *sentences: str) -> list[list[int]]:
    return [[task.labels.index(tag) for tag in sentence.split()] for sentence in sentences]


def random_tags(task: Task, n: int, wrong: float, seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    """Gold tags of n sentences, and predictions of which a share is random."""
    rng = np.random.default_rng(seed)
    gold, predicted = [], []
    for _ in range(n):
        tags = rng.integers(len(task.labels), size=rng.integers(1, 12))
        random = rng.integers(len(task.labels), size=len(tags))
        gold.append(tags.tolist())
        predicted.append(np.where(rng.random(len(tags)) < wrong, random, tags).tolist())
    return gold, predicted


def counts_of_sentences(counts: ClassCounts) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(hits, marked) of each sentence."""
    return [(tuple(a), tuple(b)) for a, b in zip(counts.hits.tolist(), counts.marked.tolist(), strict=True)]


@st.composite
def two_taggings(draw: st.DrawFn, task: Task) -> tuple[list[list[int]], list[list[int]]]:
    pair = st.tuples(*[st.integers(0, len(task.labels) - 1)] * 2)
    similar = st.one_of(pair, pair.map(lambda tags: (tags[0], tags[0])))
    sentences = draw(st.lists(st.lists(similar, min_size=1, max_size=8), min_size=1, max_size=6))
    return [[a for a, _ in sentence] for sentence in sentences], [[b for _, b in sentence] for sentence in sentences]


@settings(max_examples=300)
@given(st.sampled_from([NER, POS]), st.data())
def test_the_paper_profile_of_tagging_is_what_seqeval_computes_by_default(task: Task, data: st.DataObject) -> None:
    gold, predicted = data.draw(two_taggings(task))
    expected = seqeval_f1(names(task, gold), names(task, predicted))
    assert profiles(task, gold, predicted)["paper"] == {"entity_f1": pytest.approx(expected, abs=1e-12)}


@settings(max_examples=200)
@given(st.data())
def test_the_rules_of_seqeval_hold_for_any_tags(data: st.DataObject) -> None:
    labels = ("B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b", "O", ".", "B", "I", "X", "Y-a-b")
    gold, predicted = data.draw(two_taggings(replace(NER, labels=labels)))
    sides = ([[labels[label] for label in sentence] for sentence in side] for side in (gold, predicted))
    score = span_counts(gold, predicted, labels, strict=False).micro().score
    assert score == pytest.approx(seqeval_f1(*sides), abs=1e-12)


@settings(max_examples=200)
@given(two_taggings(NER))
def test_strict_entities_are_those_of_seqeval_in_strict_iob2(taggings: tuple[list[list[int]], list[list[int]]]) -> None:
    gold, predicted = taggings
    scores = profiles(NER, gold, predicted)["strict"]
    spans = span_counts(gold, predicted, NER.labels, strict=True)
    if not spans.marked.any():
        assert scores["entity_f1"] == scores["entity_macro_f1"] == 0
        return
    for name, average in (("entity_f1", "micro"), ("entity_macro_f1", "macro")):
        sides = names(NER, gold), names(NER, predicted)
        expected = seqeval_f1(*sides, average=average, mode="strict", scheme=IOB2)
        assert scores[name] == pytest.approx(expected, abs=1e-12), name


@settings(max_examples=100)
@given(st.sampled_from([NER, POS]), st.data())
def test_scores_of_words_are_those_of_scikit_learn(task: Task, data: st.DataObject) -> None:
    gold, predicted = data.draw(two_taggings(task))
    a, b = (np.concatenate(side).astype(int) for side in (gold, predicted))
    scores = profiles(task, gold, predicted)["strict"]
    assert scores["token_accuracy"] == pytest.approx(accuracy_score(a, b), abs=1e-12)
    assert scores["token_macro_f1"] == pytest.approx(sklearn_f1(a, b, average="macro", zero_division=0), abs=1e-12)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_scores_of_texts_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (list(side) for side in zip(*pairs, strict=True))
    scores = profiles(SIB200, gold, predicted)
    present = sklearn_f1(gold, predicted, average="macro", zero_division=0)
    whole = sklearn_f1(gold, predicted, labels=range(7), average="macro", zero_division=0)
    assert scores["paper"] == {"macro_f1": pytest.approx(present, abs=1e-12)}
    assert scores["strict"] == {
        "macro_f1": pytest.approx(whole, abs=1e-12),
        "accuracy": pytest.approx(accuracy_score(gold, predicted), abs=1e-12),
    }


def test_a_class_that_a_model_never_predicts_counts_as_zero() -> None:
    scores = profiles(SIB200, [0, 1], [0, 0])
    assert scores["paper"]["macro_f1"] == pytest.approx(1 / 3)
    assert scores["strict"]["macro_f1"] == pytest.approx(2 / 3 / 7)


@pytest.mark.parametrize(
    ("gold", "predicted", "score"),
    [
        ("NOUN NOUN", "NOUN NOUN", 1),
        ("NOUN NOUN", "NOUN VERB", 0),  # one span of gold, none of the two predicted ones is it
        ("CCONJ NOUN", "SCONJ NOUN", 1),  # one type
        ("DET NOUN VERB ADP ADJ PUNCT", "DET NOUN VERB ADP NOUN PUNCT", 5 / 6),
        ("NOUN NOUN NOUN NOUN VERB PUNCT", "NOUN NOUN NOUN NOUN VERB ADP", 2 / 3),  # 5 of 6 words are right
        (  # 19 of 20
            "NOUN NOUN VERB " * 6 + "NOUN NOUN",
            "NOUN NOUN DET " + "NOUN NOUN VERB " * 5 + "NOUN NOUN",
            12 / 13,
        ),
        ("NOUN X", "NOUN NOUN", 0),
        ("NOUN X", "NOUN X", 1),
    ],
)
def test_quirks_of_the_paper_profile_on_parts_of_speech(gold: str, predicted: str, score: float) -> None:
    value = profiles(POS, numbers(POS, gold), numbers(POS, predicted))["paper"]["entity_f1"]
    assert value == pytest.approx(score) == pytest.approx(seqeval_f1([gold.split()], [predicted.split()]))


def test_a_span_that_begins_in_the_sentence_before() -> None:
    gold, predicted = ("NOUN VERB", "X NOUN"), ("NOUN NOUN", "X NOUN")
    expected = seqeval_f1([tags.split() for tags in gold], [tags.split() for tags in predicted])
    assert expected < 1  # although the second sentence is right
    assert profiles(POS, numbers(POS, *gold), numbers(POS, *predicted))["paper"]["entity_f1"] == pytest.approx(expected)
    counts = span_counts(numbers(POS, *gold), numbers(POS, *predicted), POS.labels, strict=False)
    assert counts.hits.sum(axis=1).tolist() == [0, 1]


def test_labels_of_other_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="same sentences and words"):
        profiles(POS, [[1, 2], [3]], [[1], [2, 3]])
    with pytest.raises(ValueError, match="same sentences and words"):
        profiles(SIB200, [1, 2, 3], [1, 2])


@pytest.mark.parametrize("task", [SIB200, NER, POS], ids=lambda task: task.name)
def test_a_resample_scores_as_if_its_sentences_were_the_test_set(task: Task) -> None:
    if task is SIB200:
        rng = np.random.default_rng(3)
        gold = rng.integers(7, size=60).tolist()
        predicted = np.where(rng.random(60) < 0.5, gold, rng.integers(7, size=60)).tolist()
    else:
        gold, predicted = random_tags(task, 60, wrong=0.4)
        if task is POS:  # no X: its spans reach into other sentences
            x = task.labels.index("X")
            gold, predicted = ([[0 if tag == x else tag for tag in s] for s in side] for side in (gold, predicted))
    rows = np.random.default_rng(1).integers(60, size=(20, 60))
    for profile, metrics in metric_counts(task, gold, predicted).items():
        for name, counts in metrics.items():
            for draw in rows:
                direct = profiles(task, [gold[i] for i in draw], [predicted[i] for i in draw])[profile][name]
                resample = ClassCounts(counts.hits[draw], counts.marked[draw], counts.all_classes).score
                assert resample == pytest.approx(direct, abs=1e-12), (profile, name)


@pytest.mark.parametrize("task", [SIB200, NER, POS], ids=lambda task: task.name)
def test_intervals_are_those_of_a_naive_bootstrap(task: Task) -> None:
    gold, predicted = random_tags(task, 80, wrong=0.3, seed=5)
    if task is SIB200:
        gold, predicted = ([sentence[0] for sentence in side] for side in (gold, predicted))  # type: ignore[misc]
    estimates = main_estimates(task, gold, predicted)
    rng = np.random.default_rng(11)
    for profile, counts in main_counts(task, gold, predicted).items():
        naive = []
        for _ in range(4000):
            draw = rng.integers(80, size=80)
            naive.append(ClassCounts(counts.hits[draw], counts.marked[draw], counts.all_classes).score)
        estimate, (low, high) = estimates[profile], np.percentile(naive, [2.5, 97.5])
        tolerance = 0.06 * (high - low)  # of 4 000 and 10 000 resamples
        assert estimate.value == counts.score
        assert estimate.low == pytest.approx(low, abs=tolerance)
        assert estimate.high == pytest.approx(high, abs=tolerance)


def test_resamples_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, predicted = random_tags(POS, 50, wrong=0.3)
    counts = [label_counts(gold, predicted, POS.labels)]
    whole = resampled(counts, seed=1, resamples=300)
    monkeypatch.setattr("translit_scale.evaluate.transfer.metrics._BLOCK", 50 * 7)
    assert np.array_equal(whole, resampled(counts, seed=1, resamples=300))
    assert not np.array_equal(whole, resampled(counts, seed=2, resamples=300))


def test_several_models_are_scored_on_the_same_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to a loop over the draws with seed 0, the default, also when every resample is a block of its own."""
    gold, predicted = random_tags(NER, 12, wrong=0.3)
    _, other = random_tags(NER, 12, wrong=0.8)
    gold, predicted, other = (side + side[:5] for side in (gold, predicted, other))  # some sentences occur twice
    models = [label_counts(gold, predicted, NER.labels), label_counts(gold, other, NER.labels).micro()]
    kinds = sorted(Counter(zip(*map(counts_of_sentences, models), strict=True)).items())
    draws = np.random.default_rng(0).multinomial(17, [times / 17 for _, times in kinds], size=200)
    expected = np.empty((200, 2))
    for number, draw in enumerate(draws.tolist()):
        for column, counts in enumerate(models):
            drawn = [kind[column] for (kind, _), times in zip(kinds, draw, strict=True) for _ in range(times)]
            hits, marked = (np.array(part) for part in zip(*drawn, strict=True))
            expected[number, column] = ClassCounts(hits, marked, counts.all_classes).score
    np.testing.assert_allclose(resampled(models, resamples=200), expected, atol=1e-12)
    monkeypatch.setattr("translit_scale.evaluate.transfer.metrics._BLOCK", 1)
    np.testing.assert_allclose(resampled(models, resamples=200), expected, atol=1e-12)


def test_intervals_have_the_seed_and_the_resamples_that_results_record() -> None:
    gold, predicted = random_tags(NER, 40, wrong=0.3)
    recorded = main_estimates(NER, gold, predicted, seed=0, resamples=10_000)
    assert main_estimates(NER, gold, predicted) == recorded
    assert main_estimates(NER, gold, predicted, seed=1) != recorded


@pytest.mark.parametrize(
    ("gold", "predicted", "score"), [("B-a", "NOUN-a", 1), ("NOUN-a-b", "B-b", 0), ("NOUN-a-b", "NOUN-a", 0)]
)
def test_the_type_of_a_tag_is_what_follows_its_first_hyphen(gold: str, predicted: str, score: float) -> None:
    """As in seqeval, whatever precedes the hyphen: `NOUN-a` and `B-a` have type `a`, and `NOUN-a-b` has type `a-b`."""
    labels = ("B-a", "B-b", "NOUN-a", "NOUN-a-b")
    counts = span_counts([[labels.index(gold)]], [[labels.index(predicted)]], labels, strict=False)
    assert counts.micro().score == score == seqeval_f1([[gold]], [[predicted]])
