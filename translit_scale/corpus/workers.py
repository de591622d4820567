"""Worker processes for independent tasks: an error in one is the caller's error, and none outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from translit_scale.errors import DataError, UserError
from translit_scale.progress import Advance

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    function: Callable[[Task, Advance], Result], tasks: Sequence[Task], workers: int, advance: Advance
) -> list[Result]:
    """`[function(task, advance) for task in tasks]`, by up to `workers` processes.

    With one worker or one task no process is started. Processes are spawned, not forked: a fork would
    inherit locks and threads of the caller. They die with an exception here (Ctrl-C included), and when this
    process is killed.

    Args:
        function: a function of a module; it and the tasks are pickled.

    Raises:
        UserError: the first one a task raised, or a worker was killed (DataError).
        RuntimeError: another exception in a task, with its traceback in the message.
    """
    if workers <= 1 or len(tasks) <= 1:
        return [function(task, advance) for task in tasks]
    context = multiprocessing.get_context("spawn")
    results: dict[int, Result] = {}
    waiting = iter(range(len(tasks)))
    at_work: dict[Connection, int] = {}
    processes: list[SpawnProcess] = []
    try:
        with _ignoring_interrupts():
            for index in [next(waiting) for _ in range(min(workers, len(tasks)))]:
                here, there = context.Pipe()
                processes.append(context.Process(target=_serve, args=(function, there), daemon=True))
                processes[-1].start()
                there.close()  # so that the death of the process is the end of the pipe
                at_work[here] = index
        for connection, index in at_work.items():
            connection.send(tasks[index])
        while at_work:
            for ready in wait(list(at_work)):
                assert isinstance(ready, Connection)
                kind, value = _receive(ready, tasks[at_work[ready]])
                if kind == "advance":
                    advance(value)
                    continue
                results[at_work.pop(ready)] = value
                if (following := next(waiting, None)) is not None:
                    at_work[ready] = following
                    ready.send(tasks[following])
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return [results[index] for index in range(len(tasks))]


def _receive(connection: Connection, task: object) -> tuple[str, Any]:
    """The next message of a worker; raises what it reports as an error."""
    try:
        kind, value = connection.recv()
    except (EOFError, ConnectionError):
        raise DataError(
            f"a worker process was killed during {task}", "out of memory? try again with fewer --workers"
        ) from None
    if kind == "error":
        raise value
    return kind, value


def _serve(function: Callable[[Any, Advance], Any], connection: Connection) -> None:
    """A worker's life: tasks in, progress and results out, until the other end closes."""
    end_with_parent()
    try:
        while True:
            task = connection.recv()
            try:
                message = ("result", function(task, lambda amount: connection.send(("advance", amount))))
            except UserError as error:
                message = ("error", error)
            except Exception:
                message = ("error", RuntimeError(f"{task} failed\n{traceback.format_exc()}"))
            connection.send(message)
    except (EOFError, ConnectionError):
        return


def end_with_parent() -> None:
    """From now on this process of `multiprocessing` ends when its parent does, even if that has ended already.

    What it holds and writes is the next run's from then on. A thread waits for the parent; the call returns at once.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C for good: it is for the parent to end them, without tracebacks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
