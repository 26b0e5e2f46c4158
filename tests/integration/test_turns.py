"""Which units get a message next, and how many may run at once."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from services.scheduler.managers import PATIENCE
from services.scheduler.scheduler import Scheduler
from shared import units
from shared.broker import open_broker
from shared.db.models import Collection, Job, JobStatus, Result, Task, TaskStatus, Unit, UnitStatus
from shared.jobs import plan_job
from shared.limits import NO_LIMITS, Limits
from shared.outbox import publish_units
from shared.units import SMALLEST_WINDOW, Assignment, Refusal
from tests.factories import make_collection, make_job
from tests.statements import statements

LEASE = timedelta(seconds=60)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def add(sessions):
    """Add planned units of running jobs, each of a collection of its own; return their numbers."""

    def add(number=1, task_type="flatten", **values):
        with sessions.begin() as session:
            count = session.scalar(select(func.count()).select_from(Collection))
            rows = []
            for place in range(number):
                job = make_job(session, make_collection(session, f"c{count + place}"), tasks=(task_type,))
                job.tasks[0].status = TaskStatus.RUNNING
                rows.append(Unit(task_id=job.tasks[0].id, job_id=job.id, type=task_type, number=1, **values))
            session.add_all(rows)
            session.flush()
            return [row.id for row in rows]

    return add


def chosen(sessions, limits=NO_LIMITS):
    with sessions() as session:
        rows, others_wait = units.to_publish(session, limits)
        return [row.id for row in rows], others_wait


def queue(sessions, ids):
    with sessions.begin() as session:
        units.mark_queued(session, ids)


def claim(sessions, unit_id, limits=NO_LIMITS):
    with sessions.begin() as session:
        return units.claim(session, unit_id, worker="w", lease=LEASE, database_url="", limits=limits)


def status(sessions, unit_id):
    with sessions() as session:
        return session.get_one(Unit, unit_id).status


def test_a_window_of_each_type_has_messages_and_the_rest_waits(sessions, add):
    flattening, exporting = add(SMALLEST_WINDOW + 5), add(2, "export")
    ids, others_wait = chosen(sessions)
    assert set(ids) == {*flattening[:SMALLEST_WINDOW], *exporting}
    assert others_wait
    queue(sessions, ids)
    assert chosen(sessions) == ([], True)
    for unit_id in flattening[:3]:
        claim(sessions, unit_id)
    assert len(chosen(sessions)[0]) == 3, "as many as were taken up"
    assert chosen(sessions) == (flattening[SMALLEST_WINDOW : SMALLEST_WINDOW + 3], True)


def test_a_look_costs_two_statements_and_a_claim_one(sessions, add):
    (unit_id,) = add()
    with sessions.begin() as session:
        with statements(session) as sent:
            assert [row.id for row in units.to_publish(session)[0]] == [unit_id]
        assert len(sent) == 2, "only of the task types that have planned units is it asked which"
        with statements(session) as sent:
            claimed = units.claim(session, unit_id, worker="w", lease=LEASE, database_url="", limits=Limits(host=2))
        assert isinstance(claimed, Assignment)
        assert len(sent) == 1


def test_the_window_grows_with_the_workers(sessions, add):
    running = add(SMALLEST_WINDOW)
    queue(sessions, running)
    for unit_id in running:
        claim(sessions, unit_id)
    waiting = add(3 * SMALLEST_WINDOW)
    assert chosen(sessions) == (waiting[: 2 * SMALLEST_WINDOW], True)


def test_what_waits_for_its_next_attempt_takes_no_place(sessions, add):
    put_off = add(SMALLEST_WINDOW)
    for unit_id in put_off:
        token = claim(sessions, unit_id).token
        with sessions.begin() as session:
            units.put_off(session, unit_id, token, error="busy", traceback="", delay=MINUTE)
    assert len(chosen(sessions)[0]) == 0
    assert chosen(sessions, NO_LIMITS) == ([], False)
    assert len(add(1)) == len(chosen(sessions)[0])


def test_a_higher_priority_goes_first_and_then_who_is_expected_to_take_less(sessions, add):
    now = func.now()
    (slow,) = add(turn=now + 60 * MINUTE)
    (quick,) = add(turn=now + MINUTE)
    (late,) = add(turn=now + 61 * MINUTE)  # a quick one that was planned after the slow one's time
    (urgent,) = add(turn=now + 90 * MINUTE, priority=1)
    (patient,) = add(turn=now, priority=-1)
    assert chosen(sessions)[0] == [urgent, quick, slow, late, patient]


def test_a_limit_of_a_type_is_kept_by_who_publishes_and_by_who_claims(sessions, add):
    limits = Limits({"flatten": 2})
    ids, exporting = add(4), add(1, "export")
    assert set(chosen(sessions, limits)[0]) == {*ids[:2], *exporting}
    queue(sessions, ids)  # all the same: somebody replayed them
    assert isinstance(claim(sessions, ids[0], limits), Assignment)
    held = claim(sessions, ids[1], limits)
    assert isinstance(held, Assignment)
    assert claim(sessions, ids[2], limits) == Refusal("2 units of flatten run already", busy=False)
    assert status(sessions, ids[2]) == UnitStatus.PLANNED, "it needs a message again"
    assert chosen(sessions, limits) == (exporting, True)
    with sessions.begin() as session:
        units.complete(session, held, {}, [])
        session.execute(update(Unit).where(Unit.id == ids[3]).values(status=UnitStatus.PLANNED))
    assert chosen(sessions, limits)[0] == [*exporting, ids[2]] or chosen(sessions, limits)[0] == [ids[2], *exporting]
    assert isinstance(claim(sessions, ids[2], limits), Assignment)


def test_a_host_is_read_by_few_at_once_and_holds_up_no_other(sessions, add):
    limits = Limits(host=2)
    busy = add(50, "collect", host="slow.example")
    (other,) = add(1, "collect", host="other.example")
    (local,) = add(1, "collect")
    assert chosen(sessions, limits) == ([*busy[:2], other, local], True)
    queue(sessions, busy)
    for unit_id in busy[:2]:
        assert isinstance(claim(sessions, unit_id, limits), Assignment)
    assert claim(sessions, busy[2], limits) == Refusal("2 units work on slow.example already", busy=False)
    assert isinstance(claim(sessions, local, limits), Assignment)


def test_a_limit_holds_when_many_claim_at_once(sessions, add):
    limits = Limits({"flatten": 3})
    ids = add(12)
    queue(sessions, ids)
    results = []
    barrier = threading.Barrier(len(ids))

    def compete(unit_id):
        barrier.wait()
        results.append(claim(sessions, unit_id, limits))

    threads = [threading.Thread(target=compete, args=(unit_id,)) for unit_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, Assignment) for result in results) == 3


def test_a_message_that_is_refused_before_it_is_marked_is_published_again(settings, sessions, add):
    """The worker is faster than whoever publishes: the unit must not be taken for one that has a message."""
    (busy, late), limits = add(2), Limits({"flatten": 1})
    claim(sessions, busy)
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    publish_all = broker.publish_all

    def publish_and_be_refused(messages):
        yield from publish_all(messages)
        for _, message in messages:
            assert isinstance(claim(sessions, message.unit_id, limits), Refusal)

    broker.publish_all = publish_and_be_refused
    with sessions() as session:
        rows, _ = units.to_publish(session)
    assert publish_units(sessions, broker, rows) == 1
    broker.close()
    assert status(sessions, late) == UnitStatus.PLANNED


def test_a_unit_that_is_taken_over_does_not_count_against_itself(sessions, add):
    (unit_id,) = add(1)
    claim(sessions, unit_id)
    with sessions.begin() as session:
        session.execute(update(Unit).values(lease_until=func.now() - MINUTE))
    assert isinstance(claim(sessions, unit_id, Limits({"flatten": 1})), Assignment)


# The scheduler


@pytest.fixture
def scheduler(settings, sessions):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield Scheduler(settings, sessions, broker)
    broker.close()


def test_units_are_ordered_by_how_long_they_took_before_or_by_what_was_collected(scheduler, settings, sessions):
    with sessions.begin() as session:
        known = make_collection(session, "known", priority=7)
        before = make_job(session, known, tasks=("export",), status=JobStatus.COMPLETED, end=func.now())
        session.add(
            Unit(
                task_id=before.tasks[0].id,
                job_id=before.id,
                type="export",
                number=1,
                status=UnitStatus.COMPLETED,
                result=Result.OK,
                start=func.now() - 30 * MINUTE,
                end=func.now() - 20 * MINUTE,
            )
        )
        known.active_job_id = before.id
        large = make_collection(session, "large")
        small = make_collection(session, "small")
        for collection in (known, large, small):
            plan_job(session, collection, plan=["export"])
        session.execute(update(Job).where(Job.collection_id == large.id).values(context={"collect": {"bytes": 10**12}}))
    scheduler.tick()
    with sessions() as session:
        rows = session.execute(
            select(Collection.source_id, Unit.priority, Unit.turn - Unit.created)
            .select_from(Unit)
            .join(Job, Job.id == Unit.job_id)
            .join(Collection, Collection.id == Job.collection_id)
            .where(Job.status == JobStatus.RUNNING)
        ).all()
    assert {row[0]: row[1:] for row in rows} == {
        "known": (7, PATIENCE * 10 * MINUTE),
        "large": (0, timedelta(hours=6)),
        "small": (0, timedelta(0)),
    }


def test_a_source_on_the_web_takes_its_host_into_account(scheduler, settings, sessions):
    with sessions.begin() as session:
        for name, source in (("web", "https://user:secret@Data.Example.org:8443/x.zip"), ("disk", "/srv/data")):
            plan_job(session, make_collection(session, name, source=source), plan=["collect"])
    scheduler.tick()
    with sessions() as session:
        assert session.scalars(select(Unit.host).order_by(Unit.id)).all() == ["data.example.org", ""]


def test_the_scheduler_goes_on_with_what_waits_when_a_worker_takes_something_up(scheduler, settings, sessions, add):
    ids = add(SMALLEST_WINDOW + 1)
    scheduler.publish()
    assert scheduler.others_wait
    claim(sessions, ids[0])
    scheduler.publish()
    assert not scheduler.others_wait
    assert status(sessions, ids[-1]) == UnitStatus.QUEUED


def test_a_long_tick_ends_when_it_is_asked_to(scheduler, sessions, monkeypatch):
    monkeypatch.setattr("services.scheduler.scheduler.AT_ONCE", 2)
    with sessions.begin() as session:
        for number in range(5):
            make_collection(session, f"due{number}", retrieval_frequency="WEEKLY")
    scheduler.tick(lambda: True)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_a_long_tick_lets_others_speak_every_few_jobs(scheduler, sessions, monkeypatch):
    monkeypatch.setattr("services.scheduler.scheduler.AT_ONCE", 2)
    with sessions.begin() as session:
        for number in range(5):
            make_collection(session, f"due{number}", retrieval_frequency="WEEKLY")
    spoken = []
    scheduler.tick(lambda: spoken.append(1))
    assert len(spoken) == 6, "after some are planned, and after some are started"
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Task).where(Task.status == TaskStatus.RUNNING)) == 5


def test_cleaning_up_lets_others_speak_after_each_step_and_ends_when_it_is_asked_to(scheduler):
    spoken = []
    assert not scheduler.clean_up(lambda: spoken.append(1))
    assert len(spoken) == 4
    assert scheduler.clean_up(lambda: spoken.append(1) or True), "more may be left"
    assert len(spoken) == 5
