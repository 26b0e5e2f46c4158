"""Claims, leases and fencing tokens: of many workers one holds a unit, and who lost it changes nothing."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from shared import units
from shared.db.models import Job, JobStatus, Result, Task, TaskStatus, Unit, UnitStatus
from shared.errors import SupersededError
from shared.units import Assignment
from tests.factories import make_collection, make_job

LEASE = timedelta(seconds=60)


@pytest.fixture
def unit_id(sessions):
    with sessions.begin() as session:
        job = make_job(session, make_collection(session))
        job.tasks[0].status = TaskStatus.RUNNING
        unit = Unit(task_id=job.tasks[0].id, job_id=job.id, number=1, status=UnitStatus.QUEUED)
        session.add(unit)
        session.flush()
        return unit.id


def claim(sessions, unit_id, worker="one", lease=LEASE):
    with sessions.begin() as session:
        return units.claim(session, unit_id, worker=worker, lease=lease, database_url="postgresql://")


def row(sessions, unit_id):
    with sessions() as session:
        return session.get_one(Unit, unit_id)


def change(sessions, statement):
    with sessions.begin() as session:
        session.execute(statement)


def test_a_claim_counts_the_attempt_and_takes_a_new_token(sessions, unit_id):
    first = claim(sessions, unit_id)
    assert isinstance(first, Assignment)
    assert (first.attempt, first.task_type, first.source_id) == (1, "collect", "sample")
    with sessions.begin() as session:
        assert units.hand_back(session, unit_id, first.token)
    second = claim(sessions, unit_id)
    assert second.attempt == 1, "a handed back attempt does not count"
    assert second.token > first.token


def test_of_many_claimants_at_once_exactly_one_wins(sessions, unit_id):
    won = []
    barrier = threading.Barrier(8)

    def compete(name):
        barrier.wait()
        result = claim(sessions, unit_id, worker=name)
        if isinstance(result, Assignment):
            won.append(name)

    threads = [threading.Thread(target=compete, args=(f"worker {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert row(sessions, unit_id).worker == won[0]


def test_a_unit_whose_holder_is_alive_is_busy(sessions, unit_id):
    claim(sessions, unit_id, worker="holder")
    refusal = claim(sessions, unit_id, worker="other")
    assert refusal.busy
    assert "holder" in refusal.reason


def test_an_expired_lease_can_be_claimed_and_fences_the_old_holder(sessions, unit_id):
    old = claim(sessions, unit_id, worker="frozen", lease=timedelta(seconds=-1))
    new = claim(sessions, unit_id, worker="successor")
    assert isinstance(new, Assignment)
    assert new.attempt == 2
    with sessions.begin() as session:
        assert not units.renew(session, unit_id, old.token, lease=LEASE, progress={"done": 1})
        assert not units.fail(session, unit_id, old.token, error="late", traceback="")
        assert not units.put_off(session, unit_id, old.token, error="late", traceback="", delay=LEASE)
        assert not units.hand_back(session, unit_id, old.token)
        with pytest.raises(SupersededError):
            units.hold(session, unit_id, old.token)
        units.complete(session, old, {"late": True}, [])
    after = row(sessions, unit_id)
    assert (after.status, after.worker, after.output, after.progress) == (UnitStatus.RUNNING, "successor", {}, {})


@pytest.mark.parametrize(
    "ending",
    [
        update(Job).values(status=JobStatus.COMPLETED),
        update(Task).values(status=TaskStatus.COMPLETED),
        update(Unit).values(status=UnitStatus.COMPLETED, result=Result.OK),
    ],
    ids=["job over", "task over", "unit completed"],
)
def test_what_is_over_cannot_be_claimed_and_is_not_busy(sessions, unit_id, ending):
    change(sessions, ending)
    assert not claim(sessions, unit_id).busy


def test_a_unit_that_does_not_exist_is_refused(sessions):
    assert claim(sessions, 4711) == units.Refusal("the unit does not exist", busy=False)


def test_a_holder_learns_that_its_job_ended(sessions, unit_id):
    held = claim(sessions, unit_id)
    change(sessions, update(Job).values(status=JobStatus.COMPLETED))
    with sessions.begin() as session:
        assert not units.renew(session, unit_id, held.token, lease=LEASE, progress=None)
        with pytest.raises(SupersededError):
            units.hold(session, unit_id, held.token)


def test_renewing_extends_the_lease_and_keeps_progress(sessions, unit_id):
    held = claim(sessions, unit_id, lease=timedelta(seconds=5))
    before = row(sessions, unit_id).lease_until
    with sessions.begin() as session:
        assert units.renew(session, unit_id, held.token, lease=LEASE, progress={"done": 7, "of": "records"})
        assert units.renew(session, unit_id, held.token, lease=LEASE, progress=None)
    after = row(sessions, unit_id)
    assert after.lease_until > before
    assert after.progress == {"done": 7, "of": "records"}


def test_expired_units_are_planned_again_and_published_before_others(sessions, unit_id):
    claim(sessions, unit_id, lease=timedelta(seconds=-1))
    with sessions.begin() as session:
        assert [taken.id for taken in units.take_back_expired(session)] == [unit_id]
        assert [due.id for due in units.to_publish(session, republish_after=LEASE)] == [unit_id]
        units.mark_queued(session, [unit_id])
        assert units.to_publish(session, republish_after=LEASE) == []
        assert units.take_back_expired(session) == []


def test_a_queued_unit_that_nobody_claims_is_published_again_in_time(sessions, unit_id):
    change(sessions, update(Unit).values(published_at=func.now() - timedelta(minutes=3)))
    with sessions() as session:
        assert units.to_publish(session, republish_after=timedelta(minutes=5)) == []
        assert [due.id for due in units.to_publish(session, republish_after=timedelta(minutes=2))] == [unit_id]


def test_marking_queued_does_not_undo_a_claim(sessions, unit_id):
    claim(sessions, unit_id)
    with sessions.begin() as session:
        units.mark_queued(session, [unit_id])
        assert session.scalar(select(Unit.status)) == UnitStatus.RUNNING
