"""The scheduler's queries. Each looks only at what is due or open, through an index, not at all that exists."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session

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
from shared.pauses import collection_is_paused, job_is_paused


def scheduled_collections(session: Session) -> Sequence[Collection]:
    """Return the collections that are collected by the calendar, are not paused and have no incomplete job."""
    on_request = (RetrievalFrequency.NONE, RetrievalFrequency.NEVER)
    return session.scalars(
        select(Collection)
        .where(~Collection.frozen, Collection.retrieval_frequency.not_in(on_request))
        .where(~_incomplete_job(), ~collection_is_paused())
        .order_by(Collection.id)
    ).all()


def publishing_collections(session: Session) -> Sequence[int]:
    """Return the collections that publish a job."""
    return session.scalars(
        select(Collection.id).where(Collection.active_job_id.is_not(None)).order_by(Collection.id)
    ).all()


def latest_job(session: Session, collection_id: int) -> LatestJob | None:
    """Return the collection's most recent job: a planned one first, else the one that started last."""
    failed = exists().where(Task.job_id == Job.id, Task.result == Result.FAILED)
    row = session.execute(
        select(Job.start, failed.label("failed"))
        .where(Job.collection_id == collection_id)
        .order_by(Job.start.desc().nulls_first(), Job.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else LatestJob(start=row.start, failed=row.failed)


def has_incomplete_job(session: Session, collection_id: int) -> bool:
    """Return whether a job of the collection is planned or running."""
    return bool(session.scalar(select(_incomplete_job()).where(Collection.id == collection_id)))


def movable_jobs(session: Session) -> Sequence[int]:
    """Return the jobs that can go on: planned ones that are not paused, and running ones none of whose units is open.

    A running one that is paused may have a task to complete.
    """
    open_unit = exists().where(Unit.job_id == Job.id, Unit.status != UnitStatus.COMPLETED)
    return session.scalars(
        select(Job.id)
        .where(
            or_(
                and_(Job.status == JobStatus.PLANNED, ~job_is_paused()),
                and_(Job.status == JobStatus.RUNNING, ~open_unit),
            )
        )
        .order_by(Job.id)
    ).all()


def lock_job(session: Session, job_id: int, *, wait: bool) -> Job | None:
    """Lock an incomplete job's row; return None if there is none, or (``wait=False``) another scheduler has it.

    An event waits for the lock: whoever holds it may have looked just before what the event tells of.
    """
    return session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.status != JobStatus.COMPLETED)
        .with_for_update(key_share=True, skip_locked=not wait)
    )


def lock_completed_job(session: Session, job_id: int) -> Job | None:
    """Lock a completed job's row; return None if it is restarted or deleted, or another has it."""
    return session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.status == JobStatus.COMPLETED)
        .with_for_update(key_share=True, skip_locked=True)
    )


def open_tasks(session: Session, job_id: int) -> Sequence[Task]:
    """Return the job's tasks that are not completed, in order."""
    return session.scalars(
        select(Task).where(Task.job_id == job_id, Task.status != TaskStatus.COMPLETED).order_by(Task.order)
    ).all()


def first_end(session: Session, job_id: int) -> datetime | None:
    """Return when the job's first task ended: when its source was read."""
    return session.scalar(select(Task.end).where(Task.job_id == job_id).order_by(Task.order).limit(1))


def jobs_to_archive(session: Session, *, failed_data_days: float, limit: int) -> Sequence[int]:
    """Return completed jobs whose temporary data can go: successful ones at once, others after some days.

    What was begun is finished, whatever was asked for since.
    """
    failed = exists().where(Task.job_id == Job.id, Task.result.in_([Result.FAILED, Result.CANCELLED]))
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


def _incomplete_job() -> Any:
    return exists().where(Job.collection_id == Collection.id, Job.status != JobStatus.COMPLETED).correlate(Collection)
