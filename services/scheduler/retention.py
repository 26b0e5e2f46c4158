"""Deleting old jobs: marked in one transaction (shared/retention.py), deleted in many small ones by whoever comes next.

Of a job that is marked, the temporary data and the files go first, some at a time, and the rows last: killed at any
point, the next step goes on. The active job is not marked, and looked for again before each step: what is published is
worth asking twice.

A collection that is being deleted (shared/publications.py) has all its jobs marked; it goes when the last of them has.
"""

from collections.abc import Sequence

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from services.scheduler.managers import TaskManager
from shared.db.models import Collection, Job, JobStatus, Wiping
from shared.faults import fault
from shared.logging import get_logger

log = get_logger()


def marked_jobs(session: Session, *, limit: int) -> Sequence[int]:
    """Return jobs that are being deleted."""
    return session.scalars(select(Job.id).where(Job.wiping == Wiping.ALL).order_by(Job.id).limit(limit)).all()


def mark_results(session: Session, *, days: float) -> None:
    """Mark the jobs of no collection that ended so many days ago: nobody publishes what they made."""
    old = Job.end < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, days * 86_400)
    statement = update(Job).where(Job.collection_id.is_(None), Job.status == JobStatus.COMPLETED, old)
    statement = statement.where(Job.wiping != Wiping.ALL).values(wiping=Wiping.ALL)
    session.execute(statement.execution_options(synchronize_session=False))


def count_marked(session: Session) -> int:
    """Return how many jobs are being deleted."""
    return session.scalar(select(func.count()).select_from(Job).where(Job.wiping == Wiping.ALL)) or 0


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
    fault("scheduler.job_wiped")
    session.execute(delete(Job).where(Job.id == job.id))
    return True


def delete_collections(session: Session) -> list[str]:
    """Delete the collections that are being deleted and have no job left; return their names."""
    any_job = exists().where(Job.collection_id == Collection.id)
    gone = select(Collection.id).where(Collection.removing, ~any_job).with_for_update(skip_locked=True)
    statement = delete(Collection).where(Collection.id.in_(gone)).returning(Collection.source_id)
    names = list(session.scalars(statement.execution_options(synchronize_session=False)))
    for name in names:
        log.info("collection deleted", collection=name)
    return names
