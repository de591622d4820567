"""Finds the results and analyses of runs, reads them, and says which folders were used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from translit_scale.errors import DataError
from translit_scale.evaluate.results import KINDS
from translit_scale.files import read_json
from translit_scale.report.page.runs import Run, read_runs
from translit_scale.report.results import Results
from translit_scale.report.tables import name_rows


@dataclass(frozen=True)
class Analysis:
    """A JSON file of `analyze`."""

    path: Path
    kind: str
    """Its `task_type`: `similarity`, `vocabulary`, …"""
    content: Mapping[str, Any]


@dataclass
class Inputs:
    """Everything that a page is made of."""

    runs: list[Run]
    results: Results | None
    models: dict[str, str]
    """Row → label of results; the others are compared with the first one."""
    analyses: list[Analysis]
    used: list[str]
    """Folders of results and analyses that were used."""
    damaged: list[DataError] = field(default_factory=list)
    """What could not be read; the page is made without it and lists it."""

    def run_of(self, row: str) -> Run | None:
        """The run whose folder the model of a row lies in."""
        paths = self.results.model_paths(self.models[row]) if self.results else []
        return next((run for run in self.runs for path in paths if run.holds(path)), None)

    def of_kind(self, kind: str) -> list[Analysis]:
        """The analyses of one kind, in the order of their paths."""
        return [analysis for analysis in self.analyses if analysis.kind == kind]


def read_inputs(
    paths: Sequence[Path], results: Sequence[Path], analysis: Sequence[Path], models: Sequence[str]
) -> Inputs:
    """Reads runs with their results and analyses.

    Without `results`, they are looked for in RUN/results, in `results` beside the run, and in `results` of the working
    directory, which the commands write to by default; without `analysis` also in the folders `analysis` at these
    places. Of a folder that other runs may share, it is used only if a model in it belongs to one of the runs.

    Args:
        models: ROW=LABEL as for `report tables`; without them all labels, other models before those of the runs.

    Raises:
        DataError: a folder that was named is no run, does not exist, or has no results.
        ConfigError: as `name_rows`.
    """
    damaged: list[DataError] = []
    runs = read_runs(list(paths), damaged)
    for folder in (*results, *analysis):
        if not folder.is_dir():
            raise DataError(f"folder not found: {folder}", "name the folder that --out of evaluate or analyze named")
    result_folders = _distinct(list(results) or _own(runs, "results", KINDS))
    folders = [*result_folders, *(analysis or _own(runs, "analysis", None))]
    folders += [] if results and analysis else _own(runs, "results", None)
    folders = _distinct(folders)
    merged = _merged(result_folders, damaged)
    inputs = Inputs(runs, merged, {}, list(_analyses(folders, damaged)), [str(folder) for folder in folders], damaged)
    if merged is not None:
        inputs.models = name_rows(models, merged.labels)
        if not models:
            inputs.models = {label: label for label in sorted(inputs.models, key=lambda row: _order(inputs, row))}
    elif models:
        raise DataError("--model names rows of results, but there are no results", "name their folder: --results DIR")
    return inputs


def _order(inputs: Inputs, row: str) -> tuple[int, str]:
    """Models of no run first, then those of the runs in their order."""
    run = inputs.run_of(row)
    return (-1 if run is None else inputs.runs.index(run), row)


def _own(runs: Sequence[Run], name: str, kinds: Sequence[str] | None) -> list[Path]:
    """Folders of this name in and beside the runs and in the working directory that have something about the runs."""
    inside = [run.path / name for run in runs]
    shared = [*(run.path.parent / name for run in runs), Path(name)]
    found = [folder for folder in inside if folder.is_dir() and next(_contents(folder, kinds, []), None)]
    return found + [folder for folder in shared if folder.is_dir() and _mentions(folder, runs, kinds)]


def _mentions(folder: Path, runs: Sequence[Run], kinds: Sequence[str] | None) -> bool:
    for _, content in _contents(folder, kinds, []):
        tokenizer, models = content.get("tokenizer"), [content.get("model"), *(content.get("runs") or [])]
        paths = [model.get("path") for model in models if isinstance(model, dict)]
        if any(isinstance(path, str) and run.holds(path) for path in paths for run in runs):
            return True
        checksum = tokenizer.get("tokenizer_sha256") if isinstance(tokenizer, dict) else None
        if checksum and any(run.environment.get("tokenizer") == checksum for run in runs):
            return True
    return False


def _distinct(folders: Sequence[Path]) -> list[Path]:
    """The folders without those that are the same as, or lie in, another one."""
    resolved = {folder.resolve(): folder for folder in folders}
    return [folder for path, folder in resolved.items() if not any(other in path.parents for other in resolved)]


def _merged(folders: Sequence[Path], damaged: list[DataError]) -> Results | None:
    """The results of all folders; of two of the same direction or language the first one, and the other is reported."""
    merged: Results | None = None
    for folder in folders:
        try:
            results = Results(folder, damaged)
        except DataError as error:
            damaged.append(error)
            continue
        if merged is None:
            merged = results
            continue
        for file in results.files:
            try:
                merged.add(file)
            except DataError as error:
                damaged.append(DataError(f"{file.path} is left out: {error.message}"))
    return merged


def _analyses(folders: Sequence[Path], damaged: list[DataError]) -> Iterator[Analysis]:
    for folder in folders:
        for path, content in _contents(folder, None, damaged):
            if content["task_type"] not in KINDS:
                yield Analysis(path, str(content["task_type"]), content)


def _contents(
    folder: Path, kinds: Sequence[str] | None, damaged: list[DataError]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The JSON files below a folder that state their `task_type`: all, or those of some kinds."""
    for path in sorted(folder.rglob("*.json")):
        try:
            content = read_json(path, "result", "remove it, or make it again")
        except DataError as error:
            damaged.append(error)
            continue
        if isinstance(content, dict) and (content.get("task_type") in kinds if kinds else "task_type" in content):
            yield path, content
