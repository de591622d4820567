"""Runs independent tasks in worker processes; errors are raised in the caller, and workers end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from translit_scale.errors import DataError, UserError
from translit_scale.progress import Advance

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    function: Callable[[Task, Advance], Result], tasks: Sequence[Task], workers: int, advance: Advance
) -> list[Result]:
    """Computes `[function(task, advance) for task in tasks]` in up to `workers` processes.

    With one worker or one task no process is started. Workers are not forked from the caller: they would inherit its
    locks and threads. They end when an exception (Ctrl-C included) is raised here, and when this process is killed.

    Args:
        function: defined at the top level of a module; it and the tasks are pickled.

    Raises:
        UserError: the first one that a task raised; DataError if a worker was killed.
        RuntimeError: a task raised another exception, whose traceback is in the message.
    """
    if workers <= 1 or len(tasks) <= 1:
        return [function(task, advance) for task in tasks]
    context = _context(function.__module__)
    results: dict[int, Result] = {}
    waiting = iter(range(len(tasks)))
    running: dict[Connection, int] = {}
    processes: list[BaseProcess] = []
    try:
        with _ignoring_interrupts():
            for index in [next(waiting) for _ in range(min(workers, len(tasks)))]:
                ours, theirs = context.Pipe()
                processes.append(context.Process(target=_serve, args=(function, theirs, dict(os.environ)), daemon=True))
                processes[-1].start()
                theirs.close()  # so that the pipe closes when the process ends
                running[ours] = index
        for connection, index in running.items():
            connection.send(tasks[index])
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                kind, value = _receive(ready, tasks[running[ready]])
                if kind == "advance":
                    advance(value)
                    continue
                results[running.pop(ready)] = value
                if (following := next(waiting, None)) is not None:
                    running[ready] = following
                    ready.send(tasks[following])
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return [results[index] for index in range(len(tasks))]


def _context(module: str) -> ForkServerContext | SpawnContext:
    """How workers start: on Linux as forks of a clean process that has imported the module once for all of them.

    Importing torch and transformers takes several seconds and hundreds of MB. Libraries of macOS do not bear a fork.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def _receive(connection: Connection, task: object) -> tuple[str, Any]:
    """The next message of a worker; raises the error that it reports."""
    try:
        kind, value = connection.recv()
    except (EOFError, ConnectionError):
        raise DataError(
            f"a worker process was killed during {task}", "out of memory? try again with fewer --workers"
        ) from None
    if kind == "error":
        raise value
    return kind, value


def _serve(function: Callable[[Any, Advance], Any], connection: Connection, environment: Mapping[str, str]) -> None:
    """The worker's loop: receives tasks and sends progress and results until the other end closes."""
    end_with_parent()
    os.environ |= environment  # which may have changed since the process that is forked was started
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
    """Makes this process of `multiprocessing` end when its parent ends, even if that has ended already.

    Otherwise it would keep locks and write files that belong to the next run. A thread waits for the parent; the call
    returns at once.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C permanently: the parent ends them, without tracebacks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
