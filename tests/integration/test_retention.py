"""Deleting old jobs: what is marked, what is left at every interruption, and that published files are never touched."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from services.scheduler.scheduler import Scheduler
from shared import retention
from shared.broker import open_broker
from shared.db.models import (
    Audit,
    Collection,
    Compiled,
    File,
    Job,
    JobStatus,
    Record,
    Result,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
    Wiping,
)
from shared.exports import MANIFEST, Export
from shared.jobs import JobStateError, cancel_job, plan_job, restart_job
from shared.settings import Settings
from tests.factories import make_collection, make_unit
from tests.integration.test_scheduler import work

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scheduler(settings, sessions):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield Scheduler(settings, sessions, broker)
    broker.close()


@pytest.fixture
def collection_id(sessions):
    with sessions.begin() as session:
        return make_collection(session).id


def past_job(sessions, settings, collection_id, days_ago, *, processes=1000, result=Result.OK, active=False):
    """Insert a completed job with files and rows of every kind."""
    with sessions.begin() as session:
        collection = session.get_one(Collection, collection_id)
        start = datetime.now(UTC) - timedelta(days=days_ago)
        job = Job(collection_id=collection.id, status=JobStatus.COMPLETED, start=start, end=start)
        job.coverage = {"/ocid": processes}
        session.add(job)
        session.flush()
        for order, task_type in enumerate(settings.job_tasks_plan, 1):
            task = Task(job_id=job.id, type=task_type, order=order, status=TaskStatus.COMPLETED, result=result)
            session.add(task)
            session.flush()
            unit = make_unit(task, status=UnitStatus.COMPLETED, result=result)
            session.add(unit)
            session.flush()
            session.add(TaskNote(task_id=task.id, unit_id=unit.id, level="INFO", note="made"))
        session.add(File(job_id=job.id, unit_id=unit.id, name="full.jsonl.gz", size=1, records=1, sha256="0"))
        session.add_all(Record(job_id=job.id, kind="json", data="{}") for _ in range(5))
        session.add_all(Compiled(job_id=job.id, data="{}") for _ in range(5))
        export = Export(settings.exports, collection.source_id, job.id)
        export.directory.mkdir(parents=True)
        for name in ("full.jsonl.gz", MANIFEST):
            (export.directory / name).write_text("x")
        if active:
            collection.active_job_id = job.id
        return job.id


def jobs(sessions):
    with sessions() as session:
        return set(session.scalars(select(Job.id)))


def directory(settings, job_id):
    return settings.exports / "sample" / str(job_id)


def rows_of(sessions, job_id):
    with sessions() as session:
        tables = (Task, Unit, File, Record, Compiled)
        counted = [
            session.scalar(select(func.count()).select_from(table).where(table.job_id == job_id)) for table in tables
        ]
        return sum(counted) + session.scalar(
            select(func.count()).select_from(TaskNote).join(Task, Task.id == TaskNote.task_id, isouter=True)
            .where((Task.job_id == job_id) | Task.id.is_(None))
        )  # fmt: skip


def delete_all(scheduler):
    while scheduler.delete_marked():
        pass


def mark(sessions, collection_id, actor=None):
    with sessions.begin() as session:
        return retention.mark(session, session.get_one(Collection, collection_id), actor=actor)


def test_after_a_success_old_jobs_go_with_their_files_and_every_row(scheduler, sessions, settings, collection_id):
    previous = past_job(sessions, settings, collection_id, 30, active=True)
    older = past_job(sessions, settings, collection_id, 60, processes=1)
    failed = past_job(sessions, settings, collection_id, 200, result=Result.FAILED)
    failed_lately = past_job(sessions, settings, collection_id, 10, result=Result.FAILED)
    with sessions.begin() as session:
        job_id = plan_job(session, session.get_one(Collection, collection_id), plan=settings.job_tasks_plan).id
    scheduler.process(job_id, wait=True)
    while work(sessions, scheduler, job_id):
        pass
    assert jobs(sessions) == {previous, older, failed, failed_lately, job_id}, "marked, not yet deleted"
    while scheduler.clean_up():
        pass
    assert jobs(sessions) == {previous, failed_lately, job_id}
    for gone in (older, failed):
        assert not directory(settings, gone).exists()
        assert rows_of(sessions, gone) == 0
    for kept in (previous, failed_lately):
        assert directory(settings, kept).exists()
    with sessions() as session:
        assert session.scalars(select(Audit)).all() == [], "nobody asked for it"


def test_a_failed_job_deletes_nothing(scheduler, sessions, settings, collection_id):
    past_job(sessions, settings, collection_id, 30, active=True)
    past_job(sessions, settings, collection_id, 300, result=Result.FAILED)
    with sessions.begin() as session:
        job_id = plan_job(session, session.get_one(Collection, collection_id), plan=settings.job_tasks_plan).id
    scheduler.process(job_id, wait=True)
    work(sessions, scheduler, job_id, fail="broken")
    assert not scheduler.delete_marked()
    assert len(jobs(sessions)) == 3


def test_a_collection_that_publishes_nothing_keeps_every_job(sessions, settings, collection_id):
    past_job(sessions, settings, collection_id, 400, result=Result.FAILED)
    assert mark(sessions, collection_id) == []


def test_a_marked_job_lists_no_files_and_cannot_come_back(sessions, settings, collection_id):
    past_job(sessions, settings, collection_id, 1, active=True)
    old = past_job(sessions, settings, collection_id, 300, result=Result.FAILED)
    mark(sessions, collection_id)
    with sessions.begin() as session:
        assert session.scalars(select(File).where(File.job_id == old)).all() == []
        for refused in (restart_job, cancel_job):
            with pytest.raises(JobStateError, match="is being deleted"):
                refused(session, old, actor="ada")


@pytest.mark.parametrize("moment", range(7))
def test_a_deletion_that_is_interrupted_anywhere_is_resumed(
    scheduler, sessions, settings, collection_id, monkeypatch, moment
):
    """Die after so many deleting statements, before the commit; then a new scheduler goes on."""
    active = past_job(sessions, settings, collection_id, 1, active=True)
    old = past_job(sessions, settings, collection_id, 300, result=Result.FAILED)
    mark(sessions, collection_id)
    monkeypatch.setattr("services.scheduler.managers.WIPE_ROWS", 2)

    class DiedError(BaseException):
        pass

    class Dying(type(sessions())):
        left = moment

        def execute(self, statement, *arguments, **options):
            if getattr(statement, "is_delete", False):
                if Dying.left == 0:
                    raise DiedError
                Dying.left -= 1
            return super().execute(statement, *arguments, **options)

    sessions.class_, alive = Dying, sessions.class_
    with pytest.raises(DiedError):
        delete_all(scheduler)
    sessions.class_ = alive
    assert old in jobs(sessions), "its row goes last"
    delete_all(scheduler)
    assert jobs(sessions) == {active}
    assert rows_of(sessions, old) == 0
    assert directory(settings, active).exists()
    assert not directory(settings, old).exists()


def test_published_files_are_safe_even_if_the_active_job_were_marked(scheduler, sessions, settings, collection_id):
    active = past_job(sessions, settings, collection_id, 400, result=Result.FAILED, active=True)
    mark(sessions, collection_id)
    with sessions.begin() as session:
        assert session.get_one(Job, active).wiping == Wiping.NONE
        session.get_one(Job, active).wiping = Wiping.ALL  # by whatever mistake
    assert not scheduler.clean_up()
    assert jobs(sessions) == {active}
    assert (directory(settings, active) / "full.jsonl.gz").exists()
    assert rows_of(sessions, active) > 20


def test_one_job_that_cannot_be_deleted_does_not_keep_the_others(
    scheduler, sessions, settings, collection_id, monkeypatch
):
    past_job(sessions, settings, collection_id, 1, active=True)
    stuck = past_job(sessions, settings, collection_id, 300, result=Result.FAILED)
    other = past_job(sessions, settings, collection_id, 301, result=Result.FAILED)
    mark(sessions, collection_id)
    remove = Export.remove

    def refuse(export):
        if export.job_id == stuck:
            raise PermissionError(13, "Permission denied", str(export.directory))
        remove(export)

    with monkeypatch.context() as patched:
        patched.setattr(Export, "remove", refuse)
        assert not scheduler.delete_marked(), "it is left to the next tick, not tried in a loop"
    assert stuck in jobs(sessions)
    assert other not in jobs(sessions)
    scheduler.delete_marked()
    assert stuck not in jobs(sessions)


def test_a_job_whose_data_is_half_deleted_cannot_be_restarted_in_the_middle(
    scheduler, sessions, settings, collection_id, monkeypatch
):
    monkeypatch.setattr("services.scheduler.managers.WIPE_ROWS", 2)
    job_id = past_job(sessions, settings, collection_id, 1, active=True)
    assert scheduler.archive(), "more is left"
    with sessions.begin() as session, pytest.raises(JobStateError, match="temporary data is deleted"):
        restart_job(session, job_id, actor="ada", from_task="export")
    with sessions.begin() as session:
        restart_job(session, job_id, actor="ada", from_task="flatten")
        cancel_job(session, job_id, actor="ada")
    with sessions.begin() as session, pytest.raises(JobStateError, match="temporary data is deleted"):
        restart_job(session, job_id, actor="ada", from_task="export")
    with sessions.begin() as session:
        restart_job(session, job_id, actor="ada", from_task="collect")
        job = session.get_one(Job, job_id)
        assert (job.archived, job.wiping) == (False, Wiping.NONE)


def test_restarting_a_late_task_does_not_make_deleted_data_look_whole(scheduler, sessions, settings, collection_id):
    job_id = past_job(sessions, settings, collection_id, 1, active=True)
    while scheduler.archive():
        pass
    with sessions.begin() as session:
        restart_job(session, job_id, actor="ada", from_task="flatten")
    with sessions.begin() as session, pytest.raises(JobStateError, match="temporary data is deleted"):
        restart_job(session, job_id, actor="ada", from_task="export")


def test_a_job_restarted_while_its_data_is_to_be_deleted_keeps_it(scheduler, sessions, settings, collection_id):
    job_id = past_job(sessions, settings, collection_id, 1, active=True)
    with sessions.begin() as session:
        restart_job(session, job_id, actor="ada", from_task="export")
    assert scheduler._wipe(job_id, scheduler._archive), "nothing to do"
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Compiled)) == 5


def delete_jobs(settings: Settings, *arguments):
    return subprocess.run(
        [sys.executable, "-c", "from shared.cli import main; main()", "delete-jobs", *arguments],
        env=settings.environment() | {"PATH": "/usr/bin:/bin", "HOME": str(settings.data_dir)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()


def test_the_command_says_what_goes_and_why_and_only_then_does_it(sessions, settings, collection_id):
    active = past_job(sessions, settings, collection_id, 1, active=True)
    newest = past_job(sessions, settings, collection_id, 30, processes=5)
    larger = past_job(sessions, settings, collection_id, 40, processes=1101)
    older = past_job(sessions, settings, collection_id, 50, processes=1100)
    kept = [
        f"sample: job {active} kept: it is the active job",
        f"sample: job {newest} kept: it is the newest successful job beside the active one",
        f"sample: job {larger} kept: it has over 10% more: 1,101 records, against 1,000 of the active job",
    ]
    why = "newer successful jobs replace it (1,100 records, against 1,000 of the active job)"
    assert delete_jobs(settings, "--dry-run") == [*kept, f"sample: job {older} would be deleted: {why}"]
    assert jobs(sessions) == {active, newest, larger, older}
    assert delete_jobs(settings) == [*kept, f"sample: job {older} deleted: {why}"]
    assert jobs(sessions) == {active, newest, larger}
    assert not directory(settings, older).exists()
    with sessions() as session:
        audit = session.scalars(select(Audit)).one()
    assert (audit.action, audit.job_id) == ("job delete", older)
    assert audit.details == {"reason": why, "collection": "sample"}
    assert "@" in audit.actor
