"""Which checkpoint of a run retrieves best: every one is measured once, the choice goes to best.json.

Paper A stops by the best average on SR-B, paper B chooses by top-10 on Tatoeba with English queries. A checkpoint's
record under RUN/selection holds all measures, so another one, or a held-out half, needs no new embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from translit_scale import __version__
from translit_scale.config import Config
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.bootstrap import Estimate, mean_accuracy
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.results import SCHEMA, EmbeddingSettings, format_table, percent
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.evaluate.retrieval.run import Direction, answer_texts
from translit_scale.files import read_json, sha256_file, write_json
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.testsets.task import MEASURES
from translit_scale.train.checkpoint import COMPLETE, checkpoint_step, complete_checkpoints
from translit_scale.train.trained import trained_encoder

ALL, SELECT, HOLDOUT = "all", "select", "holdout"


@dataclass(frozen=True)
class Standard:
    """What checkpoints are measured by: the unweighted mean over directions of top-k.

    With a source only its own queries count (English ones in paper B), without one both directions of every pair.
    """

    task: str
    texts: Sequence[ParallelText]
    source: str | None
    embedding: EmbeddingSettings
    measure: str

    @property
    def key(self) -> str:
        """Equal for standards whose records can be compared, whatever the measure."""
        facts = [
            SCHEMA, self.task, self.source, self.embedding.layer, self.embedding.include_special,
            [[text.name, text.fingerprint, text.ids] for text in self.texts],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Scored:
    """A checkpoint and its estimates, by part of the items (`all`, `select`, `holdout`) and measure."""

    checkpoint: str
    estimates: dict[str, dict[str, Estimate]]


class CheckpointJudge:
    """Measures the checkpoints of one run by one standard, each of them once."""

    def __init__(self, run: Path, standard: Standard) -> None:
        self.run, self.standard = run, standard
        self.metric = f"eval/{standard.task}/{standard.measure}"

    def scored(self, checkpoint: Path) -> Scored:
        """The record of a checkpoint; it is measured if there is none of these weights and this standard.

        Raises:
            DataError: the checkpoint is incomplete or damaged, or the disk is full.
        """
        path, content = self._record(checkpoint.name), sha256_file(checkpoint / COMPLETE)
        if path.exists():
            record = read_json(path, "record of a checkpoint", "remove it and select again")
            if record["checkpoint_sha256"] == content:
                return _scored(record)
        directions = self._measure(checkpoint)
        record = {
            "schema": SCHEMA, "tool": f"translit-scale {__version__}", "checkpoint": checkpoint.name,
            "checkpoint_sha256": content, "task": self.standard.task, "source": self.standard.source,
            "directions": [{"name": direction.name, "n": len(direction.text)} for direction in directions],
            "estimates": {
                part: {name: asdict(estimate) for name, estimate in of_part.items()}
                for part, of_part in estimates(directions).items()
            },
        }  # fmt: skip
        write_json(path, record)
        return _scored(record)

    def judge(self, checkpoint: Path) -> float:
        """The measure of a checkpoint; best.json then names the best of all that were measured and are still there."""
        value = self.scored(checkpoint).estimates[ALL][self.standard.measure].value
        there = [path for path in complete_checkpoints(checkpoint.parent) if self._record(path.name).exists()]
        write_choice(self.run, self.standard, ranked([self.scored(path) for path in there], self.standard.measure))
        return value

    def values(self) -> dict[int, float]:
        """The measure of every checkpoint that has a record, by its step; the checkpoint may be gone."""
        records = sorted((self.run / "selection").glob(f"step_*.{self.standard.key}.json"))
        found = [_scored(read_json(path, "record of a checkpoint", "remove it and select again")) for path in records]
        measure = self.standard.measure
        return {checkpoint_step(Path(one.checkpoint)): one.estimates[ALL][measure].value for one in found}

    def _record(self, checkpoint: str) -> Path:
        return self.run / "selection" / f"{checkpoint}.{self.standard.key}.json"

    def _measure(self, checkpoint: Path) -> list[Direction]:
        embedding, source = self.standard.embedding, self.standard.source
        model, tokenizer = trained_encoder(self.run, checkpoint), load_tokenizer(str(self.run / "model"))
        encoder = Encoder.of(str(checkpoint), model, tokenizer, embedding.device, embedding.layer)
        directions = answer_texts(encoder, self.standard.texts, embedding, checkpoint.name)
        return [direction for direction in directions if source in (None, direction.query)]


def _scored(record: dict[str, Any]) -> Scored:
    return Scored(
        record["checkpoint"],
        {
            part: {name: Estimate(**estimate) for name, estimate in of_part.items()}
            for part, of_part in record["estimates"].items()
        },
    )


def estimates(directions: Sequence[Direction]) -> dict[str, dict[str, Estimate]]:
    """Every measure over all items, and over the two halves that a hash of their ids makes.

    Queries are halved, not candidates: numbers of halves and of the whole can be compared. A half without items is
    left out.
    """
    result: dict[str, dict[str, Estimate]] = {}
    for part in (ALL, SELECT, HOLDOUT):
        chosen = [
            np.array([row for row, key in enumerate(direction.text.ids) if part in (ALL, half(key))], dtype=np.int64)
            for direction in directions
        ]
        if not all(len(rows) for rows in chosen):
            continue
        result[part] = {}
        for name, of in MEASURES.items():
            values = [np.mean([hits(direction.rank, k) for k in of], axis=0) for direction in directions]
            items = [
                ([direction.text.ids[row] for row in rows], value[rows])
                for direction, rows, value in zip(directions, chosen, values, strict=True)
            ]
            result[part][name] = mean_accuracy(items)
    return result


def half(key: str) -> str:
    """Which half an item belongs to: a function of its id alone."""
    return SELECT if hashlib.blake2b(key.encode()).digest()[0] % 2 else HOLDOUT


def ranked(scored: Sequence[Scored], measure: str, part: str = ALL) -> list[Scored]:
    """Best first; of equal ones the earlier checkpoint.

    Raises:
        DataError: the part has no items.
    """
    if any(part not in one.estimates for one in scored):
        raise DataError("too few items to halve them", "leave --holdout out")
    return sorted(scored, key=lambda one: (-one.estimates[part][measure].value, checkpoint_step(Path(one.checkpoint))))


def write_choice(run: Path, standard: Standard, order: Sequence[Scored], part: str = ALL) -> None:
    """Writes best.json, which `export --step best` reads and which keeps the checkpoint from being removed."""
    rows = [{"checkpoint": one.checkpoint, **_entry(one.estimates[part][standard.measure])} for one in order]
    choice = {
        "checkpoint": order[0].checkpoint, "measure": standard.measure, "value": rows[0]["value"],
        "ci95": rows[0]["ci95"], "task": standard.task, "source": standard.source,
        "pairs": [text.name for text in standard.texts], "layer": standard.embedding.layer,
    }  # fmt: skip
    if part == SELECT:
        choice["holdout"] = _entry(order[0].estimates[HOLDOUT][standard.measure])
    write_json(run / "best.json", choice | {"ranked": rows})


def _entry(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}


def select(run: Path, standard: Standard, holdout: bool = False) -> str:
    """Measures all complete checkpoints of a run, writes best.json and returns the table, best first.

    Args:
        holdout: choose on one half of the items and report the chosen one on the other: an honest estimate.

    Raises:
        DataError: no such run or no checkpoint, or one is damaged.
    """
    checkpoints = complete_checkpoints(run / "checkpoints")
    if not checkpoints:
        raise DataError(
            f"{run} has no complete checkpoint" if run.is_dir() else f"run folder not found: {run}",
            "training writes the first one after run.checkpoint_every steps",
        )
    part, judge = SELECT if holdout else ALL, CheckpointJudge(run, standard)
    order = ranked([judge.scored(checkpoint) for checkpoint in checkpoints], standard.measure, part)
    write_choice(run, standard, order, part)
    rows = [[one.checkpoint, percent(one.estimates[part][standard.measure])] for one in order]
    title = f"{run}: {standard.task}, {standard.measure}" + (", half of the items" if holdout else "")
    lines = [title, format_table(["checkpoint", f"{standard.measure} % [95 %]"], rows)]
    if holdout:
        other = percent(order[0].estimates[HOLDOUT][standard.measure])
        lines.append(f"{order[0].checkpoint} on the other half: {other}")
    return "\n".join(lines)


def judge_of(config: Config) -> CheckpointJudge:
    """What measures the checkpoints of a training with early stopping.

    Raises:
        ConfigError: fewer than two languages.
        DataError: the test set is not there.
    """
    settings = config.selection
    if settings is None:
        raise ConfigError("no `selection` in the configuration")
    task = retrieval_tasks()[settings.task]
    texts, _ = task.read(settings.data, settings.languages, settings.source, settings.limit)
    embedding = EmbeddingSettings(layer=settings.layer)
    return CheckpointJudge(
        config.run.path, Standard(task.name, texts, settings.source, embedding, settings.measure or task.measure)
    )
