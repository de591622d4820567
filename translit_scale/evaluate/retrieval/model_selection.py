"""Selects the checkpoint of a run that retrieves best: each checkpoint is measured once, best.json names the best.

Paper A stops by the best average on SR-B, paper B chooses by top-10 on Tatoeba with English queries. The record of a
checkpoint under RUN/selection holds all measures, so another measure or a held-out half needs no new embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from translit_scale.config import Config
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.bootstrap import Estimate, mean_accuracy
from translit_scale.evaluate.checkpoint_records import CheckpointRecords, removed_steps
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.models import EmbeddingSettings
from translit_scale.evaluate.results import SCHEMA, percent
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.evaluate.retrieval.run import Direction, rank_texts
from translit_scale.files import write_json
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.testsets.task import MEASURES
from translit_scale.text_table import format_table
from translit_scale.train.checkpointing.checkpoint import checkpoint_step, complete_checkpoints
from translit_scale.train.checkpointing.trained import trained_encoder

ALL, SELECT, HOLDOUT = "all", "select", "holdout"


@dataclass(frozen=True)
class Criterion:
    """What checkpoints are compared by: the unweighted mean over directions of a measure.

    With a source only the directions whose queries are in it count (English in paper B), otherwise all directions.
    """

    task: str
    texts: Sequence[ParallelText]
    source: str | None
    embedding: EmbeddingSettings
    measure: str

    @property
    def key(self) -> str:
        """Equal for criteria whose records can be compared; the measure does not matter, because records hold all."""
        facts = [
            SCHEMA, self.task, self.source, self.embedding.layer, self.embedding.include_special,
            [[text.name, text.fingerprint, text.ids] for text in self.texts],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ScoredCheckpoint:
    """A checkpoint and its estimates, by part of the items (`all`, `select`, `holdout`) and measure."""

    checkpoint: str
    estimates: dict[str, dict[str, Estimate]]


class CheckpointScorer:
    """Measures each checkpoint of a run once, by one criterion."""

    def __init__(self, run: Path, criterion: Criterion) -> None:
        self.run, self.criterion = run, criterion
        self.records = CheckpointRecords(run / "selection", criterion.key, "remove it and select again")
        self.metric = f"validation/{criterion.task}/{criterion.measure}"

    def scored(self, checkpoint: Path) -> ScoredCheckpoint:
        """The estimates of a checkpoint; measures it if there is no record for these weights and this criterion.

        Raises:
            DataError: the checkpoint is incomplete or damaged, or the disk is full.
        """
        return _scored(self.records.get(checkpoint, lambda: self._record(checkpoint)))

    def score(self, checkpoint: Path) -> float:
        """The measure of a checkpoint; best.json then names the best of the measured checkpoints that still exist."""
        value = self.scored(checkpoint).estimates[ALL][self.criterion.measure].value
        measured = [path for path in complete_checkpoints(checkpoint.parent) if self.records.path(path.name).exists()]
        order = ranked([self.scored(path) for path in measured], self.criterion.measure)
        write_choice(self.run, self.criterion, order)
        return value

    def values(self) -> dict[int, float]:
        """The measure of every checkpoint that has a record, by step; the checkpoint itself may have been removed."""
        measure = self.criterion.measure
        return {step: _scored(record).estimates[ALL][measure].value for step, record in self.records.all().items()}

    def _record(self, checkpoint: Path) -> dict[str, Any]:
        directions = self._measure(checkpoint)
        return {
            "task": self.criterion.task, "source": self.criterion.source,
            "directions": [{"name": direction.name, "n": len(direction.text)} for direction in directions],
            "estimates": {
                part: {name: asdict(estimate) for name, estimate in of_part.items()}
                for part, of_part in estimates(directions).items()
            },
        }  # fmt: skip

    def _measure(self, checkpoint: Path) -> list[Direction]:
        embedding, source = self.criterion.embedding, self.criterion.source
        model, tokenizer = trained_encoder(self.run, checkpoint), load_tokenizer(str(self.run / "model"))
        encoder = Encoder.of(str(checkpoint), model, tokenizer, embedding.device, embedding.layer)
        directions = rank_texts(encoder, self.criterion.texts, embedding, checkpoint.name)
        return [direction for direction in directions if source in (None, direction.query)]


def _scored(record: dict[str, Any]) -> ScoredCheckpoint:
    return ScoredCheckpoint(
        record["checkpoint"],
        {
            part: {name: Estimate(**estimate) for name, estimate in of_part.items()}
            for part, of_part in record["estimates"].items()
        },
    )


def estimates(directions: Sequence[Direction]) -> dict[str, dict[str, Estimate]]:
    """Every measure over all items, and over two halves of them that a hash of the ids makes.

    Queries are halved, candidates are not, so the numbers of halves and of the whole can be compared. A half without
    items is left out.
    """
    result: dict[str, dict[str, Estimate]] = {}
    for part in (ALL, SELECT, HOLDOUT):
        chosen = [
            np.array([index for index, key in enumerate(direction.text.ids) if part in (ALL, half(key))], np.int64)
            for direction in directions
        ]
        if not all(len(indices) for indices in chosen):
            continue
        result[part] = {}
        for name, ks in MEASURES.items():
            values = [np.mean([hits(direction.rank, k) for k in ks], axis=0) for direction in directions]
            items = [
                ([direction.text.ids[index] for index in indices], value[indices])
                for direction, indices, value in zip(directions, chosen, values, strict=True)
            ]
            result[part][name] = mean_accuracy(items)
    return result


def half(key: str) -> str:
    """Which half an item belongs to: a function of its id alone."""
    return SELECT if hashlib.blake2b(key.encode()).digest()[0] % 2 else HOLDOUT


def ranked(scored: Sequence[ScoredCheckpoint], measure: str, part: str = ALL) -> list[ScoredCheckpoint]:
    """Best first; earlier checkpoints come first among equals.

    Raises:
        DataError: the part has no items.
    """
    if any(part not in item.estimates for item in scored):
        raise DataError("there are too few items to divide them into halves", "omit --holdout")
    return sorted(
        scored, key=lambda item: (-item.estimates[part][measure].value, checkpoint_step(Path(item.checkpoint)))
    )


def write_choice(run: Path, criterion: Criterion, order: Sequence[ScoredCheckpoint], part: str = ALL) -> None:
    """Writes best.json, which `export --step best` reads; training never removes the checkpoint that it names."""
    entries = [{"checkpoint": item.checkpoint, **_entry(item.estimates[part][criterion.measure])} for item in order]
    choice = {
        "checkpoint": order[0].checkpoint, "measure": criterion.measure, "value": entries[0]["value"],
        "ci95": entries[0]["ci95"], "task": criterion.task, "source": criterion.source,
        "pairs": [text.name for text in criterion.texts], "layer": criterion.embedding.layer,
    }  # fmt: skip
    if part == SELECT:
        choice["holdout"] = _entry(order[0].estimates[HOLDOUT][criterion.measure])
    write_json(run / "best.json", choice | {"ranked": entries})


def _entry(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}


def select(run: Path, criterion: Criterion, holdout: bool = False) -> str:
    """Measures all complete checkpoints of a run, writes best.json and returns the table, best first.

    Args:
        holdout: chooses on one half of the items and reports the chosen checkpoint on the other, without bias.

    Raises:
        DataError: no such run or no checkpoint, or one is damaged.
    """
    checkpoints = complete_checkpoints(run / "checkpoints")
    if not checkpoints:
        raise DataError(
            f"{run} has no complete checkpoint" if run.is_dir() else f"run folder not found: {run}",
            "training writes the first one after run.checkpoint_every steps",
        )
    part, scorer = SELECT if holdout else ALL, CheckpointScorer(run, criterion)
    order = ranked([scorer.scored(checkpoint) for checkpoint in checkpoints], criterion.measure, part)
    write_choice(run, criterion, order, part)
    rows = [[item.checkpoint, percent(item.estimates[part][criterion.measure])] for item in order]
    title = f"{run}: {criterion.task}, {criterion.measure}" + (", half of the items" if holdout else "")
    lines = [title, format_table(["checkpoint", f"{criterion.measure} % [95 %]"], rows), *_removed(run, checkpoints)]
    if holdout:
        other = percent(order[0].estimates[HOLDOUT][criterion.measure])
        lines.append(f"{order[0].checkpoint} on the other half: {other}")
    return "\n".join(lines)


def _removed(run: Path, checkpoints: Sequence[Path]) -> list[str]:
    """A remark if training has written checkpoints up to the newest that do not exist any more."""
    steps = {checkpoint_step(path) for path in checkpoints}
    gone, every = removed_steps(run, steps)
    if not gone:
        return []
    return [
        f"chosen among {len(steps)} checkpoints: {len(gone)} others (steps {gone[0]} to {gone[-1]}) were removed in "
        f"training; run.keep_every={every} keeps them all"
    ]


def make_scorer(config: Config) -> CheckpointScorer:
    """The scorer of a run with early stopping, by the criterion of its configuration.

    Raises:
        ConfigError: fewer than two languages.
        DataError: the test set is missing.
    """
    settings = config.selection
    if settings is None:
        raise ConfigError("no `selection` in the configuration")
    task = retrieval_tasks()[settings.task]
    texts, _ = task.read(settings.data, settings.languages, settings.source, settings.limit)
    embedding = EmbeddingSettings(layer=settings.layer)
    return CheckpointScorer(
        config.run.path, Criterion(task.name, texts, settings.source, embedding, settings.measure or task.measure)
    )
