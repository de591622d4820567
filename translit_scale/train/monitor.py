"""Monitoring: the four similarities and retrieval of every checkpoint, measured while training goes on.

Whenever there is a new checkpoint, the first rank starts `translit-scale analyze dynamics` as a process of its own, on
the CPU and with the lowest priority, and logs its results when they are there. No rank waits for it, and training
continues if it fails: whatever it has not measured, the same command measures later.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from translit_scale.config import Config, MonitorConfig
from translit_scale.errors import DataError
from translit_scale.files import read_json
from translit_scale.progress import say
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.train.checkpointing.checkpoint import checkpoint_name, checkpoint_step, complete_checkpoints
from translit_scale.train.launching.environment import variables_of_one_process

GROUP = "validation_similarity"
"""Group of the metrics."""
LOOK_SECONDS = 5.0
"""Between two listings of the folder of checkpoints, which may be on a network file system."""
END_SECONDS = 60.0
"""How long the end of training waits for the last measurement."""


@dataclass(frozen=True)
class Measurement:
    """What was measured of the checkpoint after `step` steps."""

    step: int
    numbers: dict[str, float]
    """By name of the metric."""
    pictures: dict[str, bytes]
    """PNG files, by name."""


def check_test_set(settings: MonitorConfig) -> None:
    """Reads the test set, so that a wrong setting is found before training.

    Raises:
        UserError: it cannot be read.
    """
    retrieval_tasks()[settings.task].read(settings.data, settings.languages, settings.source, settings.limit)


class Monitor:
    """The process that measures checkpoints; used by the first rank only."""

    def __init__(self, config: Config) -> None:
        assert config.monitor
        self.run, self.task = config.run.path, config.monitor.task
        self.command = measuring_command(config.monitor, self.run)
        self.logged = set(_logged_steps(self.run / "metrics.jsonl"))
        self.tried: set[int] = set()
        """Steps of the checkpoints that were there when the last process started."""
        self.process: subprocess.Popen[bytes] | None = None
        self.looked = float("-inf")
        self.seconds = 0.0
        """How long the first rank was busy with monitoring since the last record."""

    def look(self, step: int) -> list[Measurement]:
        """Starts a process if there is a new checkpoint, and returns new results of checkpoints up to `step`."""
        began = time.monotonic()
        if began - self.looked < LOOK_SECONDS:
            return []
        self.looked = began
        found: list[Measurement] = []
        if self.process and self.process.poll() is not None:
            found = self._collect(step)
        if self.process is None and self._missing() - self.tried:
            self._start()
        self.seconds += time.monotonic() - began
        return found

    def finish(self, step: int) -> list[Measurement]:
        """Waits for the last measurement, but not long, and returns new results. Names the command for what is left."""
        deadline = time.monotonic() + END_SECONDS
        found: list[Measurement] = []
        while (self.process or self._missing() - self.tried) and time.monotonic() < deadline:
            if self.process is None:
                self._start()
            if self.process:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(max(0.0, deadline - time.monotonic()))
                    found += self._collect(step)
        self.stop()
        return found

    def stop(self) -> None:
        """Ends the process, and names the command for what is not measured."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
            self.process = None
        if missing := sorted(self._missing()):
            steps = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            say(f"monitor: not measured: checkpoints {steps}; measure them with\n  {shlex.join(self.command)}")

    def _missing(self) -> set[int]:
        return {checkpoint_step(path) for path in complete_checkpoints(self.run / "checkpoints")} - self.logged

    def _start(self) -> None:
        self.tried = self.tried | self._missing()
        environment = variables_of_one_process()
        package = Path(__file__).resolve().parents[2]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), environment.get("PYTHONPATH")]))
        environment["CUDA_VISIBLE_DEVICES"] = ""
        try:
            with self._log() as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                    start_new_session=True,  # so that Ctrl-C and the launcher's signals reach training only
                )  # fmt: skip
            os.setpriority(os.PRIO_PROCESS, self.process.pid, 19)
        except OSError as error:
            self._report(f"could not start ({error})")

    def _log(self) -> IO[bytes]:
        path = self.run / "logs" / "monitor.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")

    def _report(self, problem: str) -> None:
        say(f"monitor: {problem}, see {self.run / 'logs' / 'monitor.log'}; training continues")

    def _collect(self, step: int) -> list[Measurement]:
        """The results that were not logged before, of a process that has ended."""
        assert self.process
        exit_code, self.process = self.process.returncode, None
        if exit_code:
            self._report(f"measuring ended with exit code {exit_code}")
        try:
            found = [item for item in self._results() if item.step not in self.logged and item.step <= step]
        except (DataError, OSError, KeyError, TypeError, ValueError) as error:
            self._report(f"no results ({error})")
            return []
        self.logged |= {item.step for item in found}
        return found

    def _results(self) -> Iterator[Measurement]:
        folder = self.run / "analysis" / self.task
        result = read_json(folder / "dynamics.json", "result", "run the command of the monitor again")
        key = result["runs"][0]["key"]
        entries = result["scores"]["test"]
        averages = [entry for entry in entries if "directions" in entry]
        by_step: dict[int, dict[str, float]] = {}
        for entry in averages or entries:
            by_step.setdefault(entry["step"], {}).update(metrics_of(entry))
        for step, numbers in by_step.items():
            pictures = sorted((folder / f"{checkpoint_name(step)}.{key}").glob("*.png"))
            yield Measurement(step, numbers, {f"{GROUP}/{path.stem}": path.read_bytes() for path in pictures})


def measuring_command(settings: MonitorConfig, run: Path) -> list[str]:
    """The command that measures every checkpoint of a run that was not measured before."""
    options = {"--source": settings.source, "--limit": settings.limit, "--layer": settings.layer}
    return [
        sys.executable, "-m", "translit_scale", "analyze", "dynamics", "--run", str(run),
        "--out", str(run / "analysis"), "--device", "cpu", "--task", settings.task, "--data", str(settings.data),
        "--languages", ",".join(settings.languages),
        *(word for name, value in options.items() if value is not None for word in (name, str(value))),
    ]  # fmt: skip


def metrics_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an entry of dynamics.json by the names of their metrics."""
    prefix = f"{GROUP}/{entry['hf_subset']}"
    numbers = {f"{prefix}/{name}": value for name, value in entry["retrieval"].items() if name != "ci95"}
    for name, values in entry.items():
        if isinstance(values, dict) and "separability" in values:
            of_name = {measure: value for measure, value in values.items() if not measure.endswith("_se")}
            numbers |= {f"{prefix}/{name}/{measure}": value for measure, value in of_name.items()}
    return numbers


def _logged_steps(path: Path) -> Iterator[int]:
    """Steps of the checkpoints whose results are among the metrics."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(f'"{GROUP}/', line):
                yield json.loads(line)["step"]
