"""The scheduler: what is due, the next step of each job, and the repair of what was lost.

Events say that something may have changed; the database says what. A tick looks without having been told, so a lost
event, a lost message or a dead worker costs time and nothing else. Several schedulers may run: a job's row lock makes
them take turns, and every step is decided again after the lock is had.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import func
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from services.scheduler import repository, retention
from services.scheduler.decisions import Disposal, Verdict, is_out_of_date
from services.scheduler.managers import TaskManager
from shared import dead_letters, units
from shared.broker import Broker, Delivery
from shared.db.errors import is_temporary
from shared.db.models import Collection, Job, JobStatus, Result, Task, TaskStatus, Wiping
from shared.errors import PermanentError, TemporaryError
from shared.exports import Export
from shared.jobs import JobInProgressError, plan_job
from shared.logging import get_logger
from shared.outbox import publish_units
from shared.pauses import PausedError, is_paused
from shared.settings import Settings
from shared.tasks import load, spec_of

log = get_logger()

ARCHIVE_LIMIT = 20
"""Jobs of which one pass deletes something."""


@dataclass(frozen=True)
class Due:
    """A collection and the decision about it."""

    collection: Collection
    verdict: Verdict


class Scheduler:
    """One pass or one step at a time; the loop around it is in ``__main__``."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], broker: Broker) -> None:
        self._settings = settings
        self._sessions = sessions
        self._broker = broker

    # What is due

    def look(self) -> list[Due]:
        """Decide about every collection that is collected by the calendar; change nothing."""
        today = datetime.now(UTC).date()
        with self._sessions() as session:
            return [Due(row, _verdict(session, row, today)) for row in repository.scheduled_collections(session)]

    def plan_due(self) -> list[int]:
        """Plan a job for each collection that is due; return the jobs."""
        return [job_id for due in self.look() if due.verdict.due and (job_id := self._plan(due)) is not None]

    def _plan(self, due: Due) -> int | None:
        collection = due.collection
        try:
            with self._sessions.begin() as session:
                job = plan_job(session, collection, plan=self._settings.job_tasks_plan)
        except (JobInProgressError, PausedError):  # another scheduler, or a person, was faster
            return None
        log.info("job planned", job=job.id, collection=collection.source_id, reason=due.verdict.reason)
        return job.id

    # The next step of a job

    def process(self, job_id: int, *, wait: bool) -> bool:
        """Take a job as far as it goes now: complete what has ended, start what comes next; return whether it ended.

        :param wait: wait for another scheduler that has the job, rather than leave it to it.
        """
        with self._sessions.begin() as session:
            job = repository.lock_job(session, job_id, wait=wait)
            if job is None:
                return False
            collection = session.get_one(Collection, job.collection_id)
            ended = self._advance(session, job, collection)
            if ended:
                self._complete(session, job, collection)
        if ended:
            self._retire_others(collection.id, job_id)
        else:
            self._publish(job_id)
        return ended

    def _advance(self, session: Session, job: Job, collection: Collection) -> bool:
        """Return whether the job is over."""
        for task in repository.open_tasks(session, job.id):
            if task.status == TaskStatus.PLANNED and is_paused(session, collection.id):
                return False
            manager = self._manager(session, task, job, collection)
            try:
                with session.begin_nested():
                    if task.status == TaskStatus.PLANNED:
                        self._start(job, task, manager)
                    state = manager.get_status()
            except TemporaryError as error:
                # Shown on the task while it lasts; tried again at each tick.
                task.result, task.note = Result.FAILED, str(error)
                log.warning("task not advanced", job=job.id, task=task.type, error=str(error))
                return False
            except PermanentError as error:
                self._fail(session, job, task, str(error))
                return True
            except Exception as error:  # a defect of one task type must not stop the other jobs
                if is_temporary(error):  # it is the database's trouble, not the task's
                    raise
                log.exception("task manager failed with an error it did not foresee", job=job.id, task=task.type)
                self._fail(session, job, task, f"Unexpected {type(error).__name__}: {error}")
                return True
            if state.status != TaskStatus.COMPLETED:
                task.result, task.note = Result.NONE, ""
                return False
            if state.failure:
                self._fail(session, job, task, state.failure)
                return True
            task.status, task.result, task.note, task.end = TaskStatus.COMPLETED, Result.OK, "", func.now()
            log.info("task completed", job=job.id, collection=collection.source_id, task=task.type)
        return True

    def _start(self, job: Job, task: Task, manager: TaskManager) -> None:
        if job.status == JobStatus.PLANNED:
            job.status, job.start = JobStatus.RUNNING, func.now()
            log.info("job started", job=job.id, collection=manager.collection.source_id)
        manager.run()
        task.status, task.start = TaskStatus.RUNNING, func.now()

    def _fail(self, session: Session, job: Job, task: Task, reason: str) -> None:
        if job.status == JobStatus.PLANNED:
            job.status, job.start = JobStatus.RUNNING, func.now()
        task.status, task.result, task.note, task.end = TaskStatus.COMPLETED, Result.FAILED, reason, func.now()
        for later in repository.open_tasks(session, job.id):
            if later.id != task.id:
                later.status, later.result = TaskStatus.COMPLETED, Result.SKIPPED
                later.note = f"Not run, because {task.type} failed."
        log.error("task failed", job=job.id, task=task.type, reason=reason)

    def _complete(self, session: Session, job: Job, collection: Collection) -> None:
        """End the job; if every task is OK, its files become the collection's."""
        Export(self._settings.exports, collection.source_id, job.id).remove_leftovers()
        session.flush()
        job.status, job.end = JobStatus.COMPLETED, func.now()
        tasks = repository.all_tasks(session, job.id)
        if any(task.result == Result.FAILED for task in tasks):
            log.error("job failed", job=job.id, collection=collection.source_id)
            return
        session.flush()
        read_at = repository.first_end(session, job.id)
        collection.active_job_id = job.id
        collection.last_retrieved = read_at.date() if read_at is not None else None
        collection.publication_policy = collection.publication_policy or job.publication_policy
        log.info("job completed", job=job.id, collection=collection.source_id)

    def _retire_others(self, collection_id: int, job_id: int) -> None:
        """After a success, mark the collection's jobs that are not needed any longer."""
        with self._sessions.begin() as session:
            collection = session.get_one(Collection, collection_id)
            if collection.active_job_id == job_id:
                retention.mark(session, collection, actor=None)

    def _manager(self, session: Session, task: Task, job: Job, collection: Collection) -> TaskManager:
        manager: TaskManager = load(spec_of(task.type).manager)(task, job, collection, session, self._settings)
        return manager

    # Messages

    def _publish(self, job_id: int | None = None) -> None:
        """Publish the units that need a message, of one job or of all; those the broker did not confirm come again."""
        republish_after = timedelta(seconds=self._settings.republish_after_seconds)
        with self._sessions() as session:
            rows = units.to_publish(session, republish_after=republish_after, job_id=job_id)
        publish_units(self._sessions, self._broker, rows)

    def refuse(self, delivery: Delivery, reason: str, traceback: str) -> None:
        """Put an event that cannot be understood on the list of dead letters. Call before rejecting it."""
        with self._sessions.begin() as session:
            dead_letters.record_message(session, delivery, reason=reason, traceback=traceback)

    # The tick

    def tick(self) -> bool:
        """Do all that may have been missed; return whether more is left to delete."""
        with self._sessions.begin() as session:
            expired = units.take_back_expired(session)
        for row in expired:
            log.warning("unit taken back: its worker fell silent", unit=row.id, worker=row.worker)
        self.plan_due()
        with self._sessions() as session:
            movable = repository.movable_jobs(session)
        for job_id in movable:
            self.process(job_id, wait=False)
        self._publish()
        return self.clean_up()

    # Deleting

    def clean_up(self) -> bool:
        """Delete some of what is not needed any longer; return whether more may be left."""
        data_left, jobs_left = self.archive(), self.delete_marked()
        return data_left or jobs_left

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
            jobs = retention.marked_jobs(session, limit=ARCHIVE_LIMIT)
        deleted = [self._wipe(job_id, retention.delete_some) for job_id in jobs]
        return not all(deleted)

    def _wipe(self, job_id: int, some: Callable[[Session, Job, Sequence[TaskManager]], bool]) -> bool:
        """Delete some of a job, if nobody else is at it; return whether that was all that can be done now."""
        try:
            with self._sessions.begin() as session:
                job = repository.lock_completed_job(session, job_id)
                if job is None:
                    return True
                collection = session.get_one(Collection, job.collection_id)
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
        job.archived = all(wiped)
        job.wiping = Wiping.NONE if job.archived else Wiping.TEMPORARY
        return job.archived

    def _managers(self, session: Session, job: Job, collection: Collection) -> Sequence[TaskManager]:
        return [self._manager(session, task, job, collection) for task in repository.all_tasks(session, job.id)]

    # For people

    def delete_old_jobs(self, *, actor: str) -> Iterator[str]:
        """Delete the jobs that are not needed any longer, now; yield a line for each job that was looked at."""
        with self._sessions() as session:
            collections = repository.publishing_collections(session)
        for collection_id in collections:
            with self._sessions.begin() as session:
                collection = session.get_one(Collection, collection_id)
                lines = _lines(collection, retention.mark(session, collection, actor=actor), "deleted")
            yield from lines
        while self.delete_marked():
            pass

    def explain_deletion(self) -> Iterator[str]:
        """Yield the lines of :meth:`delete_old_jobs`; change nothing."""
        with self._sessions() as session:
            for collection_id in repository.publishing_collections(session):
                collection = session.get_one(Collection, collection_id)
                yield from _lines(collection, retention.judge(session, collection), "would be deleted")

    def explain(self) -> Iterator[str]:
        """Yield a line for each thing that a tick would do now; change nothing."""
        for due in self.look():
            step = "plan a job" if due.verdict.due else "nothing to do"
            yield f"{due.collection.source_id}: {step} ({due.verdict.reason})"
        with self._sessions() as session:
            for job_id in repository.movable_jobs(session):
                task = next(iter(repository.open_tasks(session, job_id)), None)
                if task is None:
                    step = "end"
                elif task.status != TaskStatus.PLANNED:
                    step = f"check {task.type}"
                elif is_paused(session, session.get_one(Job, job_id).collection_id):
                    step = "nothing (its collection is paused)"
                else:
                    step = f"start {task.type}"
                yield f"job {job_id}: {step}"
            republish_after = timedelta(seconds=self._settings.republish_after_seconds)
            for row in units.to_publish(session, republish_after=republish_after):
                yield f"job {row.job_id}: publish unit {row.id} of {row.type}"
            failed_data_days = self._settings.failed_data_days
            for job_id in repository.jobs_to_archive(session, failed_data_days=failed_data_days, limit=ARCHIVE_LIMIT):
                yield f"job {job_id}: delete temporary data"


def _lines(collection: Collection, disposals: Sequence[Disposal], deleted: str) -> list[str]:
    return [
        f"{collection.source_id}: job {disposal.job_id} {deleted if disposal.delete else 'kept'}: {disposal.reason}"
        for disposal in disposals
    ]


def _verdict(session: Session, collection: Collection, today: date) -> Verdict:
    return is_out_of_date(
        frozen=collection.frozen,
        retrieval_frequency=collection.retrieval_frequency,
        latest=repository.latest_job(session, collection.id),
        has_incomplete_job=repository.has_incomplete_job(session, collection.id),
        today=today,
    )
