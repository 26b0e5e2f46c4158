"""Claims, leases and fencing tokens: of many workers one holds a unit, and who lost it changes nothing."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from shared import units
from shared.db.models import Job, JobStatus, Result, Task, TaskStatus, Unit, UnitStatus
from shared.errors import SupersededError
from shared.limits import NO_LIMITS
from shared.units import Assignment, Later
from tests.factories import make_collection, make_job, make_unit

LEASE = timedelta(seconds=60)


@pytest.fixture
def unit_id(sessions):
    with sessions.begin() as session:
        job = make_job(session, make_collection(session))
        job.tasks[0].status = TaskStatus.RUNNING
        unit = make_unit(job.tasks[0], status=UnitStatus.QUEUED)
        session.add(unit)
        session.flush()
        return unit.id


def claim(sessions, unit_id, worker="one", lease=LEASE):
    with sessions.begin() as session:
        return units.claim(session, unit_id, worker=worker, lease=lease, database_url="postgresql://")


def row(sessions, unit_id):
    with sessions() as session:
        return session.get_one(Unit, unit_id)


def planned(session, limits=NO_LIMITS):
    return [due.id for due in units.to_publish(session, limits)[0]]


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


def test_progress_counts_from_the_claim_of_an_attempt_or_of_the_first_call(sessions, unit_id):
    long_ago = update(Unit).values(progress_since=func.now() - timedelta(hours=1))
    first = claim(sessions, unit_id, lease=timedelta(seconds=-1))
    change(sessions, long_ago)
    again = claim(sessions, unit_id)
    since = row(sessions, unit_id).progress_since
    assert again.attempt == first.attempt + 1
    assert datetime.now(UTC) - since < timedelta(minutes=30)
    with sessions.begin() as session:
        assert units.ask_later(session, unit_id, again.token, Later(timedelta(0), {"after": 1}, done=1))
    claim(sessions, unit_id)
    assert row(sessions, unit_id).progress_since == since


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
        assert planned(session) == [unit_id]
        units.mark_queued(session, [unit_id])
        assert planned(session) == []
        assert units.take_back_expired(session) == []


def test_a_queued_unit_that_nobody_claims_is_published_again_in_time(sessions, unit_id):
    change(sessions, update(Unit).values(published_at=func.now() - timedelta(minutes=3)))
    with sessions() as session:
        assert units.unclaimed(session, after=timedelta(minutes=5)) == []
        assert [due.id for due in units.unclaimed(session, after=timedelta(minutes=2))] == [unit_id]


def test_marking_queued_does_not_undo_a_claim(sessions, unit_id):
    claim(sessions, unit_id)
    with sessions.begin() as session:
        units.mark_queued(session, [unit_id])
        assert session.scalar(select(Unit.status)) == UnitStatus.RUNNING


def test_a_unit_that_was_put_off_is_not_claimed_before_it_is_due_whatever_message_comes(sessions, unit_id):
    first = claim(sessions, unit_id)
    with sessions.begin() as session:
        assert units.put_off(session, unit_id, first.token, error="busy", traceback="", delay=timedelta(hours=2))
    refusal = claim(sessions, unit_id)
    assert refusal.busy, "the message must come back"
    assert timedelta(minutes=119) < refusal.due_in <= timedelta(hours=2)
    assert (row(sessions, unit_id).status, row(sessions, unit_id).attempt) == (UnitStatus.QUEUED, 1)
    change(sessions, update(Unit).values(next_attempt_at=func.now()))
    assert claim(sessions, unit_id).attempt == 2


def test_each_message_of_a_waiting_unit_is_followed_by_the_next_after_twice_the_time(sessions, unit_id):
    base = timedelta(minutes=2)

    def is_due(published, waited):
        change(sessions, update(Unit).values(publications=published, published_at=func.now() - waited))
        with sessions() as session:
            return bool(units.unclaimed(session, after=base))

    for published, minutes in ((1, 2), (2, 4), (3, 8), (5, 32), (6, 60), (40, 60), (32_767, 60)):
        wait = timedelta(minutes=minutes)
        assert not is_due(published, wait - timedelta(seconds=5))
        assert is_due(published, wait + timedelta(seconds=5))


def test_a_republish_time_beyond_an_hour_is_not_shortened(sessions, unit_id):
    change(sessions, update(Unit).values(publications=9, published_at=func.now() - timedelta(hours=2)))
    with sessions() as session:
        assert units.unclaimed(session, after=timedelta(hours=3)) == []


def test_messages_are_counted_until_the_unit_is_claimed(sessions, unit_id):
    for count in (1, 2):
        with sessions.begin() as session:
            units.mark_queued(session, [unit_id])
        assert row(sessions, unit_id).publications == count
    claim(sessions, unit_id)
    assert row(sessions, unit_id).publications == 0
