"""Claiming, keeping and ending a unit of work: the guarded UPDATE statements that make delivery safe.

Every claim takes a new fencing token. State, progress and outcome are written only where id *and* token match, so a
worker that was frozen, cut off or superseded changes nothing when it wakes up. Leases run by the database's clock.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    CompoundSelect,
    Interval,
    Row,
    Select,
    Text,
    Update,
    all_,
    and_,
    bindparam,
    case,
    cast,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from shared.db.models import (
    UNIT_TOKEN,
    Collection,
    Job,
    JobStatus,
    NoteLevel,
    Result,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.errors import SupersededError
from shared.exports import NO_COLLECTION
from shared.limits import NO_LIMITS, Limits
from shared.messages import work_queue
from shared.pauses import unit_is_paused
from shared.tasks import TASKS

REPUBLISH_CAP = timedelta(hours=1)
"""The longest time after which a unit that waits for a worker is published again. Of 10,000 units that wait ten hours
each has some 15 messages then; with two minutes always, it would be 300."""
MAX_DOUBLINGS = 20
EMPTY = text("'{}'::jsonb")
MAX_ERROR_CHARACTERS = 4_000
MAX_TRACEBACK_CHARACTERS = 20_000
MESSAGE_COLUMNS = (Unit.id, Unit.task_id, Unit.job_id, Unit.type, Job.trace, Unit.modified)
"""What a unit's message says, the trace being the job's; and for :func:`mark_queued` when the row last changed."""
SMALLEST_WINDOW = 20
"""Units of a task type that have a message and no worker yet, at the least; or twice as many as are running."""

# What the statements of every unit's life are made of. They are built once (``@cache``), as that takes longer than
# carrying them out; what differs from call to call is *given*.
_RUNNING = (Task.status == TaskStatus.RUNNING, Job.status == JobStatus.RUNNING)
_HELD = (Unit.id == bindparam("given_id"), Unit.token == bindparam("given_token"), Unit.status == UnitStatus.RUNNING)
_TYPES = cast(bindparam("given_types"), ARRAY(Text))


@dataclass(frozen=True)
class Assignment:
    """A claimed unit, as the worker gives it to its child process."""

    unit_id: int
    task_id: int
    job_id: int
    token: int
    attempt: int
    task_type: str
    params: dict[str, Any]
    collection_id: int | None
    """None: the job is of no collection; its ``source_id`` is :data:`~shared.exports.NO_COLLECTION`."""
    source_id: str
    source: str
    options: dict[str, Any]
    context: dict[str, Any]
    """The job's context, as the tasks before this one left it."""
    database_url: str
    trace: str = ""
    """``traceparent`` of the job's span; once the worker has begun the attempt, of the attempt's."""
    waited_seconds: float = 0.0
    """How long the unit waited for this claim: since its task started, or since this attempt was due."""
    backend: str = ""
    """Who does the task; empty: its type's own."""
    state: dict[str, Any] = field(default_factory=dict)
    """What the handler left when it was last called and the work was not finished (see :class:`Later`)."""


@dataclass(frozen=True)
class Later:
    """What a handler returns while another system is still at work: the unit is put off, and called again with it.

    No attempt is counted, those so far are forgotten, and nothing that the handler wrote is kept but this.
    """

    delay: timedelta
    state: dict[str, Any]
    """All that the next call will know, as JSON: small."""
    note: str = ""
    """What it waits for, in words, for people."""
    waiting: bool = False
    """The other system has not begun."""
    done: int | None = None
    total: int | None = None
    of: str = "records"
    error: str = ""
    """What failed just now, if that is why it is put off."""

    @property
    def progress(self) -> dict[str, Any]:
        """The same for the column ``progress``."""
        found = {"done": self.done, "total": self.total, "of": self.of} if self.done is not None else {}
        words = {"note": self.note[:MAX_ERROR_CHARACTERS], "waiting": self.waiting}
        return {name: value for name, value in (found | words).items() if value not in (None, "")}


@dataclass(frozen=True)
class PublishedFile:
    """A finished file in the staging directory, to be kept when the unit completes."""

    path: Path
    name: str
    records: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Note:
    """Something a person should know; stored with the task when the unit completes."""

    level: NoteLevel
    note: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """Why a unit could not be claimed. ``busy``: not now, ask again later; else drop the message.

    ``due_in``: when its next attempt is due; None: nobody knows, its holder is alive.
    """

    reason: str
    busy: bool
    due_in: timedelta | None = None


@dataclass(frozen=True)
class Scope:
    """Which units: those that meet everything that is given."""

    queue: str | None = None
    job_id: int | None = None
    collection_id: int | None = None
    since: timedelta | None = None
    """Published within this time."""


def claim(
    session: Session, unit_id: int, *, worker: str, lease: timedelta, database_url: str, limits: Limits = NO_LIMITS
) -> Assignment | Refusal:
    """Claim a unit: new token, attempt + 1, lease. In one conditional UPDATE, so one of many claimants wins.

    Claimable: planned, or queued and due, or running with an expired lease; in a running task of a running job; neither
    its queue nor its collection is paused; and no limit is reached. A unit that is refused for one of the last two is
    planned again: it will need a message when that is over.
    """
    # Most are under no limit, and are claimed in a single statement.
    claimed = _take(session, unit_id, limits, worker=worker, lease=lease)
    if claimed is None:
        if (reached := limits.refuse(session, unit_id)) and _plan_again(session, unit_id, ~_waits()):
            return Refusal(reached, busy=False)
        claimed = _take(session, unit_id, NO_LIMITS, worker=worker, lease=lease)
    if claimed is None:
        return _refusal(session, unit_id)
    of_collection = claimed.collection_id is not None
    return Assignment(
        unit_id=unit_id,
        task_id=claimed.task_id,
        job_id=claimed.job_id,
        token=claimed.token,
        attempt=claimed.attempt,
        task_type=claimed.type,
        params=claimed.params,
        collection_id=claimed.collection_id,
        source_id=claimed.source_id if of_collection else NO_COLLECTION,
        source=claimed.source if of_collection else "",
        options=claimed.options if of_collection else {},
        context=claimed.context,
        database_url=database_url,
        trace=claimed.trace,
        waited_seconds=float(claimed.waited or 0),
        backend=claimed.backend,
        state=claimed.state,
    )


def _take(session: Session, unit_id: int, limits: Limits, *, worker: str, lease: timedelta) -> Row[Any] | None:
    """Claim a unit that is under none of the limits; return its row, with what is to be known of its task and job."""
    values = {"id": unit_id, "worker": worker, "lease": lease, "types": list(limits.types), "host": limits.host}
    return session.execute(_claim(), {f"given_{name}": value for name, value in values.items()}).one_or_none()


@cache
def _claim() -> ReturningUpdate[Any]:
    of = (
        select(Task.id.label("task"), Task.backend, Task.start, Job.collection_id, Job.context, Job.trace)
        .add_columns(Collection.source_id, Collection.source, Collection.options)
        .join(Job, Job.id == Task.job_id)
        .outerjoin(Collection, Collection.id == Job.collection_id)
        .where(*_RUNNING)
        .subquery("of")
    )
    # Of a unit that was begun before: since when it may be claimed again.
    since = case((Unit.start < func.now(), func.coalesce(Unit.published_at, func.now())), else_=of.c.start)
    return (
        update(Unit)
        .where(Unit.id == bindparam("given_id"), Unit.task_id == of.c.task, _claimable(), ~unit_is_paused())
        .where(Unit.type != all_(_TYPES), or_(bindparam("given_host") == 0, Unit.host == ""))
        .values(
            status=UnitStatus.RUNNING,
            token=UNIT_TOKEN.next_value(),
            attempt=Unit.attempt + 1,
            worker=bindparam("given_worker"),
            lease_until=func.now() + bindparam("given_lease", type_=Interval),
            next_attempt_at=None,
            publications=0,
            start=func.coalesce(Unit.start, func.now()),
            # Of a unit that is called again and again, what people see stays until there is something new.
            progress=case((Unit.state == EMPTY, EMPTY), else_=Unit.progress),
            progress_since=case((Unit.state == EMPTY, func.now()), else_=Unit.progress_since),
        )
        .returning(
            *(Unit.task_id, Unit.job_id, Unit.type, Unit.token, Unit.attempt, Unit.params, Unit.state),
            *(of.c.backend, of.c.collection_id, of.c.context, of.c.trace),
            *(of.c.source_id, of.c.source, of.c.options),
            func.extract("epoch", func.now() - since).label("waited"),
        )
        .execution_options(synchronize_session=False)
    )


def renew(session: Session, unit_id: int, token: int, *, lease: timedelta, progress: dict[str, Any] | None) -> bool:
    """Renew the lease, storing progress if there is any; return False if the claim is lost or the job cancelled."""
    values: dict[Any, Any] = {Unit.lease_until: func.now() + lease}
    if progress is not None:
        values[Unit.progress] = progress
    return _update_held(session, unit_id, token, values, _wanted())


def is_done(session: Session, unit_id: int, token: int) -> bool:
    """Return whether the unit was completed by the holder of this claim."""
    done = (Unit.id == unit_id, Unit.token == token, Unit.status == UnitStatus.COMPLETED)
    return session.scalar(select(Unit.id).where(*done)) is not None


def hold(session: Session, unit_id: int, token: int) -> None:
    """Lock the unit's row for the rest of the transaction. Raise :class:`SupersededError` if the claim is lost."""
    if session.scalar(_hold(), {"given_id": unit_id, "given_token": token}) is None:
        raise SupersededError(f"The claim {token} on unit {unit_id} is lost.")


@cache
def _hold() -> Select[Any]:
    statement: Select[Any] = select(Unit.id).where(*_HELD, _wanted()).with_for_update(of=Unit)
    return statement


def held(session: Session) -> set[tuple[int, int]]:
    """Return (unit id, token) of every unit that someone works on."""
    rows = session.execute(
        select(Unit.id, Unit.token).where(Unit.status == UnitStatus.RUNNING, Unit.token.is_not(None))
    )
    return {(row.id, row.token) for row in rows}


def complete(session: Session, assignment: Assignment, output: dict[str, Any], notes: Sequence[Note]) -> None:
    """End a unit well, with its output and notes. Call after :func:`hold`, in the same transaction."""
    values = {"given_id": assignment.unit_id, "given_token": assignment.token, "given_output": output}
    session.execute(_complete(), values)
    if notes:
        session.execute(
            insert(TaskNote),
            [
                {
                    "task_id": assignment.task_id,
                    "unit_id": assignment.unit_id,
                    "level": note.level,
                    "note": note.note,
                    "data": note.data,
                }
                for note in notes
            ],
        )


@cache
def _complete() -> Update:
    return (
        update(Unit)
        .where(*_HELD)
        .values(status=UnitStatus.COMPLETED, result=Result.OK, end=func.now(), lease_until=None)
        .values(output=bindparam("given_output", type_=JSONB), error="", traceback="")
        .execution_options(synchronize_session=False)
    )


def put_off(session: Session, unit_id: int, token: int, *, error: str, traceback: str, delay: timedelta) -> bool:
    """End an attempt that may succeed later; return False if the claim is lost."""
    values: dict[Any, Any] = {
        Unit.status: UnitStatus.QUEUED,
        Unit.published_at: func.now() + delay,
        Unit.next_attempt_at: func.now() + delay,
        Unit.publications: 0,
        Unit.lease_until: None,
        Unit.worker: "",
        Unit.error: error[:MAX_ERROR_CHARACTERS],
        Unit.traceback: traceback[-MAX_TRACEBACK_CHARACTERS:],
    }
    return _update_held(session, unit_id, token, values)


def ask_later(session: Session, unit_id: int, token: int, later: Later) -> bool:
    """End a call of a unit that goes on elsewhere; return False if the claim is lost."""
    values: dict[Any, Any] = {
        Unit.status: UnitStatus.QUEUED,
        Unit.attempt: 0,
        Unit.published_at: func.now() + later.delay,
        Unit.next_attempt_at: func.now() + later.delay,
        Unit.publications: 0,
        Unit.lease_until: None,
        Unit.worker: "",
        Unit.state: storable_json(later.state),
        Unit.progress: storable_json(later.progress),
        Unit.error: storable(later.error)[:MAX_ERROR_CHARACTERS],
        Unit.traceback: "",
    }
    return _update_held(session, unit_id, token, values)


def fail(session: Session, unit_id: int, token: int, *, error: str, traceback: str) -> bool:
    """End a unit for good; return False if the claim is lost."""
    values: dict[Any, Any] = {
        Unit.status: UnitStatus.COMPLETED,
        Unit.result: Result.FAILED,
        Unit.end: func.now(),
        Unit.lease_until: None,
        Unit.error: error[:MAX_ERROR_CHARACTERS],
        Unit.traceback: traceback[-MAX_TRACEBACK_CHARACTERS:],
    }
    return _update_held(session, unit_id, token, values)


def storable(text: str) -> str:
    """Return a text as PostgreSQL takes it: without NUL and halves of surrogate pairs, wherever it came from."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """Return a JSON value with every text in it, names too, as :func:`storable` makes it."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable_json(name): storable_json(member) for name, member in value.items()}
    return [storable_json(item) for item in value] if isinstance(value, list | tuple) else value


def hand_back(session: Session, unit_id: int, token: int) -> bool:
    """Give up a claim without an outcome (shutdown): the attempt does not count. Return False if it is lost already."""
    values: dict[Any, Any] = {
        Unit.status: UnitStatus.QUEUED,
        Unit.attempt: Unit.attempt - 1,
        Unit.published_at: func.now(),
        Unit.lease_until: None,
        Unit.worker: "",
        Unit.token: None,
    }
    return _update_held(session, unit_id, token, values)


def mark_queued(session: Session, unit_ids: Sequence[int], *, seen: Mapping[int, datetime] | None = None) -> None:
    """Note that the messages of planned (or republished) units are confirmed by the broker.

    Whoever claims one waits for this transaction, and it does not wait for the disk: what a crash of the server makes
    of it is forgotten, the units are published again.

    :param seen: when each unit was last modified, as it was chosen. One that has changed since stays as it is: a worker
        was faster, has refused its message (paused, a limit) and planned it again, so that it needs another.
    """
    unchanged = Unit.id.in_(unit_ids) if seen is None else tuple_(Unit.id, Unit.modified).in_(list(seen.items()))
    session.execute(
        update(Unit)
        .where(unchanged, Unit.status.in_([UnitStatus.PLANNED, UnitStatus.QUEUED]))
        .values(status=UnitStatus.QUEUED, published_at=func.now(), publications=Unit.publications + 1)
        .returning(func.set_config("synchronous_commit", "off", True))
        .execution_options(synchronize_session=False)
    )


def take_back_expired(session: Session) -> Sequence[Any]:
    """Plan again the units whose lease expired. Their old holders are fenced off.

    :return: (unit id, worker, attempt, job id, task type, trace of the job) of each.
    """
    expired = (
        select(Unit.id, Unit.worker, Unit.attempt, Unit.job_id, Task.type, Job.trace)
        .join(Task, Task.id == Unit.task_id)
        .join(Job, Job.id == Unit.job_id)
        .where(Unit.status == UnitStatus.RUNNING, Unit.lease_until < func.now())
        .with_for_update(of=Unit, skip_locked=True)
    )
    rows = session.execute(expired).all()
    if rows:
        session.execute(
            update(Unit)
            .where(Unit.id.in_([row.id for row in rows]))
            .values(status=UnitStatus.PLANNED, token=None, worker="", lease_until=None)
            .execution_options(synchronize_session=False)
        )
    return rows


def to_publish(session: Session, limits: Limits = NO_LIMITS) -> tuple[list[Any], bool]:
    """Return the planned units whose turn it is, as :data:`MESSAGE_COLUMNS`; and whether others wait.

    Of each task type so many that no worker waits for the next one, and no more: what has no message yet can still be
    overtaken, by what has a higher priority or is expected to take less time. Not those that are paused, nor those
    that a limit would not let run.
    """
    found: Sequence[Any] = session.execute(_at_work_and_planned(), {"given_types": list(TASKS)}).all()
    at_work = [row for row in found if row.status != UnitStatus.PLANNED]
    hosts = Counter[str]()
    for row in at_work:
        hosts[row.host] += row.number
    chosen: list[Any] = []
    others_wait = False
    for task_type in (row[0] for row in found if row.status == UnitStatus.PLANNED):
        running = sum(row.number for row in at_work if row[0] == task_type and row.status == UnitStatus.RUNNING)
        queued = sum(row.number for row in at_work if row[0] == task_type and row.status == UnitStatus.QUEUED)
        room = max(SMALLEST_WINDOW, 2 * running) - queued
        if task_type in limits.types:
            room = min(room, limits.types[task_type] - running - queued)
        others_wait |= not _choose(session, task_type, room, hosts, limits.host, chosen)
    return chosen, others_wait


@cache
def _at_work_and_planned() -> CompoundSelect[Any]:
    """How many units run or have a message, by type and host; and a row for each type of which one is planned.

    The types are looked for in the index, each once, however many units are planned.
    """
    published = and_(Unit.status == UnitStatus.QUEUED, Unit.published_at <= func.now())
    at_work = (
        select(Unit.type, Unit.host, Unit.status, func.count().label("number"))
        .where(or_(Unit.status == UnitStatus.RUNNING, published))
        .group_by(Unit.type, Unit.host, Unit.status)
    )
    types = func.unnest(_TYPES).column_valued("planned_type")  # "type" would be the column, in the subquery
    one = select(Unit.id).where(Unit.type == types, Unit.status == UnitStatus.PLANNED).correlate_except(Unit)
    planned = select(types, literal(""), literal(UnitStatus.PLANNED.value), literal(1)).where(one.exists())
    return union_all(at_work, planned)


def _choose(
    session: Session, task_type: str, room: int, hosts: Counter[str], host_limit: int, chosen: list[Any]
) -> bool:
    """Add to ``chosen`` the planned units of a type that there is room for; return whether those were all."""
    planned = _publishable().where(Unit.type == task_type)
    taken: list[int] = []
    while True:
        others = planned.where(Unit.id.not_in(taken), Unit.host.not_in(_full(hosts, host_limit)))
        page = max(room, 0) + 1
        rows = session.execute(others.limit(page)).all()
        for row in rows:
            if room <= 0:
                return False
            if not (row.host and host_limit and hosts[row.host] >= host_limit):
                chosen.append(row)
                taken.append(row.id)
                hosts[row.host] += 1
                room -= 1
        if len(rows) < page:
            return not _full(hosts, host_limit)


@cache
def _publishable() -> Select[Any]:
    columns: tuple[Any, ...] = (*MESSAGE_COLUMNS, Unit.host)
    return (
        select(*columns)
        .join(Job, Job.id == Unit.job_id)
        .where(Unit.status == UnitStatus.PLANNED, _wanted(), ~unit_is_paused())
        .order_by(Unit.priority.desc(), Unit.turn, Unit.id)
    )


def _full(hosts: Counter[str], limit: int) -> list[str]:
    """Return the hosts against which no further unit may run."""
    return [host for host, number in hosts.items() if host and limit and number >= limit]


def unclaimed(session: Session, *, after: timedelta, limit: int = 1000) -> list[Any]:
    """Return the queued units that nobody claimed in time, as :data:`MESSAGE_COLUMNS`, oldest first.

    The broker lost their messages, or has many before them. A repeated message is harmless, but each is received and
    costs a claim: so after each the time doubles, up to :data:`REPUBLISH_CAP`. Not those that are paused.
    """
    return list(session.execute(_unclaimed(after, limit)).all())


@cache
def _unclaimed(after: timedelta, limit: int) -> Select[Any]:
    doublings = func.least(func.greatest(Unit.publications - 1, 0), MAX_DOUBLINGS)
    patience = func.least(after * func.power(2, doublings), max(after, REPUBLISH_CAP))
    late = and_(Unit.status == UnitStatus.QUEUED, Unit.published_at < func.now() - patience)
    due = and_(late, Unit.type.in_(TASKS), _wanted(), ~unit_is_paused())
    columns: tuple[Any, ...] = MESSAGE_COLUMNS
    return select(*columns).join(Job, Job.id == Unit.job_id).where(due).order_by(Unit.id).limit(limit)


def waiting(session: Session, scope: Scope, *, after: int, limit: int) -> list[Any]:
    """Return a scope's units whose message may be lost, as :data:`MESSAGE_COLUMNS`, by id, over ``after``.

    Queued ones; not those that are paused, nor those that wait for the time of their next attempt, nor those of a task
    type that this version does not have.
    """
    statement = select(*MESSAGE_COLUMNS).join(Job, Job.id == Unit.job_id)
    queued = [Unit.status == UnitStatus.QUEUED, Unit.published_at <= func.now()]
    if scope.since is not None:
        queued.append(Unit.published_at >= func.now() - scope.since)
    if scope.queue is not None:
        types = [task_type for task_type, spec in TASKS.items() if work_queue(spec.service) == scope.queue]
        statement = statement.where(Unit.type.in_(types))
    if scope.job_id is not None:
        statement = statement.where(Unit.job_id == scope.job_id)
    if scope.collection_id is not None:
        statement = statement.where(Job.collection_id == scope.collection_id)
    due = and_(*queued, Unit.type.in_(TASKS), _wanted(), ~unit_is_paused())
    return list(session.execute(statement.where(due, Unit.id > after).order_by(Unit.id).limit(limit)).all())


@cache
def _claimable() -> ColumnElement[bool]:
    return or_(
        Unit.status == UnitStatus.PLANNED,
        and_(Unit.status == UnitStatus.QUEUED, ~_waits()),
        and_(Unit.status == UnitStatus.RUNNING, Unit.lease_until < func.now()),
    )


@cache
def _waits() -> ColumnElement[bool]:
    """The unit was put off, and the time of its next attempt has not come."""
    return func.coalesce(Unit.next_attempt_at > func.now(), false())


@cache
def _wanted() -> ColumnElement[bool]:
    """The unit's task and job are running: neither cancelled nor over."""
    return (
        select(Task.id)
        .join(Job, Job.id == Task.job_id)
        .where(Task.id == Unit.task_id, *_RUNNING)
        .correlate(Unit)
        .exists()
    )


def _held(unit_id: int, token: int) -> ColumnElement[bool]:
    return and_(Unit.id == unit_id, Unit.token == token, Unit.status == UnitStatus.RUNNING)


def _update_held(
    session: Session, unit_id: int, token: int, values: dict[Any, Any], *conditions: ColumnElement[bool]
) -> bool:
    statement = update(Unit).where(_held(unit_id, token), *conditions).values(values).returning(Unit.id)
    return session.execute(statement.execution_options(synchronize_session=False)).first() is not None


def _refusal(session: Session, unit_id: int) -> Refusal:
    row = session.execute(
        select(Unit.status, Unit.worker, Task.status.label("task"), Job.status.label("job"))
        .add_columns(_waits().label("waits"), (Unit.next_attempt_at - func.now()).label("due_in"))
        .join(Task, Task.id == Unit.task_id)
        .join(Job, Job.id == Unit.job_id)
        .where(Unit.id == unit_id)
    ).one_or_none()
    if row is None:
        return Refusal("the unit does not exist", busy=False)
    wanted = row.task == TaskStatus.RUNNING and row.job == JobStatus.RUNNING
    if wanted and row.status == UnitStatus.QUEUED and row.waits:
        return Refusal(f"its next attempt is not due for {row.due_in.total_seconds():.0f} s", True, row.due_in)
    if _plan_again(session, unit_id, unit_is_paused()):
        return Refusal("its queue or its collection is paused", busy=False)
    if wanted and row.status != UnitStatus.COMPLETED:
        return Refusal(f"the unit is being worked on by {row.worker}", busy=True)
    return Refusal(f"the unit is {row.status}, its task {row.task}, its job {row.job}", busy=False)


def _plan_again(session: Session, unit_id: int, *conditions: ColumnElement[bool]) -> bool:
    """Give a unit that waits for a worker the state of one that needs a message; return False if it is not so."""
    open_status = Unit.status.in_([UnitStatus.PLANNED, UnitStatus.QUEUED])
    statement = update(Unit).where(Unit.id == unit_id, open_status, _wanted(), *conditions)
    statement = statement.values(status=UnitStatus.PLANNED, next_attempt_at=None, publications=0).returning(Unit.id)
    return session.execute(statement.execution_options(synchronize_session=False)).first() is not None
