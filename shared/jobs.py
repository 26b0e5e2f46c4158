"""Planning a job, the same way for the scheduler, the command line and the API."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.broker import Broker
from shared.db.models import Collection, Job, JobStatus, Task
from shared.errors import BowerbirdError, BrokerUnavailableError
from shared.logging import get_logger
from shared.messages import EVENTS_QUEUE, JobPlanned
from shared.tasks import spec_of

log = get_logger()


class JobInProgressError(BowerbirdError):
    """The collection already has an incomplete job; a collection has one at a time."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"Job {job_id} of this collection is not completed yet; a collection has one job at a time.")
        self.job_id = job_id


def plan_job(session: Session, collection: Collection, *, plan: Sequence[str], keep_all_data: bool = False) -> Job:
    """Insert a planned job with its tasks, in the caller's transaction.

    :param plan: task types in order; the collection's own plan goes before it.
    :raises JobInProgressError: the collection has an incomplete job (guarded by a unique index, so also against a
        process that inserts one at the same moment).
    :raises ConfigurationError: the plan names an unknown task type.
    """
    types = list(collection.tasks_plan or plan)
    for task_type in types:
        spec_of(task_type)
    incomplete = select(Job.id).where(Job.collection_id == collection.id, Job.status != JobStatus.COMPLETED)
    if (running := session.scalar(incomplete)) is not None:
        raise JobInProgressError(running)
    job = Job(collection_id=collection.id, keep_all_data=keep_all_data)
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        running = session.scalar(incomplete)
        if running is None:
            raise
        raise JobInProgressError(running) from None
    session.add_all(Task(job_id=job.id, type=task_type, order=order) for order, task_type in enumerate(types, 1))
    session.flush()
    return job


def announce_job(broker: Broker, job_id: int) -> None:
    """Tell the scheduler of a committed job. Without a broker the job starts at the scheduler's next tick instead."""
    try:
        broker.publish(EVENTS_QUEUE, JobPlanned(job_id=job_id))
    except BrokerUnavailableError as error:
        log.warning(
            "job planned without telling the scheduler; its next tick will see it", job=job_id, error=str(error)
        )
