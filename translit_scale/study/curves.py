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
    "top1": "found %",
}
AT_THE_END = 5
"""So many records at the end of a training are averaged, because a single batch is noisy."""


def write_curves(runs: Sequence[Run], place: Place) -> None:
    """Writes `curves.csv`: a row for each record of each training that has begun."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "step", *METRICS])
    for run in runs:
        for record in _records(place.run(run) / "metrics.jsonl"):
            values = [record.get(metric) for metric in METRICS.values()]
            cells = ["" if value is None else f"{value:.4g}" for value in values]
            writer.writerow([f"{run.corpus}/{run.label}", record["step"], *cells])
    write_bytes(place.study / "curves.csv", text.getvalue().encode())


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
    path = folder / "curves.csv"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    rows = []
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
