"""What was measured of the checkpoints of a run, one file for each checkpoint, so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from translit_scale import __version__
from translit_scale.config import load_config
from translit_scale.errors import DataError
from translit_scale.evaluate.results import SCHEMA
from translit_scale.files import read_json, sha256_file, write_json
from translit_scale.train.checkpointing.checkpoint import COMPLETE, checkpoint_step


class CheckpointRecords:
    """The records of one criterion, `<folder>/step_000020.<key>.json`; each is valid for the weights that it names.

    Args:
        folder: under the folder of the run.
        key: equal for criteria whose records can be compared.
        hint: what to do if a record is damaged.
    """

    def __init__(self, folder: Path, key: str, hint: str) -> None:
        self.folder, self.key, self.hint = folder, key, hint

    def path(self, checkpoint: str) -> Path:
        """The file of the record of a checkpoint, which need not exist."""
        return self.folder / f"{checkpoint}.{self.key}.json"

    def get(self, checkpoint: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of a complete checkpoint; measures it if there is none for its weights.

        Args:
            measure: returns what is recorded.

        Raises:
            DataError: the record is damaged, or `measure` raises it.
            FileNotFoundError: the checkpoint does not exist any more.
        """
        path, content = self.path(checkpoint.name), sha256_file(checkpoint / COMPLETE)
        if path.exists():
            record = self._read(path)
            if record["checkpoint_sha256"] == content:
                return record
        head = {
            "schema": SCHEMA, "tool": f"translit-scale {__version__}", "checkpoint": checkpoint.name,
            "checkpoint_sha256": content,
        }  # fmt: skip
        record = head | measure()
        write_json(path, record)
        return record

    def all(self, damaged: list[DataError] | None = None) -> dict[int, dict[str, Any]]:
        """All records, by step; their checkpoints may have been removed.

        Args:
            damaged: gets the errors of single records, which are raised without it.
        """
        by_step: dict[int, dict[str, Any]] = {}
        for path in self.folder.glob(f"step_*.{self.key}.json"):
            try:
                record = self._read(path)
            except DataError as error:
                if damaged is None:
                    raise
                damaged.append(error)
                continue
            by_step[checkpoint_step(Path(record["checkpoint"]))] = record
        return dict(sorted(by_step.items()))

    def _read(self, path: Path) -> dict[str, Any]:
        record: dict[str, Any] = read_json(path, "record of a checkpoint", self.hint)
        return record


def removed_steps(run: Path, steps: Collection[int]) -> tuple[list[int], int]:
    """Steps after which training has written a checkpoint, up to the last of `steps`, that are not among them.

    Returns:
        The steps, and `run.checkpoint_every`.
    """
    every = load_config([run / "config.yaml"]).run.checkpoint_every
    return [step for step in range(every, max(steps), every) if step not in steps], every
