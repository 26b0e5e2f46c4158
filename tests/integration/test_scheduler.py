"""The scheduler's steps on a real database and broker; the work itself is done by the test, as a worker would."""

import errno
import json
import threading
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from unittest.mock import Mock

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from services.scheduler import repository
from services.scheduler.managers import collect, export, process
from services.scheduler.scheduler import Scheduler
from shared import exports, units
from shared.broker import open_broker
from shared.db.errors import is_temporary
from shared.db.models import (
    Collection,
    Compiled,
    File,
    Job,
    JobStatus,
    Record,
    Result,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.errors import BrokerUnavailableError, ConfigurationError, PermanentError, TemporaryError
from shared.exports import Export
from shared.jobs import JobInProgressError, JobStateError, cancel_job, plan_job, restart_job
from shared.messages import work_queue
from shared.tasks import TASKS
from shared.units import Assignment
from tests.factories import make_collection, make_job

OUTPUTS = {
    "collect": {
        "records": 2,
        "kinds": {"release": 2},
        "files": 1,
        "bytes": 10,
        "license": "CC0",
        "publication_policy": "https://example.org/policy",
    },
    "process": {
        "records": 2,
        "compiled": 1,
        "date_from": "2020-01-01",
        "date_to": None,
        "ocid_prefix": "ocds-b0w3rb",
        "years": {"2020": 1},
    },
    "check": {
        "records": 1,
        "extensions_checked": [],
        "extensions_not_checked": [],
        "failing": {"error": 0, "warning": 0, "info": 0},
    },
    "export": {"records": 1, "bytes": 10, "files": []},
    "coverage": {"coverage": {"/ocid": 1}, "counts": {"tenders": 1}},
    "flatten": {"name": "full.jsonl.gz", "tables": {"main": 1}},
}
LEASE = timedelta(seconds=60)


@pytest.fixture
def broker(settings):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield broker
    broker.close()


@pytest.fixture
def scheduler(settings, sessions, broker):
    return Scheduler(settings, sessions, broker)


@pytest.fixture
def collection_id(sessions):
    with sessions.begin() as session:
        return make_collection(session, retrieval_frequency="MONTHLY").id


def plan(sessions, settings, collection_id, **options):
    with sessions.begin() as session:
        return plan_job(session, session.get_one(Collection, collection_id), plan=settings.job_tasks_plan, **options).id


def tasks(sessions, job_id):
    with sessions() as session:
        return session.scalars(select(Task).where(Task.job_id == job_id).order_by(Task.order)).all()


def job(sessions, job_id):
    with sessions() as session:
        return session.get_one(Job, job_id)


def work(sessions, scheduler, job_id, *, fail=""):
    """Do the open units of a job as a worker would, and tell the scheduler."""
    with sessions() as session:
        open_units = session.scalars(
            select(Unit.id).where(Unit.job_id == job_id, Unit.status != UnitStatus.COMPLETED)
        ).all()
    for unit_id in open_units:
        with sessions.begin() as session:
            claim = units.claim(session, unit_id, worker="test", lease=LEASE, database_url="")
            assert isinstance(claim, Assignment)
            if fail:
                units.fail(session, unit_id, claim.token, error=fail, traceback="")
            else:
                units.complete(session, claim, OUTPUTS[claim.task_type], [])
    scheduler.process(job_id, wait=True)
    return len(open_units)


def test_a_job_goes_through_its_tasks_in_order_and_becomes_the_active_one(scheduler, sessions, settings, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    for number in range(5):  # flatten has nothing to do: there is no file
        states = [(task.status, task.result) for task in tasks(sessions, job_id)]
        assert states[:number] == [(TaskStatus.COMPLETED, Result.OK)] * number
        assert states[number] == (TaskStatus.RUNNING, Result.NONE)
        assert states[number + 1 :] == [(TaskStatus.PLANNED, Result.NONE)] * (5 - number)
        assert work(sessions, scheduler, job_id) == 1
    after = job(sessions, job_id)
    assert after.status == JobStatus.COMPLETED
    assert after.start <= after.end
    assert (after.license, after.ocid_prefix, after.tenders_count) == ("CC0", "ocds-b0w3rb", 1)
    assert after.context["collect"]["records"] == 2
    with sessions() as session:
        collection = session.get_one(Collection, collection_id)
    assert collection.active_job_id == job_id
    assert collection.last_retrieved == datetime.now(UTC).date()
    assert collection.publication_policy == "https://example.org/policy"


def test_each_started_task_has_a_message_for_its_service(scheduler, sessions, settings, broker, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    consumer = broker.consume([work_queue("collector")], prefetch=1)
    delivery = consumer.receive(5)
    body = json.loads(delivery.body)
    assert (body["job_id"], body["task_type"], delivery.correlation_id) == (job_id, "collect", str(job_id))
    consumer.close()
    with sessions() as session:
        assert session.scalar(select(Unit.status)) == UnitStatus.QUEUED


def test_processing_again_changes_nothing_and_publishes_nothing(scheduler, sessions, settings, broker, collection_id):
    job_id = plan(sessions, settings, collection_id)
    for _ in range(3):
        scheduler.process(job_id, wait=True)
    assert broker.depth(work_queue("collector")).ready == 1


def test_a_failed_unit_fails_its_task_and_ends_the_job_with_the_rest_skipped(
    scheduler, sessions, settings, collection_id
):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    work(sessions, scheduler, job_id, fail="packages/3.json is not valid JSON")
    first, *others = tasks(sessions, job_id)
    assert (first.result, first.note) == (Result.FAILED, "packages/3.json is not valid JSON")
    assert {(task.status, task.result) for task in others} == {(TaskStatus.COMPLETED, Result.SKIPPED)}
    assert job(sessions, job_id).status == JobStatus.COMPLETED
    with sessions() as session:
        assert session.get_one(Collection, collection_id).active_job_id is None


def test_what_is_due_is_planned_once_even_by_two_schedulers(scheduler, settings, sessions, broker, collection_id):
    other = Scheduler(settings, sessions, open_broker(settings, settings.database_url))
    planned = []
    threads = [
        threading.Thread(target=lambda each=each: planned.extend(each.plan_due())) for each in (scheduler, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(planned) == 1
    assert scheduler.plan_due() == []


def test_a_collection_on_request_or_frozen_is_left_alone(scheduler, sessions, collection_id):
    with sessions.begin() as session:
        make_collection(session, "on-request")
        make_collection(session, "frozen", retrieval_frequency="WEEKLY", frozen=True)
    assert [due.collection.id for due in scheduler.look()] == [collection_id]


def test_only_what_may_have_become_due_is_decided_about(scheduler, sessions, collection_id):
    def asked():
        with sessions() as session:
            found = [row.collection.id for row in repository.collections_to_look_at(session, limit=10)]
        scheduler.plan_due()
        return found

    with sessions.begin() as session:
        weekly = make_collection(session, "weekly", retrieval_frequency="WEEKLY", frozen=False)
        make_job(session, weekly, status=JobStatus.COMPLETED, start=func.now() - timedelta(days=3))
        weekly_id = weekly.id
    assert asked() == [collection_id, weekly_id]
    assert asked() == []  # the one has a job, of the other is known when it is due
    with sessions.begin() as session:
        look_at = session.scalar(select(Collection.look_at).where(Collection.id == weekly_id))
        assert timedelta(hours=23) < look_at - datetime.now(UTC) <= timedelta(days=1)
        session.execute(update(Collection).values(look_at=func.now()))
        session.execute(update(Job).values(start=func.now() - timedelta(days=7, hours=7)))
    assert asked() == [weekly_id]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job).where(Job.collection_id == weekly_id)) == 2


def test_a_collection_that_completes_its_job_is_looked_at_again(scheduler, sessions, settings):
    with sessions.begin() as session:
        every_minute = make_collection(session, "often", cron="* * * * *", created=func.now() - timedelta(hours=1))
        often_id = every_minute.id
    assert len(scheduler.plan_due()) == 1
    assert scheduler.plan_due() == []
    with sessions.begin() as session:
        session.execute(
            update(Job).values(status=JobStatus.COMPLETED, start=func.now() - timedelta(minutes=5), end=func.now())
        )
    assert len(scheduler.plan_due()) == 1
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job).where(Job.collection_id == often_id)) == 2


def test_one_collection_that_cannot_be_planned_does_not_stop_the_others(scheduler, sessions, collection_id):
    with sessions.begin() as session:
        make_collection(session, "broken", retrieval_frequency="WEEKLY", tasks_plan=["collect", "gone"])
    assert len(scheduler.plan_due()) == 1
    with sessions() as session:
        look_at = session.scalar(select(Collection.look_at).where(Collection.source_id == "broken"))
    assert look_at > datetime.now(UTC)


def test_any_number_of_collections_that_are_due_is_planned_at_once(scheduler, sessions, monkeypatch):
    monkeypatch.setattr("services.scheduler.scheduler.LOOK_LIMIT", 10)
    with sessions.begin() as session:
        for number in range(35):
            make_collection(session, f"c{number}", retrieval_frequency="ANNUALLY")
    assert len(scheduler.plan_due()) == 35


def test_one_job_at_a_time(sessions, settings, collection_id):
    first = plan(sessions, settings, collection_id)
    with pytest.raises(JobInProgressError) as raised:
        plan(sessions, settings, collection_id)
    assert raised.value.job_id == first


def test_a_tick_finds_what_events_missed(scheduler, sessions, settings, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.tick()
    assert tasks(sessions, job_id)[0].status == TaskStatus.RUNNING
    with sessions.begin() as session:  # a worker completes the unit, and its event is lost
        unit_id = session.scalar(select(Unit.id))
        claim = units.claim(session, unit_id, worker="test", lease=LEASE, database_url="")
        units.complete(session, claim, OUTPUTS["collect"], [])
    scheduler.tick()
    assert [task.status for task in tasks(sessions, job_id)][:2] == [TaskStatus.COMPLETED, TaskStatus.RUNNING]


def test_a_tick_takes_back_what_a_silent_worker_held(scheduler, sessions, settings, broker, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id))
        units.claim(session, unit_id, worker="dead", lease=timedelta(seconds=-1), database_url="")
    broker.purge(work_queue("collector"))
    scheduler.tick()
    assert broker.depth(work_queue("collector")).ready == 1
    assert work(sessions, scheduler, job_id) == 1


def test_units_planned_while_the_broker_is_away_are_published_by_a_later_tick(
    scheduler, sessions, settings, broker, collection_id, monkeypatch
):
    job_id = plan(sessions, settings, collection_id)

    def unavailable(*_arguments):
        raise BrokerUnavailableError("no connection")

    with monkeypatch.context() as patched:
        patched.setattr(broker, "publish_all", unavailable)
        scheduler.process(job_id, wait=True)
    assert broker.depth(work_queue("collector")).ready == 0
    scheduler.tick()
    assert broker.depth(work_queue("collector")).ready == 1


def test_a_temporary_failure_of_a_manager_is_shown_and_tried_again(
    scheduler, sessions, settings, collection_id, monkeypatch
):
    job_id = plan(sessions, settings, collection_id)
    with monkeypatch.context() as patched:
        patched.setattr(collect.Collect, "plan", failing(TemporaryError("the service is down")))
        scheduler.process(job_id, wait=True)
        first = tasks(sessions, job_id)[0]
        assert (first.status, first.result, first.note) == (TaskStatus.PLANNED, Result.FAILED, "the service is down")
        assert job(sessions, job_id).status == JobStatus.PLANNED
    scheduler.tick()
    first = tasks(sessions, job_id)[0]
    assert (first.status, first.result, first.note) == (TaskStatus.RUNNING, Result.NONE, "")


@pytest.mark.parametrize(
    "trouble",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "DO $$ BEGIN RAISE EXCEPTION 'waited too long for a lock' USING ERRCODE = 'lock_not_available'; END $$",
    ],
    ids=["connection cut", "lock not had"],
)
def test_a_failure_of_the_database_is_not_the_managers_and_fails_no_job(
    scheduler, sessions, settings, collection_id, monkeypatch, trouble
):
    job_id = plan(sessions, settings, collection_id)
    with monkeypatch.context() as patched:
        patched.setattr(collect.Collect, "plan", lambda manager: manager.session.execute(text(trouble)))
        with pytest.raises(DBAPIError) as raised:
            scheduler.process(job_id, wait=True)
    assert is_temporary(raised.value)
    assert job(sessions, job_id).status == JobStatus.PLANNED
    scheduler.process(job_id, wait=True)
    assert tasks(sessions, job_id)[0].status == TaskStatus.RUNNING


@pytest.mark.parametrize("error", [PermanentError("no such spider"), KeyError("defect")])
def test_a_permanent_failure_or_defect_of_a_manager_ends_its_job_only(
    scheduler, sessions, settings, collection_id, monkeypatch, error
):
    with sessions.begin() as session:
        other = make_collection(session, "other").id
    failed = plan(sessions, settings, collection_id)
    monkeypatch.setattr(process.Process, "plan", failing(error))
    monkeypatch.setattr(export.Export, "plan", failing(AssertionError("never reached")))
    scheduler.process(failed, wait=True)
    work(sessions, scheduler, failed)
    assert [task.result for task in tasks(sessions, failed)][:3] == [Result.OK, Result.FAILED, Result.SKIPPED]
    assert job(sessions, failed).status == JobStatus.COMPLETED
    going_on = plan(sessions, settings, other)
    scheduler.tick()
    assert tasks(sessions, going_on)[0].status == TaskStatus.RUNNING


def refuse_to_plan(error):
    raise error


@pytest.mark.parametrize(
    ("plan_units", "result", "status"),
    [
        (lambda: refuse_to_plan(KeyError("defect")), Result.FAILED, TaskStatus.COMPLETED),
        (lambda: refuse_to_plan(TemporaryError("away")), Result.FAILED, TaskStatus.PLANNED),
        (lambda: [{"text": "\0"}], Result.FAILED, TaskStatus.COMPLETED),  # which PostgreSQL takes in no JSON
        (lambda: [{"number": Exception}], Result.FAILED, TaskStatus.COMPLETED),
    ],
    ids=["defect", "temporary", "refused by the database", "no JSON"],
)
def test_a_manager_that_fails_among_many_in_a_tick_costs_the_others_nothing(
    scheduler, sessions, settings, monkeypatch, plan_units, result, status
):
    with sessions.begin() as session:
        ids = [make_collection(session, f"c{number}").id for number in range(5)]
    jobs = [plan(sessions, settings, collection_id) for collection_id in ids]
    monkeypatch.setattr(
        collect.Collect, "plan", lambda manager: plan_units() if manager.collection.source_id == "c2" else [{}]
    )
    scheduler.tick()
    bad = tasks(sessions, jobs[2])[0]
    assert (bad.status, bad.result) == (status, result)
    assert bad.note
    others = [tasks(sessions, each)[0] for each in jobs if each != jobs[2]]
    assert {(task.status, task.result) for task in others} == {(TaskStatus.RUNNING, Result.NONE)}
    with sessions() as session:
        queued = session.scalars(
            select(Unit.job_id).where(Unit.status == UnitStatus.QUEUED).order_by(Unit.job_id)
        ).all()
    assert queued == [each for each in jobs if each != jobs[2]]


@pytest.mark.parametrize("started", [False, True])
def test_a_task_type_of_another_version_holds_up_its_own_job_and_no_other(
    scheduler, sessions, settings, collection_id, monkeypatch, started
):
    with sessions.begin() as session:
        other = make_collection(session, "other").id
        make_collection(session, "impossible", retrieval_frequency="MONTHLY", tasks_plan=["collect", "later"])
    first = plan(sessions, settings, collection_id)
    if started:  # with a unit that needs a message
        scheduler.process(first, wait=True)
    with sessions.begin() as session:
        session.execute(update(Task).where(Task.job_id == first, Task.type == "collect").values(type="later"))
        session.execute(update(Unit).values(status=UnitStatus.PLANNED, type="later"))
    second = plan(sessions, settings, other)
    scheduler.tick()
    held = tasks(sessions, first)[0]
    if started:
        assert held.status == TaskStatus.RUNNING
    else:
        assert held.status == TaskStatus.PLANNED
        assert held.note.startswith("No such task type: 'later'. Known: collect, ")
    assert tasks(sessions, second)[0].status == TaskStatus.RUNNING
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2  # and none of the impossible plan
        assert session.scalar(select(Unit.status).where(Unit.job_id == first)) == (
            UnitStatus.PLANNED if started else None
        )
    monkeypatch.setitem(TASKS, "later", TASKS["collect"])  # the version that has it
    scheduler.tick()
    held = tasks(sessions, first)[0]
    assert (held.status, held.note) == (TaskStatus.RUNNING, "")
    with sessions() as session:
        assert session.scalar(select(Unit.status).where(Unit.job_id == first)) == UnitStatus.QUEUED


def test_a_plan_in_the_settings_that_names_no_task_type_ends_the_scheduler(settings, sessions, broker, collection_id):
    wrong = Scheduler(settings.model_copy(update={"job_tasks_plan": ("collect", "nonesuch")}), sessions, broker)
    with pytest.raises(ConfigurationError, match="nonesuch"):
        wrong.tick()


def failing(error):
    def plan_fails(_self):
        raise error

    return plan_fails


def store(sessions, job_id, rows=3):
    with sessions.begin() as session:
        for _ in range(rows):
            session.add(Record(job_id=job_id, kind="json", data="{}"))
            session.add(Compiled(job_id=job_id, data="{}"))


def count(sessions):
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Record)) + session.scalar(
            select(func.count()).select_from(Compiled)
        )


def ended(sessions, settings, collection_id, result=Result.OK, **options):
    job_id = plan(sessions, settings, collection_id, **options)
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(status=JobStatus.COMPLETED, end=func.now()))
        session.execute(update(Task).where(Task.job_id == job_id).values(status=TaskStatus.COMPLETED, result=result))
    store(sessions, job_id)
    return job_id


def test_temporary_data_of_a_successful_job_is_deleted_some_at_a_time(
    scheduler, sessions, settings, collection_id, monkeypatch
):
    monkeypatch.setattr("services.scheduler.managers.WIPE_ROWS", 2)
    job_id = ended(sessions, settings, collection_id)
    assert scheduler.archive(), "more is left"
    assert 0 < count(sessions) < 6
    while scheduler.archive():
        pass
    assert count(sessions) == 0
    assert job(sessions, job_id).archived


def test_temporary_data_is_kept_on_request_and_after_a_failure_for_some_days(
    scheduler, sessions, settings, collection_id
):
    ended(sessions, settings, collection_id, keep_all_data=True)
    failed = ended(sessions, settings, collection_id, result=Result.FAILED)
    assert not scheduler.archive()
    assert count(sessions) == 12
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == failed).values(end=func.now() - timedelta(days=8)))
    assert not scheduler.archive()
    assert count(sessions) == 6


def test_what_killed_attempts_left_is_deleted_when_the_job_ends(scheduler, sessions, settings, collection_id):
    job_id = plan(sessions, settings, collection_id)
    directory = Export(settings.exports, "sample", job_id).directory
    (directory / ".attempt-1-1").mkdir(parents=True)
    left = (".attempt-1-1/full.jsonl.gz", "exporter_full.jsonl.gz.lock", ".exporter_full.jsonl.gz.lock.0123abcd")
    for name in ("2020.jsonl.gz", "full.jsonl.gz", "manifest.json", *left):
        (directory / name).touch()
    scheduler.process(job_id, wait=True)
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id))
        session.add(
            File(job_id=job_id, unit_id=unit_id, name="full.jsonl.gz", size=0, records=0, sha256=sha256().hexdigest())
        )
    while job(sessions, job_id).status != JobStatus.COMPLETED:
        assert (directory / ".attempt-1-1").exists()
        work(sessions, scheduler, job_id)
    assert sorted(path.name for path in directory.iterdir()) == ["full.jsonl.gz", "manifest.json"]


def test_explaining_says_what_a_tick_would_do_and_does_nothing(scheduler, sessions, settings, broker, collection_id):
    with sessions.begin() as session:
        planned_for = make_collection(session, "planned").id
    job_id = plan(sessions, settings, planned_for)
    assert list(scheduler.explain()) == ["sample: plan a job (never collected)", f"job {job_id}: start collect"]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
    assert broker.depth(work_queue("collector")).ready == 0


def made(sessions, settings, job_id, name, place):
    """Let the export of a job that has come to flatten have made a file; return where files of the job are."""
    export = Export(settings.exports, "sample", job_id)
    (export.directory / place).mkdir(parents=True)
    (export.directory / place / name).write_bytes(b"made")
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id).join(Task).where(Task.type == "export", Unit.job_id == job_id))
        digest = sha256(b"made").hexdigest()
        row = File(job_id=job_id, unit_id=unit_id, name=name, place=place, size=4, records=1, sha256=digest)
        session.add(row)
        session.get_one(Job, job_id).unfiled = True
    return export


@pytest.fixture
def exported(scheduler, sessions, settings, collection_id):
    """A job that has come to coverage, with a file in the place where it was made."""
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    for _ in ("collect", "process", "export"):
        work(sessions, scheduler, job_id)
    return job_id, made(sessions, settings, job_id, "full.jsonl.gz", ".made-1-2")


def test_while_the_disk_refuses_the_job_does_not_end_and_says_why(scheduler, sessions, exported, monkeypatch):
    job_id, export = exported
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(exports, "replace_text", Mock(side_effect=full))
        while work(sessions, scheduler, job_id):
            pass
        scheduler.tick()
    assert job(sessions, job_id).status == JobStatus.RUNNING
    last = tasks(sessions, job_id)[-1]
    assert (last.result, "No space left" in last.note) == (Result.OK, True)
    scheduler.tick()
    assert job(sessions, job_id).status == JobStatus.COMPLETED
    assert tasks(sessions, job_id)[-1].note == ""
    assert sorted(path.name for path in export.directory.iterdir()) == ["full.jsonl.gz", "manifest.json"]


def test_a_tick_puts_the_files_of_a_cancelled_job_in_order(scheduler, sessions, exported):
    job_id, export = exported
    (export.directory / ".attempt-9-9").mkdir()
    with sessions.begin() as session:
        cancel_job(session, job_id, actor="ada")
    assert job(sessions, job_id).unfiled
    scheduler.tick()
    assert not job(sessions, job_id).unfiled
    assert sorted(path.name for path in export.directory.iterdir()) == ["full.jsonl.gz", "manifest.json"]
    with sessions() as session:
        assert session.scalars(select(File.place)).all() == [""]


def test_a_job_whose_tasks_are_all_ok_cannot_be_cancelled_any_more(scheduler, sessions, exported, monkeypatch):
    job_id, _ = exported
    monkeypatch.setattr(scheduler, "_end", lambda *_, **__: False)
    while work(sessions, scheduler, job_id):
        pass
    with sessions.begin() as session, pytest.raises(JobStateError, match="about to end"):
        cancel_job(session, job_id, actor="ada")


def test_a_job_that_is_restarted_before_it_ends_goes_on(scheduler, sessions, exported, monkeypatch):
    job_id, _ = exported
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "_end", lambda *_, **__: False)
        while work(sessions, scheduler, job_id):
            pass
    with sessions.begin() as session:
        restart_job(session, job_id, actor="ada", from_task="coverage")
    assert not scheduler._end(job_id, wait=True)
    assert job(sessions, job_id).status == JobStatus.RUNNING


def test_a_tick_removes_what_attempts_left_of_a_cancelled_job(scheduler, sessions, settings, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    directory = Export(settings.exports, "sample", job_id).directory
    (directory / ".attempt-1-1").mkdir(parents=True)
    scheduler.tick()
    assert (directory / ".attempt-1-1").exists(), "an attempt may be at it"
    with sessions.begin() as session:
        cancel_job(session, job_id, actor="ada")
    scheduler.tick()
    assert list(directory.iterdir()) == []
