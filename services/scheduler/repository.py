"""The scheduler's queries. Each looks only at what is due or open, through an index, not at all that exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, and_, bindparam, exists, false, func, or_, select, true, update
from sqlalchemy.orm import Session, joinedload

from services.scheduler.decisions import LatestJob
from shared.db.models import (
    Collection,
    Job,
    JobStatus,
    Result,
    RetrievalFrequency,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
    Wiping,
)
from shared.exports import NO_COLLECTION
from shared.pauses import collection_is_paused, job_is_paused

_JOB_IDS: Any = bindparam("job_ids", expanding=True)
# Statements of every tick and every step of a job are built once (``@cache``), as that takes longer than many of them.


@dataclass(frozen=True)
class Scheduled:
    """A collection that is collected by the calendar, and what decides whether it is due."""

    collection: Collection
    latest: LatestJob | None
    """A planned job first, else the one that started last."""
    has_incomplete_job: bool


@dataclass(frozen=True)
class OpenTask:
    """A task that is not completed, and what is known where it may start."""

    task: Task
    paused: bool
    """Whether its collection is paused."""
    now: datetime
    """When the transaction began, by the database's clock."""
    seconds: float | None
    """How long a unit of this type took in the job that is published; None: there is none, or it had no such unit."""


def scheduled_collections(session: Session) -> list[Scheduled]:
    """Return all that are collected by the calendar and not paused, by id: for people."""
    return _scheduled(session, _scheduled_statement().order_by(Collection.id))


def collections_to_look_at(session: Session, *, limit: int) -> list[Scheduled]:
    """Return those that may have become due: their time to be looked at has come, and they have no incomplete job."""
    return _scheduled(session, _to_look_at(limit))


@cache
def _to_look_at(limit: int) -> Select[Any]:
    statement = _scheduled_statement().where(Collection.look_at <= func.now(), ~_incomplete_job())
    return statement.order_by(Collection.look_at, Collection.id).limit(limit)


def look_again(session: Session, times: Mapping[int, datetime]) -> None:
    """Note when collections are to be looked at next."""
    table = Collection.metadata.tables[Collection.__tablename__]  # past the ORM, as ``modified`` is for people's edits
    statement = update(table).where(table.c.id == bindparam("collection")).values(look_at=bindparam("at"))
    session.connection().execute(statement, [{"collection": id_, "at": at} for id_, at in times.items()])


def _scheduled_statement() -> Select[Any]:
    latest = (
        select(Job.id, Job.start)
        .where(Job.collection_id == Collection.id)
        .order_by(Job.start.desc().nulls_first(), Job.id.desc())
        .limit(1)
        .correlate(Collection)
        .lateral("latest")
    )
    failed = _any_task(latest.c.id, Task.result == Result.FAILED, Task.status == TaskStatus.COMPLETED)
    on_request = (RetrievalFrequency.NONE, RetrievalFrequency.NEVER)
    return (
        select(Collection, latest.c.id, latest.c.start, failed.label("failed"))
        .add_columns(_incomplete_job().label("has_incomplete_job"))
        .outerjoin(latest, true())
        # As the index on look_at has it.
        .where(~Collection.frozen, or_(Collection.cron != "", Collection.retrieval_frequency.not_in(on_request)))
        .where(~Collection.removing, ~collection_is_paused())
    )


def _scheduled(session: Session, statement: Select[Any]) -> list[Scheduled]:
    return [
        Scheduled(
            collection=row.Collection,
            latest=None if row.id is None else LatestJob(start=row.start, failed=row.failed),
            has_incomplete_job=row.has_incomplete_job,
        )
        for row in session.execute(statement)
    ]


def movable_jobs(session: Session) -> Sequence[int]:
    """Return the jobs that can go on: planned ones that are not paused, and running ones none of whose units is open.

    A running one that is paused may have a task to complete.
    """
    return session.scalars(_movable()).all()


@cache
def _movable() -> Select[Any]:
    open_unit = exists().where(Unit.job_id == Job.id, Unit.status != UnitStatus.COMPLETED)
    planned = and_(Job.status == JobStatus.PLANNED, ~job_is_paused())
    running = and_(Job.status == JobStatus.RUNNING, ~open_unit)
    return select(Job.id).where(or_(planned, running)).order_by(Job.id)


def lock_jobs(session: Session, job_ids: Sequence[int], *, wait: bool) -> Sequence[Job]:
    """Lock incomplete jobs' rows, by id; leave out those that are none, or (``wait=False``) that another has.

    Their collections are read with them, as they were before the wait.

    An event waits for the lock: whoever holds it may have looked just before what the event tells of.
    """
    return session.scalars(_lock(wait), {"job_ids": list(job_ids)}).all()


@cache
def _lock(wait: bool) -> Select[Any]:
    return (
        select(Job)
        .options(joinedload(Job.collection))
        .where(Job.id.in_(_JOB_IDS), Job.status != JobStatus.COMPLETED)
        .order_by(Job.id)
        .with_for_update(of=Job, key_share=True, skip_locked=not wait)
    )


def open_tasks(session: Session, job_ids: Sequence[int]) -> dict[int, list[OpenTask]]:
    """Return the tasks of jobs that are not completed, in order. Call after :func:`lock_jobs`."""
    found: dict[int, list[OpenTask]] = {job_id: [] for job_id in job_ids}
    for row in session.execute(_open_tasks(), {"job_ids": list(job_ids)}):
        seconds = None if row.seconds is None else float(row.seconds)
        found[row.Task.job_id].append(OpenTask(row.Task, paused=row.paused, now=row.now, seconds=seconds))
    return found


@cache
def _open_tasks() -> Select[Any]:
    seconds = select(func.avg(func.extract("epoch", Unit.end - Unit.start))).where(
        Unit.job_id == Collection.active_job_id, Unit.type == Task.type, Unit.result == Result.OK
    )
    return (
        select(Task, seconds.correlate(Task, Collection).scalar_subquery().label("seconds"))
        .add_columns(job_is_paused().label("paused"), func.now().label("now"))
        .join(Job, Job.id == Task.job_id)
        .outerjoin(Collection, Collection.id == Job.collection_id)
        .where(Task.job_id.in_(_JOB_IDS), Task.status != TaskStatus.COMPLETED)
        .order_by(Task.job_id, Task.order)
    )


def collection_of(session: Session, job: Job) -> Collection:
    """Return the job's collection. Of none: one that stands for it, is not stored, and gives way to all others."""
    if job.collection_id is not None:
        return session.get_one(Collection, job.collection_id)
    return Collection(source_id=NO_COLLECTION, source="", options={}, backends={}, priority=-100)


def lock_completed_job(session: Session, job_id: int) -> Job | None:
    """Lock a completed job's row; return None if it is restarted or deleted, or another has it."""
    return session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.status == JobStatus.COMPLETED)
        .with_for_update(key_share=True, skip_locked=True)
    )


def jobs_to_archive(session: Session, *, failed_data_days: float, limit: int) -> Sequence[int]:
    """Return completed jobs whose temporary data can go: successful ones at once, others after some days.

    What was begun is finished, whatever was asked for since.
    """
    failed = _any_task(Job.id, Task.result.in_([Result.FAILED, Result.CANCELLED]))
    old = Job.end < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, failed_data_days * 86_400)
    return session.scalars(
        select(Job.id)
        .where(Job.status == JobStatus.COMPLETED, ~Job.archived, Job.wiping != Wiping.ALL)
        .where(or_(Job.wiping == Wiping.TEMPORARY, and_(~Job.keep_all_data, or_(~failed, old))))
        .order_by(Job.id)
        .limit(limit)
    ).all()


def all_tasks(session: Session, job_id: int) -> Sequence[Task]:
    """Return the job's tasks, in order."""
    return session.scalars(select(Task).where(Task.job_id == job_id).order_by(Task.order)).all()


def _any_task(job_id: Any, *conditions: Any) -> Any:
    """The condition that a task of a job meets some. As EXISTS, it might be looked up among the tasks of all jobs."""
    found = select(func.bool_or(and_(*conditions))).where(Task.job_id == job_id)
    return func.coalesce(found.scalar_subquery(), false())


def _incomplete_job() -> Any:
    return exists().where(Job.collection_id == Collection.id, Job.status != JobStatus.COMPLETED).correlate(Collection)
