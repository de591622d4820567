"""Correlations of transfer with alignment and lexical overlap, with intervals over target languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from translit_scale.evaluate.bootstrap import Estimate, percentile_interval
from translit_scale.report.results import TABLE_RESAMPLES

Numbers = NDArray[np.float64]
FEWEST = 4
"""Target languages of a correlation."""
AT_ONCE = 250
"""Resamples that are computed together: of 10,000 points they need 20 MB."""
LANGUAGES, MODELS = "languages", "models"
"""What a correlation is over: source-target pairs of one model, or models (and checkpoints) for the same pairs."""


@dataclass(frozen=True)
class Observation:
    """Transfer of one model from a source to a target, and what may explain it."""

    task: str
    model: str
    source: str
    target: str
    f1: float
    """The task's main score, a mean over seeds."""
    predictors: Mapping[str, float] = field(default_factory=dict)
    """Name, such as `sr_b top10` or `overlap latin` → value for this source and target."""


@dataclass(frozen=True)
class Correlation:
    """How a predictor goes with F1."""

    task: str
    predictor: str
    over: str
    """`LANGUAGES` or `MODELS`."""
    model: str | None
    """Of a correlation over languages."""
    languages: int
    points: int
    pearson: Estimate
    spearman: Estimate


def pearson(x: Numbers, y: Numbers, weights: Numbers | None = None) -> Numbers:
    """[R] Pearson's correlation coefficient of R resamples; nan where one of the two sides is constant.

    Args:
        x, y: [n] or [R, n].
        weights: [R, n] how often each point is drawn; without them every point once, R = 1.
    """
    weights = np.ones((1, x.shape[-1])) if weights is None else weights
    total = weights.sum(1, keepdims=True)
    a = x - (weights * x).sum(1, keepdims=True) / total
    b = y - (weights * y).sum(1, keepdims=True) / total
    scale: Numbers = np.sqrt((weights * a * a).sum(1) * (weights * b * b).sum(1))
    smallest = 1e-12 * max(1.0, float(np.abs(x).max() * np.abs(y).max())) * total[:, 0]
    found: Numbers = (weights * a * b).sum(1) / np.where(scale > smallest, scale, np.nan)
    return found


def spearman(x: Numbers, y: Numbers, weights: Numbers | None = None) -> Numbers:
    """[R] Spearman's rank correlation: Pearson's of the ranks, where equal values have the mean of their ranks."""
    weights = np.ones((1, x.shape[-1])) if weights is None else weights
    return pearson(mean_ranks(x, weights), mean_ranks(y, weights), weights)


def mean_ranks(values: Numbers, weights: Numbers) -> Numbers:
    """[R, n] ranks from 1 in resamples that draw each value [n] as often as `weights` [R, n] say; equal values have the
    mean of their ranks.
    """
    distinct, inverse = np.unique(values, return_inverse=True)
    counts = np.zeros((len(weights), len(distinct)))
    np.add.at(counts.T, inverse, weights.T)
    ranks: Numbers = (np.cumsum(counts, axis=1) - (counts - 1) / 2)[:, inverse]
    return ranks


def correlations(observations: Sequence[Observation], seed: int = 0) -> list[Correlation]:
    """All correlations that have enough languages, by task and predictor.

    Over languages: the points are the source-target pairs of one model. Over models: of each pair, the mean over its
    models is subtracted from F1 and predictor, and the points of all pairs are taken together, so differences between
    languages play no part.
    """
    tasks = dict.fromkeys(item.task for item in observations)
    names = dict.fromkeys(name for item in observations for name in item.predictors)
    found: list[Correlation] = []
    for task in tasks:
        for name in names:
            points = [item for item in observations if item.task == task and name in item.predictors]
            for model in dict.fromkeys(item.model for item in points):
                of_model = [item for item in points if item.model == model]
                values = np.array([[item.predictors[name], item.f1] for item in of_model])
                found += _correlation(task, name, LANGUAGES, model, of_model, values, seed)
            several = _of_several_models(points)
            values = _centred(several, name)
            if len(several) and np.abs(values[:, 0]).max() > 1e-12:  # overlap is the same for all models
                found += _correlation(task, name, MODELS, None, several, values, seed)
    return found


def _of_several_models(points: Sequence[Observation]) -> list[Observation]:
    """The points of the pairs that at least two models have."""
    models: dict[tuple[str, str], int] = {}
    for item in points:
        models[item.source, item.target] = models.get((item.source, item.target), 0) + 1
    return [item for item in points if models[item.source, item.target] > 1]


def _centred(points: Sequence[Observation], name: str) -> Numbers:
    """[points, 2] predictor and F1 minus their means over the models of the same pair."""
    pairs = {pair: index for index, pair in enumerate(dict.fromkeys((item.source, item.target) for item in points))}
    pair = np.array([pairs[item.source, item.target] for item in points], np.int64)
    values = np.array([[item.predictors[name], item.f1] for item in points]).reshape(-1, 2)
    sums = np.zeros((len(pairs), 2))
    np.add.at(sums, pair, values)
    counts = np.bincount(pair, minlength=len(pairs))[:, None]
    centred: Numbers = values - (sums / counts)[pair]
    return centred


def _correlation(
    task: str, name: str, over: str, model: str | None, points: Sequence[Observation], values: Numbers, seed: int
) -> Iterator[Correlation]:
    """One correlation, or none if there are too few languages or one side is constant."""
    targets = [item.target for item in points]
    languages = len(set(targets))
    if languages < FEWEST:
        return
    estimates = [cluster_interval(values, targets, measure, seed) for measure in (pearson, spearman)]
    if np.isfinite(estimates[0].value):
        yield Correlation(task, name, over, model, languages, len(points), *estimates)


def cluster_interval(
    values: Numbers, clusters: Sequence[str], measure: Callable[[Numbers, Numbers, Numbers], Numbers], seed: int = 0
) -> Estimate:
    """A measure of two columns with its percentile bootstrap interval at 95 %, whose resamples draw clusters.

    Resamples in which the measure is not defined (one side is constant) are left out.

    Args:
        values: [n, 2].
        clusters: [n] such as the target language of each row; all rows of a cluster are drawn together.
    """
    x, y = values.T
    names, index = np.unique(np.array(clusters), return_inverse=True)
    generator = np.random.default_rng(seed)
    drawn = []
    for first in range(0, TABLE_RESAMPLES, AT_ONCE):
        chosen = generator.integers(0, len(names), (min(AT_ONCE, TABLE_RESAMPLES - first), len(names)))
        times = np.stack([np.bincount(one, minlength=len(names)) for one in chosen])
        drawn.append(measure(x, y, times[:, index].astype(np.float64)))
    found = np.concatenate(drawn)
    defined = found[np.isfinite(found)]
    value = float(measure(x, y, np.ones((1, len(values))))[0])
    return percentile_interval(value, defined) if len(defined) else Estimate(value, float("nan"), float("nan"))
