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
import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, Literal

import structlog
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from shared import exports, units
from shared.db import make_engine, make_sessions
from shared.db.errors import is_temporary
from shared.db.models import File, Job
from shared.errors import PermanentError, SupersededError, TemporaryError
from shared.logging import configure_logging, get_logger
from shared.settings import Settings
from shared.tasks import TASKS, load
from shared.units import Assignment, storable
from shared.worker.context import Work, bounded_output

log = get_logger()

PR_SET_PDEATHSIG = 1
MENDABLE = frozenset(
    {
        errno.EACCES,
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
    }
)
"""System errors that an operator, or time, mends while we wait: disk full, read-only, too many open files, …"""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``ok`` is committed already; the parent records the others."""

    kind: Literal["ok", "temporary", "permanent", "superseded"]
    error: str = ""
    traceback: str = ""
    retry_after: float | None = None


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
    configure_logging(settings, service)
    handlers = {name: load(spec.handler) for name, spec in TASKS.items() if spec.service == service}
    engine = make_engine(database_url, application_name=f"bowerbird {service} child", pool_size=2)
    sessions = make_sessions(engine)
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
        job=assignment.job_id, task=assignment.task_type, unit=assignment.unit_id, attempt=assignment.attempt
    )
    try:
        with sessions() as session:
            work = Work(assignment, settings, session, lambda kind, value: connection.send((kind, value)))
            work.remove_leftovers()
            output = handlers[assignment.task_type](work)
            _commit(work, output)
        return Outcome("ok")
    except SupersededError as error:
        return Outcome("superseded", str(error))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  the edge; and a panic of a Rust library is no Exception
        outcome = _failure(error)
        # What it says may come from the data: neither database nor broker take NUL or half a surrogate pair.
        return replace(outcome, error=storable(outcome.error), traceback=storable(outcome.traceback))
    finally:
        if work is not None:
            work.remove_directories()
        structlog.contextvars.unbind_contextvars("job", "task", "unit", "attempt")


def _failure(error: BaseException) -> Outcome:
    trace = traceback.format_exc()
    if isinstance(error, PermanentError):
        return Outcome("permanent", str(error), trace)
    if isinstance(error, TemporaryError):
        return Outcome("temporary", str(error), trace, error.retry_after)
    if is_temporary(error):
        return Outcome("temporary", f"The database was not available: {error}", trace)
    if isinstance(error, OSError) and error.errno in MENDABLE:
        return Outcome("temporary", f"The operating system refused: {error}", trace)
    log.error("handler failed with an error it did not foresee", traceback=trace)
    return Outcome("permanent", f"Unexpected {type(error).__name__}: {error}", trace)


def _commit(work: Work, output: dict[str, Any]) -> None:
    """Make the outcome true at once, while the claim holds: files renamed, rows and manifest written, unit completed.

    The job's row lock puts the units of one job in order here, as each rewrites the manifest. If we die between rename
    and commit, the files are there without rows; the next attempt replaces them, or removes them.
    """
    session, assignment = work.session, work.assignment
    output = bounded_output(output)
    _lock_job(work)
    units.hold(session, assignment.unit_id, assignment.token)
    stale = units.record_files(session, assignment, work.files)
    units.complete(session, assignment, output, work.notes)
    for file in work.files:
        file.path.replace(work.export.path(file.name))
    listed = _files(work)
    if work.files or stale:
        manifest = exports.manifest(assignment.source_id, assignment.job_id, _file_facts(listed))
        exports.replace_text(work.export.directory / exports.MANIFEST, manifest, staging=work.staging)
    session.commit()
    if {path.name for path in work.export.paths()} - {row.name for row in listed}:
        _remove_unlisted(work)


def _remove_unlisted(work: Work) -> None:
    """Delete files that have no row: this unit no longer makes them, or an attempt died between rename and commit.

    Asks again, under the job's lock: we may have been frozen since the commit, and the job restarted meanwhile.
    """
    _lock_job(work)
    listed = {row.name for row in _files(work)}
    for path in work.export.paths():
        if path.name not in listed:
            path.unlink(missing_ok=True)
    work.session.commit()


def _lock_job(work: Work) -> None:
    """Lock the job's row for the rest of the transaction; for a lease at most, should we be frozen while we hold it.

    The scheduler, other units of the job and the parent process wait for it. From here on the server cuts off a client
    that is silent for so long.
    """
    silence = work.settings.lease // timedelta(milliseconds=1)
    work.session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {silence}"))
    work.session.execute(select(Job.id).where(Job.id == work.job_id).with_for_update(key_share=True))


def _files(work: Work) -> Sequence[File]:
    return work.session.scalars(select(File).where(File.job_id == work.job_id).order_by(File.name)).all()


def _file_facts(rows: Sequence[File]) -> list[dict[str, Any]]:
    return [{"name": row.name, "size": row.size, "records": row.records, "sha256": row.sha256} for row in rows]
