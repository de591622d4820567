"""Notices a rank that has ended, lost its network or stands still, and ends the others within a bounded time.

Waiting in a collective, a rank cannot tell a slow peer from one that will never come, and when it gives up it does not
know which one it was. So a thread of every rank writes a heartbeat every few seconds to the store of the ranks
(`TCPStore`, kept on the host of the first rank). The first rank looks at all of them, the others at that of the first,
and who misses one writes a verdict there, which makes all ranks end. A rank that cannot reach the store any more has
lost the first rank, or its own network.

The first heartbeat is written before the threads start, and so before the first collective of a training: a rank
with which another one has computed anything is one whose silence is noticed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta

import torch.distributed as dist

from translit_scale.config import RunConfig
from translit_scale.errors import EXIT_LOST
from translit_scale.progress import say
from translit_scale.train.launching.environment import World
from translit_scale.train.launching.meeting import MEETING_SECONDS, keys_of_this_start
from translit_scale.train.launching.rank_log import LOG, log_stacks
from translit_scale.train.launching.status import StatusFile

BEAT_SECONDS = 3.0
LOG_SECONDS = 60.0
"""Time between two lines in the log of the rank."""
LAUNCHERS = ("torchrun", "deepspeed", "mpirun", "srun")
"""Programs that outlive their ranks; the parent of a rank that a user's own script has started may not."""
WAITS = "computing"
"""What ranks do when they wait for the others in a collective of the step."""
RESUMES = "\n  → the same command resumes from the last checkpoint, on these hosts or others"
READ_SECONDS = 15.0
"""How long a rank that must end waits until all others have read why, and have logged where they stand: the store ends
with the first rank, and a launcher ends all ranks with any of them."""
SUSPICIOUS_BEATS = 4
"""So many missing heartbeats are enough once a rank has lost the connection to another one."""


@dataclass(frozen=True)
class Verdict:
    """Why all ranks must end."""

    message: str
    code: int
    host: str
    """Where the message has been printed; the first rank of every other host prints it, too."""
    readers: int
    """How many ranks can read this: all that are not lost."""

    @classmethod
    def read(cls, store: dist.Store) -> Verdict | None:
        """The verdict of any rank, if there is one."""
        return cls(**json.loads(store.get("verdict"))) if store.check(["verdict"]) else None


@dataclass
class Beat:
    """A heartbeat."""

    host: str
    count: int = 0
    step: int = 0
    doing: str = "starting"
    since: float = 0.0
    """Seconds for which `step` and `doing` have not changed."""


class Watch:
    """Watches over the ranks of a training until `close`; a world of one rank needs no watch.

    Args:
        end: called with the message to print, if any, and the exit code; it must end the process.
    """

    def __init__(self, run: RunConfig, world: World, end: Callable[[str, int], object]) -> None:
        self.world, self.end = world, end
        self.lost_seconds, self.stalled_seconds = run.lost_seconds, 60 * run.stalled_minutes
        self.status, self.logged = StatusFile(), 0.0
        self.own, self.began = Beat(socket.gethostname()), time.monotonic()
        self.changed = self.began
        self.seen: dict[int, tuple[Beat, float]] = {}
        """The last heartbeat of each rank, and when this process first saw it."""
        self.reached = time.monotonic()
        """When the store has answered last."""
        self.suspected, self.ending = False, threading.Lock()
        self.launcher = os.getppid()
        self.stop = threading.Event()
        if world.size > 1:
            # A client of its own: that of torch is locked while the main thread waits for it.
            timeout = timedelta(seconds=run.lost_seconds)
            store = dist.TCPStore(world.address, world.port, None, False, timeout, wait_for_workers=False)
            self.store = keys_of_this_start("watch", store)
            self._send_heartbeat()
            for body in (self._talk, self._wait_for_store):
                threading.Thread(target=body, daemon=True, name="watch").start()

    def at(self, step: int, doing: str) -> None:
        """Says what this rank does now."""
        self.own.step, self.own.doing, self.changed = step, doing, time.monotonic()
        self.status.at(step, doing)
        if self.changed - self.logged >= LOG_SECONDS:
            self.logged = self.changed
            LOG.info("step %d: %s", step, doing)

    def close(self) -> None:
        """Ends the threads, because the ranks are about to leave."""
        self.stop.set()

    def report(self, message: str, code: int, lost: int = 0) -> bool:
        """Tells all ranks to end, except `lost` ones; returns whether no other rank has done so before."""
        if not self._ends():  # first: another thread of this rank would obey the verdict, and nobody would print it
            return False
        text = json.dumps(asdict(Verdict(message, code, self.own.host, self.world.size - lost)))
        first = False
        try:
            first = bool(self.store.compare_set("verdict", "", text) == text.encode())
        finally:
            if not first:
                self.ending.release()
        return first

    def await_readers(self) -> None:
        """Waits until all ranks that are not lost have read the verdict, and none of them needs this one any more."""
        deadline = time.monotonic() + READ_SECONDS
        with suppress(dist.DistError):  # the first rank has ended, because all have read it
            verdict = Verdict.read(self.store)
            read = self.store.add("readers", 1)
            while verdict and read < verdict.readers and time.monotonic() < deadline:
                time.sleep(0.1)
                read, self.reached = self.store.add("readers", 0), time.monotonic()

    def _ends(self) -> bool:
        """Whether the calling thread is the one that must end this rank."""
        return self.ending.acquire(blocking=False)

    def await_verdict(self) -> bool:
        """After a connection has failed: waits for the verdict, which ends this process; returns False if none comes.

        Raises:
            DistError: the store is gone, and with it the first rank or its host.
        """
        self.store.set("suspected", "yes")
        deadline = time.monotonic() + 2 * SUSPICIOUS_BEATS * BEAT_SECONDS
        while time.monotonic() < deadline:
            if verdict := Verdict.read(self.store):
                self._obey(verdict)
            time.sleep(0.2)
        return False

    def _talk(self) -> None:
        while not self.stop.wait(BEAT_SECONDS):
            self._follow_launcher()
            try:
                self._beat()
            except dist.DistError:  # `_wait_for_store` decides when it has been unreachable for too long
                continue
            self.reached = time.monotonic()

    def _follow_launcher(self) -> None:
        """Asks this rank to stop if its launcher has ended: nobody would end or restart it."""
        if self.world.launcher in LAUNCHERS and os.getppid() != self.launcher:
            message = f"{self.world.launcher} on {self.own.host} was killed, so its ranks stop"
            LOG.info("step %d: %s", self.own.step, message)
            say(message, error=True)
            self.launcher = os.getppid()
            os.kill(os.getpid(), signal.SIGTERM)  # a request for a checkpoint, once training has begun

    def _send_heartbeat(self) -> None:
        self.own.count += 1
        self.own.since = time.monotonic() - self.changed
        self.store.set(str(self.world.rank), json.dumps(asdict(self.own)))

    def _beat(self) -> None:
        self._send_heartbeat()
        if verdict := Verdict.read(self.store):
            self._obey(verdict)
        self.suspected = self.suspected or self.store.check(["suspected"])
        ranks = range(self.world.size) if self.world.rank == 0 else [0]
        self._look(ranks)
        self._find_silent()
        self._find_absent(ranks)
        if self.world.rank == 0 and len(self.seen) == self.world.size:
            self._find_stalled()

    def _look(self, ranks: Sequence[int]) -> None:
        """Reads the heartbeats of ranks that have begun to watch."""
        keys = [str(rank) for rank in ranks if rank in self.seen or self.store.check([str(rank)])]
        now = time.monotonic()
        for key, text in zip(keys, self.store.multi_get(keys) if keys else [], strict=True):
            beat = Beat(**json.loads(text))
            last = self.seen.get(int(key))
            self.seen[int(key)] = beat, (last[1] if last and last[0].count == beat.count else now)

    def _find_silent(self) -> None:
        limit = SUSPICIOUS_BEATS * BEAT_SECONDS if self.suspected else self.lost_seconds
        now = time.monotonic()
        silent = [rank for rank, (_, when) in self.seen.items() if now - when > limit]
        if silent:
            beat, when = self.seen[silent[0]]
            self._decide(
                f"lost contact with rank {silent[0]} on {beat.host}{_and_others(silent)} at step {beat.step}: "
                f"no heartbeat for {now - when:.0f} s{RESUMES}",
                lost=len(silent),
            )

    def _find_absent(self, ranks: Sequence[int]) -> None:
        """Ranks that have met the others, and were lost while they imported the rest of the program."""
        absent = [rank for rank in ranks if rank not in self.seen]
        if absent and time.monotonic() - self.began > MEETING_SECONDS:
            self._decide(
                f"lost contact with rank {absent[0]}{_and_others(absent)}: no heartbeat since the ranks met, "
                f"{MEETING_SECONDS:.0f} s ago{RESUMES}",
                lost=len(absent),
            )

    def _find_stalled(self) -> None:
        beats = [(rank, beat) for rank, (beat, _) in self.seen.items()]
        shortest = min(beat.since for _, beat in beats)
        if shortest > self.stalled_seconds:
            rank, beat = min(beats, key=lambda item: (item[1].step, item[1].doing == WAITS, item[0]))
            self._decide(
                f"no rank has made progress for {shortest:.0f} s: rank {rank} on {beat.host} is {beat.doing}, "
                f"step {beat.step}{RESUMES}"
            )

    def _decide(self, message: str, lost: int = 0) -> None:
        if self.report(message, EXIT_LOST, lost):
            try:
                # Now: another rank may read the verdict and end first, and then the launcher ends this one.
                say(message, error=True)
                self._log_end(message)
                self.status.end("failed", message, EXIT_LOST)
                self.await_readers()
            finally:  # no other thread would end this rank, even if its log is on a full disk
                self.end("", EXIT_LOST)

    def _obey(self, verdict: Verdict) -> None:
        if not self._ends():
            return
        elsewhere = verdict.host != self.own.host and self.world.local_rank == 0
        message = f"ended by {verdict.host}: {verdict.message}"
        try:
            self._log_end(message)
            if elsewhere:
                say(message, error=True)
            self.status.end("failed", verdict.message, verdict.code)
            self.await_readers()
        finally:
            self.end("", verdict.code)

    def _wait_for_store(self) -> None:
        """Ends this rank if the store does not answer; calls of the store itself may hang on a cut connection."""
        before = time.monotonic()
        while not self.stop.wait(BEAT_SECONDS / 2):
            now = time.monotonic()
            if now - before > 2 * BEAT_SECONDS:  # this process itself was stopped, and has missed the answer
                self.reached = now
            before = now
            if now - self.reached > self.lost_seconds:
                message = self.lost_store()
                try:
                    self._log_end(message)
                    self.status.end("failed", message, EXIT_LOST)
                finally:
                    self.end(message if self.world.local_rank == 0 else "", EXIT_LOST)

    def _log_end(self, message: str) -> None:
        LOG.info("step %d, %s: %s", self.own.step, self.own.doing, message)
        log_stacks()

    def lost_store(self) -> str:
        """The message when the store does not answer."""
        first, own = self.world.address, self.own
        return f"lost contact with rank 0 on {first}, or the network of {own.host}, at step {own.step}{RESUMES}"


def _and_others(ranks: Sequence[int]) -> str:
    """Of several lost ranks, messages name the first one."""
    return f" and {len(ranks) - 1} other ranks" if len(ranks) > 1 else ""
