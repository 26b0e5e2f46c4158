"""The child process of a worker slot: runs handlers, one unit after another, and commits their outcomes.

A process of its own, because a single long C call that holds the interpreter lock would stop the broker's heartbeats,
and because only a process can be killed for a cancellation, a lost lease or a limit. It is started once and kept warm.
It dies with its parent: an orphan would go on working after its claim went to someone else.

Speech with the parent, over a pipe: in come :class:`~shared.worker.context.Assignment` objects; out go tuples
``(kind, value)``: any number of ``("progress", {...})``, ``("lock", LockFile)`` and ``("unlock", LockFile)``, then one
:class:`Outcome`.
"""

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy.orm import Session, sessionmaker

from shared import filing, units
from shared.db import make_engine, make_sessions
from shared.errors import SupersededError
from shared.exports import split_name
from shared.failures import classify
from shared.faults import fault
from shared.logging import configure_logging, get_logger
from shared.service import settle
from shared.settings import Settings
from shared.tasks import entry_of, load, specs_of
from shared.tracing import Span, begin, shown
from shared.units import Assignment, Later, storable
from shared.worker.context import Work, bounded_output

log = get_logger()

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"
"""When memory runs out the system kills this process rather than its parent, or a database beside it (proc(5))."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``ok`` is committed already; the parent records the others."""

    kind: Literal["ok", "later", "temporary", "permanent", "superseded"]
    error: str = ""
    traceback: str = ""
    retry_after: float | None = None
    published: tuple[tuple[str, int, int], ...] = ()
    """Format, bytes and records of each file that was published."""
    spans: tuple[Span, ...] = ()
    """What the attempt consisted of, for the parent to export."""
    doubtful: bool = False
    """Whether the process may have suffered, so that a fresh one must take its place."""
    later: Later | None = None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere the closed pipe does, later)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def run_child(connection: Connection, settings: Settings, service: str, parent: int, database_url: str) -> None:
    """Be the child: handle assignments until the pipe closes."""
    die_with_parent(parent)
    # The parent decides when work ends; Ctrl-C reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    configure_logging(settings, service)
    handlers = {name: load(spec.handler) for name, spec in specs_of(service).items()}
    engine = make_engine(database_url, application_name=f"bowerbird {service} child", pool_size=2)
    sessions = make_sessions(engine)
    settle()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(("ready", os.getpid()))
        while True:
            assignment: Assignment = connection.recv()
            connection.send(("outcome", _attempt(assignment, handlers, settings, sessions, connection)))


def _attempt(
    assignment: Assignment,
    handlers: dict[str, Any],
    settings: Settings,
    sessions: sessionmaker[Session],
    connection: Connection,
) -> Outcome:
    work: Work | None = None
    structlog.contextvars.bind_contextvars(
        job=assignment.job_id,
        task=assignment.task_type,
        unit=assignment.unit_id,
        attempt=assignment.attempt,
        **shown(assignment.trace),
    )
    spans = [begin("handle", assignment.trace)]
    try:
        with sessions() as session:
            work = Work(assignment, settings, session, lambda kind, value: connection.send((kind, value)))
            work.remove_leftovers()
            fault("child.started")
            output = handlers[entry_of(assignment.task_type, assignment.backend)](work)
            spans[-1].ended()
            if isinstance(output, Later):
                return Outcome("later", later=output, spans=tuple(spans))
            spans.append(begin("commit", assignment.trace))
            _commit(work, output)
        spans[-1].ended()
        return Outcome("ok", published=_published(work), spans=tuple(spans))
    except SupersededError as error:
        spans[-1].ended(error=str(error))
        return Outcome("superseded", str(error), spans=tuple(spans))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  the edge; and a panic of a Rust library is no Exception
        outcome = _failure(error)
        # What it says may come from the data: neither database nor broker take NUL or half a surrogate pair.
        outcome = replace(outcome, error=storable(outcome.error), traceback=storable(outcome.traceback))
        spans[-1].ended(error=outcome.error)
        return replace(outcome, spans=tuple(spans))
    finally:
        if work is not None:
            work.remove_directories()
        structlog.contextvars.unbind_contextvars("job", "task", "unit", "attempt", "trace")


def _published(work: Work) -> tuple[tuple[str, int, int], ...]:
    return tuple((split_name(file.name)[1], file.size, file.records) for file in work.files)


def _failure(error: BaseException) -> Outcome:
    trace = traceback.format_exc()
    failure = classify(error)
    if not failure.foreseen:
        log.error("handler failed with an error it did not foresee", traceback=trace)
    doubtful = isinstance(error, MemoryError)
    return Outcome(failure.kind, failure.text, trace, failure.retry_after, doubtful=doubtful)


def _commit(work: Work, output: dict[str, Any]) -> None:
    """Make the outcome true at once, while the claim holds: files kept, rows written, unit completed.

    Files that are published now are not touched: the new ones lie beside them, in a place that nothing but the new rows
    knows (shared/filing.py). If we die between moving them there and the commit, they are removed when the job ends.
    """
    fault("child.handled")
    session, assignment = work.session, work.assignment
    output = bounded_output(output)
    filing.lock_job(session, work.job_id, silence=work.settings.lease)
    units.hold(session, assignment.unit_id, assignment.token)
    place = ""
    files = [*((file.path, file.name) for file in work.files), *((path, path.name) for path in work.left)]
    if files:
        place = work.export.keep(work.staging, assignment.unit_id, assignment.token, files)
        fault("child.kept")
    filing.record_files(session, assignment, work.files, place)
    units.complete(session, assignment, output, work.notes)
    fault("child.recorded")
    session.commit()
    fault("child.committed")
