"""Metrics of classification and tagging, each in two profiles, and how certain they are.

Pure functions of labels (indices into the task's labels). `paper` is what the papers' code computes, `strict` is what
the metrics' names say (docs/test-sets.md defines both). Every metric is an F1 of counts by sentence and class, and a
bootstrap resample is a sum of these counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale.evaluate.bootstrap import RESAMPLES, Estimate, percentile_interval
from translit_scale.testsets.task import Metrics, TransferTask

PROFILES = Metrics._fields
_BLOCK = 2**22
"""Multiplicities drawn at once (32 MiB)."""

Labels = Sequence[Any] | NDArray[Any]
"""One label (int) for each text, or a list with one for each word of each sentence."""


@dataclass(frozen=True)
class ClassCounts:
    """Counts of n sentences, from which the F1 of some classes is computed.

    `hits` [n, classes] counts what is both gold and predicted, `marked` [n, classes] is the number of gold plus the
    number of predicted ones, so the F1 of a class is 2 hits / marked. The score is the mean over the classes that are
    marked anywhere, or with `all_classes` over all classes, where an unmarked class counts 0.
    """

    hits: NDArray[np.int64]
    marked: NDArray[np.int64]
    all_classes: bool = False

    def micro(self) -> ClassCounts:
        """The same with all classes merged into one."""
        return ClassCounts(self.hits.sum(axis=1, keepdims=True), self.marked.sum(axis=1, keepdims=True))

    @property
    def score(self) -> float:
        """Between 0 and 1."""
        return float(self.f1(self.hits.sum(axis=0), self.marked.sum(axis=0)))

    def f1(self, hits: NDArray[np.number], marked: NDArray[np.number]) -> NDArray[np.float64]:
        """Scores of summed counts: [..., classes], [..., classes] -> [...]."""
        ratios = 2 * hits / np.maximum(marked, 1)
        classes = marked.shape[-1] if self.all_classes else np.maximum((marked > 0).sum(axis=-1), 1)
        return np.asarray(ratios.sum(axis=-1) / classes)


def profiles(task: TransferTask, gold: Labels, predicted: Labels) -> dict[str, dict[str, float]]:
    """All metrics of a task by profile; the first metric of a profile is its main score.

    Raises:
        ValueError: gold and predicted labels do not have the same sentences and words.
    """
    return {
        profile: {name: counts.score for name, counts in metrics.items()}
        for profile, metrics in metric_counts(task, gold, predicted).items()
    }


def main_estimates(
    task: TransferTask, gold: Labels, predicted: Labels, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """The main score of each profile with its percentile bootstrap interval over sentences.

    Raises:
        ValueError: as `profiles`.
    """
    return {
        profile: percentile_interval(counts.score, resampled([counts], seed, resamples)[:, 0])
        for profile, counts in main_counts(task, gold, predicted).items()
    }


def main_counts(task: TransferTask, gold: Labels, predicted: Labels) -> dict[str, ClassCounts]:
    """The counts of each profile's main score."""
    return {profile: main_count(task, profile, gold, predicted) for profile in PROFILES}


def main_count(task: TransferTask, profile: str, gold: Labels, predicted: Labels) -> ClassCounts:
    """The counts of the main score of one profile."""
    return _METRICS[profile][getattr(task.metrics, profile)[0]](gold, predicted, task.labels)


def metric_counts(task: TransferTask, gold: Labels, predicted: Labels) -> dict[str, dict[str, ClassCounts]]:
    """The counts of every metric of a task, by profile and name."""
    return {
        profile: {name: _METRICS[profile][name](gold, predicted, task.labels) for name in names}
        for profile, names in task.metrics._asdict().items()
    }


def resampled(counts: Sequence[ClassCounts], seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Bootstrap distributions of scores over the same sentences: [resamples, len(counts)].

    A resample draws n of the n sentences with replacement, the same ones for all scores. Sentences with the same counts
    are interchangeable, so the number of draws of each kind is drawn directly from a multinomial distribution.
    """
    rng = np.random.default_rng(seed)
    parts = [part for item in counts for part in (item.hits, item.marked)]
    kinds, frequency = np.unique(np.hstack(parts), axis=0, return_counts=True)
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    n, block = int(frequency.sum()), max(1, _BLOCK // len(kinds))
    result = np.empty((resamples, len(counts)))
    for start in range(0, resamples, block):
        drawn = rng.multinomial(n, frequency / n, size=min(block, resamples - start))
        sums = np.split(drawn.astype(np.float64) @ kinds.astype(np.float64), ends, axis=1)
        for index, item in enumerate(counts):
            result[start : start + block, index] = item.f1(sums[2 * index], sums[2 * index + 1])
    return result


def paired_draws(
    first: Sequence[ClassCounts], second: Sequence[ClassCounts], seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Bootstrap distributions of the scores of `second` minus those of `first`, pair by pair, over the same sentences.

    All test sets with the same number of sentences have the same resamples, which are drawn once.

    Returns:
        [resamples, pairs]
    """
    hits, marked = (
        np.stack([getattr(item, side) for item in (*first, *second)], axis=1).astype(np.float32)
        for side in ("hits", "marked")
    )
    n, models, classes = hits.shape
    result = np.empty((resamples, models))
    times = _times_drawn(n, seed, resamples)
    step = max(1, _BLOCK // max(n, models * classes))
    for start in range(0, resamples, step):
        drawn = times[start : start + step].astype(np.float32)  # sums of counts stay far below 2^24 and are exact
        sums = [(drawn @ side.reshape(n, -1)).reshape(-1, models, classes) for side in (hits, marked)]
        result[start : start + step] = first[0].f1(sums[0].astype(np.float64), sums[1])
    return result[:, len(first) :] - result[:, : len(first)]


@lru_cache(maxsize=2)
def _times_drawn(n: int, seed: int, resamples: int) -> NDArray[np.uint16]:
    """How often each of n sentences is in each resample: [resamples, n]."""
    generator, times = np.random.default_rng(seed), np.empty((resamples, n), dtype=np.uint16)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        times[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
    return times


def label_counts(gold: Labels, predicted: Labels, labels: Sequence[str]) -> ClassCounts:
    """Every label is a class, and every text or word counts once.

    Raises:
        ValueError: as `profiles`.
    """
    sentence, a, b = _flat(gold, predicted)
    right = a == b
    n, classes = len(gold), len(labels)
    marked = _by_class(sentence, a, n, classes) + _by_class(sentence, b, n, classes)
    return ClassCounts(_by_class(sentence[right], a[right], n, classes), marked)


def span_counts(gold: Labels, predicted: Labels, labels: Sequence[str], strict: bool) -> ClassCounts:
    """Every type of span is a class; a span is a hit if gold and prediction have it with the same words.

    Args:
        strict: spans are those of IOB2: `B-x` and every `I-x` that follows it without a gap, while an `I-x` elsewhere
            is no span. Otherwise spans are those of seqeval 1.2.2 by default, see `_seqeval_spans`.

    Raises:
        ValueError: as `profiles`.
    """
    outside = len(labels)  # appended to every sentence, so that its last span ends
    ends = [[*sentence, outside] for sentence in gold], [[*sentence, outside] for sentence in predicted]
    sentence, *both = _flat(*ends)
    names = [*labels, "O"]
    prefix = np.array([name[0] for name in names])
    types = [name[1:].split("-", maxsplit=1)[-1] or "_" for name in names]
    numbers = {name: number for number, name in enumerate(sorted(set(types)))}
    type_of = np.array([numbers[name] for name in types])
    spans = _iob2_spans if strict else _seqeval_spans
    first_a, first_b = (spans(prefix[tags], type_of[tags]) for tags in both)
    type_a, type_b = (type_of[tags] for tags in both)
    hit = (first_a >= 0) & (first_a == first_b) & (type_a == type_b)
    n, classes = len(gold), len(numbers)
    marked = [
        _by_class(sentence[first >= 0], kind[first >= 0], n, classes)
        for first, kind in ((first_a, type_a), (first_b, type_b))
    ]
    return ClassCounts(_by_class(sentence[hit], type_a[hit], n, classes), marked[0] + marked[1])


def _iob2_spans(prefix: NDArray[np.str_], kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each word the first word of the span that ends with it, or -1: [words], [words] -> [words]."""
    inside = np.zeros(len(prefix), dtype=bool)
    inside[1:] = (prefix[1:] == "I") & np.isin(prefix[:-1], ["B", "I"]) & (kind[1:] == kind[:-1])
    first = np.maximum.accumulate(np.where(inside, 0, np.arange(len(prefix))))
    last = ~np.append(inside[1:], False)
    return np.where(last & (prefix[first] == "B"), first, -1)


def _seqeval_spans(prefix: NDArray[np.str_], kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `_iob2_spans`, with the rules of seqeval 1.2.2 (after conlleval) for any tags.

    A tag is read as one letter and a type, so the type of UPOS `NOUN` is `OUN`. A span also begins where the type
    changes: `NOUN NOUN` is one span, and `CCONJ` and `SCONJ` have the same type. The tag `X` has the type of `O`: at
    the end of a sentence it is in no span, and at the beginning its span starts in the sentence before. A span counts
    in the sentence where it ends.
    """
    before, before_kind = np.roll(prefix, 1), np.roll(kind, 1)  # np.roll puts the last tag before the first; it is "O"
    changed = before_kind != kind
    begins = np.isin(prefix, ["B", "S"]) | (np.isin(prefix, ["E", "I"]) & np.isin(before, ["E", "S", "O"]))
    begins |= ~np.isin(prefix, ["O", "."]) & changed
    ends = np.isin(before, ["E", "S"]) | (np.isin(before, ["B", "I"]) & np.isin(prefix, ["B", "S", "O"]))
    ends |= ~np.isin(before, ["O", "."]) & changed
    first = np.maximum.accumulate(np.where(begins, np.arange(len(prefix)), 0))
    return np.where(np.append(ends[1:], False), first, -1)


def _flat(gold: Labels, predicted: Labels) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Sentence index, gold label and predicted label of every word: 3 x [words]."""
    if isinstance(gold, np.ndarray) and isinstance(predicted, np.ndarray) and gold.shape == predicted.shape:
        return np.arange(len(gold)), gold.astype(np.int64), predicted.astype(np.int64)  # a label for each text
    lengths, others = ([np.size(labels) for labels in side] for side in (gold, predicted))
    if lengths != others:
        raise ValueError("gold and predicted labels must have the same sentences and words")
    a, b = (np.concatenate([np.atleast_1d(labels) for labels in side]).astype(np.int64) for side in (gold, predicted))
    return np.repeat(np.arange(len(lengths)), lengths), a, b


def _by_class(sentence: NDArray[np.int64], label: NDArray[np.int64], n: int, classes: int) -> NDArray[np.int64]:
    """How often each class occurs in each sentence: [words], [words] -> [n, classes]."""
    return np.bincount(sentence * classes + label, minlength=n * classes).reshape(n, classes)


def _accuracy(gold: Labels, predicted: Labels, labels: Sequence[str]) -> ClassCounts:
    return label_counts(gold, predicted, labels).micro()


_METRICS: dict[str, dict[str, Callable[[Labels, Labels, Sequence[str]], ClassCounts]]] = {
    "paper": {
        "macro_f1": label_counts,
        "entity_f1": lambda gold, predicted, labels: span_counts(gold, predicted, labels, strict=False).micro(),
    },
    "strict": {
        "macro_f1": lambda gold, predicted, labels: replace(label_counts(gold, predicted, labels), all_classes=True),
        "accuracy": _accuracy,
        "entity_f1": lambda gold, predicted, labels: span_counts(gold, predicted, labels, strict=True).micro(),
        "entity_macro_f1": partial(span_counts, strict=True),
        "token_accuracy": _accuracy,
        "token_macro_f1": label_counts,
    },
}
"""The metrics that entries of the registry may name, by profile."""
