"""The steps of a study, where they read and write, and which of them are done."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from translit_scale.config import Config, load_config
from translit_scale.files import SHARED_SECONDS, is_listed, read_json, write_json
from translit_scale.shipped_files import find_file
from translit_scale.submit import training_is_finished

LOOK_SECONDS = 1.0
"""Between two looks at what is done."""


@dataclass(frozen=True)
class Step:
    """One command of a study."""

    name: str
    """Such as `train/pol-ukr/model3-seed0`; what stands before the first `/` is its kind."""
    words: tuple[str, ...]
    """Its arguments, after `translit-scale`."""
    after: tuple[str, ...]
    """Names of the steps whose files it reads."""
    is_training: bool = False

    @property
    def kind(self) -> str:
        """Steps of one kind take about the same time."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Run:
    """One training of a study."""

    corpus: str
    variant: str
    seed: int

    @property
    def label(self) -> str:
        """Its name in results: runs of one corpus are compared, so that it names variant and seed only."""
        return f"{self.variant}-seed{self.seed}"


@dataclass(frozen=True)
class Place:
    """Where a study reads and writes."""

    study: Path
    """Folder of everything that it makes."""
    text: Path | None
    """Folder of the user's text."""
    tests: Path | None
    """Folder of the user's test sets."""
    pretrained: str | None = None
    """The user's model instead of the scale's pretrained one."""
    families: Path | None = None
    """The user's table of language families."""

    def run(self, run: Run) -> Path:
        """Folder of a training."""
        return self.study / "runs" / run.corpus / run.label

    def marker(self, step: Step) -> Path:
        """The file that says how long a step has run and when it has ended well."""
        return self.study / "steps" / f"{step.name}.json"

    def log(self, step: Step) -> Path:
        """What a step prints."""
        return self.study / "logs" / f"{step.name}.log"


def evidence(step: Step, place: Place) -> dict[str, Any] | None:
    """What shows that a step is done with this command; None if it is not.

    A training says so itself (`STATUS.json`); of the others there is a marker, which names the command.
    """
    found = _marker(step, place)
    if step.is_training:
        return found if training_is_finished(_config(step)) else None
    return found if "ended" in found and found["command"] == list(step.words) else None


def _marker(step: Step, place: Place) -> dict[str, Any]:
    """What the marker of a step says; empty if there is none."""
    path = place.marker(step)
    found: dict[str, Any] = read_json(path, "marker of a step") if is_listed(path) else {}
    return found


def _config(step: Step) -> Config:
    """The settings of a training."""
    words = [word for word in step.words[step.words.index("--config") + 1 :] if not word.startswith("--")]
    files = [find_file("configs", word) for word in words if "=" not in word]
    return load_config(files, [word for word in words if "=" in word])


def training_status(step: Step, since: float) -> dict[str, Any]:
    """What `STATUS.json` of a training says; empty if it has not been written since this time (seconds)."""
    path = _config(step).run.path / "STATUS.json"
    found: dict[str, Any] = {}
    if path.is_file() and path.stat().st_mtime >= since:
        found = read_json(path, "status of the run")
    return found


def done_steps(steps: Sequence[Step], place: Place) -> dict[str, dict[str, Any]]:
    """Name → evidence of the steps that are done, and that no step has been repeated for since."""
    done: dict[str, dict[str, Any]] = {}
    for step in steps:
        found = evidence(step, place)
        if found is None or any(name not in done for name in step.after):
            continue
        if step.is_training or _has_read(found, ended_of(step.after, done)):
            done[step.name] = found
    return done


def ended_of(names: Iterable[str], done: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Name → when the step has ended, by the clock of its host; 0.0 for a training that was a job of its own."""
    return {name: done[name].get("ended", 0.0) for name in names}


def _has_read(found: Mapping[str, Any], inputs: Mapping[str, float]) -> bool:
    """Whether a step has read its inputs as they are now. Times of two hosts are compared for equality only: one host's
    clock may be ahead of another's. Markers of earlier versions do not name their inputs.
    """
    if "inputs" not in found:
        return bool(found["ended"] >= max(inputs.values(), default=0.0))
    return all(found["inputs"].get(name) == ended for name, ended in inputs.items())


def await_inputs(steps: Sequence[Step], place: Place, chosen: Collection[str]) -> dict[str, dict[str, Any]]:
    """`done_steps`, when all that the chosen steps need is done, or after `SHARED_SECONDS`: SLURM starts a job at once
    when the jobs before it have ended, and its host may not see yet what they have written.
    """
    deadline = time.monotonic() + SHARED_SECONDS
    needed = {name for step in steps if step.name in chosen for name in step.after} - set(chosen)
    while not needed <= (done := done_steps(steps, place)).keys() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return done


def unfinished_seconds(step: Step, place: Place) -> float:
    """How long earlier calls have run this command without bringing it to its end."""
    found = _marker(step, place)
    return float(found["seconds"]) if found.get("command") == list(step.words) and "ended" not in found else 0.0


def write_marker(
    step: Step, place: Place, seconds: float, ended: float | None, inputs: Mapping[str, float] | None = None
) -> None:
    """Records how long a step has run in all calls.

    Args:
        ended: when it has ended well; None: it has not.
        inputs: when the steps that it needs had ended, as it began (`ended_of`).
    """
    record: dict[str, Any] = {"command": list(step.words), "seconds": round(seconds, 1)}
    record |= {} if ended is None else {"ended": ended}
    write_json(place.marker(step), record | ({} if inputs is None else {"inputs": dict(inputs)}))
