"""Publishing the messages of units. A unit's row is its own outbox: what is not confirmed is published again."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from shared import units
from shared.broker import Broker
from shared.errors import BrokerUnavailableError
from shared.logging import get_logger
from shared.messages import RunUnit, work_queue
from shared.tasks import spec_of

log = get_logger()

PAGE = 1000


def publish_units(sessions: sessionmaker[Session], broker: Broker, rows: Sequence[Any]) -> int:
    """Publish a message for each (unit id, task id, job id, task type); return how many the broker confirmed.

    While it is away, that is fewer than there are: the others need a message still, and the scheduler's tick knows.
    """
    published: list[int] = []
    try:
        for row in rows:
            message = RunUnit(unit_id=row.id, task_id=row.task_id, job_id=row.job_id, task_type=row.type)
            broker.publish(work_queue(spec_of(row.type).service), message)
            published.append(row.id)
    except BrokerUnavailableError as error:
        log.warning("units not published yet", waiting=len(rows) - len(published), error=str(error))
    finally:
        if published:
            with sessions.begin() as session:
                units.mark_queued(session, published)
    return len(published)


def republish(sessions: sessionmaker[Session], broker: Broker, scope: units.Scope) -> int:
    """Publish the messages of all units of a scope that wait for a worker, whether lost or not; return how many.

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


def pages(sessions: sessionmaker[Session], scope: units.Scope) -> Iterator[list[Any]]:
    """Yield the (unit id, task id, job id, task type) that :func:`republish` would publish, some at a time."""
    after = 0
    while True:
        with sessions() as session:
            rows = units.waiting(session, scope, after=after, limit=PAGE)
        if not rows:
            return
        yield rows
        after = rows[-1].id
