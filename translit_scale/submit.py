"""Submits the stages of an experiment to SLURM, each as a job that depends on the one before.

What is done is read from the files of the stages, so that the same command submits what is missing after any failure.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from translit_scale.config import Config, load_config
from translit_scale.errors import ConfigError, UserError
from translit_scale.evaluate.page import is_complete
from translit_scale.files import is_listed, read_json
from translit_scale.shipped_files import find_file

SCRIPTS = "scripts/slurm"


@dataclass
class Stage:
    """A job, or a job array, of the chain."""

    name: str
    script: str
    """Name of its batch script."""
    words: Sequence[str]
    """Arguments of the script."""
    options: Sequence[str] = ()
    """Options of sbatch."""
    done: Callable[[], str] = str
    """What shows that the stage is done; "" if it is not."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """For the script."""
    may_fail: bool = False
    """Whether the next stage starts even if this one fails, because it has done all it could for the others."""
    after: Sequence[str] | None = None
    """Names of the stages that it waits for; by default, the one before it."""


def file_name(stage: Stage) -> str:
    """The name of a stage in names of files and jobs."""
    return stage.name.replace("/", "-")


def _variable(stage: Stage) -> str:
    """The shell variable of its job number."""
    return re.sub(r"\W", "_", stage.name)


def exists(path: Path) -> Callable[[], str]:
    """For `Stage.done`: whether a file exists that is only written when the stage is done."""
    return lambda: str(path) if path.is_file() else ""


def training_is_finished(config: Config) -> str:
    """For `Stage.done`: whether a run has ended by itself, with these settings."""
    status, settings = config.run.path / "STATUS.json", config.run.path / "config.yaml"
    if not (is_listed(status) and is_listed(settings)):
        return ""
    finished = read_json(status, "status of the run").get("state") == "finished"
    try:
        is_same = finished and load_config([settings]).science() == config.science()
    except ConfigError:  # a version with other settings has made it
        return ""
    return f"{status} says finished" if is_same else ""


def evaluation_is_complete(page: Path) -> Callable[[], str]:
    """For `Stage.done`: whether nothing has failed in an evaluation."""
    return lambda: str(page) if page.is_file() and is_complete(page.read_text(encoding="utf-8")) else ""


def split_done(stages: Sequence[Stage]) -> tuple[dict[str, str], list[Stage]]:
    """The stages that are done, with what shows it, and the others; what follows an undone stage is not done either."""
    done: dict[str, str] = {}
    for number, stage in enumerate(stages):
        if not (evidence := stage.done()):
            return done, list(stages[number:])
        done[stage.name] = evidence
    return done, []


class Chain:
    """The jobs of the stages of one run.

    Args:
        run: the run directory; logs go to its folder `slurm`.
    """

    def __init__(self, run: Path, stages: Sequence[Stage]) -> None:
        self.logs, self.stages = run / "slurm", stages
        self.prefix = str(run).strip("/").replace("/", "-")

    def job_name(self, stage: Stage) -> str:
        """By which `squeue` shows the job, and `queued` finds it."""
        return f"{self.prefix}.{file_name(stage)}"

    def command(self, stage: Stage, jobs: Mapping[str, str]) -> list[str]:
        """The call of sbatch.

        Args:
            jobs: numbers of the jobs of the stages before it, by their names.
        """
        number = "%A_%a" if stage.script.endswith("_array") else "%j"
        log = f"--output={self.logs / file_name(stage)}-{number}.log"
        name = f"--job-name={self.job_name(stage)}"
        script = str(find_file(SCRIPTS, stage.script))
        return ["sbatch", "--parsable", name, log, *self._dependency(stage, jobs), *stage.options, script, *stage.words]

    def _dependency(self, stage: Stage, jobs: Mapping[str, str]) -> list[str]:
        if stage.after is not None:
            needed = [jobs[name] for name in stage.after if name in jobs]
            return [f"--dependency=afterok:{':'.join(needed)}", "--kill-on-invalid-dep=yes"] if needed else []
        before = self.stages[: self.stages.index(stage)]
        if not before:
            return []
        must = [jobs[other.name] for other in before if not other.may_fail]
        needs = [f"afterok:{must[-1]}"] if must else []
        needs += [f"afterany:{jobs[before[-1].name]}"] if before[-1].may_fail else []
        return [f"--dependency={','.join(needs)}", "--kill-on-invalid-dep=yes"]

    def script(self) -> str:
        """A shell script that submits the stages."""
        lines = [f"mkdir -p {shlex.quote(str(self.logs))}"]
        names = {stage.name: f"${_variable(stage)}" for stage in self.stages}
        for stage in self.stages:
            variables = [f"{name}={shlex.quote(value)}" for name, value in self._variables(stage).items()]
            words = [word if "=after" in word else shlex.quote(word) for word in self.command(stage, names)]
            lines.append(f"{_variable(stage)}=$({' '.join([*variables, *words])})")
        return "\n".join(lines)

    def queued(self) -> dict[str, str]:
        """Jobs of this chain that are in the queue: number → name.

        Raises:
            UserError: SLURM does not answer.
        """
        names = {self.job_name(stage) for stage in self.stages}
        jobs = [
            line.split(maxsplit=1) for line in _call(["squeue", "--me", "--noheader", "--format=%A %j"]).splitlines()
        ]
        return {number: name for number, name in jobs if name in names}

    def submit(self) -> dict[str, str]:
        """Submits the stages: name → job number. If one is refused, those before it are cancelled.

        Raises:
            UserError: SLURM refuses a job; the message is SLURM's.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        jobs: dict[str, str] = {}
        for stage in self.stages:
            try:
                answer = _call(self.command(stage, jobs), self._variables(stage))
            except UserError:
                if jobs:
                    _call(["scancel", *jobs.values()])
                raise
            jobs[stage.name] = answer.strip().partition(";")[0]  # job;cluster
        return jobs

    def _variables(self, stage: Stage) -> dict[str, str]:
        return {"VENV": sys.prefix, **stage.variables}


def _call(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """The output of a command of SLURM.

    Raises:
        UserError: it is not installed here, or fails.
    """
    if shutil.which(command[0]) is None:
        raise UserError(
            f"{command[0]} is not installed on this host",
            "submit from a login node of a SLURM cluster; --dry-run prints the commands",
        )
    done = subprocess.run(command, env=os.environ | (variables or {}), capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"{shlex.join(command)}\n{done.stderr.strip()}",
            "nothing is left in the queue; mend the options and submit again",
        )
    return done.stdout
