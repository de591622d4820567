"""Where everything comes from: settings and their differences, versions, commits, hosts, files and commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from translit_scale import __version__
from translit_scale.files import sha256_file
from translit_scale.report.page.elements import Section, Table
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.runs import Run
from translit_scale.report.results import ResultFile

ABSENT = "–"


def settings_of(runs: Sequence[Run]) -> Section:
    """The settings in which runs differ, and all settings."""
    section = Section("settings", "Settings")
    flat = {run.name: dict(_flat(run.settings)) for run in runs}
    names = list(dict.fromkeys(name for settings in flat.values() for name in settings))
    differing = [name for name in names if len({settings.get(name, ABSENT) for settings in flat.values()}) > 1]
    if len(runs) > 1:
        section.tables.append(_table("Settings in which the runs differ", flat, differing))
        if not differing:
            section.paragraphs.append("The runs have the same settings.")
    section.tables.append(
        _table("All settings (`translit-scale docs configuration` explains them)", flat, names, closed=True)
    )
    return section


def provenance(inputs: Inputs, command: str) -> Section:
    """Versions, commits, hosts and seeds of the runs; results with their checksums; the commands."""
    section = Section("provenance", "Provenance")
    flat = {run.name: {"run directory": str(run.path), **dict(_flat(run.environment))} for run in inputs.runs}
    names = list(dict.fromkeys(name for facts in flat.values() for name in facts))
    section.tables.append(_table("Versions, commit, hosts and seeds", _with_seeds(inputs.runs, flat), ["seed", *names]))
    section.tables.append(
        Table("Commands", ["what", "command"], list(_commands(inputs, command)), note=f"translit-scale {__version__}")
    )
    section.tables.append(_measured(inputs))
    section.tables.append(_models(inputs))
    section.tables.append(_files(inputs))
    return section


def _with_seeds(runs: Sequence[Run], flat: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    seeds = {run.name: dict(_flat(run.settings)).get("train.seed", ABSENT) for run in runs}
    return {name: {"seed": seeds[name], **facts} for name, facts in flat.items()}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names of nested settings; lists as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _table(title: str, columns: Mapping[str, Mapping[str, str]], names: Sequence[str], closed: bool = False) -> Table:
    rows = [[name, *(facts.get(name, ABSENT) for facts in columns.values())] for name in names]
    return Table(title, ["", *columns], rows, closed=closed)


def _commands(inputs: Inputs, command: str) -> Iterator[list[str]]:
    for run in inputs.runs:
        yield [
            f"train {run.name} again",
            f"translit-scale train --ds_config {shlex.quote(str(run.path / 'ds_config.json'))} --config "
            f"{shlex.quote(str(run.path / 'config.yaml'))} run.name=NEW_NAME",
        ]
    yield ["make this page again", command]


def _result_files(inputs: Inputs) -> list[ResultFile]:
    return sorted(inputs.results.files if inputs.results else [], key=lambda file: str(file.path))


def _measured(inputs: Inputs) -> Table:
    """How each task was measured: settings of `evaluate`, all values that its results have, and sizes."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for result in _result_files(inputs):
        settings = result.content["settings"]
        facts = dict(_flat({name: "+".join(value) if name == "source" else value for name, value in settings.items()}))
        sizes = [int(test["n"]) for test in result.tests if "n" in test]
        if sizes:
            facts["sentences"] = f"{min(sizes):,}" + (f" to {max(sizes):,}" if max(sizes) > min(sizes) else "")
        for name, value in facts.items():
            found.setdefault(result.content["task_name"], {}).setdefault(name, {})[value] = None
    columns = {task: {name: ", ".join(values) for name, values in facts.items()} for task, facts in found.items()}
    names = list(dict.fromkeys(name for facts in columns.values() for name in facts))
    return _table("How it was measured (`translit-scale docs evaluation` explains it)", columns, names, closed=True)


def _models(inputs: Inputs) -> Table:
    """The weights that the numbers are of."""
    found: dict[tuple[str, ...], None] = {}
    names = ("label", "path", "weights_sha256", "tokenizer_sha256")
    for result in _result_files(inputs):
        model = result.content["model"]
        found[tuple(str(model.get(name, ABSENT)) for name in names)] = None
    heads = ["label", "folder or hub id when it was evaluated", "sha256 of the weights", "sha256 of the tokenizer"]
    return Table("Models", heads, [list(row) for row in found], closed=True)


def _files(inputs: Inputs) -> Table:
    paths = [result.path for result in _result_files(inputs)] + [analysis.path for analysis in inputs.analyses]
    paths += [run.path / name for run in inputs.runs for name in ("config.yaml", "metrics.jsonl", "best.json")]
    rows = [[str(path), f"{path.stat().st_size:,}", sha256_file(path)] for path in paths if path.is_file()]
    return Table("Files that this page is made of", ["file", "bytes", "sha256"], rows, closed=True)
