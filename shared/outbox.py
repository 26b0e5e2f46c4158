"""Publishing the messages of units. A unit's row is its own outbox: what is not confirmed is published again."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared import metrics, tracing, units
from shared.broker import Broker
from shared.db.models import Audit, Job, JobStatus
from shared.errors import BrokerUnavailableError
from shared.faults import fault
from shared.jobs import announce_job
from shared.limits import Limits
from shared.logging import get_logger
from shared.messages import RunUnit, work_queue
from shared.tasks import spec_of

log = get_logger()

PAGE = 1000


def publish_next(sessions: sessionmaker[Session], broker: Broker, limits: Limits) -> bool:
    """Publish the messages of the units whose turn it is; return whether others wait for theirs.

    Whoever makes room (a unit ended, a pause is over) calls it. Two who do so at once publish some units twice, which
    is harmless.
    """
    with sessions() as session:
        rows, others_wait = units.to_publish(session, limits)
    publish_units(sessions, broker, rows)
    return others_wait


def publish_units(sessions: sessionmaker[Session], broker: Broker, rows: Sequence[Any]) -> int:
    """Publish a message for each row of :func:`shared.units.to_publish`; return how many the broker confirmed.

    While it is away, that is fewer than there are: the others need a message still, and the scheduler's tick knows.
    """
    published: dict[int, datetime] = {}
    spans, messages = [], []
    for row in rows:
        names = {"job": row.job_id, "task": row.type, "unit": row.id}
        span = tracing.begin("publish", tracing.task_of(row.trace, row.task_id), **names)
        message = RunUnit(unit_id=row.id, task_id=row.task_id, job_id=row.job_id, task_type=row.type, trace=span.trace)
        spans.append(span)
        messages.append((work_queue(spec_of(row.type).service), message))
    try:
        for row, span, _ in zip(rows, spans, broker.publish_all(messages), strict=True):
            published[row.id] = row.modified
            span.finish()
            metrics.UNITS_PUBLISHED.inc(task=row.type)
            fault("outbox.published_one")
    except BrokerUnavailableError as error:
        log.warning("units not published yet", waiting=len(rows) - len(published), error=str(error))
    finally:
        if published:
            fault("outbox.published")
            with sessions.begin() as session:
                units.mark_queued(session, list(published), seen=published)
    return len(published)


def republish(sessions: sessionmaker[Session], broker: Broker, scope: units.Scope) -> int:
    """Publish the messages of a scope's queued units again, whether lost or not; return how many.

    Harmless where a message still exists: a unit is claimed once.

    :raises BrokerUnavailableError: the broker is away; what was published before stays so.
    """
    published = 0
    for rows in pages(sessions, scope):
        confirmed = publish_units(sessions, broker, rows)
        published += confirmed
        if confirmed < len(rows):
            raise BrokerUnavailableError(f"The broker went away after {published} messages. Try again when it is back.")
    return published


def replay(sessions: sessionmaker[Session], broker: Broker, scope: units.Scope, *, actor: str) -> int:
    """Publish again as :func:`republish` does, for a person: audited. Return how many messages."""
    number = republish(sessions, broker, scope)
    details = {
        "since_seconds": scope.since.total_seconds() if scope.since is not None else None,
        "queue": scope.queue,
        "messages": number,
    }
    with sessions.begin() as session:
        session.add(Audit(actor=actor, action="replay", job_id=scope.job_id, details=details))
    return number


def go_on(sessions: sessionmaker[Session], broker: Broker, limits: Limits, *, collection_id: int | None) -> None:
    """Publish what waited while a queue, or a collection, was paused, as far as its turn has come.

    :raises BrokerUnavailableError: the broker is away; the scheduler goes on when it is back.
    """
    broker.declare()
    if collection_id is not None:
        incomplete = (Job.collection_id == collection_id, Job.status != JobStatus.COMPLETED)
        with sessions() as session:
            job = session.execute(select(Job.id, Job.trace).where(*incomplete)).one_or_none()
        if job is not None:
            announce_job(broker, job.id, trace=job.trace)
    publish_next(sessions, broker, limits)


def pages(sessions: sessionmaker[Session], scope: units.Scope) -> Iterator[list[Any]]:
    """Yield the rows of :func:`shared.units.waiting` that :func:`republish` would publish, some at a time."""
    after = 0
    while True:
        with sessions() as session:
            rows = units.waiting(session, scope, after=after, limit=PAGE)
        if not rows:
            return
        yield rows
        after = rows[-1].id
