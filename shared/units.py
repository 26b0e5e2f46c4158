"""Claiming, keeping and ending a unit of work: the guarded UPDATE statements that make delivery safe.

Every claim takes a new fencing token. State, progress and outcome are written only where id *and* token match, so a
worker that was frozen, cut off or superseded changes nothing when it wakes up. Leases run by the database's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from shared.db.models import (
    UNIT_TOKEN,
    Collection,
    File,
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
from shared.messages import work_queue
from shared.pauses import unit_is_paused
from shared.tasks import TASKS

MAX_ERROR_CHARACTERS = 4_000
MAX_TRACEBACK_CHARACTERS = 20_000


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
    collection_id: int
    source_id: str
    source: str
    options: dict[str, Any]
    context: dict[str, Any]
    """The job's context, as the tasks before this one left it."""
    database_url: str


@dataclass(frozen=True)
class PublishedFile:
    """A finished file in the staging directory, to be renamed into place when the unit completes."""

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
    """Why a unit could not be claimed. ``busy``: its holder is alive, ask again later; else drop the message."""

    reason: str
    busy: bool


@dataclass(frozen=True)
class Scope:
    """Which units: those that meet everything that is given."""

    queue: str | None = None
    job_id: int | None = None
    collection_id: int | None = None
    since: timedelta | None = None
    """Published within this time, or not yet."""


def claim(session: Session, unit_id: int, *, worker: str, lease: timedelta, database_url: str) -> Assignment | Refusal:
    """Claim a unit: new token, attempt + 1, lease. In one conditional UPDATE, so one of many claimants wins.

    Claimable: planned or queued, or running with an expired lease; in a running task of a running job; neither its
    queue nor its collection is paused. A unit that is refused because it is paused is planned again: it will need a
    message when it is resumed.
    """
    claimed = session.execute(
        update(Unit)
        .where(Unit.id == unit_id, _claimable(), _wanted(), ~unit_is_paused())
        .values(
            status=UnitStatus.RUNNING,
            token=UNIT_TOKEN.next_value(),
            attempt=Unit.attempt + 1,
            worker=worker,
            lease_until=func.now() + lease,
            next_attempt_at=None,
            start=func.coalesce(Unit.start, func.now()),
            progress={},
        )
        .returning(Unit.task_id, Unit.job_id, Unit.token, Unit.attempt, Unit.params)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if claimed is None:
        return _refusal(session, unit_id)
    job, collection, task_type = session.execute(
        select(Job, Collection, Task.type)
        .join(Collection, Collection.id == Job.collection_id)
        .join(Task, Task.job_id == Job.id)
        .where(Task.id == claimed.task_id)
    ).one()
    return Assignment(
        unit_id=unit_id,
        task_id=claimed.task_id,
        job_id=claimed.job_id,
        token=claimed.token,
        attempt=claimed.attempt,
        task_type=task_type,
        params=claimed.params,
        collection_id=collection.id,
        source_id=collection.source_id,
        source=collection.source,
        options=collection.options,
        context=job.context,
        database_url=database_url,
    )


def renew(session: Session, unit_id: int, token: int, *, lease: timedelta, progress: dict[str, Any] | None) -> bool:
    """Renew the lease, storing progress if there is any; return False if the claim is lost or the job cancelled."""
    values: dict[Any, Any] = {Unit.lease_until: func.now() + lease}
    if progress is not None:
        values[Unit.progress] = progress
    return _update_held(session, unit_id, token, values, _wanted())


def hold(session: Session, unit_id: int, token: int) -> None:
    """Lock the unit's row for the rest of the transaction. Raise :class:`SupersededError` if the claim is lost."""
    held = session.scalar(select(Unit.id).where(_held(unit_id, token), _wanted()).with_for_update(of=Unit))
    if held is None:
        raise SupersededError(f"The claim {token} on unit {unit_id} is lost.")


def held(session: Session) -> set[tuple[int, int]]:
    """Return (unit id, token) of every unit that someone works on."""
    rows = session.execute(
        select(Unit.id, Unit.token).where(Unit.status == UnitStatus.RUNNING, Unit.token.is_not(None))
    )
    return {(row.id, row.token) for row in rows}


def complete(session: Session, assignment: Assignment, output: dict[str, Any], notes: Sequence[Note]) -> None:
    """End a unit well, with its output and notes. Call after :func:`hold`, in the same transaction."""
    session.execute(
        update(Unit)
        .where(_held(assignment.unit_id, assignment.token))
        .values(status=UnitStatus.COMPLETED, result=Result.OK, end=func.now(), lease_until=None, output=output)
        .values(error="", traceback="")
        .execution_options(synchronize_session=False)
    )
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


def record_files(session: Session, assignment: Assignment, files: Sequence[PublishedFile]) -> list[str]:
    """Replace the unit's rows of published files; return the names that it had before and has no longer."""
    before = set(session.scalars(select(File.name).where(File.unit_id == assignment.unit_id)))
    names = {file.name for file in files}
    session.query(File).filter(
        File.job_id == assignment.job_id, or_(File.unit_id == assignment.unit_id, File.name.in_(names))
    ).delete(synchronize_session=False)
    session.add_all(
        File(
            job_id=assignment.job_id,
            unit_id=assignment.unit_id,
            name=file.name,
            size=file.size,
            records=file.records,
            sha256=file.sha256,
        )
        for file in files
    )
    session.flush()
    return sorted(before - names)


def put_off(session: Session, unit_id: int, token: int, *, error: str, traceback: str, delay: timedelta) -> bool:
    """End an attempt that may succeed later; return False if the claim is lost."""
    values: dict[Any, Any] = {
        Unit.status: UnitStatus.QUEUED,
        Unit.published_at: func.now() + delay,
        Unit.next_attempt_at: func.now() + delay,
        Unit.lease_until: None,
        Unit.worker: "",
        Unit.error: error[:MAX_ERROR_CHARACTERS],
        Unit.traceback: traceback[-MAX_TRACEBACK_CHARACTERS:],
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


def mark_queued(session: Session, unit_ids: Sequence[int]) -> None:
    """Note that the messages of planned (or republished) units are confirmed by the broker."""
    session.execute(
        update(Unit)
        .where(Unit.id.in_(unit_ids), Unit.status.in_([UnitStatus.PLANNED, UnitStatus.QUEUED]))
        .values(status=UnitStatus.QUEUED, published_at=func.now())
        .execution_options(synchronize_session=False)
    )


def take_back_expired(session: Session) -> Sequence[Any]:
    """Plan again the units whose lease expired; return (unit id, worker) of each. Their old holders are fenced off."""
    expired = (
        select(Unit.id, Unit.worker)
        .where(Unit.status == UnitStatus.RUNNING, Unit.lease_until < func.now())
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(expired).all()
    session.execute(
        update(Unit)
        .where(Unit.id.in_([row.id for row in rows]))
        .values(status=UnitStatus.PLANNED, token=None, worker="", lease_until=None)
        .execution_options(synchronize_session=False)
    )
    return rows


def to_publish(
    session: Session, *, republish_after: timedelta, job_id: int | None = None, limit: int = 1000
) -> list[Any]:
    """Return (unit id, task id, job id, task type) of units that need a message, oldest first, of one job or of all.

    Planned ones (a scheduler committed them and has not published them yet); queued ones that nobody claimed in time:
    the broker lost them or is slow, and a repeated message is harmless. Not those that are paused.
    """
    due = or_(
        Unit.status == UnitStatus.PLANNED,
        and_(Unit.status == UnitStatus.QUEUED, Unit.published_at < func.now() - republish_after),
    )
    statement = select(Unit.id, Unit.task_id, Unit.job_id, Task.type).join(Task, Task.id == Unit.task_id)
    if job_id is not None:
        statement = statement.where(Unit.job_id == job_id)
    due = and_(due, _wanted(), ~unit_is_paused())
    return list(session.execute(statement.where(due).order_by(Unit.id).limit(limit)).all())


def waiting(session: Session, scope: Scope, *, after: int, limit: int) -> list[Any]:
    """Return (unit id, task id, job id, task type) of a scope's units that wait for a worker, by id, over ``after``.

    Planned or queued; not those that are paused, nor those that wait for the time of their next attempt.
    """
    statement = (
        select(Unit.id, Unit.task_id, Unit.job_id, Task.type)
        .join(Task, Task.id == Unit.task_id)
        .join(Job, Job.id == Unit.job_id)
    )
    queued = [Unit.status == UnitStatus.QUEUED, Unit.published_at <= func.now()]
    if scope.since is not None:
        queued.append(Unit.published_at >= func.now() - scope.since)
    if scope.queue is not None:
        types = [task_type for task_type, spec in TASKS.items() if work_queue(spec.service) == scope.queue]
        statement = statement.where(Task.type.in_(types))
    if scope.job_id is not None:
        statement = statement.where(Unit.job_id == scope.job_id)
    if scope.collection_id is not None:
        statement = statement.where(Job.collection_id == scope.collection_id)
    due = and_(or_(Unit.status == UnitStatus.PLANNED, and_(*queued)), _wanted(), ~unit_is_paused())
    return list(session.execute(statement.where(due, Unit.id > after).order_by(Unit.id).limit(limit)).all())


def _claimable() -> ColumnElement[bool]:
    return or_(
        Unit.status.in_([UnitStatus.PLANNED, UnitStatus.QUEUED]),
        and_(Unit.status == UnitStatus.RUNNING, Unit.lease_until < func.now()),
    )


def _wanted() -> ColumnElement[bool]:
    """The unit's task and job are running: neither cancelled nor over."""
    return (
        select(Task.id)
        .join(Job, Job.id == Task.job_id)
        .where(Task.id == Unit.task_id, Task.status == TaskStatus.RUNNING, Job.status == JobStatus.RUNNING)
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
        .join(Task, Task.id == Unit.task_id)
        .join(Job, Job.id == Unit.job_id)
        .where(Unit.id == unit_id)
    ).one_or_none()
    if row is None:
        return Refusal("the unit does not exist", busy=False)
    if _plan_if_paused(session, unit_id):
        return Refusal("its queue or its collection is paused", busy=False)
    if row.task == TaskStatus.RUNNING and row.job == JobStatus.RUNNING and row.status != UnitStatus.COMPLETED:
        return Refusal(f"the unit is being worked on by {row.worker}", busy=True)
    return Refusal(f"the unit is {row.status}, its task {row.task}, its job {row.job}", busy=False)


def _plan_if_paused(session: Session, unit_id: int) -> bool:
    """Give a unit that waits for a worker the state of one that needs a message; return False if it is not paused."""
    open_status = Unit.status.in_([UnitStatus.PLANNED, UnitStatus.QUEUED])
    statement = update(Unit).where(Unit.id == unit_id, open_status, _wanted(), unit_is_paused())
    statement = statement.values(status=UnitStatus.PLANNED, next_attempt_at=None).returning(Unit.id)
    return session.execute(statement.execution_options(synchronize_session=False)).first() is not None
