"""The services of a run: many processes of each kind, watched, and started again some time after they end.

Whatever a service lives through, only a signal of ours may end it: a process that ends by itself, or with another
status than it should, is a violation, though it is started again like the others.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.settings import Settings
from shared.tasks import WORKER_SERVICES

ROOT = Path(__file__).parents[2]
SCHEDULER = "scheduler"
SCHEDULERS = 2
RESTART_SECONDS = (0.1, 3.0)
STOP_SECONDS = 45.0
"""A service asked to stop has its grace, and then hands back what it holds; a server may be away just then."""


@dataclass
class Member:
    """A place in the line, and the process that has it."""

    name: str
    service: str
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    start_at: float = 0.0
    killed: bool = False
    terminated_at: float | None = None
    frozen: list[int] = field(default_factory=list)
    _has_started: bool = False

    @property
    def is_free(self) -> bool:
        """Whether it runs, and nothing has been done to it."""
        return self.process is not None and not self.killed and self.terminated_at is None and not self.frozen

    def begin(self, command: list[str], environment: dict[str, str]) -> None:
        """Start a process."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.killed, self.terminated_at, self.frozen, self._has_started = False, None, [], False

    @property
    def has_started(self) -> bool:
        """Whether it has said so. Until it has taken over SIGTERM, which it does first, it ends by it."""
        if not self._has_started:
            self._has_started = f'"pid": {self.pid},' in self.log.read_text(errors="replace")
        return self._has_started

    @property
    def pid(self) -> int:
        """The process id of its parent process."""
        assert self.process is not None
        return self.process.pid


class Line:
    """All members. Used by one thread, which calls :meth:`tend` often."""

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int,
        logs: Path,
        chance: random.Random,
        through: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        restart_seconds: tuple[float, float] = RESTART_SECONDS,
    ) -> None:
        """Make the line; :meth:`tend` starts it.

        :param through: modules that run each service: ``tests.faults``.
        :param environment: variables beside the settings.
        :param restart_seconds: between which limits a place stays empty.
        """
        logs.mkdir()
        self._through, self._restart_seconds = through, restart_seconds
        self._environment = {**os.environ, **(environment or {})}
        self._settings, self._chance = settings, chance
        names = {SCHEDULER: SCHEDULERS} | dict.fromkeys(WORKER_SERVICES, workers)
        self.members = [
            Member(f"{service}-{number}", service, logs / f"{service}-{number}")
            for service, count in names.items()
            for number in range(1, count + 1)
        ]
        self.violations: list[str] = []
        self.restarts = 0

    def tend(self) -> None:
        """Start who is due, and see who has ended."""
        now = time.monotonic()
        for member in self.members:
            if member.process is None and now >= member.start_at:
                self._start(member)
            elif member.process is not None and member.process.poll() is not None:
                self._bury(member)
            elif member.terminated_at is not None and not member.frozen and now > member.terminated_at + STOP_SECONDS:
                self.violations.append(f"{member.name} did not stop within {STOP_SECONDS:.0f} s of SIGTERM.")
                self.kill(member)

    def _start(self, member: Member) -> None:
        settings = self._settings.model_copy(update={"grace_seconds": round(self._chance.uniform(0, 2), 1)})
        command = [sys.executable, "-m", *self._through, f"services.{member.service}"]
        if setpriv := shutil.which("setpriv"):  # nobody is left behind, however this process ends
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        member.begin(command, {**self._environment, **settings.environment()})

    def _bury(self, member: Member) -> None:
        assert member.process is not None
        status = member.process.returncode
        expected = (
            (member.killed and status == -signal.SIGKILL)
            or (member.terminated_at is not None and status == 0)
            or (member.terminated_at is not None and status == -signal.SIGTERM and not member.has_started)
            or self.is_explained(member, status)
        )
        if not expected:
            asked = "after SIGTERM" if member.terminated_at is not None else "by itself"
            self.violations.append(f"{member.name} (process {member.pid}) ended {asked} with status {status}.")
        member.process, member.terminated_at = None, None  # or it would be late, and killed, while it is not there
        member.start_at = time.monotonic() + self._chance.uniform(*self._restart_seconds)
        self.restarts += 1

    def is_explained(self, _member: Member, _status: int) -> bool:
        """Return whether a process has ended by something else than our signals, and should have."""
        return False

    def free(self, services: Iterable[str]) -> list[Member]:
        """Return the members of some services that can be disturbed."""
        chosen = set(services)
        return [member for member in self.members if member.service in chosen and member.is_free]

    @property
    def can_work(self) -> bool:
        """Whether there is someone of each service who runs."""
        ready = {member.service for member in self.members if member.is_free and member.has_started}
        return ready == {SCHEDULER, *WORKER_SERVICES}

    # What can happen to a member

    def kill(self, member: Member) -> None:
        """``kill -9`` its parent process."""
        member.killed = True
        os.kill(member.pid, signal.SIGKILL)

    def kill_child(self, member: Member) -> int | None:
        """``kill -9`` one of its child processes; return which, None if it has none."""
        offspring = children(member.pid)
        if not offspring:
            return None
        pid = self._chance.choice(offspring)
        return pid if _send(pid, signal.SIGKILL) else None

    def freeze(self, member: Member, *, children_too: bool) -> None:
        """Stop it as a suspended machine stops: it does not know."""
        member.frozen = [member.pid]
        _send(member.pid, signal.SIGSTOP)
        if children_too:
            member.frozen += children(member.pid)
        for pid in member.frozen[1:]:
            _send(pid, signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        """Let it go on."""
        frozen, member.frozen = member.frozen, []
        for pid in self._chance.sample(frozen, len(frozen)):
            _send(pid, signal.SIGCONT)

    def terminate(self, member: Member) -> None:
        """Ask it to stop; somebody takes its place."""
        member.terminated_at = time.monotonic()
        os.kill(member.pid, signal.SIGTERM)

    # All of them

    def stop(self) -> None:
        """Ask all to stop, and wait until they have."""
        for member in self.members:
            if member.is_free:
                self.terminate(member)
        while any(member.process is not None for member in self.members):
            for member in self.members:
                member.start_at = float("inf")
            self.tend()
            time.sleep(0.05)

    def close(self) -> None:
        """Kill what is left."""
        for member in self.members:
            if member.process is not None:
                member.process.kill()
                member.process.wait()


def children(pid: int) -> list[int]:
    """Return the child processes of a process: of a worker, its slots' and Python's resource tracker."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
