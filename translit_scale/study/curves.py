"""Training curves of a study's runs in one table, `curves.csv`, so that they remain when the runs are gone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median

from translit_scale.files import write_bytes
from translit_scale.study.steps import Place, Run
from translit_scale.text_table import markdown_table

METRICS = {
    "loss_mlm_orig": "train/loss_mlm_orig",
    "loss_mlm_latn": "train/loss_mlm_latn",
    "loss_mlm_copy": "train/loss_mlm_copy",
    "loss_tlm": "train/loss_tlm",
    "loss_tcm": "train/loss_tcm",
    "top1": "train_tcm/top1",
    "pairs_per_sec": "train_speed/pairs_per_sec",
    "tokens_per_sec": "train_speed/tokens_per_sec",
}
"""Column of the table → metric of a training."""
HEADS = {
    "loss_mlm_orig": "MLM, original",
    "loss_mlm_latn": "MLM, Latin",
    "loss_tlm": "TLM",
    "loss_tcm": "contrast",
    "top1": "in-batch top-1 %",
}
AT_THE_END = 5
"""So many records at the end of a training are averaged, because a single batch is noisy."""


def write_curves(runs: Sequence[Run], place: Place) -> None:
    """Writes `curves.csv`: a row for each record of each training that has begun.

    Rows of other runs, and of runs whose folders have been removed, are kept.
    """
    path = place.study / "curves.csv"
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _rows(path):
        rows.setdefault(row["run"], []).append(row)
    for run in runs:
        name = f"{run.corpus}/{run.label}"
        if found := [_row(name, record) for record in _records(place.run(run) / "metrics.jsonl")]:
            rows[name] = found
    text = io.StringIO()
    writer = csv.DictWriter(text, ["run", "step", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for of_run in rows.values() for row in of_run)
    write_bytes(path, text.getvalue().encode())


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _row(run: str, record: dict[str, float]) -> dict[str, str]:
    values = {name: record.get(metric) for name, metric in METRICS.items()}
    cells = {name: "" if value is None else f"{value:.4g}" for name, value in values.items()}
    return {"run": run, "step": str(record["step"]), **cells}


def _records(path: Path) -> Iterator[dict[str, float]]:
    """Those of a training's losses; what a kill has cut off is left out."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if METRICS["pairs_per_sec"] in record:
            yield record


def training_table(folder: Path, runs: Sequence[Run]) -> str:
    """A row for each training: steps, losses and matches found at its end, median speed; empty without curves."""
    records, rows = _rows(folder / "curves.csv"), []
    for run in runs:
        own = [record for record in records if record["run"] == f"{run.corpus}/{run.label}"]
        if not own:
            continue
        ends = [[float(record[name]) for record in own[-AT_THE_END:] if record[name]] for name in HEADS]
        cells = [f"{fmean(values) * (100 if name == 'top1' else 1):.{0 if name == 'top1' else 2}f}" if values else "–"
                 for name, values in zip(HEADS, ends, strict=True)]  # fmt: skip
        speed = median(float(record["pairs_per_sec"]) for record in own)
        rows.append([run.label, own[-1]["step"], *cells, f"{speed:,.0f}"])
    return markdown_table(["", "steps", *HEADS.values(), "pairs/s"], rows) if rows else ""
