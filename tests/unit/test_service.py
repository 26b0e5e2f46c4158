"""Starting a service: it waits for its database, whatever that says meanwhile."""

import os

import psycopg2
import pytest
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError

from shared import service
from shared.db.revision import head_revision
from shared.service import DatabaseWaitError, Patience, Stop, wait_for_database


@pytest.fixture
def stop():
    stop = Stop()
    yield stop
    os.close(stop._reader)
    os.close(stop._writer)


def answers(monkeypatch, *outcomes):
    """Have the database answer in this way, one outcome a call."""
    left = iter(outcomes)

    def answer(_url):
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(service, "current_revision", answer)


def test_a_connection_that_breaks_in_any_of_the_drivers_ways_is_waited_out(monkeypatch, stop):
    monkeypatch.setattr(Stop, "wait", lambda _self, _seconds: False)
    refused = OperationalError("", None, psycopg2.OperationalError("connection refused"))
    # What the driver raises where the server goes away in the middle of an answer: not an OperationalError.
    broken = DatabaseError("", None, psycopg2.DatabaseError("server closed the connection unexpectedly"))
    answers(monkeypatch, refused, broken, None, head_revision())
    assert wait_for_database("postgresql://", stop)


def test_an_error_that_waiting_does_not_mend_is_raised(monkeypatch, stop):
    answers(monkeypatch, ProgrammingError("", None, psycopg2.ProgrammingError("syntax error")))
    with pytest.raises(ProgrammingError):
        wait_for_database("postgresql://", stop)


class Clock:
    """A clock that only waiting turns on."""

    def __init__(self):
        self.now, self.waited = 100.0, []

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.waited.append(seconds)
        self.now += seconds
        return False


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Stop, "wait", lambda _stop, seconds: clock.wait(seconds))
    return clock


@pytest.mark.parametrize(("seconds", "waited"), [(0, []), (2.9, []), (3, [3]), (7, [3, 3])])
def test_a_database_that_does_not_come_is_given_up_before_a_pause_that_would_end_too_late(
    monkeypatch, stop, clock, seconds, waited
):
    refused = OperationalError("", None, psycopg2.OperationalError("connection refused"))
    answers(monkeypatch, *[refused] * 5)
    with pytest.raises(DatabaseWaitError, match=f"within {seconds} s: connection refused.*DATABASE_WAIT_SECONDS"):
        wait_for_database("postgresql://", stop, Patience(seconds, 3, clock))
    assert clock.waited == waited


def test_a_database_that_is_not_migrated_in_time_is_given_up_with_the_command_that_does_it(monkeypatch, stop, clock):
    answers(monkeypatch, *[None] * 5)
    with pytest.raises(DatabaseWaitError, match=r"at nothing .*`bowerbird migrate`"):
        wait_for_database("postgresql://", stop, Patience(3, 2, clock))


def test_a_database_that_comes_in_time_is_waited_for(monkeypatch, stop, clock):
    refused = OperationalError("", None, psycopg2.OperationalError("connection refused"))
    answers(monkeypatch, refused, None, head_revision())
    assert wait_for_database("postgresql://", stop, Patience(10, 3, clock))


def test_without_a_limit_the_database_is_waited_for_with_growing_pauses(monkeypatch, stop, clock):
    answers(monkeypatch, *[None] * 200, head_revision())
    assert wait_for_database("postgresql://", stop, Patience(clock=clock))
    assert 0.1 <= clock.waited[0] <= 0.2
    assert 5 <= clock.waited[-1] <= 10
