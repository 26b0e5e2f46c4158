"""Planning, cancelling and restarting a job, the same way for the scheduler, the command line and the API.

What a person asks for is audited in the same transaction. Stopping work needs no message to anyone: the rows say that
the work is no longer wanted, and whoever holds a unit finds out when it renews its lease, within a second.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.broker import Broker
from shared.db.models import Audit, Collection, Job, JobStatus, Result, Task, TaskStatus, Unit, UnitStatus
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


class JobStateError(BowerbirdError):
    """What was asked for does not fit the job's state; the text says why and what does."""


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
    if (running := _incomplete(session, collection.id)) is not None:
        raise JobInProgressError(running)
    job = Job(collection_id=collection.id, keep_all_data=keep_all_data)
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        running = _incomplete(session, collection.id)
        if running is None:
            raise
        raise JobInProgressError(running) from None
    session.add_all(Task(job_id=job.id, type=task_type, order=order) for order, task_type in enumerate(types, 1))
    session.flush()
    return job


def cancel_job(session: Session, job_id: int, *, actor: str, reason: str = "") -> None:
    """End an incomplete job now: planned work never starts, running work is stopped by its worker within seconds.

    Half-made files vanish with their attempts. Other jobs, and what the collection has published, are untouched.

    :raises JobStateError: there is no such job, or it is completed already.
    """
    job = _locked(session, job_id)
    if job.status == JobStatus.COMPLETED:
        raise JobStateError(f"Job {job_id} is completed; there is nothing to cancel.")
    note = f"Cancelled by {actor}" + (f": {reason}" if reason else ".")
    job.status, job.end = JobStatus.COMPLETED, func.now()
    job.start = func.coalesce(job.start, func.now())
    for task in _tasks(session, job_id):
        if task.status != TaskStatus.COMPLETED:
            task.status, task.result, task.note, task.end = TaskStatus.COMPLETED, Result.CANCELLED, note, func.now()
    _cancel_units(session, [task.id for task in _tasks(session, job_id)])
    session.add(Audit(actor=actor, action="job cancel", job_id=job_id, details={"reason": reason} if reason else {}))
    log.info("job cancelled", job=job_id, actor=actor)


def restart_job(session: Session, job_id: int, *, actor: str, from_task: str | None = None) -> str:
    """Do a job again from a task on; return that task's type. An old worker that is still at it is fenced off.

    Published files stay as they are until new ones replace them, one by one.

    :param from_task: a task type; None: the first task that is not OK, or the first of all.
    :raises JobStateError: no such job or task; a task before it is not OK; its records are deleted already.
    :raises JobInProgressError: the collection has another incomplete job.
    """
    job = _locked(session, job_id)
    tasks = _tasks(session, job_id)
    first = _first_to_restart(tasks, from_task)
    unfinished = [task.type for task in tasks if task.order < first.order and task.result != Result.OK]
    if unfinished:
        raise JobStateError(f"Job {job_id} cannot restart from {first.type}, because {unfinished[0]} is not OK.")
    if job.archived and spec_of(first.type).reads_store:
        raise JobStateError(
            f"Job {job_id} cannot restart from {first.type}: its temporary data is deleted. "
            f"Restart it from {tasks[0].type}, or run the collection again."
        )
    again = [task for task in tasks if task.order >= first.order]
    _cancel_units(session, [task.id for task in again])
    for task in again:
        task.status, task.result, task.note, task.start, task.end = TaskStatus.PLANNED, Result.NONE, "", None, None
    try:
        with session.begin_nested():
            job.status, job.end, job.archived = JobStatus.RUNNING, None, False
            job.start = func.coalesce(job.start, func.now())
    except IntegrityError:
        other = _incomplete(session, job.collection_id)
        if other is None:
            raise
        raise JobInProgressError(other) from None
    session.add(Audit(actor=actor, action="job restart", job_id=job_id, details={"from_task": first.type}))
    log.info("job restarted", job=job_id, from_task=first.type, actor=actor)
    return first.type


def _incomplete(session: Session, collection_id: int) -> int | None:
    return session.scalar(select(Job.id).where(Job.collection_id == collection_id, Job.status != JobStatus.COMPLETED))


def _locked(session: Session, job_id: int) -> Job:
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update(key_share=True))
    if job is None:
        raise JobStateError(f"There is no job {job_id}.")
    return job


def _tasks(session: Session, job_id: int) -> Sequence[Task]:
    return session.scalars(select(Task).where(Task.job_id == job_id).order_by(Task.order)).all()


def _first_to_restart(tasks: Sequence[Task], from_task: str | None) -> Task:
    if from_task is None:
        return next((task for task in tasks if task.result != Result.OK), tasks[0])
    named = next((task for task in tasks if task.type == from_task), None)
    if named is None:
        raise JobStateError(f"The job has no task {from_task!r}. It has: {', '.join(task.type for task in tasks)}.")
    return named


def _cancel_units(session: Session, task_ids: Sequence[int]) -> None:
    """End the open units of tasks; without a token, no holder of one can write any more."""
    session.execute(
        update(Unit)
        .where(Unit.task_id.in_(task_ids), Unit.status != UnitStatus.COMPLETED)
        .values(status=UnitStatus.COMPLETED, result=Result.CANCELLED, token=None, lease_until=None, end=func.now())
        .execution_options(synchronize_session=False)
    )


def announce_job(broker: Broker, job_id: int) -> None:
    """Tell the scheduler of a committed job. Without a broker the job starts at the scheduler's next tick instead."""
    try:
        broker.publish(EVENTS_QUEUE, JobPlanned(job_id=job_id))
    except BrokerUnavailableError as error:
        log.warning(
            "job planned without telling the scheduler; its next tick will see it", job=job_id, error=str(error)
        )
