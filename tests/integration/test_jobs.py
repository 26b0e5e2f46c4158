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
from shared.jobs import JobInProgressError, JobStateError, cancel_job, plan_job, restart_job, restart_task
from shared.tasks import TASKS, TaskSpec, readers_of
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
    assert [task.result for task in tasks(sessions, job_id)] == [Result.OK, *[Result.CANCELLED] * 5]


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
    assert [task.result for task in tasks(sessions, job_id)] == [Result.OK, *[Result.NONE] * 5]
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
            size = 10 if name.startswith("2020.jsonl") else 9  # a full file as large as its parts is done with them
            session.add(File(job_id=job_id, unit_id=unit_id, name=name, size=size, records=1, sha256="0"))
    return export


def test_published_files_stay_listed_until_a_restart_replaces_them(sessions, settings, scheduler, job_id):
    for _ in ("collect", "process", "check"):
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


# One task


def restart_one(sessions, job_id, task_type, *only):
    with sessions.begin() as session:
        return restart_task(session, job_id, task_type, actor="ada", only=only)


def finish(sessions, scheduler, job_id):
    while work(sessions, scheduler, job_id):
        pass
    assert job(sessions, job_id).status == JobStatus.COMPLETED


def units_of(sessions, job_id, task_type):
    with sessions() as session:
        statement = select(Unit).join(Task).where(Task.type == task_type, Unit.job_id == job_id)
        return session.scalars(statement.order_by(Unit.number)).all()


@pytest.fixture
def ended(sessions, scheduler, settings, job_id):
    """A successful job with two files, and so with two units of flatten."""
    for _ in ("collect", "process", "check"):
        work(sessions, scheduler, job_id)
    publish(sessions, settings, units_of(sessions, job_id, "export")[0].id, job_id, "full.jsonl.gz", "2020.jsonl.gz")
    finish(sessions, scheduler, job_id)
    assert len(units_of(sessions, job_id, "flatten")) == 2
    return job_id


@pytest.mark.parametrize("task_type", ["coverage", "flatten"])
def test_a_task_that_nobody_reads_is_done_again_and_nothing_else(sessions, scheduler, ended, task_type):
    before = {task.type: task.end for task in tasks(sessions, ended)}
    assert restart_one(sessions, ended, task_type) is None
    assert job(sessions, ended).status == JobStatus.RUNNING
    scheduler.process(ended, wait=True)
    finish(sessions, scheduler, ended)
    after = {task.type: task for task in tasks(sessions, ended)}
    assert {name for name, task in after.items() if task.end != before[name]} == {task_type}
    assert {task.result for task in after.values()} == {Result.OK}
    with sessions() as session:
        audit = session.scalars(select(Audit)).one()
    assert (audit.actor, audit.action, audit.job_id) == ("ada", "task restart", ended)
    assert audit.details == {"task": task_type}


@pytest.mark.parametrize(
    ("task_type", "stale"),
    [("export", "coverage and flatten"), ("collect", "process and check and export and coverage")],
)
def test_a_task_whose_output_was_read_is_refused_with_what_to_do(sessions, ended, task_type, stale):
    with pytest.raises(JobStateError, match=f"{stale}.* bowerbird job restart {ended} --from {task_type}"):
        restart_one(sessions, ended, task_type)


def test_of_a_task_only_the_units_that_failed_are_done_again(sessions, scheduler, ended):
    restart_one(sessions, ended, "flatten")
    scheduler.process(ended, wait=True)
    with sessions.begin() as session:
        first, second = (unit.id for unit in units_of(sessions, ended, "flatten"))
        for unit_id, end in ((first, units.complete), (second, None)):
            claim = units.claim(session, unit_id, worker="w", lease=LEASE, database_url="")
            if end:
                end(session, claim, OUTPUTS["flatten"], [])
            else:
                units.fail(session, unit_id, claim.token, error="the disk is full", traceback="")
    scheduler.process(ended, wait=True)
    assert tasks(sessions, ended)[-1].result == Result.FAILED
    assert restart_one(sessions, ended, "flatten", "failed") == [second]
    assert [unit.status for unit in units_of(sessions, ended, "flatten")] == [UnitStatus.COMPLETED, UnitStatus.PLANNED]
    scheduler.process(ended, wait=True)
    assert work(sessions, scheduler, ended) == 1
    assert {task.result for task in tasks(sessions, ended)} == {Result.OK}


def test_a_unit_that_could_not_make_some_of_its_files_is_one_that_failed(sessions, scheduler, ended):
    restart_one(sessions, ended, "flatten")
    scheduler.process(ended, wait=True)
    with sessions.begin() as session:
        first, second = (unit.id for unit in units_of(sessions, ended, "flatten"))
        for unit_id, more in ((first, {}), (second, {"failed": {"2020.jsonl.gz": "line 3 is no record"}})):
            claim = units.claim(session, unit_id, worker="w", lease=LEASE, database_url="")
            units.complete(session, claim, OUTPUTS["flatten"] | more, [])
    scheduler.process(ended, wait=True)
    assert tasks(sessions, ended)[-1].note == "line 3 is no record"
    assert restart_one(sessions, ended, "flatten", "failed") == [second]


@pytest.mark.parametrize("which", ["2020.jsonl.gz", "2020"])
def test_of_a_task_only_a_named_file_is_done_again(sessions, scheduler, ended, which):
    (chosen,) = restart_one(sessions, ended, "flatten", which)
    done_again = [unit for unit in units_of(sessions, ended, "flatten") if unit.status == UnitStatus.PLANNED]
    assert [(unit.id, unit.params["name"], unit.attempt) for unit in done_again] == [(chosen, "2020.jsonl.gz", 0)]
    scheduler.process(ended, wait=True)
    assert work(sessions, scheduler, ended) == 1
    assert job(sessions, ended).status == JobStatus.COMPLETED


def test_a_unit_can_be_named_by_its_number_and_one_that_is_not_there_is_told(sessions, ended):
    with pytest.raises(
        JobStateError, match=r"flatten has no unit '1999'\. Its units: 1 2020.jsonl.gz, 2 full.jsonl.gz"
    ):
        restart_one(sessions, ended, "flatten", "1999")
    with pytest.raises(JobStateError, match="flatten has no unit that failed"):
        restart_one(sessions, ended, "flatten", "failed")
    assert len(restart_one(sessions, ended, "flatten", "2", "2020")) == 2


def test_an_old_worker_of_a_restarted_unit_is_fenced_off(sessions, scheduler, ended):
    restart_one(sessions, ended, "flatten", "2020")
    scheduler.process(ended, wait=True)
    claim = claim_open_unit(sessions)
    restart_one(sessions, ended, "flatten", "2020")
    assert_fenced(sessions, claim)
    restart_one(sessions, ended, "flatten")
    assert_fenced(sessions, claim)


def test_tasks_that_were_not_run_go_on_after_a_restarted_one(sessions, scheduler, job_id):
    fail_at(sessions, scheduler, job_id, "export")
    assert [task.result for task in tasks(sessions, job_id)][3:] == [Result.FAILED, Result.SKIPPED, Result.SKIPPED]
    restart_one(sessions, job_id, "export")
    scheduler.process(job_id, wait=True)
    finish(sessions, scheduler, job_id)
    assert {task.result for task in tasks(sessions, job_id)} == {Result.OK}


def test_a_task_that_does_not_read_the_failed_one_is_done_and_the_job_stays_failed(sessions, scheduler, job_id):
    fail_at(sessions, scheduler, job_id, "coverage")
    restart_one(sessions, job_id, "flatten")
    scheduler.process(job_id, wait=True)
    results = {task.type: task.result for task in tasks(sessions, job_id)}
    assert (results["coverage"], results["flatten"]) == (Result.FAILED, Result.OK)
    assert job(sessions, job_id).status == JobStatus.COMPLETED
    with sessions() as session:
        assert session.get_one(Job, job_id).collection.active_job_id is None


def test_a_task_of_a_cancelled_job_goes_on_with_all_that_was_not_run(sessions, scheduler, job_id):
    work(sessions, scheduler, job_id)
    cancel(sessions, job_id)
    with pytest.raises(JobStateError, match="export reads what process makes, which is not OK"):
        restart_one(sessions, job_id, "export")
    restart_one(sessions, job_id, "process")
    scheduler.process(job_id, wait=True)
    finish(sessions, scheduler, job_id)
    assert {task.result for task in tasks(sessions, job_id)} == {Result.OK}


def test_one_task_at_a_time(sessions, scheduler, job_id, ended):
    restart_one(sessions, ended, "flatten")
    scheduler.process(ended, wait=True)
    with pytest.raises(JobStateError, match=f"Job {ended} is at flatten"):
        restart_one(sessions, ended, "coverage")


def test_a_task_that_was_not_reached_is_refused(sessions, job_id):
    with pytest.raises(JobStateError, match="has not come to export yet"):
        restart_one(sessions, job_id, "export")


def test_a_task_restarts_beside_deleted_records_unless_it_reads_them(sessions, scheduler, ended):
    while scheduler.archive():
        pass
    assert restart_one(sessions, ended, "coverage") is None
    assert job(sessions, ended).archived


def test_a_type_that_does_not_say_what_it_reads_is_taken_to_read_all(monkeypatch):
    monkeypatch.setitem(TASKS, "count", TaskSpec("processor", "m:n", "m:n"))
    assert readers_of("coverage", ["count", "flatten"]) == ["count"]
    assert readers_of("export", ["coverage", "flatten"]) == ["coverage", "flatten"]
    assert readers_of("coverage", ["flatten"]) == []
