"""What result files state about settings and texts, and how the files are read. Models are in `models.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from translit_scale import __version__
from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.files import atomic_open, read_json
from translit_scale.testsets.parallel import ParallelText

SCHEMA = 1
KINDS = ("retrieval", "classification", "tagging")
"""Of tasks, in `task_type` of their results."""


def result_files(folder: Path, damaged: list[DataError] | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The result files of `evaluate` anywhere below a folder, in the order of their paths; other files are ignored.

    Args:
        damaged: gets the errors of single files, which are raised without it.

    Raises:
        DataError: no such folder, a damaged file, or one of another schema.
    """
    if not folder.is_dir():
        raise DataError(f"results folder not found: {folder}", "evaluate writes it: --out")
    for path in sorted(folder.rglob("*.json")):
        try:
            content = _read_result(path)
        except DataError as error:
            if damaged is None:
                raise
            damaged.append(error)
            continue
        if content is not None:
            yield path, content


def _read_result(path: Path) -> dict[str, Any] | None:
    """The content of a result file; None if it is another file."""
    content = read_json(path, "result", "remove it, or evaluate again")
    if not isinstance(content, dict) or content.get("task_type") not in KINDS:
        return None
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema {content.get('schema')}, expected {SCHEMA}", "evaluate again")
    return content


def header(task: str, kind: str) -> dict[str, Any]:
    """First fields of every result file. mteb's tools ask for the last three of them; its release and its time are
    null, because it has not computed the numbers.
    """
    return {
        "schema": SCHEMA,
        "tool": f"translit-scale {__version__}",
        "task_name": task,
        "task_type": kind,
        "dataset_revision": "local files, see text_sha256",
        "mteb_version": None,
        "evaluation_time": None,
    }


def describe_text(text: ParallelText) -> dict[str, Any]:
    """The pairs that produced a number."""
    return {
        "n": len(text),
        "text_sha256": text.fingerprint,
        "dropped": text.dropped,
        "duplicates": text.duplicates,
    }


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an `.npz` atomically; it loads without pickle."""
    with atomic_open(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def percent(estimate: Estimate, sign: str = "") -> str:
    """`76.4 [73.8, 79.0]`; with sign "+" `+5.1 [+3.0, +7.2]`."""
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def difference(estimate: Estimate) -> str:
    """`+5.1 [+3.0, +7.2] *`; the asterisk means that the interval does not contain 0."""
    significant = estimate.low > 0 or estimate.high < 0
    return f"{percent(estimate, '+')}{' *' if significant else ''}"


def refuse_change(path: Path, changes: Sequence[tuple[str, Any, Any]]) -> None:
    """Refuses to replace a result that was made with something else.

    Args:
        changes: as `changed_settings` returns them.

    Raises:
        DataError: there are changes; the message names the first ones.
    """
    if changes:
        shown = ", ".join(f"{name} {_short(old)}, now {_short(new)}" for name, old, new in changes[:3])
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise DataError(
            f"{path} was made with other settings, weights or texts: {shown}{more}",
            "--force replaces such results; another --name, --out or label keeps both",
        )


def result_inputs(record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, weights and texts of a result, without the paths and labels of model and texts."""
    return {
        "schema": record["schema"],
        "model": {name: record["model"][name] for name in ("weights_sha256", "tokenizer_sha256")},
        "settings": record["settings"],
        "test": {score["hf_subset"]: score["text_sha256"] for score in record["scores"]["test"]},
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def describe_omissions(text: ParallelText) -> str:
    """`dropped: 3 empty; repeated sentences: 2 in pol_Latn`, or an empty string."""
    parts = []
    if text.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in text.dropped.items())
        parts.append(f"dropped: {reasons}")
    if any(text.duplicates.values()):
        repeats = ", ".join(f"{count} in {language}" for language, count in text.duplicates.items() if count)
        parts.append(f"repeated sentences: {repeats}")
    return "; ".join(parts)
