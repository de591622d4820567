"""How the four similarities and retrieval develop over the checkpoints of runs (paper A, section 5.3).

A checkpoint is measured once: its record is in the folder of its run. Everything else is made anew from the records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from translit_scale.analyze.dynamics_charts import dynamics_charts, dynamics_rows
from translit_scale.analyze.figures import draw, histograms
from translit_scale.analyze.measurement import (
    RomanizedText,
    check_texts,
    direction_names,
    measure,
    romanize_texts,
    similarity_settings,
)
from translit_scale.analyze.similarity import SIMILARITIES
from translit_scale.charts import can_draw, comma_separated
from translit_scale.errors import DataError
from translit_scale.evaluate.checkpoint_records import CheckpointRecords, removed_steps
from translit_scale.evaluate.models import EmbeddingSettings, ModelName, check_labels, split_label
from translit_scale.evaluate.results import SCHEMA, header
from translit_scale.files import write_bytes, write_json
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.task import TOP_K
from translit_scale.text_table import format_table
from translit_scale.train.checkpointing.checkpoint import checkpoint_step, complete_checkpoints

AVERAGE = "average"
"""In place of a direction: the unweighted mean over all directions, if there are more than `SHOWN`."""
SHOWN = 2


@dataclass(frozen=True)
class Dynamics:
    """What is measured of every checkpoint, the same for all runs."""

    task: str
    texts: Sequence[ParallelText]
    embedding: EmbeddingSettings
    seed: int
    figures: bool
    """Whether a histogram of each checkpoint is drawn when it is measured."""

    @property
    def key(self) -> str:
        """Equal for measurements whose records can be compared."""
        facts = [
            SCHEMA, self.embedding.layer, self.embedding.include_special, self.seed, Romanizer().provenance(),
            [[text.name, text.fingerprint, text.ids] for text in self.texts],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    @cached_property
    def romanized(self) -> list[RomanizedText]:
        """The texts with their romanizations; not made if every checkpoint was measured before."""
        return romanize_texts(self.texts)

    def records(self, run: Path) -> CheckpointRecords:
        """The records of a run."""
        return CheckpointRecords(run / "analysis" / self.task, self.key, "remove it and run the same command again")

    def measure_run(self, run: ModelName) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """Measures the checkpoints of a run that have no record.

        Returns:
            All records by step, those of removed checkpoints too, and messages about what was not measured.
        """
        path, problems = Path(run.path), list[str]()
        records = self.records(path)
        failed = set()
        for checkpoint in complete_checkpoints(path / "checkpoints"):
            step = checkpoint_step(checkpoint)
            label = f"{run.label}@{step}"
            try:
                records.get(checkpoint, partial(self._record, records, label, checkpoint))
            except (DataError, FileNotFoundError) as error:
                removed = "training has removed the checkpoint meanwhile"
                problems.append(f"{label}: {error if isinstance(error, DataError) else removed}")
                failed.add(step)
        damaged: list[DataError] = []
        found = {step: record for step, record in records.all(damaged).items() if step not in failed}
        problems += [text for text in map(str, damaged) if not any(text in problem for problem in problems)]
        if not found and not problems:
            missing = "has no complete checkpoint" if path.is_dir() else "does not exist"
            problems.append(f"{run.label}: the run folder {path} {missing}")
        return found, problems

    def _record(self, records: CheckpointRecords, label: str, checkpoint: Path) -> dict[str, Any]:
        encoder = self.embedding.load(ModelName(label, str(checkpoint)))
        measured = measure(encoder, self.romanized, self.embedding, label, self.seed)
        if self.figures:
            folder = records.path(checkpoint.name).with_suffix("")
            titles = ((of_text, f"{self.task}: {of_text.title}") for of_text in measured[:SHOWN])
            draw([histograms(of_text.name, title, {label: of_text}) for of_text, title in titles], folder)
        return {
            "task": self.task,
            "settings": similarity_settings(encoder, self.embedding, self.seed),
            "scores": {"test": [of_text.score(self.seed) for of_text in measured]},
        }


def name_runs(arguments: Sequence[str]) -> list[ModelName]:
    """Runs of the command line: `RUN` or `LABEL=RUN`.

    Raises:
        ConfigError: two runs have the same label, or a label is not a valid file name.
    """
    runs = [split_label(argument, "--run") for argument in arguments]
    check_labels(runs, "give labels: --run mlm=runs/a --run tcm=runs/b")
    return runs


def run_dynamics(
    runs: Sequence[ModelName],
    texts: Sequence[ParallelText],
    embedding: EmbeddingSettings,
    task: str,
    out: Path,
    seed: int = 0,
    figures: bool = True,
) -> tuple[str, list[str]]:
    """Measures all checkpoints of all runs that were not measured before, and writes `<out>/<task>/`.

    Files: `dynamics.json`, `dynamics.csv`, and charts (`dynamics_charts`) if vl-convert is installed. They follow from
    the records in the folders of the runs, so they are the same whether or not the command was interrupted.

    Returns:
        The tables, and messages about checkpoints that could not be measured.

    Raises:
        DataError: a text has only one pair, or nothing could be measured.
        ConfigError: a language pair occurs twice.
    """
    check_texts(texts)
    folder = out / task
    folder.mkdir(parents=True, exist_ok=True)  # fails here rather than after the checkpoints are measured
    figures = figures and can_draw()
    dynamics = Dynamics(task, texts, embedding, seed, figures)
    problems: list[str] = []
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        records[run.label], of_run = dynamics.measure_run(run)
        problems += of_run
    if not any(records.values()):
        raise DataError("\n".join(["nothing was measured:", *problems]))
    entries = [
        {"run": label, "step": step, **score}
        for label, of_run in records.items()
        for step, record in of_run.items()
        for score in with_average(record["scores"]["test"])
    ]
    rows = dynamics_rows(entries)
    write_json(folder / "dynamics.json", {
        **header(task, "dynamics"),
        "runs": [_describe(run, dynamics.key, records[run.label]) for run in runs],
        "not_measured": problems,
        "scores": {"test": entries},
    })  # fmt: skip
    write_bytes(folder / "dynamics.csv", comma_separated(rows).encode())
    shown = shown_directions(texts)
    if figures:
        draw([chart for direction in shown for chart in dynamics_charts(task, direction, rows)], folder)
    tables = [_table(task, direction, entries) for direction in shown]
    notes = [note for run in runs if records[run.label] for note in _removed(run, list(records[run.label]))]
    return "\n\n".join([*tables, *notes]), problems


def shown_directions(texts: Sequence[ParallelText]) -> list[str]:
    """What tables and charts show: every direction, or the average over more than `SHOWN`."""
    names = [name for text in texts for name in direction_names(text)]
    return [AVERAGE] if len(names) > SHOWN else names


def with_average(scores: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The scores of a checkpoint, and behind them their average if there are more than `SHOWN`."""
    if len(scores) <= SHOWN:
        return list(scores)

    def mean(*keys: str) -> float:
        values = [score[keys[0]][keys[1]] for score in scores]
        return sum(values) / len(values)

    measures = ("matched", "random", "gap", "separability")
    average = {
        "hf_subset": AVERAGE,
        "directions": len(scores),
        **{name: {measure: mean(name, measure) for measure in measures} for name in SIMILARITIES},
        "retrieval": {f"top{k}": mean("retrieval", f"top{k}") for k in TOP_K},
    }
    return [*scores, average]


def _describe(run: ModelName, key: str, records: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    settings = next((record["settings"] for record in records.values()), None)
    return {"label": run.label, "path": run.path, "key": key, "steps": list(records), "settings": settings}


def _table(task: str, direction: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """One direction or the average: a line for each run and step."""
    lines = []
    for entry in entries:
        if entry["hf_subset"] == direction:
            gaps = [f"{entry[name]['gap']:.3f}" for name in SIMILARITIES]
            percents = [entry["translation"]["separability"], entry["retrieval"]["top1"], entry["retrieval"]["top10"]]
            lines.append([entry["run"], str(entry["step"]), *gaps, *(f"{100 * value:.1f}" for value in percents)])
            last = entry
    if direction == AVERAGE:
        what = f"average of {last['directions']} directions"
    else:
        what = f"s = {last['s']}, t = {last['t']}, {last['n']} pairs"
    columns = ["run", "step", *map(",".join, SIMILARITIES.values()), "AUC %", "top-1 %", "top-10 %"]
    legend = "gaps (matched minus random pairs) of the four similarities; AUC and retrieval of s,t"
    return "\n".join([f"{task}: {what}", legend, format_table(columns, lines)])


def _removed(run: ModelName, steps: Sequence[int]) -> list[str]:
    if not (Path(run.path) / "config.yaml").is_file():  # somebody has copied the checkpoints only
        return []
    gone, every = removed_steps(Path(run.path), steps)
    if not gone:
        return []
    return [
        f"{run.label}: {len(gone)} checkpoints (steps {gone[0]} to {gone[-1]}) were not measured and are removed; "
        f"run.keep_every={every} keeps all"
    ]
