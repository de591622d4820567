"""Runs the missing steps of a study on this machine, several at a time."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from translit_scale.cores import cores
from translit_scale.errors import EXIT_LOST, UserError
from translit_scale.progress import duration
from translit_scale.study.steps import Place, Step, ended_of, training_status, unfinished_seconds, write_marker
from translit_scale.train.launching.environment import variables_of_one_process

POLL_SECONDS = 0.2
MOST_RESTARTS = 3
"""How often a training that has lost a rank is started again."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass
class Running:
    """A step that has been started."""

    step: Step
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int
    """Number below `jobs` that no other running step has."""
    before: float
    """Seconds that earlier calls have run it."""
    inputs: dict[str, float]
    """When the steps that it needs had ended, as it began."""
    started: float = field(default_factory=time.time)

    @property
    def seconds(self) -> float:
        """How long it has run in all calls."""
        return self.before + time.time() - self.started


class Runner:
    """Starts steps as soon as those that they need are done, in their order; one that fails ends no other.

    Args:
        steps: all steps of the study.
        done: evidence of those that are done, by their names.
        jobs: how many run at the same time.
        ranks: processes of each training.
    """

    def __init__(
        self, steps: Sequence[Step], done: Mapping[str, Mapping[str, Any]], place: Place, jobs: int, ranks: int
    ) -> None:
        self.steps, self.place, self.jobs, self.ranks = steps, place, jobs, ranks
        self.gpus = visible_gpus()
        self.done = ended_of(done, done)
        """When each step that is done has ended."""
        self.running: list[Running] = []
        self.failed: list[Step] = []
        self.restarts: Counter[str] = Counter()
        self.is_stopping = False

    def run(self, chosen: Collection[str]) -> None:
        """Runs what is missing.

        Args:
            chosen: names of the steps that may be started.

        Raises:
            UserError: a step has failed, or needs one that is neither done nor chosen; the others have been run.
            KeyboardInterrupt: Ctrl-C, or SIGTERM; the running steps have been asked to stop, and have ended.
        """
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self.is_stopping and (self._start_steps(chosen) or self.running):
                time.sleep(POLL_SECONDS)
                self._collect()
            for running in self.running:
                os.killpg(running.process.pid, signal.SIGTERM)
            for running in self.running:
                running.process.wait()
            for running in self.running:
                write_marker(running.step, self.place, running.seconds, ended=None)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.is_stopping:
            raise KeyboardInterrupt
        self._check(chosen)

    def _stop(self, number: int, frame: Any) -> None:
        """Notes that a signal has come, and raises nothing: a step that is just being started must not be lost."""
        self.is_stopping = True

    def _check(self, chosen: Collection[str]) -> None:
        """Raises an error if a chosen step has failed or could not be started."""
        if self.failed:
            blocked = len(self.steps) - len(self.done) - len(self.failed)
            logs = "\n".join(f"  {self.place.log(step)}: {_reason(self.place.log(step))}" for step in self.failed)
            raise UserError(
                f"{len(self.failed)} of {len(self.steps)} steps failed, and {blocked} need them:\n{logs}",
                "read these logs, mend the cause and run the same command again: it runs what is missing",
            )
        waiting = [step for step in self.steps if step.name in chosen and step.name not in self.done]
        if waiting:
            needed = dict.fromkeys(name for step in waiting for name in step.after if name not in self.done)
            raise UserError(
                f"{waiting[0].name} needs steps that are not done: {', '.join(needed)}",
                "run these too: leave --only out, or repeat it",
            )

    def _start_steps(self, chosen: Collection[str]) -> bool:
        """Starts what can run now; False if nothing is left that can ever run."""
        busy = {running.step.name for running in self.running}
        stopped = {step.name for step in self.failed}
        ready = [
            step
            for step in self.steps
            if step.name in chosen
            and step.name not in self.done.keys() | busy | stopped
            and self.done.keys() >= set(step.after)
        ]
        for step in ready[: self.jobs - len(self.running)]:
            self._start(step)
        return bool(ready)

    def _start(self, step: Step) -> None:
        path = self.place.log(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        command = self._command(step)
        log = path.open("ab")
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        slot = next(slot for slot in range(self.jobs) if slot not in {running.slot for running in self.running})
        environment = self._environment(slot)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        before, inputs = unfinished_seconds(step, self.place), {name: self.done[name] for name in step.after}
        self.running.append(Running(step, process, log, slot, before, inputs))
        print(f"started   {step.name}", flush=True)

    def _environment(self, slot: int) -> dict[str, str]:
        """Variables of a step; GPUs beyond those of one training are divided among the slots."""
        environment = variables_of_one_process()
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // (self.jobs * self.ranks))))
        if len(self.gpus) > self.ranks:
            numbers = (slot * self.ranks + rank for rank in range(self.ranks))
            environment[VISIBLE] = ",".join(self.gpus[number % len(self.gpus)] for number in numbers)
        return environment

    def _command(self, step: Step) -> list[str]:
        python = [sys.executable, "-m"]
        if step.is_training and self.ranks > 1:
            python += ["torch.distributed.run", "--standalone", f"--nproc-per-node={self.ranks}", "-m"]
        return [*python, "translit_scale", *step.words]

    def _collect(self) -> None:
        """Notes which steps have ended."""
        for running in [running for running in self.running if running.process.poll() is not None]:
            self.running.remove(running)
            running.log.close()
            if running.process.returncode:
                self._collect_failed(running)
                continue
            self.done[running.step.name] = ended = round(time.time(), 3)
            write_marker(running.step, self.place, running.seconds, ended, running.inputs)
            print(f"done      {running.step.name} in {duration(running.seconds)} "
                  f"({len(self.done)} of {len(self.steps)})", flush=True)  # fmt: skip

    def _collect_failed(self, running: Running) -> None:
        """Notes that a step has failed, unless it can be started again."""
        write_marker(running.step, self.place, running.seconds, ended=None)
        name, code = running.step.name, running.process.returncode
        again = _has_lost_a_rank(running) and self.restarts[name] < MOST_RESTARTS
        if again:
            self.restarts[name] += 1
        else:
            self.failed.append(running.step)
        print(f"{'resumes' if again else 'failed':<9} {name} after {duration(running.seconds)}: exit code {code}, "
              f"{self.place.log(running.step)}", flush=True)  # fmt: skip


def visible_gpus() -> list[str]:
    """The GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them; if it is set, those that it has."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name for name in given.replace(" ", "").split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:  # there is no such program
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def _has_lost_a_rank(running: Running) -> bool:
    """Whether a training can go on, as a job of train.sbatch does: it ended with `EXIT_LOST`, or was killed, and so its
    status is still that of a running one. torchrun ends with 1 in both cases.
    """
    if running.process.returncode == EXIT_LOST:
        return True
    status = training_status(running.step, since=running.started) if running.step.is_training else {}
    return status.get("state") == "running" or status.get("exit_code") == EXIT_LOST


def _reason(log: Path) -> str:
    """The last error that a step has printed, in one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")] or lines
    return errors[-1].removeprefix("error: ")[:200]
