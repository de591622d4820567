"""What the report page states about a run, from the files of its directory; loading it needs no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from translit_scale.config import Config
from translit_scale.errors import ConfigError, DataError
from translit_scale.files import read_json
from translit_scale.report.trained_languages import visited_languages
from translit_scale.schema import read_yaml, validate
from translit_scale.train.checkpointing.checkpoint import complete_checkpoints, read_info

MOST_RECORDS = 250
"""Training records of a run that the page contains; of a longer run those at equal distances, and the last one."""

Record = Mapping[str, float | None]


@dataclass(frozen=True)
class Run:
    """A run directory as far as the page shows it. Files that a run does not have (yet) are empty."""

    path: Path
    name: str
    """Unique among the runs of a page."""
    settings: Mapping[str, Any]
    """config.yaml, with the defaults of settings that are newer than the run."""
    ds_config: Mapping[str, Any]
    environment: Mapping[str, Any]
    """Versions, commit, hosts: environment.json of the newest start."""
    status: Mapping[str, Any]
    best: Mapping[str, Any]
    """best.json: the chosen checkpoint, and the scores of all that were measured."""
    pairs: Mapping[str, int]
    """Pairs of each language that the steps before the newest checkpoint have visited."""
    records: tuple[Record, ...]
    """Thinned training records, and all records of validation and monitoring."""
    record_count: int
    """Records before thinning."""

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.status.get("step") or max((record["step"] or 0 for record in self.records), default=0))

    @property
    def shards(self) -> str:
        """The shard set that it was trained on; `SHARDS` if its settings do not say."""
        return str(self.settings.get("data", {}).get("shards", "SHARDS"))

    def holds(self, path: str) -> bool:
        """Whether a path, as results state those of models, is this run or lies in it."""
        return bool(path) and Path(path).resolve().is_relative_to(self.path.resolve())


def read_runs(paths: list[Path], damaged: list[DataError]) -> list[Run]:
    """Reads all runs; files that are damaged are reported in `damaged`, and the page is made without them.

    Raises:
        DataError: a folder is not a run directory.
    """
    paths = list({path.resolve(): path for path in paths}.values())
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.resolve().parts[-2:]) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [_read_run(path, name, damaged) for path, name in zip(paths, names, strict=True)]


def _read_run(path: Path, name: str, damaged: list[DataError]) -> Run:
    if not (path / "config.yaml").is_file():
        raise DataError(
            f"{path} is not a run directory: it has no config.yaml",
            "name the folder that `translit-scale train` wrote, such as runs/demo/tcm",
        )
    records, count = _read_records(path / "metrics.jsonl", damaged)
    return Run(
        path,
        name,
        _settings(path / "config.yaml", damaged),
        _optional(path / "ds_config.json", damaged),
        _optional(path / "environment.json", damaged),
        _optional(path / "STATUS.json", damaged),
        _optional(path / "best.json", damaged),
        _pairs(path, damaged),
        records,
        count,
    )


def _settings(path: Path, damaged: list[DataError]) -> Mapping[str, Any]:
    """All settings; as they stand there if some are not valid any more, which is reported."""
    stated = read_yaml(path)
    try:
        return validate(Config, stated, str(path)).model_dump(mode="json")
    except ConfigError as error:
        damaged.append(DataError(error.message))
        return stated


def _optional(path: Path, damaged: list[DataError]) -> Mapping[str, Any]:
    """A mapping from a JSON file; empty if there is no such file, or if it is damaged, which is reported."""
    if not path.exists():
        return {}
    try:
        value = read_json(path, "file of the run")
    except DataError as error:
        damaged.append(error)
        return {}
    return value if isinstance(value, dict) else {}


def _pairs(path: Path, damaged: list[DataError]) -> Mapping[str, int]:
    """Needs the record of the newest checkpoint only, so a copy of a run without its weights has them, too."""
    checkpoints = complete_checkpoints(path / "checkpoints")
    try:
        return visited_languages(read_info(checkpoints[-1], check_files=False)) if checkpoints else {}
    except DataError as error:
        damaged.append(error)
        return {}


def _read_records(path: Path, damaged: list[DataError]) -> tuple[tuple[Record, ...], int]:
    """The records of metrics.jsonl and their number before thinning.

    A record of 500 languages is long and there may be many, so only those that are kept are parsed. Records without a
    loss, which are those of validation, are rare and are all kept.
    """
    if not path.is_file():
        return (), 0
    with path.open("rb") as file:
        total = sum(b'"train/loss"' in line for line in file)
    distance = max(1, -(-total // MOST_RECORDS))
    records: list[Record] = []
    trained = wrong = 0
    with path.open("rb") as file:
        for line in file:
            if b'"train/loss"' in line:
                trained += 1
                if (trained - 1) % distance and trained < total:
                    continue
            try:
                record = json.loads(line)
                records.append({name: _number(value) for name, value in record.items()} | {"step": int(record["step"])})
            except (ValueError, KeyError, TypeError, AttributeError):
                wrong += bool(line.strip())
    if wrong:
        damaged.append(DataError(f"{path}: {wrong} of the lines that the page shows are not records of training"))
    return tuple(records), total


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
