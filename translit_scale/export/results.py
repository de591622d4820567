"""Evaluation results of an exported model, for its card."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from translit_scale.errors import DataError
from translit_scale.evaluate.loading import hash_weights
from translit_scale.evaluate.results import result_files
from translit_scale.testsets.registry import retrieval_tasks, transfer_tasks

METRICS = ("top1", "top5", "top10", "main_score")
"""Of retrieval, and the main score of transfer."""


Key = tuple[str, str, str, int, str, str]
"""Kind, task, languages, number and sha256 of the texts, and metric of a number: what two models share if they can be
compared."""


@dataclass(frozen=True)
class Score:
    """A number of the model in one task and language."""

    task: str
    kind: str
    languages: str
    """`pol_Latn → ukr_Cyrl`: query and candidates, or language of fine-tuning and of the test set."""
    n: int
    """Number of queries, or of test texts."""
    metric: str
    value: float
    """A fraction; the mean over seeds of fine-tuning."""
    base: float | None
    """The same number, on the same texts, of the model that training continued from; None without such a result."""


def read_scores(folder: Path, model: PreTrainedModel, base_model: str | None) -> list[Score]:
    """The scores under `folder` of a masked language model, found by the hash of its weights.

    Args:
        base_model: the model that training continued from, as in the run's configuration.

    Raises:
        DataError: no such folder, a damaged file, or no result of these weights.
    """
    encoder = model.base_model
    assert isinstance(encoder, PreTrainedModel)
    weights = hash_weights(encoder)
    ours, of_base = defaultdict[Key, list[float]](list), defaultdict[Key, list[float]](list)
    others: set[str] = set()
    for _, content in result_files(folder):
        if content["model"]["weights_sha256"] == weights:
            _add(ours, content)
        elif base_model is not None and _same_model(content["model"]["path"], base_model):
            _add(of_base, content)
        else:
            others.add(content["model"]["label"])
    if not ours:
        labels = f"there are results of {', '.join(sorted(others))}" if others else "there are no results"
        raise DataError(
            f"{folder} has no results of these weights; {labels}",
            "export without --results, evaluate the exported folder, and export again with --force --results",
        )
    return [
        Score(task, kind, languages, n, metric, _mean(values), _mean(base) if (base := of_base.get(key)) else None)
        for key, values in sorted(ours.items(), key=lambda item: (*item[0][:5], METRICS.index(item[0][5])))
        for kind, task, languages, n, _, metric in [key]
    ]


def title(task: str) -> str:
    """The name of a task as the papers write it."""
    known = {**retrieval_tasks(), **transfer_tasks()}.get(task)
    return known.title if known else task


def _same_model(path: str, base_model: str) -> bool:
    return path == base_model or (Path(path).is_dir() and Path(path).resolve() == Path(base_model).resolve())


def _add(scores: dict[Key, list[float]], content: dict[str, Any]) -> None:
    kind, task = content["task_type"], content["task_name"]
    for test in content["scores"]["test"]:
        if kind == "retrieval":
            languages = f"{test['query']} → {test['candidates']}"
        else:
            languages = f"{'+'.join(content['settings']['source'])} → {test['language']}"
        for metric in METRICS[:3] if kind == "retrieval" else METRICS[3:]:
            scores[kind, task, languages, test["n"], test["text_sha256"], metric].append(float(test[metric]))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
