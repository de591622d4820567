"""Batches made ahead of the step by worker processes, in order, whatever their number."""

from __future__ import annotations

import atexit
import io
import multiprocessing
import pickle
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from translit_scale.batch.stream import BatchStream, RankBatch
from translit_scale.corpus.workers import end_with_parent
from translit_scale.errors import DataError, UserError


class Prefetcher:
    """The batches of steps `start` … `end` − 1, in order.

    The workers are forked, so they must be started (by iterating) before threads that hold locks are at work; they
    share nothing, and end with this process.

    Args:
        workers: processes; 0 makes each batch when it is asked for.
        ahead: batches each worker may be ahead.
    """

    def __init__(self, stream: BatchStream, workers: int, ahead: int) -> None:
        self.stream, self.workers, self.ahead = stream, workers, ahead
        self.waited = 0.0
        """Seconds the caller has waited for batches so far."""

    def batches(self, start: int, end: int) -> Iterator[RankBatch]:
        """Yields a batch for each step.

        Raises:
            UserError: what reading raised, at the step whose batch could not be made.
            DataError: a worker was killed.
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
        steps = iter(loader)
        for _ in range(start, end):
            began = time.monotonic()
            try:
                made = next(steps)
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    f"a process that reads ahead was killed: {str(error).partition(chr(10))[0]}",
                    "out of memory? try fewer with data.workers=0 or 1",
                ) from None
            result = pickle.loads(made)
            del made  # as large as the batch, which is used for a whole step
            self.waited += time.monotonic() - began
            if isinstance(result, UserError):
                raise result
            yield result


@atexit.register
def end_readers() -> None:
    """Kills the workers that are left: they heed no other signal, and at its end Python would wait for them."""
    for child in multiprocessing.active_children():
        child.kill()


class _Steps(Dataset[bytes]):
    """Step number → pickled batch, or the error that made it impossible."""

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
    """Tensors as arrays: torch would pass each of a batch's dozens through shared memory of its own."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


def _start_worker(_: int) -> None:
    """Signals to the whole job are for the step to handle; a worker ends with its process, whatever ends that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
