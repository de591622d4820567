"""Scripts on several CPU ranks, as torchrun starts them, without importing torch anew for each of them.

One clean process per session imports everything once and forks the ranks of each request. It has no thread of its own
and has computed nothing, so that a fork is safe. Launchers themselves are tested in test_train_launchers.py.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from translit_scale.corpus.workers import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
}  # fmt: skip
IMPORTED = (
    "translit_scale.cli",
    "translit_scale.train.loop",
    "translit_scale.evaluate.retrieval.model_selection",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
    "deepspeed",
)
TIMED_OUT = 124


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ranks:
    """Runs scripts on CPU ranks. The ranks of a call are a process group; when one fails, the others are killed."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts the process that forks the ranks."""
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ranks"],
            cwd=ROOT, env=os.environ | ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(
        self, ranks: int, script: object, *arguments: object, check: bool = True, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Return code of the rank that failed first (negative: the signal that killed it), and what all ranks printed.

        Args:
            script: path of a Python file, run as `__main__`.
            check: a failure fails the test.
        """
        words = [str(word) for word in (script, *arguments)]
        assert self.server.stdin and self.server.stdout
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps([ranks, words, folder, timeout]), file=self.server.stdin, flush=True)
            try:
                code = int(self.server.stdout.readline())
            except BaseException:  # the test's own time is over: the answer to come is not for the next one
                self.close()
                self.start()
                raise
            out, err = (Path(folder, name).read_text(errors="replace") for name in ("out", "err"))
        assert code == 0 or not check, f"exit code {code}\n{out[-3000:]}{err[-6000:]}"
        return subprocess.CompletedProcess(words, code, out, err)

    def close(self) -> None:
        """Ends the process. Closing its input is not enough, because processes forked by the tests hold it open too."""
        self.server.kill()
        self.server.wait()


def serve() -> None:
    """Answers each request, a line of JSON on standard input, with a line that has a return code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps what imports print out of the answers
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each rank would copy the pages of all objects
    while line := sys.stdin.readline():
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork loses threads, and the locks they hold"
        print(run_ranks(*json.loads(line)), file=answers, flush=True)


def run_ranks(ranks: int, words: list[str], folder: str, timeout: float) -> int:
    """Forks the ranks and waits until all have ended, or one has failed."""
    context, port, group = multiprocessing.get_context("fork"), free_port(), 0
    alive = {}
    for rank in range(ranks):
        process = context.Process(target=become_rank, args=(rank, ranks, port, group, words, folder))
        process.start()
        group = group or process.pid or 0
        with suppress(PermissionError, ProcessLookupError):  # the rank does it too: whoever is first
            os.setpgid(process.pid or 0, group)
        alive[process.sentinel] = process
    code, deadline = 0, time.monotonic() + timeout
    while alive and not code:
        ended = wait(alive, max(0.0, deadline - time.monotonic()))
        for end in ended:
            process = alive.pop(end)
            process.join()
            code = code or process.exitcode
        code = code or (0 if ended else TIMED_OUT)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)  # the other ranks, and processes that a killed one has left
    for process in alive.values():
        process.join()
    return code


def become_rank(rank: int, ranks: int, port: int, group: int, words: list[str], folder: str) -> None:
    """Runs the script in this process, with the environment and the output of a rank."""
    end_with_parent()
    os.setpgid(0, group)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    serve()
