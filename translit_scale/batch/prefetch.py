"""Prepares batches ahead of the step in worker processes; their order does not depend on the number of workers."""

from __future__ import annotations

import atexit
import io
import multiprocessing
import pickle
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from translit_scale.batch.stream import BatchStream, RankBatch
from translit_scale.corpus.workers import end_with_parent
from translit_scale.errors import LostError, UserError


class Prefetcher:
    """Yields batches in the order of their steps.

    The workers are forked, so iteration must begin before other threads that hold locks run. They share no state and
    end with this process.

    Args:
        workers: number of processes; with 0, each batch is made when it is requested.
        ahead: number of batches that each worker prepares in advance.
    """

    def __init__(self, stream: BatchStream, workers: int, ahead: int) -> None:
        self.stream, self.workers, self.ahead = stream, workers, ahead
        self.wait_seconds = 0.0
        """Total seconds that the caller has waited for batches."""
        self.processes: set[BaseProcess] = set()
        self.is_waiting = False

    def batches(self, start: int, end: int) -> Iterator[RankBatch]:
        """Yields the batches of steps `start` … `end` − 1.

        Raises:
            UserError: a batch could not be made; raised at its step.
            LostError: a worker was killed; raised when a batch is requested, and not in the middle of a step.
        """
        loader = DataLoader(
            _Steps(self.stream),
            sampler=range(start, end),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=self.ahead if self.workers else None,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self.workers else None,
        )
        others = set(multiprocessing.active_children())
        steps = iter(loader)
        self.processes = set(multiprocessing.active_children()) - others
        if self.workers:  # in place of torch's handler, which raises an error wherever the program is
            signal.signal(signal.SIGCHLD, self._check_workers)
        for _ in range(start, end):
            started = time.monotonic()
            pickled = self._wait_for(steps)
            result = pickle.loads(pickled)
            del pickled  # as large as the batch, which lives for a whole step
            self.wait_seconds += time.monotonic() - started
            if isinstance(result, UserError):
                raise result
            yield result

    def _wait_for(self, steps: Iterator[bytes]) -> bytes:
        self.is_waiting = True
        try:
            self._check_workers()
            return next(steps)
        except RuntimeError:  # torch has made one of what the handler has raised
            self._check_workers()
            raise
        finally:
            self.is_waiting = False

    def _check_workers(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Raises an error if a worker has ended and this process waits for a batch.

        It is the handler of SIGCHLD, too: a worker that is killed while it sends a batch leaves a part of it, for the
        rest of which `next` would wait for ever.
        """
        ended = [process for process in self.processes if self.is_waiting and not process.is_alive()]
        if ended:
            raise LostError(
                f"process {ended[0].pid}, which reads ahead, was killed (exit code {ended[0].exitcode})",
                "out of memory? try fewer with data.workers=0 or 1; the same command resumes",
            )


@atexit.register
def kill_workers() -> None:
    """Kills the remaining workers, which ignore other signals; otherwise Python would wait for them when it exits."""
    for child in multiprocessing.active_children():
        child.kill()


class _Steps(Dataset[bytes]):
    """Step number → pickled batch, or the pickled error if the batch could not be made."""

    def __init__(self, stream: BatchStream) -> None:
        self.stream = stream

    def __getitem__(self, t: int) -> bytes:
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(self.stream.step(t))
        except UserError as error:
            return pickle.dumps(error)
        return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays; torch would allocate shared memory for each of a batch's dozens of tensors."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


def _start_worker(_: int) -> None:
    """Ignores signals to the whole job, which the training process handles; the worker ends with that process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
