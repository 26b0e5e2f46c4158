"""Deleting old jobs: decided and marked in one transaction, deleted in many small ones by whoever comes next.

A job that is marked (``wiping`` is ALL) lists no files any more and can be neither restarted nor revived. Then its
temporary data and its files go, some at a time, and the rows last: killed at any point, the next step goes on. The
active job is not marked, and looked for again before each step: what is published is worth asking twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from services.scheduler.decisions import Disposal, PastJob, dispose
from services.scheduler.managers import TaskManager
from shared.db.models import Audit, Collection, File, Job, JobStatus, Result, Task, Wiping
from shared.logging import get_logger

log = get_logger()


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


def marked_jobs(session: Session, *, limit: int) -> Sequence[int]:
    """Return jobs that are being deleted."""
    return session.scalars(select(Job.id).where(Job.wiping == Wiping.ALL).order_by(Job.id).limit(limit)).all()


def delete_some(session: Session, job: Job, managers: Sequence[TaskManager]) -> bool:
    """Delete some of a marked job, which the caller has locked; return whether nothing is left of it.

    :raises TemporaryError: a manager could not delete something now.
    """
    published = session.scalar(select(Collection.source_id).where(Collection.active_job_id == job.id))
    if published is not None:
        raise RuntimeError(f"Job {job.id} is published by {published}, and must not be deleted.")
    wiped = [manager.wipe() for manager in managers]
    if not all(wiped):
        return False
    session.execute(delete(Job).where(Job.id == job.id))
    return True
