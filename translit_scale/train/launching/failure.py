"""Ends all ranks when one fails, with one message and one exit code.

A launcher (deepspeed, torchrun, `srun --kill-on-bad-exit`) ends the other ranks when one has exited with an error. So
the ranks need not agree on a failure, for which all of them would have to reach the same collective: the first rank
that fails prints the reason and exits; ranks that find the same error, or lose contact with the first, stay silent
until the launcher ends them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn, Protocol

from translit_scale.errors import EXIT_LOST, UserError
from translit_scale.progress import say
from translit_scale.train.launching.environment import join_world
from translit_scale.train.launching.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted
from translit_scale.train.launching.rank_log import LOG

LAUNCHER_SECONDS = 5.0
"""Time within which a launcher ends the other ranks when one fails (DeepSpeed's looks once a second)."""
GROWING_SEGMENTS = "expandable_segments:True"
"""Of torch's allocator on GPUs: every micro-batch has other sizes, between which segments of fixed sizes leave gaps."""
START_SECONDS = 30.0
"""Time within which the first rank finds an error that another rank has found before they have met: it may start later
or import more slowly."""
ASKED_TO_STOP = (EXIT_PREEMPTED, EXIT_INTERRUPTED)
EXIT_DEFECT = 1
LOST_PEER = re.compile(
    r"Connection (closed|reset|refused)|(closed|reset) by peer|remote (worker|process)|Broken pipe|Timed out waiting",
    re.IGNORECASE,
)
"""In messages of gloo and nccl: a collective failed because another process has ended. Its traceback says nothing."""
_FIRST_SENTENCE = re.compile(r"\n|\. (?=[A-Z])")


class Peers(Protocol):
    """The watch over the other ranks, see `watch.py` (which needs torch)."""

    def report(self, message: str, code: int) -> bool:
        """Tells all ranks to end; returns whether no other rank has done so before."""

    def await_readers(self) -> None:
        """Waits until all ranks have read what was reported."""

    def await_verdict(self) -> bool:
        """Waits for the verdict, which ends this process; returns False if none comes."""

    def lost_store(self) -> str:
        """The message when the first rank cannot be reached."""


watched: list[Peers] = []
"""The watch of this process, if there is one."""


def run_rank(body: Callable[[], object]) -> None:
    """Calls `body()`; on failure ends the process with an exit code of `errors.py`, 75 (preempted), 130 (Ctrl-C)
    or 1 (a defect).

    A UserError and a lost peer (76) are printed as one message, any other exception as a traceback.
    """
    # Otherwise asking the store of a first rank that has ended prints a C++ stack; set this before torch is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # its older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", GROWING_SEGMENTS)
    gc.disable()  # it would search the thousands of modules that are imported again and again; training turns it on
    try:
        world = join_world()
    except UserError as error:  # found before there are other ranks to wait for
        end_process(f"error: {error}", error.exit_code)
    if world.note:
        say(f"note: {world.note}", error=True)
    rank = world.rank
    if rank and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # background jobs ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every rank; only rank 0 reports it
    try:
        body()
    except UserError as error:
        LOG.info("%s", error)
        where = f"rank {rank}" + (f" on {socket.gethostname()}" if world.size > world.local_size else "")
        prefix = "" if isinstance(error, Preempted) else f"error on {where}: " if rank else "error: "
        _leave(f"{prefix}{error}", error.exit_code, rank)
    except KeyboardInterrupt:
        message = "\ninterrupted before the first step: nothing is lost, the same command starts again"
        _leave(message, EXIT_INTERRUPTED, rank)
    except Exception as error:
        LOG.info("%s", traceback.format_exc())
        lost = _is_lost_peer(error)
        if lost and watched:
            _await_verdict(watched[0])
        message = _lost_contact(rank, error) if lost else f"rank {rank}: {traceback.format_exc()}"
        _leave(message, EXIT_LOST if lost else EXIT_DEFECT, rank)


def reason_of(error: Exception) -> tuple[str, int]:
    """Why a run has ended, without what torch says of its connections, and its exit code."""
    if isinstance(error, UserError):
        return str(error), error.exit_code
    if _is_lost_peer(error):
        return "lost the connection to another rank", EXIT_LOST
    return str(error), EXIT_DEFECT


def _is_lost_peer(error: Exception) -> bool:
    """Whether torch has lost a peer; its errors are RuntimeErrors. A broken pipe of Python is the console's, say."""
    return join_world().size > 1 and isinstance(error, RuntimeError) and bool(LOST_PEER.search(str(error)))


def _lost_contact(rank: int, error: Exception) -> str:
    return (
        f"error: rank {rank} lost contact with another rank, which was killed (out of memory?) or has failed: "
        f"{_FIRST_SENTENCE.split(str(error).strip())[0]}\n"
        "  → the launcher's lines name that rank; the same command resumes from the last checkpoint, if there is one"
    )


def _await_verdict(peers: Peers) -> None:
    """Ends this rank with the reason for which the connection to another one was lost, if one is found."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # from here on a launcher may end this rank
    try:
        peers.await_verdict()
    except RuntimeError:  # the store of the first rank is gone
        end_process(peers.lost_store(), EXIT_LOST)


def end_at_once(message: str, rank: int) -> NoReturn:
    """Ends this rank without asking the others, which end for the same reason; the first one prints the message."""
    end_process(message if rank == 0 else "", EXIT_INTERRUPTED)


def _leave(message: str, code: int, rank: int) -> NoReturn:
    several = join_world().size > 1
    reports = _is_first_to_fail(rank, message, code)
    unforeseen = code in (EXIT_DEFECT, EXIT_LOST)
    if several and (unforeseen or not reports):
        signal.signal(
            signal.SIGTERM, signal.SIG_DFL
        )  # or the handler would take it for a request to stop, and the rank would sleep on
    if several and unforeseen and not watched:
        # Most likely a collective that failed because its peer was killed: then the launcher ends this rank first.
        time.sleep(LAUNCHER_SECONDS)
    if several and not reports and code not in ASKED_TO_STOP:
        time.sleep(2 * LAUNCHER_SECONDS)
    if watched and reports and code not in ASKED_TO_STOP:
        # The others must read the reason first. They would otherwise say that they have lost this rank (76), with which
        # the store ends, and a batch script would start a training with a wrong setting again and again; or the
        # launcher would end the first rank before it has written the reason into STATUS.json.
        say(message, error=True)
        message = ""
        watched[0].await_readers()
    end_process(message if reports else "", code)


def end_process(message: str, code: int) -> NoReturn:
    """Ends this process at once, whatever its threads wait for."""
    say("", end="")
    say(message, end="\n" if message else "", error=True)
    for child in multiprocessing.active_children():  # last: the main thread may notice that they are gone
        child.kill()  # workers that read ahead would keep our output open
    os._exit(code)  # not sys.exit: cleaning up would wait for collectives that the others never join


def _is_first_to_fail(rank: int, message: str, code: int) -> bool:
    """Whether no other rank has failed before, according to the store that the ranks share."""
    if watched and code not in ASKED_TO_STOP:  # with these all ranks leave by themselves
        try:
            return watched[0].report(message, code)
        except RuntimeError:
            return False
    distributed = sys.modules.get("torch.distributed")
    have_met = distributed is not None and distributed.is_initialized()
    if rank:  # most errors are in settings or data, and the first rank finds them as well
        time.sleep(LAUNCHER_SECONDS if have_met else START_SECONDS)
    if distributed is None or not have_met:
        return True  # too early to ask
    try:
        return bool(distributed.distributed_c10d._get_default_store().add("failed ranks", 1) == 1)
    except RuntimeError:  # the store is gone, and with it the rank that kept it
        return False
