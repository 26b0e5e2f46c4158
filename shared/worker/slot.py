"""A worker slot: one warm child process and the unit it is working on, seen from the parent.

A thread of the parent waits on the child's pipe and wakes the loop, so that an outcome is settled at once and not at
the next poll; everything else happens in the loop's thread.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import psutil

from shared.broker import Delivery
from shared.exports import LockFile
from shared.settings import Settings
from shared.tracing import Span
from shared.units import Assignment
from shared.worker.child import Outcome, run_child

# Spawned, not forked: a forked child would share the broker's sockets and the threads' locks.
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Current:
    """The unit a slot works on."""

    assignment: Assignment
    delivery: Delivery
    lease_end: float
    """On our own monotonic clock: when the lease ends unless renewed."""
    renew_at: float
    span: Span
    started_at: float = field(default_factory=time.monotonic)
    progress: dict[str, Any] | None = None
    locks: list[LockFile] = field(default_factory=list)


class Slot:
    """One child process. ``wake`` is called, from another thread, whenever the child has said something."""

    def __init__(self, settings: Settings, service: str, database_url: str, wake: Callable[[], None]) -> None:
        self._arguments = (settings, service, os.getpid(), database_url)
        self._memory_bytes, self._timeout_seconds = settings.unit_memory_bytes, settings.unit_timeout_seconds
        self._wake = wake
        self.current: Current | None = None
        self._start()

    def _start(self) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=run_child, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        self._ready_at: float | None = None
        theirs.close()
        # Each child has its own queue: what a dead one said last must not be taken for its successor's.
        self._heard: deque[tuple[str, Any]] = deque()
        self._listener = threading.Thread(target=self._listen, args=(self._connection, self._heard), daemon=True)
        self._listener.start()

    def _listen(self, connection: Connection, heard: deque[tuple[str, Any]]) -> None:
        while True:
            try:
                heard.append(connection.recv())
            except (EOFError, OSError):
                heard.append(("died", None))
            self._wake()
            if heard and heard[-1][0] == "died":
                return

    def assign(
        self, assignment: Assignment, delivery: Delivery, span: Span, lease: timedelta, renew_seconds: float
    ) -> None:
        """Give the child a unit; a fresh one, if what earlier units left would count against this one's limit."""
        if self._memory_bytes and self._used_bytes() > self._memory_bytes / 2:
            self.kill()
        now = time.monotonic()
        self.current = Current(
            assignment, delivery, now + lease.total_seconds(), renew_at=now + renew_seconds, span=span
        )
        with contextlib.suppress(OSError):  # it died between two units; ("died", None) will say so
            self._connection.send(assignment)

    def poll(self) -> Outcome | None:
        """Take in what the child said; return the outcome once there is one."""
        while self._heard:
            kind, value = self._heard.popleft()
            if kind == "died":
                self._process.join(5)
                outcome = Outcome(
                    "temporary", f"The worker process ended unexpectedly ({_exit(self._process.exitcode)})."
                )
                self._start()
                return outcome if self.current is not None else None
            if kind == "outcome":
                assert isinstance(value, Outcome)
                if value.doubtful:
                    self.kill()
                return value
            if kind == "ready":
                self._ready_at = time.monotonic()
            if self.current is None:
                continue
            if kind == "progress":
                self.current.progress = value
            elif kind == "lock":
                self.current.locks.append(value)
            elif kind == "unlock":
                self.current.locks = [lock for lock in self.current.locks if lock.path != value.path]
                value.release()  # again: a heartbeat of ours may have crossed the child's release
        return None

    def enforce_limits(self) -> Outcome | None:
        """Stop an attempt that is over a limit; return its outcome. Call it often: memory is measured here.

        Temporary, both: a machine or a source may be slow today, and what a unit needs depends on what the process did
        before it. What is over a limit every time is given up when its attempts are used up, with this sentence.
        """
        error = self._exceeded()
        if error is None:
            return None
        self.kill()
        return Outcome("temporary", f"The attempt was stopped: {error}.")

    def _exceeded(self) -> str | None:
        if self.current is None:
            return None
        if self._timeout_seconds and self._working_seconds(self.current) > self._timeout_seconds:
            return f"it took longer than BOWERBIRD_UNIT_TIMEOUT_SECONDS allows ({self._timeout_seconds:g} s)"
        if self._memory_bytes and (used := self._used_bytes()) > self._memory_bytes:
            allowed = f"more than BOWERBIRD_UNIT_MEMORY_BYTES allows ({self._memory_bytes:,})"
            return f"it used {used:,} bytes of memory, {allowed}"
        return None

    def _working_seconds(self, current: Current) -> float:
        """Return how long the child has been at it: from when it was ready, as a fresh one has to start first."""
        if self._ready_at is None:
            return 0.0
        return time.monotonic() - max(current.started_at, self._ready_at)

    def _used_bytes(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:  # it has ended, or is about to
            return 0

    def kill(self) -> None:
        """Stop the work at once and start a fresh child. What the attempt left on disk is removed by its successor."""
        self._end()
        self._start()

    def close(self) -> None:
        """End the child for good."""
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.join(10)
        self._listener.join(10)  # before its connection's number is free to be the next one's
        self._connection.close()


def _exit(code: int | None) -> str:
    if code is None:
        return "no exit status"
    if code == -signal.SIGKILL:
        return "killed by signal 9, as the system does when memory runs out"
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"
