"""The state of the suite as metrics: what the database and the broker hold, and what costs nothing to ask."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from services.scheduler.state import KEPT_SECONDS, State
from shared import metrics
from shared.broker import open_broker
from shared.db import make_engine, make_sessions
from shared.db.models import DeadLetter as Letter
from shared.db.models import Job, JobStatus, LetterKind, Result, Task, TaskStatus, UnitStatus
from shared.jobs import plan_job
from shared.messages import RunUnit
from shared.pauses import pause_collection, pause_queue
from shared.tasks import TASKS
from tests.factories import make_collection, make_unit
from tests.waiting import eventually

LEASE = timedelta(seconds=30)


@pytest.fixture
def broker(any_settings):
    broker = open_broker(any_settings, any_settings.database_url)
    broker.declare()
    yield broker
    broker.close()


def read(sessions, broker):
    """Return the state as metrics: (name, label values) → value."""
    samples = State(sessions, broker, lease=LEASE).read()
    found = {(sample.metric.name.removeprefix("bowerbird_"), *sample.labels): sample.value for sample in samples}
    assert len(found) == len(samples), "a sample is there twice"
    return found


def add_units(session, collection, *units, task="export", started=timedelta(0)):
    """Add a running job of one task with these units; return it."""
    job = plan_job(session, collection, plan=[task])
    now = datetime.now(UTC)
    job.status, job.start = JobStatus.RUNNING, now
    job.tasks[0].status, job.tasks[0].start = TaskStatus.RUNNING, now - started
    session.flush()
    for number, values in enumerate(units, 1):
        session.add(make_unit(job.tasks[0], number, **values))
    session.flush()
    return job


def test_an_empty_suite_is_all_noughts(sessions, broker):
    state = read(sessions, broker)
    assert state.pop(("state_up", "database")) == state.pop(("state_up", "broker")) == 1
    assert set(state.values()) == {0}
    assert ("queue_messages", "exporter.v1", "ready") in state
    assert ("last_success_timestamp_seconds",) not in state, "there was none"
    for task in TASKS:
        assert ("unit_wait_oldest_seconds", task) in state


def test_open_work_is_counted_by_task_and_status_and_what_is_over_is_not(sessions, broker):
    with sessions.begin() as session:
        lease = datetime.now(UTC) + LEASE
        running = {"status": UnitStatus.RUNNING, "lease_until": lease, "start": lease}
        over = {"status": UnitStatus.COMPLETED, "result": Result.OK}
        add_units(session, make_collection(session, "a"), {"status": UnitStatus.QUEUED}, running, running, over)
        add_units(session, make_collection(session, "b"), {}, task="collect")
        plan_job(session, make_collection(session, "c"), plan=["process"])
    state = read(sessions, broker)
    assert state["units", "export", "QUEUED"] == 1
    assert state["units", "export", "RUNNING"] == 2
    assert state["units", "collect", "PLANNED"] == 1
    assert sum(value for key, value in state.items() if key[0] == "units") == 4
    assert state["tasks", "export", "RUNNING"] == 1
    assert state["tasks", "collect", "WAITING"] == 1
    assert state["tasks", "process", "PLANNED"] == 1
    assert state["jobs", "RUNNING"] == 2
    assert state["jobs", "PLANNED"] == 1


def test_a_unit_waits_since_its_task_started_however_often_it_was_published(sessions, broker):
    with sessions.begin() as session:
        queued = {"status": UnitStatus.QUEUED, "published_at": datetime.now(UTC)}
        add_units(session, make_collection(session, "a"), queued, started=timedelta(hours=2))
    assert 7_200 <= read(sessions, broker)["unit_wait_oldest_seconds", "export"] < 7_300


@pytest.mark.parametrize("why", ["put off", "collection paused", "queue paused", "job over"])
def test_a_unit_that_no_worker_may_take_does_not_wait_for_one(sessions, broker, why):
    with sessions.begin() as session:
        collection = make_collection(session, "a")
        later = datetime.now(UTC) + timedelta(hours=1) if why == "put off" else None
        job = add_units(
            session,
            collection,
            {"status": UnitStatus.QUEUED, "next_attempt_at": later},
            started=timedelta(hours=2),
        )
        if why == "collection paused":
            pause_collection(session, collection, actor="test")
        elif why == "queue paused":
            pause_queue(session, "exporter.v1", actor="test")
        elif why == "job over":
            job.status = JobStatus.COMPLETED
            job.tasks[0].status = TaskStatus.COMPLETED
    state = read(sessions, broker)
    assert state["unit_wait_oldest_seconds", "export"] == 0
    assert state["pauses", "collection"] == (why == "collection paused")
    assert state["pauses", "queue"] == (why == "queue paused")


def test_leases_tell_of_workers_that_fell_silent(sessions, broker):
    with sessions.begin() as session:
        now = datetime.now(UTC)
        fresh, over = ({"status": UnitStatus.RUNNING, "lease_until": now + LEASE * sign} for sign in (1, -1))
        add_units(session, make_collection(session, "a"), fresh, over)
    state = read(sessions, broker)
    assert state["leases_expired",] == 1
    assert 60 <= state["lease_age_oldest_seconds",] < 160


def test_dead_letters_are_counted_until_somebody_settles_them(sessions, broker):
    with sessions.begin() as session:
        common = {"body": b"", "body_bytes": 0, "reason": "", "attempts": 1}
        for number, status in enumerate(["OPEN", "OPEN", "REPLAYED", "DISCARDED"]):
            kind = LetterKind.UNIT if number else LetterKind.MESSAGE
            session.add(Letter(kind=kind, status=status, queue="exporter.v1", key=str(number), **common))
    state = read(sessions, broker)
    assert state["dead_letters", "exporter.v1", "UNIT"] == 1
    assert state["dead_letters", "exporter.v1", "MESSAGE"] == 1
    assert state["dead_letters", "collector.v1", "UNIT"] == 0


def test_a_collection_is_overdue_after_its_frequency_and_none_is_that_nobody_waits_for(sessions, broker):
    today = datetime.now(UTC).date()
    with sessions.begin() as session:
        weekly = {"retrieval_frequency": "WEEKLY", "last_retrieved": today - timedelta(days=10)}
        make_collection(session, "late", **weekly)
        make_collection(session, "frozen", **weekly, frozen=True)
        make_collection(session, "asked", last_retrieved=today - timedelta(days=1000))
        make_collection(session, "in-time", **{**weekly, "last_retrieved": today - timedelta(days=6)})
        make_collection(session, "new", retrieval_frequency="MONTHLY")
        pause_collection(session, make_collection(session, "paused", **weekly), actor="test")
    state = read(sessions, broker)
    assert state["collections_overdue",] == 1
    assert 3 * 86_400 <= state["collection_overdue_oldest_seconds",] < 4 * 86_400


def test_the_last_success_is_that_of_a_published_job(sessions, broker):
    ended = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with sessions.begin() as session:
        collection = make_collection(session, "a")
        job = Job(collection_id=collection.id, status=JobStatus.COMPLETED, end=ended)
        failed = Job(collection_id=collection.id, status=JobStatus.COMPLETED, end=ended + timedelta(days=1))
        session.add_all([job, failed])
        session.flush()
        collection.active_job_id = job.id
    assert read(sessions, broker)["last_success_timestamp_seconds",] == ended.timestamp()
    with sessions.begin() as session:  # leave nothing that refers to a job
        session.execute(text("UPDATE collection SET active_job_id = NULL"))


def test_queues_are_as_deep_as_the_broker_says(sessions, broker, any_settings):
    for number in range(3):
        broker.publish("exporter.v1", RunUnit(unit_id=number, task_id=1, job_id=1, task_type="export"))
    consumer = broker.consume(["exporter.v1"], prefetch=2)
    put_off, dead = None, None
    while not (put_off and dead):
        delivery = consumer.receive(0.2)
        put_off, dead = (put_off or delivery), (delivery if put_off else None)
    consumer.retry(put_off, timedelta(hours=1))
    consumer.reject(dead, "a reason")
    consumer.close()

    def depths():
        state = read(sessions, broker)
        return [state["queue_messages", "exporter.v1", kind] for kind in ("ready", "waiting", "dead")]

    assert eventually(lambda: depths() == [1, 1, 1] and depths()) == [1, 1, 1]


def test_it_is_read_once_however_many_ask(sessions, broker, monkeypatch, settings):
    engine = make_engine(settings.database_url, application_name="test")
    statements = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
    state = State(make_sessions(engine), broker, lease=LEASE)
    first = state.read()
    number = len(statements)
    assert state.read() is first
    assert len(statements) == number
    state._read_at -= KEPT_SECONDS
    assert state.read() is not first
    engine.dispose()


def test_what_is_away_is_missing_and_said_to_be(broker, settings):
    nowhere = make_engine("postgresql://nobody@127.0.0.1:1/none", application_name="test")
    state = read(make_sessions(nowhere), broker)
    assert state["state_up", "database"] == 0
    assert state["state_up", "broker"] == 1
    assert not [key for key in state if key[0] not in ("state_up", "queue_messages")]
    away = open_broker(settings.model_copy(update={"broker_url": "amqp://guest:guest@127.0.0.1:1/"}), "")
    state = read(make_sessions(nowhere), away)
    assert state == {("state_up", "database"): 0, ("state_up", "broker"): 0}
    nowhere.dispose()


def test_every_metric_of_the_state_is_read(sessions, broker):
    with sessions.begin() as session:
        collection = make_collection(session, "a")
        job = Job(collection_id=collection.id, status=JobStatus.COMPLETED, end=datetime.now(UTC))
        session.add(job)
        session.flush()
        session.add(Task(job_id=job.id, type="export", order=1, status=TaskStatus.COMPLETED, result=Result.OK))
        collection.active_job_id = job.id
    samples = State(sessions, broker, lease=LEASE).read()
    declared = {metric.name for metric in metrics.METRICS.values() if metric.told == "state"}
    assert {sample.metric.name for sample in samples} == declared
    for sample in samples:
        assert len(sample.labels) == len(sample.metric.labels)
    with sessions.begin() as session:
        session.execute(text("UPDATE collection SET active_job_id = NULL"))
