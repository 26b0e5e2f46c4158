"""The scheduler: what is due, the next step of each job, and the repair of what was lost.

Events say that something may have changed; the database says what. A tick looks without having been told, so a lost
event, a lost message or a dead worker costs time and nothing else. Several schedulers may run: a job's row lock makes
them take turns, and every step is decided again after the lock is had.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from services.scheduler import repository
from services.scheduler.decisions import (
    Answer,
    Go,
    Move,
    Step,
    Verdict,
    delay_in_day,
    is_out_of_date,
    is_published,
    keeps_schedule,
    move_of,
    publishes,
    step_of,
)
from services.scheduler.managers import TaskManager
from services.scheduler.retention import count_marked, delete_collections, delete_some, mark_results, marked_jobs
from shared import dead_letters, deliveries, events, filing, metrics, retention, tracing, units
from shared.broker import Broker, Delivery
from shared.db.errors import is_temporary
from shared.db.models import Collection, File, Job, JobStatus, Result, Task, TaskStatus, Wiping
from shared.errors import BrokerUnavailableError, ConfigurationError, TemporaryError
from shared.exports import Export
from shared.failures import classify
from shared.faults import fault
from shared.jobs import Plan, plan_jobs, tasks_of
from shared.logging import get_logger
from shared.outbox import publish_next, publish_units
from shared.processes import kind_of
from shared.retention import Disposal
from shared.schedules import read_schedule
from shared.settings import Settings
from shared.tasks import load, spec_of

log = get_logger()

LOOK_LIMIT = 1000
"""Collections that are decided about at once."""
AT_ONCE = 20
"""Jobs that a tick plans, or takes further, in one transaction, before it looks at whose turn it is: no worker waits
long for the first of a thousand, and nobody for the lock on a job."""
ARCHIVE_LIMIT = 20
"""Jobs of which one pass deletes something."""


@dataclass(frozen=True)
class Due:
    """A collection and the decision about it."""

    collection: Collection
    verdict: Verdict


Answers = dict[tuple[int, datetime], tuple[Answer, str]]
"""What came of asking the managers of tasks, by id and when the task's row was last changed."""
ONE_BY_ONE = "one by one"
"""Whether what a manager wrote goes to the database before the next one is asked; else what all wrote goes at once."""


class _ManagerError(Exception):
    """A manager raised an error: what it and others did in this transaction is to be undone."""

    def __init__(self, answer: Answer, text: str) -> None:
        super().__init__(text)
        self.answer = (answer, text)


class Scheduler:
    """One pass or one step at a time; the loop around it is in ``__main__``."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], broker: Broker) -> None:
        self._settings = settings
        self._sessions = sessions
        self._broker = broker
        self.others_wait = False
        """Whether units wait for their turn: then :meth:`publish` has to be called when nothing else makes it be."""
        self._ended: list[Callable[[], object]] = []
        """What log, metrics and traces are told of a step, once it is committed."""

    # What is due

    def look(self) -> list[Due]:
        """Decide about every collection that is collected by the calendar; change nothing."""
        now = datetime.now(UTC)
        with self._sessions() as session:
            return [self._decide(scheduled, now) for scheduled in repository.scheduled_collections(session)]

    def plan_due(self, between: Callable[[], bool | None] = lambda: None) -> list[int]:
        """Plan a job for each collection that is due; return the jobs. Asks only about those that may have become so.

        The others are looked at again when the calendar makes them due, and at least once a day, as what is known of
        them may change in other ways: a job that fails, or is deleted, makes its collection due sooner.
        """
        planned: list[int] = []
        while True:
            now = datetime.now(UTC)
            with self._sessions() as session:
                found = repository.collections_to_look_at(session, limit=LOOK_LIMIT)
            decided = [self._decide(scheduled, now) for scheduled in found]
            self._look_again([due for due in decided if not due.verdict.due], now)
            before = len(planned)
            due = [each for each in decided if each.verdict.due]
            for start in range(0, len(due), AT_ONCE):
                planned += self._plan(due[start : start + AT_ONCE])
                if between():
                    return planned
            if len(found) < LOOK_LIMIT or len(planned) == before:
                return planned

    def _decide(self, scheduled: repository.Scheduled, now: datetime) -> Due:
        collection = scheduled.collection
        facts: dict[str, Any] = {
            "frozen": collection.frozen,
            "latest": scheduled.latest,
            "has_incomplete_job": scheduled.has_incomplete_job,
        }
        if collection.cron:
            schedule = read_schedule(collection.cron, collection.time_zone)
            created, catch_up = collection.created, collection.catch_up
            return Due(collection, keeps_schedule(schedule, **facts, catch_up=catch_up, created=created, now=now))
        delay = delay_in_day(collection.source_id, self._settings.schedule_spread)
        today = (now - delay).date()
        verdict = is_out_of_date(**facts, retrieval_frequency=collection.retrieval_frequency, today=today)
        return Due(collection, replace(verdict, at=verdict.at + delay) if verdict.at is not None else verdict)

    def _look_again(self, decided: Sequence[Due], now: datetime) -> None:
        tomorrow = now + timedelta(days=1)
        times = {
            due.collection.id: min(due.verdict.at, tomorrow) if due.verdict.at and due.verdict.at > now else tomorrow
            for due in decided
        }
        if times:
            with self._sessions.begin() as session:
                repository.look_again(session, times)

    def _plan(self, due: Sequence[Due]) -> list[int]:
        """Plan jobs in one transaction; return those that nobody, another scheduler or a person, forestalled."""
        plans = {each.collection.id: (each, self._tasks_of(each)) for each in due}
        with self._sessions.begin() as session:
            jobs = plan_jobs(session, {id_: tasks for id_, (_, tasks) in plans.items() if tasks is not None})
        for job in jobs:
            each, _ = plans[job.collection_id]
            fault("scheduler.job_planned")
            log.info(
                "job planned",
                job=job.id,
                collection=each.collection.source_id,
                reason=each.verdict.reason,
                **tracing.shown(job.trace),
            )
            metrics.JOBS_PLANNED.inc()
        return [job.id for job in jobs]

    def _tasks_of(self, due: Due) -> Plan | None:
        collection = due.collection
        try:
            return tasks_of(collection, self._settings.job_tasks_plan)
        except ConfigurationError as error:
            if not (collection.tasks_plan or collection.backends):  # the setting is wrong: no job can be planned
                raise
            log.warning("job not planned", collection=collection.source_id, error=str(error))
            self._look_again([due], datetime.now(UTC))
            return None

    # The next step of a job

    def process(self, job_id: int, *, wait: bool) -> bool:
        """Take a job as far as it goes now, and publish what it starts; return whether it ended.

        :param wait: wait for another scheduler that has the job, rather than leave it to it.
        """
        ended = self._go_on([job_id], wait=wait)
        self.publish()
        return ended

    def _go_on(self, job_ids: Sequence[int], *, wait: bool) -> bool:
        """Complete what has ended of jobs, start what comes next, in one transaction; return whether one ended."""
        answers, one_by_one = Answers(), False
        while True:
            self._ended.clear()
            try:
                with self._sessions.begin() as session:
                    session.info[ONE_BY_ONE] = one_by_one
                    jobs = self._advance_all(session, job_ids, answers, wait=wait)
                break
            except _ManagerError:  # once more, without asking it again
                continue
            except SQLAlchemyError as error:
                if one_by_one or is_temporary(error):
                    raise
                one_by_one = True  # once more, to see whose it is
        self._tell()
        ended = False
        for job, over in jobs:
            fault("scheduler.job_advanced")
            with structlog.contextvars.bound_contextvars(job=job.id, **tracing.shown(job.trace)):
                ended |= over and self._end(job.id, wait=wait)
        self._tell()
        return ended

    def _tell(self) -> None:
        for tell in self._ended:
            tell()
        self._ended.clear()

    def _advance_all(
        self, session: Session, job_ids: Sequence[int], answers: Answers, *, wait: bool
    ) -> list[tuple[Job, bool]]:
        """Return those of the jobs that could be had, and whether each is over."""
        jobs = repository.lock_jobs(session, job_ids, wait=wait)
        tasks = repository.open_tasks(session, [job.id for job in jobs]) if jobs else {}
        found = []
        for job in jobs:
            fault("scheduler.job_locked")
            with structlog.contextvars.bound_contextvars(job=job.id, **tracing.shown(job.trace)):
                over = self._advance(session, job, tasks[job.id], answers)
            if over and _is_ok(session, job.id):
                filing.publish_made(session, job.id)
            found.append((job, over))
        return found

    def _end(self, job_id: int, *, wait: bool) -> bool:
        """End a job whose tasks are all over; return whether it ended.

        In a transaction of its own: what is removed from the disk must be gone from the table for certain. If we die in
        between, or the disk refuses, the job is still running, without an open task, and a tick ends it.
        """
        with self._sessions.begin() as session:
            filing.limit_silence(session, self._settings.lease)
            locked = repository.lock_jobs(session, [job_id], wait=wait)
            tasks = repository.all_tasks(session, job_id)
            if not locked or any(task.status != TaskStatus.COMPLETED for task in tasks):  # restarted since
                return False
            (job,) = locked
            collection = repository.collection_of(session, job)
            try:
                with session.begin_nested():
                    self._put_in_place(session, job, collection)
                fault("scheduler.files_in_place")
            except OSError as error:
                # Shown on the last task while it lasts; tried again at each tick.
                log.warning("files not in place yet", job=job_id, error=str(error))
                if tasks[-1].result == Result.OK:
                    tasks[-1].note = f"The job ends when its files can be put in place: {error}"
                return False
            for task in tasks:
                if task.result == Result.OK:
                    task.note = ""
            self._complete(session, job, collection, tasks)
            collection_id = job.collection_id
        if collection_id is not None:
            self._retire_others(collection_id, job_id)
        return True

    def _put_in_place(self, session: Session, job: Job, collection: Collection) -> None:
        filing.put_in_place(session, job, Export(self._settings.exports, collection.source_id, job.id))

    def _advance(
        self,
        session: Session,
        job: Job,
        tasks: Sequence[repository.OpenTask],
        answers: Answers,
    ) -> bool:
        """Return whether the job is over."""
        collection = repository.collection_of(session, job)
        for facts in tasks:
            task = facts.task
            step = step_of(job=job.status, task=task.status, paused=facts.paused)
            if step == Step.OVER:
                continue
            if step == Step.LEAVE:
                return False
            try:
                manager = self._manager(session, task, job, collection)
            except ConfigurationError as error:
                # A task type that this version does not have. Another does, or it was planned in vain; in either case
                # the other jobs go on.
                task.result, task.note = Result.FAILED, str(error)
                log.warning("task not advanced", task=task.type, error=str(error))
                return False
            manager.now, manager.usual_seconds = facts.now, facts.seconds
            asked = task.id, task.modified
            try:
                answer = answers.get(asked) or _ask(manager, step)
            except _ManagerError as failed:
                answers[asked] = failed.answer
                raise
            move = self._take(job, manager, step, answer, facts.now)
            if move.go == Go.WAIT:
                return False
            if move.go == Go.END:
                _skip((each.task for each in tasks if each.task.status != TaskStatus.COMPLETED), task.type)
                return True
        return True

    def _take(self, job: Job, manager: TaskManager, step: Step, answered: tuple[Answer, str], now: datetime) -> Move:
        """Make of job and task what the answer of the task's manager means."""
        answer, text = answered
        move, task, source_id = move_of(step, answer), manager.task, manager.collection.source_id
        log_of_job = log.bind(job=job.id, **tracing.shown(job.trace))
        if move.starts_job and job.status == JobStatus.PLANNED:
            job.status, job.start = JobStatus.RUNNING, now
            self._ended.append(partial(log_of_job.info, "job started", collection=source_id))
        if step == Step.START and move.task != TaskStatus.PLANNED:
            task.start = now
        task.status, task.result, task.note = move.task, move.result, text if move.note else ""
        if move.task == TaskStatus.COMPLETED:
            task.end = now
        if move.go == Go.ON:
            self._ended.append(partial(log_of_job.debug, "task completed", task=task.type, collection=source_id))
            self._ended.append(_tell_of_task(job, task, Result.OK))
        elif move.go == Go.END:
            self._ended.append(partial(log_of_job.debug, "task failed", task=task.type, reason=text))
            self._ended.append(_tell_of_task(job, task, Result.FAILED, text))
        elif move.note:  # shown on the task while it lasts; tried again at each tick
            self._ended.append(partial(log_of_job.warning, "task not advanced", task=task.type, error=text))
        return move

    def _complete(self, session: Session, job: Job, collection: Collection, tasks: Sequence[Task]) -> None:
        """End the job; if every task is OK, its files become the collection's, unless it was not to make any."""
        job.status, job.end = JobStatus.COMPLETED, func.now()
        if not is_published([task.result for task in tasks]):
            failed = next((task for task in tasks if task.result == Result.FAILED), tasks[-1])
            self._ended.append(_tell_of_job(job, failed))
            names = {"collection": collection.source_id, "task": failed.type, "reason": failed.note}
            tell = log.info if job.collection_id is None else log.error  # nobody has to look at what a visitor tried
            tell("job failed", **names, seconds=round(_seconds_since(job.restarted or job.start), 3))
            return
        if publishes(kind_of(job.process, job.request), [task.type for task in tasks]):
            read_at = tasks[0].end  # when the source was read
            collection.active_job_id = job.id
            collection.last_retrieved = read_at.date() if read_at is not None else None
            collection.publication_policy = collection.publication_policy or job.publication_policy
        self._ended.append(_tell_of_job(job))
        seconds = round(_seconds_since(job.restarted or job.start), 3)
        log.info("job completed", collection=collection.source_id, seconds=seconds, **_made(session, job))

    def _retire_others(self, collection_id: int, job_id: int) -> None:
        """After a success, mark the collection's jobs that are not needed any longer."""
        with self._sessions.begin() as session:
            collection = session.get_one(Collection, collection_id)
            if collection.active_job_id == job_id:
                retention.mark(session, collection, actor=None)
        fault("scheduler.jobs_marked")

    def _manager(self, session: Session, task: Task, job: Job, collection: Collection) -> TaskManager:
        manager: TaskManager = load(spec_of(task.type, task.backend).manager)(
            task, job, collection, session, self._settings
        )
        return manager

    # Messages

    def publish(self) -> None:
        """Publish the units whose turn it is; those the broker did not confirm come again."""
        self.others_wait = publish_next(self._sessions, self._broker, self._settings.limits)

    def _publish_unclaimed(self) -> None:
        """Publish the units again whose messages nobody took up."""
        with self._sessions() as session:
            rows = units.unclaimed(session, after=timedelta(seconds=self._settings.republish_after_seconds))
        publish_units(self._sessions, self._broker, rows)

    def refuse(self, delivery: Delivery, reason: str, traceback: str) -> None:
        """Put an event that cannot be understood on the list of dead letters. Call before rejecting it."""
        with self._sessions.begin() as session:
            dead_letters.record_message(session, delivery, reason=reason, traceback=traceback)

    # The tick

    def tick(self, between: Callable[[], bool | None] = lambda: None) -> bool:
        """Do all that may have been missed; return whether more is left to delete.

        :param between: called after each job, as a thousand of them take a while; True: leave the rest.
        """
        with self._sessions.begin() as session:
            expired = units.take_back_expired(session)
        for row in expired:
            names = {"job": row.job_id, "task": row.type, "unit": row.id, "attempt": row.attempt}
            names |= tracing.shown(row.trace)
            log.warning("unit taken back: its worker fell silent", **names, worker=row.worker)
        metrics.UNITS_TAKEN_BACK.inc(len(expired))
        if expired:
            fault("scheduler.taken_back")
        self.plan_due(between)
        with self._sessions() as session:
            movable = repository.movable_jobs(session)
        for start in range(0, len(movable), AT_ONCE):
            if start:
                self.publish()
            self._go_on(movable[start : start + AT_ONCE], wait=False)
            if between():
                self.publish()
                return False
        self.put_in_order()
        self._publish_unclaimed()
        self.publish()
        return self.clean_up()

    def put_in_order(self) -> None:
        """Put the files of jobs in place that somebody else ended: a person, who need not have the disk at hand."""
        with self._sessions() as session:
            jobs = filing.unfiled_jobs(session, limit=ARCHIVE_LIMIT)
        for job_id in jobs:
            try:
                with self._sessions.begin() as session:
                    filing.limit_silence(session, self._settings.lease)
                    job = repository.lock_completed_job(session, job_id)
                    if job is not None and job.wiping != Wiping.ALL:
                        self._put_in_place(session, job, repository.collection_of(session, job))
            except OSError as error:
                log.warning("files not in place yet", job=job_id, error=str(error))

    # Deleting

    def clean_up(self, between: Callable[[], bool | None] = lambda: None) -> bool:
        """Delete some of what is not needed any longer; return whether more may be left.

        :param between: called after each step, so that no job waits for all of them; True: leave the rest.
        """
        with self._sessions.begin() as session:
            mark_results(session, days=self._settings.process_results_days)
        left = False
        for step in (self.archive, self.delete_marked, self.forget_letters, self.forget_events):
            left |= step()
            if between():
                return True
        return left

    def forget_events(self) -> bool:
        """Delete some old events, and deliveries that are over; return whether more may be left."""
        age = timedelta(days=self._settings.event_days)
        with self._sessions.begin() as session:
            left = [events.prune(session, age=age), deliveries.prune(session, age=age)]
        return any(left)

    def forget_letters(self) -> bool:
        """Delete some dead letters that were settled long ago; return whether more may be left."""
        try:
            return dead_letters.forget(self._sessions, self._broker)
        except BrokerUnavailableError as error:
            log.warning("old dead letters not deleted yet: the broker is away", error=str(error))
            return False

    def archive(self) -> bool:
        """Delete some temporary data of completed jobs; return whether more may be left."""
        with self._sessions() as session:
            jobs = repository.jobs_to_archive(
                session, failed_data_days=self._settings.failed_data_days, limit=ARCHIVE_LIMIT
            )
        archived = [self._wipe(job_id, self._archive) for job_id in jobs]
        return not all(archived)

    def delete_marked(self) -> bool:
        """Delete some of the jobs that are marked; return whether more may be left."""
        with self._sessions() as session:
            jobs = marked_jobs(session, limit=ARCHIVE_LIMIT)
        deleted = [self._wipe(job_id, delete_some) for job_id in jobs]
        with self._sessions.begin() as session:
            delete_collections(session)
        return not all(deleted)

    def _wipe(self, job_id: int, some: Callable[[Session, Job, Sequence[TaskManager]], bool]) -> bool:
        """Delete some of a job, if nobody else is at it; return whether that was all that can be done now."""
        try:
            with self._sessions.begin() as session:
                job = repository.lock_completed_job(session, job_id)
                if job is None:
                    return True
                collection = repository.collection_of(session, job)
                return some(session, job, self._managers(session, job, collection))
        except TemporaryError as error:
            log.warning("job not wiped yet", job=job_id, error=str(error))
        except DBAPIError:
            raise
        except Exception:  # one job that cannot be wiped must not stop the others
            log.exception("job not wiped", job=job_id)
        return True  # not now: the next tick tries again

    @staticmethod
    def _archive(_session: Session, job: Job, managers: Sequence[TaskManager]) -> bool:
        if job.archived or job.wiping == Wiping.ALL:
            return True
        wiped = [manager.wipe() for manager in managers if not manager.final_output]
        fault("scheduler.data_wiped")
        job.archived = all(wiped)
        job.wiping = Wiping.NONE if job.archived else Wiping.TEMPORARY
        return job.archived

    def _managers(self, session: Session, job: Job, collection: Collection) -> Sequence[TaskManager]:
        return [self._manager(session, task, job, collection) for task in repository.all_tasks(session, job.id)]

    # For people

    def delete_old_jobs(self, *, actor: str) -> Iterator[str]:
        """Delete the jobs that are not needed any longer, now; yield a line for each job that was looked at."""
        with self._sessions() as session:
            collections = retention.publishing_collections(session)
        for collection_id in collections:
            with self._sessions.begin() as session:
                collection = session.get_one(Collection, collection_id)
                lines = _lines(collection, retention.mark(session, collection, actor=actor), "deleted")
            yield from lines
        self.delete_all_marked()

    def delete_all_marked(self) -> int:
        """Delete all jobs and collections that are marked, as far as that is possible now; return the jobs left."""
        left, more = self._marked(), True
        while left and more:
            before, unfinished = left, self.delete_marked()
            left = self._marked()
            more = unfinished or left < before
        self.delete_marked()  # collections that had no jobs
        return left

    def _marked(self) -> int:
        with self._sessions() as session:
            return count_marked(session)

    def explain_deletion(self) -> Iterator[str]:
        """Yield the lines of :meth:`delete_old_jobs`; change nothing."""
        with self._sessions() as session:
            for collection_id in retention.publishing_collections(session):
                collection = session.get_one(Collection, collection_id)
                yield from _lines(collection, retention.judge(session, collection), "would be deleted")

    def explain(self) -> Iterator[str]:
        """Yield a line for each thing that a tick would do now; change nothing."""
        for due in self.look():
            step = "plan a job" if due.verdict.due else "nothing to do"
            yield f"{due.collection.source_id}: {step} ({due.verdict.reason})"
        with self._sessions() as session:
            for job_id in repository.movable_jobs(session):
                yield f"job {job_id}: {_step_in_words(session, session.get_one(Job, job_id))}"
            chosen, _ = units.to_publish(session, self._settings.limits)
            after = timedelta(seconds=self._settings.republish_after_seconds)
            for row in (*chosen, *units.unclaimed(session, after=after)):
                yield f"job {row.job_id}: publish unit {row.id} of {row.type}"
            failed_data_days = self._settings.failed_data_days
            for job_id in repository.jobs_to_archive(session, failed_data_days=failed_data_days, limit=ARCHIVE_LIMIT):
                yield f"job {job_id}: delete temporary data"


def _ask(manager: TaskManager, step: Step) -> tuple[Answer, str]:
    """Have a manager start its task, and tell its status; return the answer and, unless it is well, the reason.

    :raises _ManagerError: it raised an error, which is its answer.
    """
    task_type = manager.task.type
    try:
        if step == Step.START:
            manager.run()
        state = manager.get_status()
        if manager.session.info[ONE_BY_ONE]:
            manager.session.flush()  # what is wrong with what it wrote is its error, too
    except Exception as error:  # a defect of one task type must not stop the other jobs
        if is_temporary(error):  # it is the database's trouble, not the task's
            raise
        failure = classify(error)
        if failure.kind == "temporary":
            raise _ManagerError(Answer.TEMPORARY, failure.text) from error
        if not failure.foreseen:
            log.exception("task manager failed with an error it did not foresee", task=task_type)
        raise _ManagerError(Answer.PERMANENT, failure.text) from error
    if state.status != TaskStatus.COMPLETED:
        return Answer.OPEN, ""
    return (Answer.FAILED, state.failure) if state.failure else (Answer.DONE, "")


def _is_ok(session: Session, job_id: int) -> bool:
    session.flush()
    return is_published([task.result for task in repository.all_tasks(session, job_id)])


def _skip(later: Iterable[Task], failed: str) -> None:
    for task in later:
        task.status, task.result = TaskStatus.COMPLETED, Result.SKIPPED
        task.note = f"Not run, because {failed} failed."


def _step_in_words(session: Session, job: Job) -> str:
    facts = next(iter(repository.open_tasks(session, [job.id])[job.id]), None)
    if facts is None:
        return "end"
    task = facts.task
    match step_of(job=job.status, task=task.status, paused=facts.paused):
        case Step.START:
            return f"start {task.type}"
        case Step.CHECK:
            return f"check {task.type}"
        case _:
            return "nothing (its collection is paused)"


def _tell_of_task(job: Job, task: Task, result: Result, error: str = "") -> Callable[[], None]:
    """Return what counts a task that ends now, and exports its span."""
    span = tracing.task_span(job.trace, task.id, start=task.start)
    span.ended(error=error, job=job.id, task=task.type, outcome=result)
    seconds = _seconds_since(task.start)

    def tell() -> None:
        metrics.TASKS_COMPLETED.inc(task=task.type, result=result)
        metrics.TASK_DURATION.observe(seconds, task=task.type)
        tracing.export(span)

    return tell


def _tell_of_job(job: Job, failed: Task | None = None) -> Callable[[], None]:
    """Return what counts a job that ends now, and exports its span."""
    result = Result.OK if failed is None else Result.FAILED
    error = "" if failed is None else f"{failed.type}: {failed.note}"
    span = tracing.job_span(job.trace, start=job.restarted or job.created).ended(
        error=error, job=job.id, outcome=result
    )
    seconds, of_collection = _seconds_since(job.restarted or job.start), job.collection_id is not None

    def tell() -> None:
        if not of_collection:  # alerts are about what is to be published
            tracing.export(span)
            return
        metrics.JOBS_COMPLETED.inc(result=result)
        metrics.JOB_DURATION.observe(seconds, result=result)
        tracing.export(span)

    return tell


def _seconds_since(start: datetime | None) -> float:
    """Return how long ago something started by the database's clock, by ours; 0 if it never did."""
    return 0.0 if start is None else max(0.0, (datetime.now(UTC) - start).total_seconds())


def _made(session: Session, job: Job) -> dict[str, int]:
    """Return what the job published, for the log."""
    row = session.execute(
        select(func.count(File.id), func.coalesce(func.sum(File.size), 0)).where(File.job_id == job.id)
    ).one()
    return {"files": row[0], "bytes": int(row[1])}


def _lines(collection: Collection, disposals: Sequence[Disposal], deleted: str) -> list[str]:
    return [
        f"{collection.source_id}: job {disposal.job_id} {deleted if disposal.delete else 'kept'}: {disposal.reason}"
        for disposal in disposals
    ]
