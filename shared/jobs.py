"""Planning, cancelling, restarting and reviving a job or a task of it, the same way for scheduler, commands and API.

What a person asks for is audited in the same transaction. Stopping work needs no message to anyone: the rows say that
the work is no longer wanted, and whoever holds a unit finds out when it renews its lease, within a second.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared import errands, tracing
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
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
    Wiping,
)
from shared.errors import BowerbirdError, BrokerUnavailableError
from shared.faults import fault
from shared.logging import get_logger
from shared.messages import EVENTS_QUEUE, JobPlanned
from shared.pauses import collection_is_paused, require_not_paused
from shared.processes import PUBLISH
from shared.quality import IGNORED
from shared.quality import OPTION as THRESHOLDS
from shared.tasks import TaskSpec, readers_of, resolve_plan, spec_of

log = get_logger()


class JobInProgressError(BowerbirdError):
    """The collection already has an incomplete job; a collection has one at a time."""

    def __init__(self, job_id: int, name: str = "this collection") -> None:
        super().__init__(f"Job {job_id} of {name} is not completed yet; a collection has one job at a time.")
        self.job_id = job_id


class JobStateError(BowerbirdError):
    """What was asked for does not fit the job's state; the text says why and what does."""


Plan = list[tuple[str, TaskSpec]]
"""The types of a job's tasks, in order, and who does each."""

FAILED_UNITS = "failed"
"""Stands for a task's units that are not OK, or that could not make some of their files, where :func:`restart_task` is
told which."""

_UNIT_ANEW: dict[Any, Any] = {
    Unit.status: UnitStatus.PLANNED,
    Unit.result: Result.NONE,
    Unit.attempt: 0,
    Unit.token: None,
    Unit.worker: "",
    Unit.lease_until: None,
    Unit.progress: {},
    Unit.start: None,
    Unit.end: None,
    Unit.published_at: None,
    Unit.publications: 0,
    Unit.next_attempt_at: None,
    Unit.error: "",
    Unit.traceback: "",
}


def plan_job(
    session: Session,
    collection: Collection,
    *,
    plan: Sequence[str],
    keep_all_data: bool = False,
    actor: str | None = None,
    ignore_thresholds: bool = False,
    only: str = "",
    process: str = PUBLISH,
    request: dict[str, Any] | None = None,
) -> Job:
    """Insert a planned job with its tasks, in the caller's transaction.

    :param plan: as in the setting, task types in order, each with a backend or without; the collection's own plan and
        backends go before it. Who does a task is fixed here: what the collection chooses later is for later jobs. Where
        the collection has quality thresholds and the plan no check, it is added: thresholds that nobody looks at would
        protect nothing.
    :param actor: who asked for it, for the audit; None: the calendar.
    :param ignore_thresholds: publish the job whatever its quality thresholds say; only for an ``actor``.
    :param only: the one task type to do, in place of all of the plan.
    :param process: which process this is an execution of (shared/processes.py), and ``request`` how it was asked for.
    :raises JobInProgressError: the collection has an incomplete job (guarded by a unique index, so also against a
        process that inserts one at the same moment).
    :raises PausedError: the collection is paused.
    :raises JobStateError: the collection is being deleted.
    :raises ConfigurationError: the plan names an unknown task type or backend, or backends that do not go together.
    """
    require_not_paused(session, collection)
    # Locked as the foreign key will lock it: whoever deletes the collection comes before us, and is seen, or after.
    removing = select(Collection.removing).where(Collection.id == collection.id)
    if session.scalar(removing.with_for_update(read=True, key_share=True)) is not False:
        raise JobStateError(f"{collection.source_id} is being deleted.")
    tasks = tasks_of(collection, plan, only=only)
    if (running := _incomplete(session, collection.id)) is not None:
        raise JobInProgressError(running, collection.source_id)
    job = Job(
        collection_id=collection.id,
        process=process,
        request=request or {},
        keep_all_data=keep_all_data,
        trace=tracing.new_trace(),
    )
    if ignore_thresholds:
        job.context = {IGNORED: actor}
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        running = _incomplete(session, collection.id)
        if running is None:
            raise
        raise JobInProgressError(running, collection.source_id) from None
    session.execute(insert(Task), _rows_of(job.id, tasks))
    if actor is not None:
        details: dict[str, Any] = {"collection": collection.source_id}
        if ignore_thresholds:
            details |= {"ignore_thresholds": True}
        session.add(Audit(actor=actor, action="run", job_id=job.id, details=details))
    session.flush()
    return job


def plan_jobs(session: Session, plans: Mapping[int, Plan]) -> Sequence[Any]:
    """Insert a planned job with its tasks for each collection, by the calendar, in a few statements for all.

    None is planned for a collection that is paused or being deleted, or that has an incomplete job.

    :param plans: collection id → :func:`tasks_of` it.
    :return: (id, collection_id, trace) of each job.
    """
    free = select(Collection.id).where(Collection.id.in_(plans), ~Collection.removing, ~collection_is_paused())
    # In order, so that two who do this wait for each other and not in a circle; locked as in plan_job.
    locked = session.scalars(free.order_by(Collection.id).with_for_update(read=True, key_share=True)).all()
    if not locked:
        return []
    jobs = session.execute(
        upsert(Job).on_conflict_do_nothing().returning(Job.id, Job.collection_id, Job.trace),
        [{"collection_id": id_, "trace": tracing.new_trace()} for id_ in locked],
    ).all()
    if rows := [row for job in jobs for row in _rows_of(job.id, plans[job.collection_id])]:
        session.execute(insert(Task), rows)
    return jobs


def tasks_of(collection: Collection, plan: Sequence[str], *, only: str = "") -> Plan:
    """Return the tasks of a job of a collection, and who does each; parameters and errors are :func:`plan_job`'s."""
    own_plan = [only] if only else collection.tasks_plan
    tasks = resolve_plan(plan, own_plan=own_plan, backends=collection.backends)
    types = [task_type for task_type, _ in tasks]
    if not collection.options.get(THRESHOLDS) or "check" in types or "process" not in types:
        return tasks
    place = types.index("process") + 1
    return [*tasks[:place], ("check", spec_of("check")), *tasks[place:]]


def _rows_of(job_id: int, tasks: Plan) -> list[dict[str, Any]]:
    return [
        {"job_id": job_id, "type": task_type, "backend": spec.name, "order": order}
        for order, (task_type, spec) in enumerate(tasks, 1)
    ]


def plan_lone_job(session: Session, *, process: str, task_type: str, request: dict[str, Any]) -> Job:
    """Insert a planned job that is about no collection, with its one task, in the caller's transaction."""
    job = Job(process=process, request=request, trace=tracing.new_trace())
    session.add(job)
    session.flush()
    session.add(Task(job_id=job.id, type=task_type, backend=spec_of(task_type).name, order=1))
    session.flush()
    return job


def run_stage(
    session: Session,
    collection: Collection,
    task_type: str,
    *,
    job_id: int | None,
    plan: Sequence[str],
    actor: str,
    process: str,
    request: dict[str, Any],
) -> Job:
    """Do one task of a job: again, if the job has it; else as its last one. In the caller's transaction.

    :param job_id: None: the collection's newest job.
    :param plan: as in the setting; it says who does the task, if the collection does not.
    :raises JobStateError: there is no such job of the collection, it is not completed, or what the task reads is away.
    :raises JobInProgressError: the collection has another incomplete job.
    :raises PausedError: the collection is paused.
    """
    require_not_paused(session, collection)
    found = select(func.max(Job.id)).where(Job.collection_id == collection.id, Job.wiping != Wiping.ALL)
    number = session.scalar(found if job_id is None else found.where(Job.id == job_id))
    if number is None:
        which = f"no job {job_id}" if job_id is not None else "no job yet"
        raise JobStateError(f"{collection.source_id} has {which}. Execute collect, or publish.")
    job = _locked(session, number)
    if job.status != JobStatus.COMPLETED:
        raise JobInProgressError(job.id, collection.source_id)
    if any(task.type == task_type for task in _tasks(session, number)):
        restart_task(session, number, task_type, actor=actor)
    else:
        _add_task(session, job, collection, task_type, plan=plan, actor=actor)
    job.process, job.request = process, request
    session.flush()
    return job


def _add_task(
    session: Session, job: Job, collection: Collection, task_type: str, *, plan: Sequence[str], actor: str
) -> None:
    tasks = _tasks(session, job.id)
    types = [task.type for task in tasks]
    spec = resolve_plan(plan, own_plan=[*types, task_type], backends=collection.backends)[-1][1]
    missing = [name for name in spec.reads or () if name not in types]
    unfinished = [
        task.type for task in tasks if task.result != Result.OK and task_type in readers_of(task.type, [task_type])
    ]
    if missing or unfinished:
        what = f"which job {job.id} has not done" if missing else f"which is not OK in job {job.id}"
        first = (missing or unfinished)[0]
        raise JobStateError(f"{task_type} reads what {first} makes, {what}. Execute {first} first.")
    added = Task(job_id=job.id, type=task_type, backend=spec.name, order=max(task.order for task in tasks) + 1)
    _require_input(job, tasks, added, [added])
    session.add(added)
    _begin_run(job)
    _run_again(session, job)
    session.add(Audit(actor=actor, action="task add", job_id=job.id, details={"task": task_type}))
    log.info("task added", job=job.id, task=task_type, actor=actor, **tracing.shown(job.trace))


def delete_job(session: Session, job_id: int, *, actor: str | None) -> None:
    """Mark a completed job to be deleted, with its files, which the scheduler does within minutes.

    :param actor: for the audit; None: nobody who is known here.
    :raises JobStateError: there is no such job, it is not completed, or a collection publishes it.
    """
    job = _locked(session, job_id)
    if job.status != JobStatus.COMPLETED:
        raise JobStateError(f"Job {job_id} is not completed; cancel it first.")
    name = session.scalar(select(Collection.source_id).where(Collection.active_job_id == job_id))
    if name is not None:
        raise JobStateError(
            f"Job {job_id} is what {name} publishes. Run that again: the job goes once another has taken its place."
        )
    job.wiping = Wiping.ALL
    if actor is not None:
        session.add(Audit(actor=actor, action="job delete", job_id=job_id))
    log.info("job to be deleted", job=job_id, actor=actor)


def cancel_job(session: Session, job_id: int, *, actor: str, reason: str = "") -> None:
    """End an incomplete job now: planned work never starts, running work is stopped by its worker within seconds.

    Half-made files vanish with their attempts. Other jobs, and what the collection has published, are untouched.

    :raises JobStateError: there is no such job, it is completed already, or all of its tasks are OK.
    """
    job = _locked(session, job_id)
    if job.status == JobStatus.COMPLETED:
        raise JobStateError(f"Job {job_id} is completed; there is nothing to cancel.")
    tasks = _tasks(session, job_id)
    if tasks and all(task.result == Result.OK for task in tasks):
        raise JobStateError(
            f"Job {job_id} has done its tasks and is about to end; there is nothing to cancel. "
            f"See: bowerbird job {job_id}"
        )
    note = f"Cancelled by {actor}" + (f": {reason}" if reason else ".")
    _end_trace(session, job, Result.CANCELLED)
    job.status, job.end = JobStatus.COMPLETED, func.now()
    job.unfiled = True  # files that were made, and what its workers leave behind
    job.start = func.coalesce(job.start, func.now())
    for task in tasks:
        if task.status != TaskStatus.COMPLETED:
            task.status, task.result, task.note, task.end = TaskStatus.COMPLETED, Result.CANCELLED, note, func.now()
    _cancel_units(session, [task.id for task in tasks])
    session.add(Audit(actor=actor, action="job cancel", job_id=job_id, details={"reason": reason} if reason else {}))
    log.info("job cancelled", job=job_id, actor=actor, **tracing.shown(job.trace))


def restart_job(
    session: Session, job_id: int, *, actor: str, from_task: str | None = None, ignore_thresholds: bool = False
) -> str:
    """Do a job again from a task on; return that task's type. An old worker that is still at it is fenced off.

    Published files stay as they are until the job is OK again, and all new ones replace them.

    :param from_task: a task type; None: the first task that is not OK, or the first of all.
    :param ignore_thresholds: publish it whatever its quality thresholds say. It holds until the job's records are
        checked again in another restart.
    :raises JobStateError: no such job or task; a task before it is not OK; its records are deleted already.
    :raises JobInProgressError: the collection has another incomplete job.
    """
    job = _locked(session, job_id)
    tasks = _tasks(session, job_id)
    first = _first_to_restart(tasks, from_task)
    unfinished = [task.type for task in tasks if task.order < first.order and task.result != Result.OK]
    if unfinished:
        raise JobStateError(f"Job {job_id} cannot restart from {first.type}, because {unfinished[0]} is not OK.")
    _require_input(job, tasks, first, [task for task in tasks if task.order >= first.order])
    if job.status != JobStatus.COMPLETED:
        _end_trace(session, job, "RESTARTED")
    again = [task for task in tasks if task.order >= first.order]
    _cancel_units(session, [task.id for task in again])
    _settle_letters(session, DeadLetter.task_id.in_([task.id for task in again]), actor=actor)
    for task in again:
        _plan_anew(task)
    _begin_run(job)
    _run_again(session, job)
    context = {key: value for key, value in job.context.items() if key != IGNORED}
    if ignore_thresholds:
        job.context = context | {IGNORED: actor}
    elif any(task.type == "check" for task in again):
        job.context = context
    details = {"from_task": first.type} | ({"ignore_thresholds": True} if ignore_thresholds else {})
    session.add(Audit(actor=actor, action="job restart", job_id=job_id, details=details))
    log.info("job restarted", job=job_id, from_task=first.type, actor=actor, **tracing.shown(job.trace))
    return first.type


def keep_data(session: Session, job_id: int, *, keep: bool, actor: str) -> bool:
    """Keep a job's temporary data until told otherwise, or no longer; return False if that was so already.

    :raises JobStateError: there is no such job, or the data to be kept is (being) deleted already.
    """
    job = _locked(session, job_id)
    if job.keep_all_data == keep:
        return False
    if keep and (job.archived or job.wiping):
        raise JobStateError(f"Job {job_id} has no temporary data to keep: it is deleted. Run the collection again.")
    job.keep_all_data = keep
    session.add(Audit(actor=actor, action="job keep", job_id=job_id, details={"keep": keep}))
    log.info("job's data to be kept" if keep else "job's data no longer to be kept", job=job_id, actor=actor)
    return True


def restart_task(
    session: Session, job_id: int, task_type: str, *, actor: str, only: Sequence[str] = ()
) -> list[int] | None:
    """Do one task of a job again, or some of its units; what others made stays. An old worker is fenced off.

    The rule: nothing may be older than what it was made of. So the task is refused while a later one that read its
    output is OK (``reads`` in shared/tasks.py says who reads whom); later ones that failed over it, or were not run, go
    on after it. A job that is at another task is refused: it would be at two at a time.

    :param only: which units: :data:`FAILED_UNITS`, a value in a unit's parameters (or what is before its first dot: the
        segment of a file's name), or a unit's number. Nothing: all, as the task plans them anew.
    :return: the units that are done again; None: all.
    :raises JobStateError: no such job, task or unit; one of the refusals above; a task that it reads is not OK; the
        records that it reads are deleted already.
    :raises JobInProgressError: the collection has another incomplete job.
    """
    job = _locked(session, job_id)
    tasks = _tasks(session, job_id)
    task = _first_to_restart(tasks, task_type)
    later = [other for other in tasks if other.order > task.order]
    readers = readers_of(task.type, [other.type for other in later])
    _require_restartable(job, tasks, task, readers)
    not_run = (Result.SKIPPED, Result.CANCELLED)
    following = [other for other in later if other.type in readers or other.result in not_run]
    _require_input(job, tasks, task, [task, *following])
    chosen = _choose_units(session, task, only) if only else None
    if job.status != JobStatus.COMPLETED:
        _end_trace(session, job, "RESTARTED")
    if chosen is None:
        _cancel_units(session, [task.id])
        _settle_letters(session, DeadLetter.task_id == task.id, actor=actor)
        _plan_anew(task)
    else:
        values = update(Unit).where(Unit.id.in_(chosen)).values({**_UNIT_ANEW, Unit.state: {}})
        session.execute(values.execution_options(synchronize_session=False))
        session.execute(delete(TaskNote).where(TaskNote.unit_id.in_(chosen)))
        _settle_letters(session, DeadLetter.unit_id.in_(chosen), actor=actor)
        task.status, task.result, task.note, task.end = TaskStatus.RUNNING, Result.NONE, "", None
    _cancel_units(session, [other.id for other in following])
    _settle_letters(session, DeadLetter.task_id.in_([other.id for other in following]), actor=actor)
    for other in following:
        _plan_anew(other)
    _begin_run(job)
    _run_again(session, job)
    details = {"task": task.type} | ({} if chosen is None else {"units": chosen})
    session.add(Audit(actor=actor, action="task restart", job_id=job_id, details=details))
    names = {"job": job_id, "task": task.type, "units": chosen and len(chosen), **tracing.shown(job.trace)}
    log.info("task restarted", **names, actor=actor)
    return chosen


def _require_restartable(job: Job, tasks: Sequence[Task], task: Task, readers: Sequence[str]) -> None:
    all_again = f"bowerbird job restart {job.id} --from"
    if task.status == TaskStatus.PLANNED:
        raise JobStateError(f"Job {job.id} has not come to {task.type} yet; it will, in its turn.")
    running = next((other.type for other in tasks if other.status == TaskStatus.RUNNING and other is not task), None)
    if running is not None:
        raise JobStateError(f"Job {job.id} is at {running}. Wait for its end, or cancel: bowerbird job cancel {job.id}")
    for other in tasks:
        up_to_task = [later.type for later in tasks if other.order < later.order <= task.order]
        if other.result != Result.OK and task.type in readers_of(other.type, up_to_task):
            raise JobStateError(
                f"{task.type} reads what {other.type} makes, which is not OK. Begin there: {all_again} {other.type}"
            )
    stale = [other.type for other in tasks if other.type in readers and other.result == Result.OK]
    if stale:
        raise JobStateError(
            f"What {' and '.join(stale)} made of the output of {task.type} would be older than it. "
            f"Do them all again: {all_again} {task.type}"
        )


def _choose_units(session: Session, task: Task, only: Sequence[str]) -> list[int]:
    of_task = session.scalars(select(Unit).where(Unit.task_id == task.id).order_by(Unit.number)).all()
    chosen: set[int] = set()
    for which in only:
        found = [unit.id for unit in of_task if _is_named(unit, which)]
        found = found or [unit.id for unit in of_task if which == str(unit.number)]
        if not found:
            names = [" ".join([str(unit.number), *_values(unit)]) for unit in of_task[:50]]
            missing = "no unit that failed" if which == FAILED_UNITS else f"no unit {which!r}"
            raise JobStateError(f"{task.type} has {missing}. Its units: {', '.join(names) or 'none'}.")
        chosen.update(found)
    if any(unit.result == Result.CANCELLED and unit.id not in chosen for unit in of_task):
        raise JobStateError(f"Other units of {task.type} were cancelled; it cannot be OK without them. Restart all.")
    return sorted(chosen)


def _is_named(unit: Unit, which: str) -> bool:
    if which == FAILED_UNITS:
        return unit.result in (Result.FAILED, Result.CANCELLED) or bool(unit.output.get("failed"))  # some of its files
    return any(which in (value, value.partition(".")[0]) for value in _values(unit))


def _values(unit: Unit) -> list[str]:
    """Return what is in a unit's parameters, one by one: the names of the files that it is about."""
    return [str(each) for value in unit.params.values() for each in (value if isinstance(value, list) else [value])]


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
        .values(_UNIT_ANEW)
        .values(state=Unit.state.op("-")("away"))  # what goes on elsewhere does; for how long it was away is forgotten
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
    _require_input(job, tasks, mine[0], [task for task in tasks if task.order >= mine[0].order])
    for task in mine:
        task.status, task.result, task.note, task.end = TaskStatus.RUNNING, Result.NONE, "", None
    for task in tasks:
        if task.order > mine[0].order and task.result == Result.SKIPPED:
            _plan_anew(task)
    if job.status == JobStatus.COMPLETED:
        _begin_run(job)
    _run_again(session, job)
    _settle_letters(session, DeadLetter.unit_id.in_(revived), actor=actor)
    session.add(Audit(actor=actor, action="dead replay", job_id=job_id, details={"units": sorted(revived)}))
    names = {"job": job_id, "from_task": mine[0].type, "units": len(revived), **tracing.shown(job.trace)}
    log.info("job revived", **names, actor=actor)
    return list(revived)


def _require_input(job: Job, tasks: Sequence[Task], first: Task, again: Sequence[Task]) -> None:
    """Raise if a task that is to be done again, from the first on, reads temporary data that is deleted.

    It stays deleted until a restart from the very first task: a later task's restart must not make it look whole.
    """
    readers = [task.type for task in again if spec_of(task.type, task.backend).reads_store]
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


def _begin_run(job: Job) -> None:
    """Have the job go on in its trace, with a span of its own for what comes."""
    job.trace, job.restarted = tracing.continued(job.trace), func.now()


def _end_trace(session: Session, job: Job, result: str) -> None:
    """Export the spans of a run that a person ends."""
    for task in _tasks(session, job.id):
        if task.status == TaskStatus.RUNNING:
            span = tracing.task_span(job.trace, task.id, start=task.start)
            span.finish(job=job.id, task=task.type, outcome=result)
    span = tracing.job_span(job.trace, start=job.restarted or job.created)
    span.finish(job=job.id, outcome=result)


def _settle_letters(session: Session, which: ColumnElement[bool], *, actor: str) -> None:
    """Note that what these dead letters tell of is being done again."""
    session.execute(
        update(DeadLetter)
        .where(which, DeadLetter.status == LetterStatus.OPEN, DeadLetter.kind == LetterKind.UNIT)
        .values(status=LetterStatus.REPLAYED, resolved_at=func.now(), resolved_by=actor)
        .execution_options(synchronize_session=False)
    )


def _incomplete(session: Session, collection_id: int | None) -> int | None:
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
    """End the open units of tasks; without a token, no holder of one can write any more. Other systems are told."""
    errands.plan_stops(session, task_ids)
    session.execute(
        update(Unit)
        .where(Unit.task_id.in_(task_ids), Unit.status != UnitStatus.COMPLETED)
        .values(status=UnitStatus.COMPLETED, result=Result.CANCELLED, token=None, lease_until=None, end=func.now())
        .execution_options(synchronize_session=False)
    )


def trace_of(session: Session, job_id: int) -> str:
    """Return the name of a job's span (shared/tracing.py); empty if there is none."""
    return session.scalar(select(Job.trace).where(Job.id == job_id)) or ""


def announce_job(broker: Broker, job_id: int, *, trace: str = "") -> None:
    """Tell the scheduler of a committed job. Without a broker the job starts at the scheduler's next tick instead.

    :param trace: the job's.
    """
    fault("jobs.committed")
    try:
        broker.publish(EVENTS_QUEUE, JobPlanned(job_id=job_id, trace=trace))
    except BrokerUnavailableError as error:
        log.warning(
            "job planned without telling the scheduler; its next tick will see it", job=job_id, error=str(error)
        )
