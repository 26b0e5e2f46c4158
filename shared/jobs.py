"""Planning, cancelling, restarting and reviving a job, the same way for the scheduler, the command line and the API.

What a person asks for is audited in the same transaction. Stopping work needs no message to anyone: the rows say that
the work is no longer wanted, and whoever holds a unit finds out when it renews its lease, within a second.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.broker import Broker
from shared.db.models import (
    Audit,
    Collection,
    DeadLetter,
    Job,
    JobStatus,
    LetterKind,
    LetterStatus,
    Result,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
    Wiping,
)
from shared.errors import BowerbirdError, BrokerUnavailableError
from shared.logging import get_logger
from shared.messages import EVENTS_QUEUE, JobPlanned
from shared.pauses import require_not_paused
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
    :raises PausedError: the collection is paused.
    :raises ConfigurationError: the plan names an unknown task type.
    """
    require_not_paused(session, collection)
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
    _require_input(job, tasks, first)
    again = [task for task in tasks if task.order >= first.order]
    _cancel_units(session, [task.id for task in again])
    _settle_letters(session, DeadLetter.task_id.in_([task.id for task in again]), actor=actor)
    for task in again:
        _plan_anew(task)
    _run_again(session, job)
    session.add(Audit(actor=actor, action="job restart", job_id=job_id, details={"from_task": first.type}))
    log.info("job restarted", job=job_id, from_task=first.type, actor=actor)
    return first.type


def revive_units(session: Session, job_id: int, unit_ids: Sequence[int], *, actor: str) -> list[int]:
    """Plan units again that failed for good, with all their attempts, and let their job go on from there.

    Tasks that were skipped because of them are planned again, and the dead letters of the units are settled. Units
    that are not failed (any more) are left alone, so that repeating this changes nothing.

    :return: the units that were failed.
    :raises JobStateError: no such job; it was cancelled; what the units, or tasks after them, read is deleted already.
    :raises JobInProgressError: the collection has another incomplete job.
    """
    job = _locked(session, job_id)
    failed = (Unit.id.in_(unit_ids), Unit.job_id == job_id, Unit.status == UnitStatus.COMPLETED)
    rows = session.execute(
        update(Unit)
        .where(*failed, Unit.result == Result.FAILED)
        .values(status=UnitStatus.PLANNED, result=Result.NONE, attempt=0, token=None, worker="", progress={})
        .values(start=None, end=None, published_at=None, next_attempt_at=None, error="", traceback="")
        .returning(Unit.id, Unit.task_id)
        .execution_options(synchronize_session=False)
    )
    revived = {row.id: row.task_id for row in rows}
    if not revived:
        return []
    tasks = _tasks(session, job_id)
    mine = [task for task in tasks if task.id in revived.values()]
    if any(task.result == Result.CANCELLED for task in tasks):
        raise JobStateError(f"Job {job_id} was cancelled. Restart it: bowerbird job restart {job_id}")
    _require_input(job, tasks, mine[0])
    for task in mine:
        task.status, task.result, task.note, task.end = TaskStatus.RUNNING, Result.NONE, "", None
    for task in tasks:
        if task.order > mine[0].order and task.result == Result.SKIPPED:
            _plan_anew(task)
    _run_again(session, job)
    _settle_letters(session, DeadLetter.unit_id.in_(revived), actor=actor)
    session.add(Audit(actor=actor, action="dead replay", job_id=job_id, details={"units": sorted(revived)}))
    log.info("job revived", job=job_id, from_task=mine[0].type, units=len(revived), actor=actor)
    return list(revived)


def _require_input(job: Job, tasks: Sequence[Task], first: Task) -> None:
    """Raise if the first task, or one that follows it, reads temporary data that is deleted and not made anew.

    It stays deleted until a restart from the very first task: a later task's restart must not make it look whole.
    """
    readers = [task.type for task in tasks if task.order >= first.order and spec_of(task.type).reads_store]
    if first is tasks[0]:
        job.archived, job.wiping = False, Wiping.NONE
    elif readers and (job.archived or job.wiping):
        raise JobStateError(
            f"Job {job.id} cannot go on from {first.type}: its temporary data is deleted, which {readers[0]} reads. "
            f"Restart it from {tasks[0].type}, or run the collection again."
        )


def _plan_anew(task: Task) -> None:
    task.status, task.result, task.note, task.start, task.end = TaskStatus.PLANNED, Result.NONE, "", None, None


def _run_again(session: Session, job: Job) -> None:
    try:
        with session.begin_nested():
            job.status, job.end = JobStatus.RUNNING, None
            job.start = func.coalesce(job.start, func.now())
    except IntegrityError:
        other = _incomplete(session, job.collection_id)
        if other is None:
            raise
        raise JobInProgressError(other) from None


def _settle_letters(session: Session, which: ColumnElement[bool], *, actor: str) -> None:
    """Note that what these dead letters tell of is being done again."""
    session.execute(
        update(DeadLetter)
        .where(which, DeadLetter.status == LetterStatus.OPEN, DeadLetter.kind == LetterKind.UNIT)
        .values(status=LetterStatus.REPLAYED, resolved_at=func.now(), resolved_by=actor)
        .execution_options(synchronize_session=False)
    )


def _incomplete(session: Session, collection_id: int) -> int | None:
    return session.scalar(select(Job.id).where(Job.collection_id == collection_id, Job.status != JobStatus.COMPLETED))


def _locked(session: Session, job_id: int) -> Job:
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update(key_share=True))
    if job is None:
        raise JobStateError(f"There is no job {job_id}.")
    if job.wiping == Wiping.ALL:
        raise JobStateError(f"Job {job_id} is being deleted.")
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
