"""Writes a run for TensorBoard: its curves, its settings for the HParams tab, its configuration as text, and charts.

TensorBoard sorts the groups of curves, and the curves of a group, by name, and opens the first groups only. The names
of the metrics are chosen so that the loss comes first: `train/loss`, its terms `train/loss_…` and `train/lr`, then the
groups `train_…` and `validation`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from translit_scale.train.metric_names import BY_LANGUAGE, BY_SCRIPT

Charts = dict[str, dict[str, list[Any]]]
"""Charts of the Custom Scalars tab: category → title → kind, and regular expressions of the metrics that it shows."""


@dataclass(frozen=True)
class RunDescription:
    """What TensorBoard shows of a run beside its curves."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested settings that runs are compared by."""
    configuration: str = ""
    """The configuration of the run, in Markdown."""
    charts: Charts = field(default_factory=dict)


def make_charts(many_languages: bool, contrastive: bool, validated: bool, monitored: bool = False) -> Charts:
    """The charts of a run; without curves that it does not have, because TensorBoard would show an empty chart.

    Args:
        many_languages: the run has losses by script instead of by language.
        contrastive, validated, monitored: whether it has a contrastive objective, early stopping, and a monitor.
    """
    kind, group = ("script", BY_SCRIPT) if many_languages else ("language", BY_LANGUAGE)
    charts: Charts = {
        "loss": {
            "the loss and its terms": _lines("train/loss", "train/loss_.*"),
            f"loss by {kind}": _lines(f"{group}/.*"),
            "learning rate": _lines("train/lr"),
        }
    }
    if contrastive:
        charts["contrastive objective"] = {
            "similarity of positives and negatives": _lines("train_tcm/(positive|negative)_similarity"),
            "fraction whose positive is the nearest": _lines("train_tcm/top1"),
        }
    if validated:
        charts["validation"] = {"score of checkpoints": _lines("validation/.*")}
    if monitored:
        charts["similarities"] = {
            "gap of matched and random pairs": _lines("validation_similarity/.*/gap"),
            "separability (area under the ROC curve)": _lines("validation_similarity/.*/separability"),
            "similarity of matched pairs": _lines("validation_similarity/.*/matched"),
            "retrieval": _lines("validation_similarity/.*/top[0-9]+"),
        }
    charts["speed"] = {
        "pairs per second": _lines("train_speed/pairs_per_sec"),
        "seconds a step, and of them waiting for data": _lines("train_speed/(step|data_wait)_seconds"),
    }
    return charts


def _lines(*metrics: str) -> list[Any]:
    return ["Multiline", list(metrics)]


class TensorBoardFile:
    """The event file of one process of a run.

    Args:
        directory: folder of the event files.
        first: first step of this process; curves of it and of later steps, left by a killed process, are hidden.
        many_languages: show losses by script instead of by language.
    """

    def __init__(self, directory: Path, first: int, description: RunDescription, many_languages: bool) -> None:
        self.hidden = f"{BY_LANGUAGE}/" if many_languages else None
        self.writer = SummaryWriter(str(directory), purge_step=first)
        if description.charts:
            self.writer.add_custom_scalars(description.charts)
        if description.configuration:
            self.writer.add_text("configuration", description.configuration, first - 1)
        if description.settings:
            # `SummaryWriter.add_hparams` would write them into a second run. The record of an experiment, which it
            # also writes, is left out: TensorBoard then finds out itself which settings differ between the runs, and
            # shows these first.
            _, start, _ = hparams(dict(flat_settings(description.settings)), {})
            self.writer._get_file_writer().add_summary(start)

    def add(self, step: int, numbers: Mapping[str, float | None]) -> None:
        """Adds a record and writes it to the disk."""
        for name, value in numbers.items():
            if value is not None and not (self.hidden and name.startswith(self.hidden)):
                self.writer.add_scalar(name, value, step)
        self.writer.flush()  # so that after a kill it has the same records as metrics.jsonl

    def add_pictures(self, step: int, pictures: Mapping[str, bytes]) -> None:
        """Adds PNG files as they are, by name."""
        for name, png in pictures.items():
            width, height = struct.unpack(">II", png[16:24])  # of the header, which is always the first chunk
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
            self.writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        self.writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self.writer.close()


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """Yields (dotted name, value) of nested settings in the types of TensorBoard: lists as text, nothing for None."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, bool | int | float | str) else str(value)
