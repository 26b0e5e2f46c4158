"""The state of the whole suite as metrics, read from the database and the broker whenever somebody looks.

It is told by the scheduler, because it must be told once, and not by each of many workers. It is read in the thread of
who asks, with connections of its own, so the loop never waits for it; at most once in :data:`KEPT_SECONDS`, whoever
asks how often. Each statement reads what is open, through an index, or the collections; none looks at what is over,
so it costs the same after a million jobs. What cannot be read is missing, and ``bowerbird_state_up`` says so: an old
value would look like a good one.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Float, and_, case, cast, exists, func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from services.scheduler.decisions import DAYS
from shared import metrics
from shared.broker import Broker, open_broker
from shared.db import make_engine, make_sessions
from shared.db.models import (
    Collection,
    DeadLetter,
    Job,
    JobStatus,
    LetterKind,
    LetterStatus,
    Pause,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.errors import BowerbirdError
from shared.logging import get_logger
from shared.messages import queues
from shared.metrics import Gauge, Sample
from shared.pauses import collection_is_paused, unit_is_paused
from shared.settings import Settings
from shared.tasks import TASKS

KEPT_SECONDS = 10.0
STATEMENT_MILLISECONDS = 5_000
"""How long a statement may take. Who asks gives up after ten seconds, as a rule."""

log = get_logger()


@contextlib.contextmanager
def shown(settings: Settings, database_url: str) -> Iterator[None]:
    """Show the state while the block runs, if anybody can look."""
    if not metrics.is_enabled():
        yield
        return
    engine = make_engine(database_url, application_name="bowerbird scheduler metrics", pool_size=1)
    broker = open_broker(settings, database_url)
    metrics.add_state(State(make_sessions(engine), broker, lease=settings.lease).read)
    try:
        yield
    finally:
        broker.close()
        engine.dispose()


class State:
    """Reads the state, one at a time, and keeps it for a while."""

    def __init__(self, sessions: sessionmaker[Session], broker: Broker, *, lease: timedelta) -> None:
        self._sessions, self._broker, self._lease = sessions, broker, lease
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._samples: list[Sample] = []

    def read(self) -> list[Sample]:
        """Return all samples, as of now or some seconds ago."""
        with self._lock:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                self._samples = [*self._from_database(), *self._from_broker()]
                self._read_at = time.monotonic()
            return self._samples

    def _from_database(self) -> list[Sample]:
        try:
            with self._sessions() as session:
                session.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MILLISECONDS}"))
                samples = [
                    *_units(session),
                    *_leases(session, self._lease),
                    *_jobs(session),
                    *_tasks(session),
                    *_dead_letters(session),
                    *_pauses(session),
                    *_collections(session),
                ]
        except SQLAlchemyError as error:
            log.warning("the state of the suite cannot be read from the database", error=str(error))
            return [Sample(metrics.STATE_UP, 0, ("database",))]
        return [*samples, Sample(metrics.STATE_UP, 1, ("database",))]

    def _from_broker(self) -> list[Sample]:
        samples = []
        try:
            for queue in queues():
                depth = self._broker.depth(queue)
                counts = {"ready": depth.ready, "waiting": depth.waiting, "dead": depth.dead}
                samples += [Sample(metrics.QUEUE_MESSAGES, count, (queue, state)) for state, count in counts.items()]
        except BowerbirdError as error:
            log.warning("the state of the suite cannot be read from the broker", error=str(error))
            return [Sample(metrics.STATE_UP, 0, ("broker",))]
        return [*samples, Sample(metrics.STATE_UP, 1, ("broker",))]


def _seconds(duration: Any) -> Any:
    return cast(func.extract("epoch", duration), Float)


def _table(metric: Gauge, rows: Any, *values: Any) -> Iterator[Sample]:
    """Yield a sample for each combination of label values; 0 where there is no row (labels …, value) of it."""
    found = {tuple(row[:-1]): row[-1] for row in rows}
    combinations: list[tuple[str, ...]] = [()]
    for column in values:
        combinations = [(*labels, str(value)) for labels in combinations for value in column]
    for labels in dict.fromkeys([*combinations, *found]):
        yield Sample(metric, float(found.get(labels) or 0), labels)


def _units(session: Session) -> Iterator[Sample]:
    """Units that are not completed, and the longest wait of those that a worker may take now.

    A unit waits since its task started, or since its next attempt was due: when it was published is no measure, as it
    is published again and again.
    """
    due = or_(Unit.next_attempt_at.is_(None), Unit.next_attempt_at <= func.now())
    waits = and_(Unit.status.in_([UnitStatus.PLANNED, UnitStatus.QUEUED]), due, Task.status == TaskStatus.RUNNING)
    since = func.greatest(Task.start, Unit.next_attempt_at)
    statement = (
        select(Task.type, Unit.status, func.count().label("number"))
        .add_columns(_seconds(func.now() - func.min(case((and_(waits, ~unit_is_paused()), since)))).label("wait"))
        .join(Task, Task.id == Unit.task_id)
        .where(Unit.status != UnitStatus.COMPLETED)
        .group_by(Task.type, Unit.status)
    )
    rows = session.execute(statement).all()
    statuses = [status for status in UnitStatus if status != UnitStatus.COMPLETED]
    yield from _table(metrics.UNITS, [(row.type, row.status, row.number) for row in rows], TASKS, statuses)
    longest: dict[str, float] = {}
    for row in rows:
        longest[row.type] = max(longest.get(row.type, 0), row.wait or 0)
    yield from _table(metrics.UNIT_WAIT_OLDEST, longest.items(), TASKS)


def _leases(session: Session, lease: timedelta) -> Iterator[Sample]:
    age = _seconds(func.now() - func.min(Unit.lease_until) + lease)
    expired = func.count().filter(Unit.lease_until < func.now())
    row = session.execute(
        select(age.label("age"), expired.label("expired")).where(Unit.status == UnitStatus.RUNNING)
    ).one()
    yield Sample(metrics.LEASE_OLDEST, max(0.0, row.age or 0.0))
    yield Sample(metrics.LEASES_EXPIRED, row.expired)


def _jobs(session: Session) -> Iterator[Sample]:
    statement = select(Job.status, func.count()).where(Job.status != JobStatus.COMPLETED).group_by(Job.status)
    open_statuses = (JobStatus.PLANNED, JobStatus.RUNNING)
    yield from _table(metrics.JOBS, session.execute(statement), open_statuses)


def _tasks(session: Session) -> Iterator[Sample]:
    """Tasks of jobs that are not completed. Like the read models: waiting, if it runs and no unit was begun."""
    begun = exists().where(Unit.task_id == Task.id, Unit.start.is_not(None))
    waiting = and_(Task.status == TaskStatus.RUNNING, ~begun)
    status = case((waiting, TaskStatus.WAITING.value), else_=Task.status).label("shown")
    tasks = (
        select(Task.type, status)
        .join(Job, Job.id == Task.job_id)
        .where(Job.status != JobStatus.COMPLETED, Task.status != TaskStatus.COMPLETED)
        .subquery()
    )
    statement = select(tasks.c.type, tasks.c.shown, func.count()).group_by(tasks.c.type, tasks.c.shown)
    statuses = (TaskStatus.PLANNED, TaskStatus.WAITING, TaskStatus.RUNNING)
    yield from _table(metrics.TASKS_OPEN, session.execute(statement), TASKS, statuses)


def _dead_letters(session: Session) -> Iterator[Sample]:
    statement = (
        select(DeadLetter.queue, DeadLetter.kind, func.count())
        .where(DeadLetter.status == LetterStatus.OPEN)
        .group_by(DeadLetter.queue, DeadLetter.kind)
    )
    yield from _table(metrics.DEAD_LETTERS, session.execute(statement), queues(), LetterKind)


def _pauses(session: Session) -> Iterator[Sample]:
    collections = func.count(Pause.collection_id)
    row = session.execute(select(collections.label("collections"), func.count(Pause.queue).label("queues"))).one()
    yield Sample(metrics.PAUSES, row.collections, ("collection",))
    yield Sample(metrics.PAUSES, row.queues, ("queue",))


def _collections(session: Session) -> Iterator[Sample]:
    """Collections whose data is older than it should be, and the last success of all.

    A collection is due so many days after its last success; one that never succeeded, since it was added.
    """
    days = case(DAYS, value=Collection.retrieval_frequency)
    last = func.coalesce(cast(Collection.last_retrieved, Collection.created.type), Collection.created)
    due = last + func.make_interval(0, 0, 0, days)
    overdue = select(func.count().label("number"), _seconds(func.now() - func.min(due)).label("seconds")).where(
        ~Collection.frozen, Collection.retrieval_frequency.in_(list(DAYS)), due < func.now(), ~collection_is_paused()
    )
    row = session.execute(overdue).one()
    yield Sample(metrics.COLLECTIONS_OVERDUE, row.number)
    yield Sample(metrics.OVERDUE_OLDEST, row.seconds or 0.0)
    ended = select(_seconds(func.max(Job.end))).join(Collection, Collection.active_job_id == Job.id)
    if (success := session.scalar(ended)) is not None:
        yield Sample(metrics.LAST_SUCCESS, success)
