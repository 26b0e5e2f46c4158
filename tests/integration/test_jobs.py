"""Cancelling and restarting a job, beside workers that may still be at it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from services.scheduler.scheduler import Scheduler
from shared import units
from shared.broker import open_broker
from shared.db.models import Audit, File, Job, JobStatus, Result, Task, TaskStatus, Unit, UnitStatus
from shared.errors import SupersededError
from shared.exports import Export
from shared.jobs import JobInProgressError, JobStateError, cancel_job, plan_job, restart_job
from shared.units import Assignment
from tests.factories import make_collection
from tests.integration.test_scheduler import LEASE, OUTPUTS, job, tasks, work


@pytest.fixture
def scheduler(settings, sessions):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield Scheduler(settings, sessions, broker)
    broker.close()


@pytest.fixture
def job_id(sessions, settings, scheduler):
    """A running job whose collect task is queued."""
    with sessions.begin() as session:
        planned = plan_job(session, make_collection(session), plan=settings.job_tasks_plan)
    scheduler.process(planned.id, wait=True)
    return planned.id


def claim_open_unit(sessions):
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id).where(Unit.status != UnitStatus.COMPLETED))
        claim = units.claim(session, unit_id, worker="old", lease=LEASE, database_url="")
    assert isinstance(claim, Assignment)
    return claim


def cancel(sessions, job_id, **options):
    with sessions.begin() as session:
        cancel_job(session, job_id, actor="ada", **options)


def restart(sessions, job_id, from_task=None):
    with sessions.begin() as session:
        return restart_job(session, job_id, actor="ada", from_task=from_task)


def assert_fenced(sessions, claim):
    with sessions.begin() as session:
        assert not units.renew(session, claim.unit_id, claim.token, lease=LEASE, progress=None)
        with pytest.raises(SupersededError):
            units.hold(session, claim.unit_id, claim.token)


def fail_at(sessions, scheduler, job_id, task_type):
    """Take the job on until this task, and fail it."""
    while (
        current := next(task for task in tasks(sessions, job_id) if task.status == TaskStatus.RUNNING)
    ).type != task_type:
        work(sessions, scheduler, job_id)
    assert current.type == task_type
    work(sessions, scheduler, job_id, fail="the disk is broken")


def test_a_cancelled_job_ends_and_its_worker_is_fenced_off(sessions, job_id):
    claim = claim_open_unit(sessions)
    cancel(sessions, job_id, reason="wrong source")
    assert_fenced(sessions, claim)
    after = job(sessions, job_id)
    assert after.status == JobStatus.COMPLETED
    assert after.end is not None
    assert {(task.status, task.result) for task in tasks(sessions, job_id)} == {
        (TaskStatus.COMPLETED, Result.CANCELLED)
    }
    assert tasks(sessions, job_id)[0].note == "Cancelled by ada: wrong source"
    with sessions() as session:
        assert session.scalars(select(Unit.result)).all() == [Result.CANCELLED]
        audit = session.scalars(select(Audit)).one()
    assert (audit.actor, audit.action, audit.job_id, audit.details) == (
        "ada",
        "job cancel",
        job_id,
        {"reason": "wrong source"},
    )


def test_a_job_that_was_not_started_is_cancelled_too_and_never_starts(sessions, settings, scheduler):
    with sessions.begin() as session:
        planned = plan_job(session, make_collection(session), plan=settings.job_tasks_plan)
    cancel(sessions, planned.id)
    scheduler.tick()
    with sessions() as session:
        assert session.scalars(select(Unit)).all() == []


def test_cancelling_leaves_other_jobs_alone(sessions, settings, scheduler, job_id):
    with sessions.begin() as session:
        other = plan_job(session, make_collection(session, "other"), plan=settings.job_tasks_plan)
    scheduler.process(other.id, wait=True)
    cancel(sessions, job_id)
    assert work(sessions, scheduler, other.id) == 1


def test_a_finished_task_stays_ok_when_its_job_is_cancelled(sessions, scheduler, job_id):
    work(sessions, scheduler, job_id)
    cancel(sessions, job_id)
    assert [task.result for task in tasks(sessions, job_id)] == [Result.OK, *[Result.CANCELLED] * 4]


def test_what_is_over_or_unknown_cannot_be_cancelled(sessions, job_id):
    cancel(sessions, job_id)
    with pytest.raises(JobStateError, match="nothing to cancel"):
        cancel(sessions, job_id)
    with pytest.raises(JobStateError, match="no job 4711"):
        cancel(sessions, 4711)


def test_a_failed_job_restarts_where_it_failed_and_completes(sessions, scheduler, job_id):
    fail_at(sessions, scheduler, job_id, "process")
    assert restart(sessions, job_id) == "process"
    scheduler.process(job_id, wait=True)
    assert [task.result for task in tasks(sessions, job_id)] == [Result.OK, *[Result.NONE] * 4]
    while work(sessions, scheduler, job_id):
        pass
    assert {task.result for task in tasks(sessions, job_id)} == {Result.OK}
    with sessions() as session:
        assert session.scalars(select(Audit.action)).all() == ["job restart"]
        assert session.get_one(Job, job_id).collection.active_job_id == job_id


def test_restarting_a_running_task_fences_its_worker_off(sessions, scheduler, job_id):
    claim = claim_open_unit(sessions)
    restart(sessions, job_id, "collect")
    assert_fenced(sessions, claim)
    scheduler.tick()
    assert_fenced(sessions, claim)
    assert work(sessions, scheduler, job_id) == 1
    with sessions() as session:
        unit = session.scalars(select(Unit).where(Unit.output == OUTPUTS["collect"])).one()
    assert unit.attempt == 1, "attempts count anew"


def test_a_task_that_is_not_reached_or_unknown_is_refused(sessions, job_id):
    with pytest.raises(JobStateError, match="because collect is not OK"):
        restart(sessions, job_id, "export")
    with pytest.raises(JobStateError, match=r"no task 'exporter'\. It has: collect, process"):
        restart(sessions, job_id, "exporter")


def test_tasks_that_read_deleted_records_cannot_restart_and_say_what_can(sessions, settings, scheduler, job_id):
    while work(sessions, scheduler, job_id):
        pass
    while scheduler.archive():
        pass
    assert job(sessions, job_id).archived
    with pytest.raises(JobStateError, match="Restart it from collect"):
        restart(sessions, job_id, "export")
    assert restart(sessions, job_id, "flatten") == "flatten"


def test_a_job_cannot_restart_beside_another_of_its_collection(sessions, settings, scheduler, job_id):
    cancel(sessions, job_id)
    with sessions.begin() as session:
        collection = session.get_one(Job, job_id).collection
        newer = plan_job(session, collection, plan=settings.job_tasks_plan)
    with pytest.raises(JobInProgressError) as raised:
        restart(sessions, job_id)
    assert raised.value.job_id == newer.id


def publish(sessions, settings, unit_id, job_id, *names):
    with sessions.begin() as session:
        source_id = session.get_one(Job, job_id).collection.source_id
        export = Export(settings.exports, source_id, job_id)
        export.directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            export.path(name).write_text("published")
            session.add(File(job_id=job_id, unit_id=unit_id, name=name, size=9, records=1, sha256="0"))
    return export


def test_published_files_stay_listed_until_a_restart_replaces_them(sessions, settings, scheduler, job_id):
    for _ in ("collect", "process"):
        work(sessions, scheduler, job_id)
    with sessions() as session:
        export_unit = session.scalars(select(Unit).join(Task).where(Task.type == "export")).one()
    export = publish(sessions, settings, export_unit.id, job_id, "full.jsonl.gz", "2020.jsonl.gz")
    for _ in ("export", "coverage"):
        work(sessions, scheduler, job_id)
    with sessions() as session:
        flatten = {
            unit.params["name"]: unit.id
            for unit in session.scalars(select(Unit).join(Task).where(Task.type == "flatten"))
        }
    assert flatten.keys() == {"full.jsonl.gz", "2020.jsonl.gz"}
    publish(sessions, settings, flatten["full.jsonl.gz"], job_id, "full.csv.tar.gz")
    publish(sessions, settings, flatten["2020.jsonl.gz"], job_id, "2020.csv.tar.gz")

    with sessions.begin() as session:  # the year is gone from the export: its CSV must not stay
        session.delete(session.scalars(select(File).where(File.name == "2020.jsonl.gz")).one())
    restart(sessions, job_id, "flatten")
    scheduler.process(job_id, wait=True)
    with sessions() as session:
        assert set(session.scalars(select(File.name))) == {"full.jsonl.gz", "full.csv.tar.gz"}
        assert session.scalars(select(Unit.id).join(Task).where(Task.type == "flatten")).all() == [
            flatten["full.jsonl.gz"]
        ]
    assert export.path("full.csv.tar.gz").exists()


def test_a_cancelled_units_expired_lease_does_not_bring_it_back(sessions, scheduler, job_id):
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id))
        units.claim(session, unit_id, worker="dead", lease=timedelta(seconds=-1), database_url="")
    cancel(sessions, job_id)
    scheduler.tick()
    with sessions() as session:
        assert session.get_one(Unit, unit_id).result == Result.CANCELLED
