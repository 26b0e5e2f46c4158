"""``python -m tests.faults services.exporter``: a process with faults in it. shared/faults.py has the points.

The environment says which: ``FAULTS`` is a list of rules, separated by semicolons, each
``[SERVICE/]POINT=ACTION[:ARGUMENT][@N[+]]``. For example::

    child.gathered_one=kill@2; exporter/worker.claimed=stop@1; child.started=temporary@3; child.handled=wait:go

Without ``@N`` a rule holds each time that the point is passed; with it, the N-th time only, counted over all processes
that share the folder ``FAULTS_PLACE``: so a process that is started again after its death passes in peace. ``@N+`` is
every N-th time. With a service (or ``cli``) it holds in that one only, children included. The actions:

========== ======================================================================================================
kill       this process, as ``kill -9`` does
kill_both  this process and its parent: what a power cut does to a worker
stop       freeze this process, until somebody sends SIGCONT
stop_both  this process and its parent: what a suspended machine does to a worker
exit       end at once, with the status in ARGUMENT
temporary  raise a TemporaryError
permanent  raise a PermanentError
memory     raise a MemoryError
os         raise an OSError of the name in ARGUMENT (``ENOSPC``)
wait       until there is a file ARGUMENT in the folder
hold       as long as there is a file ARGUMENT in the folder
========== ======================================================================================================

Before it acts, a rule leaves a file in the folder (see :class:`Mark`), so that tests wait for facts.

``python -m tests.faults shared.cli:main pause …`` does the same for a function, such as the command ``bowerbird``.
"""

import contextlib
import errno
import fcntl
import importlib
import json
import os
import re
import runpy
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from shared.errors import PermanentError, TemporaryError
from shared.faults import interfere

RULES, PLACE, MODULE = "FAULTS", "FAULTS_PLACE", "FAULTS_MODULE"
RULE = re.compile(
    r"(?:(?P<service>\w+)/)?(?P<point>\w+\.\w+)=(?P<action>\w+)(?::(?P<argument>[\w-]+))?(?:@(?P<n>[1-9]\d*)(?P<every>\+)?)?",
    re.ASCII,
)
POLL_SECONDS = 0.02
ENDLESS_SECONDS = 120
"""No test waits longer: a process that nobody lets go on must not stay for ever."""


@dataclass(frozen=True)
class Rule:
    """What happens where."""

    number: int
    service: str | None
    point: str
    action: str
    argument: str | None
    n: int | None
    every: bool

    def __str__(self) -> str:
        return f"{self.number}-{self.point}={self.action}"


@dataclass(frozen=True)
class Mark:
    """A rule has acted, or is about to: where, in which processes, and on what."""

    rule: str
    pids: list[int]
    """Those that die or freeze; of the others the one that passed the point."""
    about: dict[str, object]
    """What its log lines carry: job, task, unit, attempt."""
    at: str
    """When: ISO 8601, UTC."""


def parse(text: str) -> list[Rule]:
    """Return the rules. Raise ValueError for one that is none, as it would silently test nothing."""
    return [_parse(number, part.strip()) for number, part in enumerate(text.split(";"), 1) if part.strip()]


def _parse(number: int, text: str) -> Rule:
    match = RULE.fullmatch(text)
    if match is None or match["action"] not in ACTIONS:
        raise ValueError(f"{text!r} is no rule; see tests/faults.py")
    n = int(match["n"]) if match["n"] else None
    return Rule(number, match["service"], match["point"], match["action"], match["argument"], n, bool(match["every"]))


def environment(place: Path, *rules: str) -> dict[str, str]:
    """Return the variables that put faults into a process, and make the folder."""
    parse("; ".join(rules))
    place.mkdir(exist_ok=True)
    return {RULES: "; ".join(rules), PLACE: str(place)}


def marks(place: Path) -> list[Mark]:
    """Return what has happened so far, in order."""
    return [Mark(**json.loads(path.read_text())) for path in sorted(place.glob("mark-*"), key=_moment)]


def _moment(path: Path) -> int:
    return path.stat().st_mtime_ns


# In the process


class Faults:
    """The rules of this process."""

    def __init__(self, rules: Iterable[Rule], place: Path, service: str) -> None:
        self._place = place
        self._rules = [rule for rule in rules if rule.service in (None, service)]

    def act(self, point: str) -> None:
        """Do what the rules want at this point."""
        for rule in self._rules:
            if rule.point == point and (rule.n is None or self._is_due(rule, rule.n)):
                self._mark(rule)
                ACTIONS[rule.action](self._place, rule.argument)

    def _is_due(self, rule: Rule, n: int) -> bool:
        passes = self._pass(rule)
        return passes % n == 0 if rule.every else passes == n

    def _pass(self, rule: Rule) -> int:
        """Return how often the point has been passed, this time included."""
        with (self._place / f"passes-{rule}").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(".")
            return file.tell()

    def _mark(self, rule: Rule) -> None:
        pids = [os.getpid(), os.getppid()] if rule.action.endswith("_both") else [os.getpid()]
        mark = {"rule": str(rule), "pids": pids, "about": structlog.contextvars.get_contextvars()}
        mark["at"] = datetime.now(UTC).isoformat()
        hidden = self._place / f".{rule}-{time.monotonic_ns()}-{os.getpid()}"
        hidden.write_text(json.dumps(mark))
        hidden.rename(self._place / f"mark{hidden.name.replace('.', '-', 1)}")


def _kill(_place: Path, _argument: str | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_both(_place: Path, _argument: str | None) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(_place: Path, _argument: str | None) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _stop_both(_place: Path, _argument: str | None) -> None:
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def _exit(_place: Path, argument: str | None) -> None:
    os._exit(int(argument or 1))


def _temporary(_place: Path, _argument: str | None) -> None:
    raise TemporaryError("A fault was put in here; it will pass.")


def _permanent(_place: Path, _argument: str | None) -> None:
    raise PermanentError("A fault was put in here; it stays.")


def _memory(_place: Path, _argument: str | None) -> None:
    raise MemoryError


def _os(_place: Path, argument: str | None) -> None:
    number = getattr(errno, argument or "EIO")
    raise OSError(number, os.strerror(number))


def _wait(place: Path, argument: str | None) -> None:
    _poll(place / str(argument), there=True)


def _hold(place: Path, argument: str | None) -> None:
    _poll(place / str(argument), there=False)


def _poll(path: Path, *, there: bool) -> None:
    deadline = time.monotonic() + ENDLESS_SECONDS
    while path.exists() != there and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


ACTIONS = {
    "kill": _kill,
    "kill_both": _kill_both,
    "stop": _stop,
    "stop_both": _stop_both,
    "exit": _exit,
    "temporary": _temporary,
    "permanent": _permanent,
    "memory": _memory,
    "os": _os,
    "wait": _wait,
    "hold": _hold,
}


# From the test


def thaw(pids: Iterable[int]) -> None:
    """Let frozen processes go on; those that have ended meanwhile are none of ours."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _put_in(module: str, variables: Mapping[str, str]) -> None:
    service = module.partition(":")[0].rpartition(".")[2]
    interfere(Faults(parse(variables[RULES]), Path(variables[PLACE]), service).act)


def _main() -> None:
    _, target, *arguments = sys.argv
    os.environ[MODULE] = target
    _put_in(target, os.environ)
    sys.argv = [target, *arguments]
    module, _, function = target.partition(":")
    if function:
        getattr(importlib.import_module(module), function)()
    else:
        runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    _main()
elif __name__ == "__mp_main__":  # a child process that the service spawned
    _put_in(os.environ[MODULE], os.environ)
    importlib.import_module(os.environ[MODULE].partition(":")[0])  # it may register a task type
