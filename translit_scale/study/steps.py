"""The steps of a study, where they read and write, and which of them are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from translit_scale.config import Config, load_config
from translit_scale.files import read_json, write_json
from translit_scale.shipped_files import find_file
from translit_scale.submit import training_is_finished


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
    marker = place.marker(step)
    found: dict[str, Any] = read_json(marker, "marker of a step") if marker.is_file() else {}
    if step.is_training:
        return found if training_is_finished(_config(step)) else None
    return found if "ended" in found and found["command"] == list(step.words) else None


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
        ended = [done[name].get("ended", 0.0) for name in step.after]
        if step.is_training or found.get("ended", 0.0) >= max(ended, default=0.0):
            done[step.name] = found
    return done


def unfinished_seconds(step: Step, place: Place) -> float:
    """How long earlier calls have run this command without bringing it to its end."""
    marker = place.marker(step)
    found = read_json(marker, "marker of a step") if marker.is_file() else {}
    return float(found["seconds"]) if found.get("command") == list(step.words) and "ended" not in found else 0.0


def write_marker(step: Step, place: Place, seconds: float, ended: float | None) -> None:
    """Records how long a step has run in all calls.

    Args:
        ended: when it has ended well; None: it has not.
    """
    record: dict[str, Any] = {"command": list(step.words), "seconds": round(seconds, 1)}
    write_json(place.marker(step), record if ended is None else {**record, "ended": round(ended, 3)})
