"""Starting a service: it waits for its database, whatever that says meanwhile."""

import os

import psycopg2
import pytest
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError

from shared import service
from shared.db.migrate import head_revision
from shared.service import Stop, wait_for_database


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
