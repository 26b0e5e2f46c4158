"""Pausing a collection or a queue: what runs finishes, nothing new starts, and it goes on at once when resumed."""

import pytest
from sqlalchemy import select, update

from services.scheduler.scheduler import Scheduler
from shared import pauses, units
from shared.broker import open_broker
from shared.db.models import Audit, Collection, Job, JobStatus, Pause, Result, Task, TaskStatus, Unit, UnitStatus
from shared.errors import BowerbirdError, BrokerUnavailableError
from shared.jobs import plan_job
from shared.limits import NO_LIMITS
from shared.messages import work_queue
from shared.outbox import publish_next, republish
from shared.pauses import PausedError
from shared.units import Assignment, Refusal, Scope
from tests.factories import make_collection
from tests.integration.test_scheduler import LEASE, OUTPUTS, job, tasks, work
from tests.integration.test_worker import QUEUE, Bench


@pytest.fixture
def bench(any_settings, sessions, tmp_path):
    settings = any_settings.model_copy(update={"lease_seconds": 2})
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    bench = Bench(settings, sessions, broker, tmp_path / "place")
    yield bench
    bench.close()
    broker.close()


@pytest.fixture
def broker(settings):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield broker
    broker.close()


@pytest.fixture
def scheduler(settings, sessions, broker):
    return Scheduler(settings, sessions, broker)


def pause(sessions, *, queue=None, collection_id=None):
    with sessions.begin() as session:
        if queue is not None:
            return pauses.pause_queue(session, queue, actor="ada")
        return pauses.pause_collection(session, session.get_one(Collection, collection_id), actor="ada")


def resume(sessions, *, queue=None, collection_id=None):
    with sessions.begin() as session:
        if queue is not None:
            return pauses.resume_queue(session, queue, actor="ada")
        return pauses.resume_collection(session, session.get_one(Collection, collection_id), actor="ada")


def unit(bench, unit_id):
    with bench.sessions() as session:
        return session.get_one(Unit, unit_id)


def queued(bench):
    """Plan a unit as a scheduler leaves it: with its message confirmed."""
    bench.plan()
    with bench.sessions.begin() as session:
        units.mark_queued(session, [bench.unit_id])
        return bench.unit_id, session.get_one(Job, bench.job_id).collection_id


# With real workers


@pytest.mark.parametrize("kind", ["queue", "collection"])
def test_paused_work_is_not_taken_up_its_messages_do_not_go_round_and_resumed_it_is_done(bench, kind):
    unit_id, collection_id = queued(bench)
    what = {"queue": QUEUE} if kind == "queue" else {"collection_id": collection_id}
    assert pause(bench.sessions, **what)
    worker = bench.start()
    bench.wait_until(lambda: unit(bench, unit_id).status == UnitStatus.PLANNED)
    bench.wait_until(bench.is_settled)
    assert "message dropped" in (bench.place / "log-0").read_text()
    publish_next(bench.sessions, bench.broker, NO_LIMITS)
    assert unit(bench, unit_id).status == UnitStatus.PLANNED, "it is paused"
    assert bench.started() == []
    assert worker.poll() is None
    assert resume(bench.sessions, **what)
    publish_next(bench.sessions, bench.broker, NO_LIMITS)
    bench.wait_until(bench.is_completed)
    assert (unit(bench, unit_id).result, unit(bench, unit_id).attempt) == (Result.OK, 1)


def test_a_paused_collection_does_not_hold_up_another_on_the_same_queue(bench):
    paused_id, collection_id = queued(bench)
    pause(bench.sessions, collection_id=collection_id)
    queued(bench)
    bench.start()
    bench.wait_until(bench.is_completed)
    bench.wait_until(lambda: unit(bench, paused_id).status == UnitStatus.PLANNED)
    assert unit(bench, paused_id).attempt == 0


def test_work_that_runs_when_its_queue_is_paused_finishes(bench):
    bench.plan(a1="wait")
    bench.start()
    bench.wait_until(bench.started)
    pause(bench.sessions, queue=QUEUE)
    (bench.place / "go").touch()
    bench.wait_until(bench.is_completed)
    assert bench.unit().result == Result.OK


def test_lost_messages_are_published_again_by_queue_job_and_time(bench):
    _, collection_id = queued(bench)
    bench.broker.purge(QUEUE)
    for scope in (
        Scope(queue="exporter.v1"),
        Scope(job_id=bench.job_id + 1),
        Scope(collection_id=collection_id + 1),
        Scope(since=LEASE * 0),
    ):
        assert republish(bench.sessions, bench.broker, scope) == 0, scope
    for scope in (Scope(), Scope(queue=QUEUE, job_id=bench.job_id, since=LEASE)):
        assert republish(bench.sessions, bench.broker, scope) == 1, scope
    bench.start()
    bench.wait_until(bench.is_completed)
    bench.wait_until(bench.is_settled)
    assert len(bench.started()) == 1, "the second message did no harm"


def test_work_that_waits_for_its_next_attempt_is_not_hurried(bench):
    unit_id, _ = queued(bench)
    with bench.sessions.begin() as session:
        claim = units.claim(session, unit_id, worker="w", lease=LEASE, database_url="")
        units.put_off(session, unit_id, claim.token, error="busy", traceback="", delay=LEASE)
    assert republish(bench.sessions, bench.broker, Scope()) == 0


# The scheduler


@pytest.fixture
def collection_id(sessions):
    with sessions.begin() as session:
        return make_collection(session, retrieval_frequency="MONTHLY").id


def plan(sessions, settings, collection_id):
    with sessions.begin() as session:
        return plan_job(session, session.get_one(Collection, collection_id), plan=settings.job_tasks_plan).id


def test_a_paused_collection_gets_no_new_job_until_it_is_resumed(scheduler, sessions, collection_id):
    pause(sessions, collection_id=collection_id)
    assert scheduler.plan_due() == []
    resume(sessions, collection_id=collection_id)
    assert len(scheduler.plan_due()) == 1


def test_asking_for_a_job_of_a_paused_collection_is_an_error_that_names_the_remedy(sessions, settings, collection_id):
    pause(sessions, collection_id=collection_id)
    with pytest.raises(PausedError, match=r"by ada\. Resume it: bowerbird resume collection sample"):
        plan(sessions, settings, collection_id)


def test_a_planned_job_of_a_paused_collection_does_not_start(scheduler, sessions, settings, collection_id):
    job_id = plan(sessions, settings, collection_id)
    pause(sessions, collection_id=collection_id)
    scheduler.tick()
    assert not scheduler.process(job_id, wait=True)
    assert job(sessions, job_id).status == JobStatus.PLANNED
    assert not any(f"job {job_id}" in line for line in scheduler.explain())
    resume(sessions, collection_id=collection_id)
    scheduler.tick()
    assert job(sessions, job_id).status == JobStatus.RUNNING


def test_a_running_job_completes_its_task_and_starts_no_other(scheduler, sessions, settings, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id))
        claim = units.claim(session, unit_id, worker="w", lease=LEASE, database_url="")
    pause(sessions, collection_id=collection_id)
    with sessions.begin() as session:
        assert units.renew(session, unit_id, claim.token, lease=LEASE, progress=None)
        units.complete(session, claim, OUTPUTS["collect"], [])
    scheduler.tick()
    scheduler.process(job_id, wait=True)
    collect, process, *_ = tasks(sessions, job_id)
    assert (collect.result, process.status) == (Result.OK, TaskStatus.PLANNED)
    assert any("its collection is paused" in line for line in scheduler.explain())
    resume(sessions, collection_id=collection_id)
    scheduler.tick()
    while work(sessions, scheduler, job_id):
        pass
    assert job(sessions, job_id).collection_id == collection_id
    assert {task.result for task in tasks(sessions, job_id)} == {Result.OK}


@pytest.mark.parametrize("what", ["queue", "collection"])
def test_paused_units_are_not_published_nor_claimed(scheduler, sessions, settings, broker, collection_id, what):
    job_id = plan(sessions, settings, collection_id)
    with sessions.begin() as session:  # the task is started, its unit not published yet
        session.execute(update(Job).values(status=JobStatus.RUNNING))
        task_id = session.scalar(select(Task.id).where(Task.type == "collect"))
        session.execute(update(Task).where(Task.id == task_id).values(status=TaskStatus.RUNNING))
        unit = Unit(task_id=task_id, job_id=job_id, type="collect", number=1)
        session.add(unit)
    which = {"queue": work_queue("collector")} if what == "queue" else {"collection_id": collection_id}
    pause(sessions, **which)
    scheduler.tick()
    assert broker.depth(work_queue("collector")).ready == 0
    with sessions.begin() as session:
        refused = units.claim(session, unit.id, worker="w", lease=LEASE, database_url="")
    assert refused == Refusal("its queue or its collection is paused", busy=False)
    resume(sessions, **which)
    scheduler.tick()
    assert broker.depth(work_queue("collector")).ready == 1
    with sessions.begin() as session:
        assert isinstance(units.claim(session, unit.id, worker="w", lease=LEASE, database_url=""), Assignment)


def test_another_queue_goes_on(scheduler, sessions, settings, collection_id):
    pause(sessions, queue=work_queue("exporter"))
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    assert work(sessions, scheduler, job_id) == 1


def test_pausing_and_resuming_are_audited_and_repeating_them_changes_nothing(sessions, collection_id):
    for which in ({"queue": QUEUE}, {"collection_id": collection_id}):
        assert [pause(sessions, **which), pause(sessions, **which)] == [True, False]
    with sessions() as session:
        assert [(row.kind, row.name, row.actor) for row in pauses.list_pauses(session)] == [
            ("queue", QUEUE, "ada"),
            ("collection", "sample", "ada"),
        ]
    for which in ({"queue": QUEUE}, {"collection_id": collection_id}):
        assert [resume(sessions, **which), resume(sessions, **which)] == [True, False]
    with sessions() as session:
        assert session.scalars(select(Pause)).all() == []
        assert [(row.actor, row.action, row.details["name"]) for row in session.scalars(select(Audit))] == [
            ("ada", "pause queue", QUEUE),
            ("ada", "pause collection", "sample"),
            ("ada", "resume queue", QUEUE),
            ("ada", "resume collection", "sample"),
        ]


def test_only_queues_of_workers_can_be_named():
    assert pauses.find_queue("exporter") == pauses.find_queue("exporter.v1") == "exporter.v1"
    with pytest.raises(BowerbirdError, match="There are: collector, processor, exporter, flattener"):
        pauses.find_queue("scheduler")


def test_publishing_again_while_the_broker_is_away_is_an_error(sessions, settings, scheduler, collection_id):
    job_id = plan(sessions, settings, collection_id)
    scheduler.process(job_id, wait=True)
    away = open_broker(settings.model_copy(update={"broker_url": "amqp://127.0.0.1:1/"}), settings.database_url)
    with pytest.raises(BrokerUnavailableError, match="after 0 messages"):
        republish(sessions, away, Scope())
