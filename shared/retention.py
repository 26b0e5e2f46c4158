"""Retention: which old jobs are deleted, decided and marked the same way for scheduler, command line and API.

The decision is a pure function of facts (:func:`dispose`). Marking is one transaction: a job that is marked (``wiping``
is ALL) lists no files any more and can be neither restarted nor revived. Deleting what is marked is left to the
scheduler, some at a time (services/scheduler/retention.py), so whoever marks need not wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from shared.db.models import Audit, Collection, File, Job, JobStatus, Result, Task, Wiping
from shared.logging import get_logger

log = get_logger()

UNSUCCESSFUL_DAYS = 180
"""How long a job that did not succeed is kept, from its start."""


@dataclass(frozen=True)
class PastJob:
    """A job that may be deleted, as retention sees it.

    ``successful``: completed, and every task OK. ``processes``: how many records it published (coverage of ``/ocid``).
    """

    id: int
    start: datetime | None
    completed: bool
    successful: bool
    processes: int


@dataclass(frozen=True)
class Disposal:
    """Whether a job is deleted, and why, for people. ``remarkable``: it is kept although its turn would have come."""

    job_id: int
    delete: bool
    reason: str
    remarkable: bool = False


def dispose(jobs: Sequence[PastJob], *, active_job_id: int, now: datetime) -> list[Disposal]:
    """Decide which jobs of a collection are deleted; return a decision for each, in the order given.

    Only for a collection that publishes a job: that one, and those that are not completed, are never deleted. Of the
    other successful ones the newest is kept, to go back to, and an older one only if it published over a tenth more
    than the active job: then something may have been lost since.
    """
    active = next(job for job in jobs if job.id == active_job_id)
    others = [job for job in jobs if job.successful and job is not active]
    newest = max(others, key=_age, default=None)
    return [_dispose(job, active, newest, now) for job in jobs]


def _age(job: PastJob) -> tuple[datetime, int]:
    return job.start or datetime.min.replace(tzinfo=UTC), job.id


def _dispose(job: PastJob, active: PastJob, newest: PastJob | None, now: datetime) -> Disposal:
    if job is active:
        return Disposal(job.id, delete=False, reason="it is the active job")
    if not job.completed:
        return Disposal(job.id, delete=False, reason="it is not completed")
    if not job.successful:
        old = job.start is not None and job.start < now - timedelta(days=UNSUCCESSFUL_DAYS)
        age = f"over {UNSUCCESSFUL_DAYS} days ago" if old else f"within {UNSUCCESSFUL_DAYS} days"
        return Disposal(job.id, delete=old, reason=f"it did not succeed, and started {age}")
    if job is newest:
        return Disposal(job.id, delete=False, reason="it is the newest successful job beside the active one")
    counts = f"{job.processes:,} records, against {active.processes:,} of the active job"
    if job.processes * 10 > active.processes * 11:
        return Disposal(job.id, delete=False, reason=f"it has over 10% more: {counts}", remarkable=True)
    return Disposal(job.id, delete=True, reason=f"newer successful jobs replace it ({counts})")


def publishing_collections(session: Session, *, after: int = 0, limit: int | None = None) -> Sequence[int]:
    """Return the collections that publish a job, by id, over ``after``."""
    publishing = select(Collection.id).where(Collection.active_job_id.is_not(None), Collection.id > after)
    return session.scalars(publishing.order_by(Collection.id).limit(limit)).all()


def judge(session: Session, collection: Collection) -> list[Disposal]:
    """Decide about the jobs of a collection, newest first; about none if it has no active job."""
    if collection.active_job_id is None:
        return []
    not_ok = exists().where(Task.job_id == Job.id, Task.result != Result.OK)
    rows = session.execute(
        select(Job.id, Job.start, Job.status, not_ok.label("not_ok"), Job.coverage["/ocid"].label("processes"))
        .where(Job.collection_id == collection.id, Job.wiping != Wiping.ALL)
        .order_by(Job.start.desc().nulls_first(), Job.id.desc())
    ).all()
    jobs = [
        PastJob(
            id=row.id,
            start=row.start,
            completed=row.status == JobStatus.COMPLETED,
            successful=row.status == JobStatus.COMPLETED and not row.not_ok,
            processes=row.processes or 0,
        )
        for row in rows
    ]
    return dispose(jobs, active_job_id=collection.active_job_id, now=datetime.now(UTC))


def mark(session: Session, collection: Collection, *, actor: str | None) -> list[Disposal]:
    """Mark the jobs of a collection that are to be deleted; return the decisions as they were carried out.

    :param actor: who asked for it, for the audit; None: the scheduler, after a success.
    """
    return [_mark(session, collection, disposal, actor) for disposal in judge(session, collection)]


def _mark(session: Session, collection: Collection, disposal: Disposal, actor: str | None) -> Disposal:
    names = {"job": disposal.job_id, "collection": collection.source_id, "reason": disposal.reason}
    if disposal.remarkable:
        log.warning("old job kept", **names)
    if not disposal.delete:
        return disposal
    job = session.scalar(
        select(Job)
        .where(Job.id == disposal.job_id, Job.status == JobStatus.COMPLETED, Job.wiping != Wiping.ALL)
        .with_for_update(key_share=True, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if job is None:  # restarted since we looked, or another was faster
        return replace(disposal, delete=False, reason="it is in use")
    job.wiping = Wiping.ALL
    session.execute(delete(File).where(File.job_id == job.id))
    if actor is not None:
        details = {"reason": disposal.reason, "collection": collection.source_id}
        session.add(Audit(actor=actor, action="job delete", job_id=job.id, details=details))
    log.info("old job is deleted", **names, actor=actor or "scheduler")
    return disposal
