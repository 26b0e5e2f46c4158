"""The event log: complete, in the order of commits, and pruned in a way that can be told."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, text, update

from shared import events
from shared.db.models import Event, Job, JobStatus, Result, Task, TaskStatus
from tests.factories import make_collection, make_job
from tests.waiting import eventually


@pytest.fixture
def job(sessions):
    """The id of a job that runs."""
    with sessions.begin() as session:
        return make_job(session, make_collection(session, "rivers"), tasks=("collect", "export")).id


def log(sessions, after=0, **wanted):
    with sessions() as session:
        return events.read_events(session, after=after, **wanted)


def told(sessions, **wanted):
    """Return (type, task, status, result) of all events."""
    return [(event.type, event.task, event.status, event.result) for event in log(sessions, **wanted)]


def end(session, job_id, *results):
    """End the job, with these results of its tasks."""
    tasks = session.query(Task).filter_by(job_id=job_id).order_by(Task.order)
    for task, result in zip(tasks, results, strict=True):
        task.status, task.result = TaskStatus.COMPLETED, result
    session.get_one(Job, job_id).status = JobStatus.COMPLETED


def test_each_change_of_a_status_is_an_event_whoever_makes_it(sessions, job):
    with sessions.begin() as session:
        session.execute(text("UPDATE task SET status = 'RUNNING' WHERE type = 'collect'"))
    with sessions.begin() as session:
        end(session, job, Result.OK, Result.OK)
    assert told(sessions) == [
        ("task", "collect", "RUNNING", ""),
        ("task", "collect", "COMPLETED", "OK"),
        ("task", "export", "COMPLETED", "OK"),
        ("job", "", "COMPLETED", "OK"),
    ]
    assert {(event.job_id, event.source_id, event.public) for event in log(sessions)} == {(job, "rivers", True)}


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        ((Result.OK, Result.SKIPPED), "OK"),
        ((Result.FAILED, Result.SKIPPED), "FAILED"),
        ((Result.OK, Result.CANCELLED), "CANCELLED"),
        ((Result.CANCELLED, Result.FAILED), "FAILED"),
    ],
)
def test_the_end_of_a_job_has_the_result_that_its_tasks_add_up_to(sessions, job, results, outcome):
    with sessions.begin() as session:
        end(session, job, *results)
    assert told(sessions)[-1] == ("job", "", "COMPLETED", outcome)


def test_what_changes_no_status_is_no_event_and_neither_is_what_is_rolled_back(sessions, job):
    with sessions.begin() as session:
        session.execute(update(Task).values(note="patience"))
        session.execute(update(Job).values(context={"records": 3}))
    with sessions() as session:
        end(session, job, Result.OK, Result.OK)
        session.flush()
        session.rollback()
    assert log(sessions) == []


def test_a_planned_job_is_an_event_and_an_imported_one_that_is_over_is_none(sessions):
    with sessions.begin() as session:
        make_job(session, make_collection(session, "a"), status=JobStatus.PLANNED)
        make_job(session, make_collection(session, "b"), status=JobStatus.COMPLETED)
    assert [(event.source_id, event.status) for event in log(sessions)] == [("a", "PLANNED")]


def test_a_transaction_that_began_first_and_commits_last_has_the_higher_ids(sessions):
    """Else a reader that has seen the other's would never read its."""
    with sessions.begin() as session:
        slow, fast = (make_job(session, make_collection(session, name)).id for name in ("slow", "fast"))
    with sessions.begin() as first:
        first.get_one(Job, slow).status = JobStatus.COMPLETED
        first.flush()
        with sessions.begin() as second:
            second.get_one(Job, fast).status = JobStatus.COMPLETED
        seen = log(sessions)
        assert [event.job_id for event in seen] == [fast], "the other one has not committed"
    assert [event.job_id for event in log(sessions, after=seen[-1].id)] == [slow]


def test_a_commit_waits_for_one_that_has_taken_an_id_and_is_not_visible_yet(sessions):
    with sessions.begin() as session:
        slow, fast = (make_job(session, make_collection(session, name)).id for name in ("slow", "fast"))

    def finish(job_id):
        with sessions.begin() as session:
            session.get_one(Job, job_id).status = JobStatus.COMPLETED

    with sessions.begin() as first:
        first.get_one(Job, slow).status = JobStatus.COMPLETED
        first.flush()
        first.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))  # what a commit does, but for the end of it
        second = threading.Thread(target=finish, args=(fast,))
        second.start()
        eventually(lambda: is_waiting(sessions), what="the second commit waits")
        assert log(sessions) == []
    second.join()
    assert [event.job_id for event in log(sessions)] == [slow, fast]


def is_waiting(sessions):
    with sessions() as session:
        return session.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


def test_events_are_narrowed_by_job_by_collection_and_to_what_is_public(sessions):
    with sessions.begin() as session:
        jobs = [
            make_job(session, make_collection(session, name, public=public), status=JobStatus.PLANNED)
            for name, public in (("a", True), ("b", False))
        ]
        session.flush()
        ids = [(job.id, job.collection_id) for job in jobs]
    assert len(log(sessions)) == 2
    assert [event.source_id for event in log(sessions, public_only=True)] == ["a"]
    assert [event.job_id for event in log(sessions, job_id=ids[1][0])] == [ids[1][0]]
    assert [event.job_id for event in log(sessions, collection_id=ids[0][1])] == [ids[0][0]]
    first = log(sessions)[0]
    assert log(sessions, until=first.id) == [first]
    assert log(sessions, limit=1) == [first]


def make_events(sessions, *days):
    """Insert an event of each age."""
    with sessions.begin() as session:
        collection = make_collection(session, "rivers")
        for age in days:
            row = Event(type="job", job_id=1, collection_id=collection.id, status="RUNNING")
            row.created = func.now() - timedelta(days=age)
            session.add(row)
            session.flush()


def test_old_events_go_and_the_log_says_how_far_back_it_reaches(sessions, monkeypatch):
    monkeypatch.setattr(events, "PRUNED_AT_ONCE", 2)
    make_events(sessions, 9, 9, 8, 8, 1, 0)
    with sessions() as session:
        assert events.reaches_back(session, 0)
    passes = 0
    while True:
        with sessions.begin() as session:
            more = events.prune(session, age=timedelta(days=7))
        passes += 1
        if not more:
            break
    assert passes == 2
    assert [event.id for event in log(sessions)] == [4, 5, 6], "the newest of the old ones stays"
    with sessions() as session:
        assert [events.reaches_back(session, last) for last in (0, 2, 3, 4, 6, 7)] == [
            False,
            False,
            True,
            True,
            True,
            False,
        ]
        assert events.newest_id(session) == 6


def test_a_log_without_events_has_missed_nothing_that_was_never_there(sessions):
    with sessions() as session:
        assert events.reaches_back(session, 0)
        assert not events.reaches_back(session, 1)
        assert events.newest_id(session) == 0


def test_a_listener_is_told_of_a_commit(sessions, database_url, job):
    listener = events.Listener(database_url, application_name="test")
    listener.connect()
    try:
        with sessions.begin() as session:
            end(session, job, Result.OK, Result.OK)
        told_after = eventually(lambda: listener.wait(10) or log(sessions))
        assert len(told_after) == 3
    finally:
        listener.close()
