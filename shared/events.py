"""The event log: every change of a job's or a task's status, in the order in which they were committed.

The model: triggers on ``job`` and ``task`` (migration 0014) insert a row in the transaction that makes the change, so
no code can forget it, and nothing is told that did not happen. They are deferred: at commit, when the transaction has
all its locks and waits for none, they take an advisory lock, then the row's id. Whoever commits next takes the next id.
So a reader that has seen an id has seen all before it, and may go on with ``id > last``: without the lock, a lower id
could become visible later, and would be skipped. The lock costs next to nothing: it is held by the server for the time
of a commit, and ``NOTIFY``, which wakes the readers, has transactions take turns in the same way.

Rows are deleted by age. The newest of those that are too old is kept, to tell how far back the log reaches: who asks
for what follows on an older id may have missed something.
"""

import contextlib
import select
import socket
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, false, func, or_
from sqlalchemy import select as query
from sqlalchemy.orm import Session

from shared.db import connect
from shared.db.models import Collection, Event, JobStatus, Result, TaskStatus

CHANNEL = "bowerbird_event"
PAGE = 500
PRUNED_AT_ONCE = 1000


class EventView(BaseModel):
    """An event, and whether everyone may see it."""

    model_config = ConfigDict(frozen=True)

    id: int
    type: Literal["job", "task"]
    job_id: int
    collection_id: int | None
    source_id: str | None
    status: JobStatus | TaskStatus
    task: str
    result: Result
    created: datetime
    public: bool


def newest_id(session: Session) -> int:
    """Return the id of the newest event, 0 if there never was one."""
    return session.scalar(query(func.max(Event.id))) or 0


def reaches_back(session: Session, event_id: int) -> bool:
    """Return whether the log has everything that followed on an event; False for an event that is yet to come."""
    oldest, newest = session.execute(query(func.min(Event.id), func.max(Event.id))).one()
    return event_id == 0 if newest is None else oldest - 1 <= event_id <= newest


def read_events(
    session: Session,
    *,
    after: int,
    until: int | None = None,
    job_id: int | None = None,
    collection_id: int | None = None,
    public_only: bool = False,
    limit: int = PAGE,
) -> list[EventView]:
    """Return events with an id over ``after``, up to and with ``until``, oldest first. One statement.

    Those of a collection that is deleted are left out.
    """
    columns = (getattr(Event, name) for name in EventView.model_fields if name not in ("source_id", "public"))
    everyone = or_(Event.collection_id.is_(None), func.coalesce(Collection.public, false()))
    statement = (
        query(*columns, Collection.source_id, everyone.label("public"))
        .outerjoin(Collection, Collection.id == Event.collection_id)
        .where(Event.id > after, or_(Event.collection_id.is_(None), Collection.id.is_not(None)))
        .order_by(Event.id)
        .limit(limit)
    )
    if until is not None:
        statement = statement.where(Event.id <= until)
    if public_only:
        statement = statement.where(everyone)
    for column, wanted in ((Event.job_id, job_id), (Event.collection_id, collection_id)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    return [EventView.model_validate(dict(row)) for row in session.execute(statement).mappings()]


def prune(session: Session, *, age: timedelta) -> bool:
    """Delete some events that are older than ``age``, but the newest of them; return whether more may be left."""
    oldest = query(Event.id, Event.created).order_by(Event.id).limit(PRUNED_AT_ONCE + 1).subquery()
    old = session.scalars(query(oldest.c.id).where(oldest.c.created < func.now() - age).order_by(oldest.c.id)).all()
    if len(old) > 1:
        session.execute(delete(Event).where(Event.id < old[-1]).execution_options(synchronize_session=False))
    return len(old) > PRUNED_AT_ONCE


class Listener:
    """A connection that is told of new events. Made for one thread; :meth:`wake` may be called from any.

    :raises shared.db.errors.DriverError: from any method but ``wake``: the database is away.
    """

    def __init__(self, url: str, *, application_name: str) -> None:
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self._url, self._name = url, application_name
        self._connection: Any = None

    def connect(self) -> None:
        """Connect anew. What was committed before is not told: read the log after this."""
        self.disconnect()
        self._connection = connect(self._url, application_name=self._name)
        self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(f'LISTEN "{CHANNEL}"')

    def wait(self, seconds: float) -> None:
        """Wait for an event, or until woken; without a connection, until woken or the time is over."""
        sources = [self._ear] if self._connection is None else [self._ear, self._connection]
        readable, _, _ = select.select(sources, [], [], seconds)
        if self._connection in readable:
            self._connection.poll()
            self._connection.notifies.clear()
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(1024)

    def wake(self) -> None:
        """Make :meth:`wait` return."""
        with contextlib.suppress(OSError):  # it is full, and will wake, or closed
            self._bell.send(b".")

    def disconnect(self) -> None:
        """Give up the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Give up everything."""
        self.disconnect()
        self._bell.close()
        self._ear.close()
