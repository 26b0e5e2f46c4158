"""Connections of a pool whose server went away."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.db import engine as module
from shared.db import make_engine, make_sessions
from shared.db.errors import is_temporary


@pytest.fixture
def pool(database_url):
    """Sessions on an engine of the test's own."""
    engine = make_engine(database_url, application_name="bowerbird test of connections")
    yield make_sessions(engine)
    engine.dispose()


def use(pool):
    with pool() as session:
        return session.execute(text("SELECT pg_backend_pid()")).scalar_one()


def end(sessions, *pids):
    with sessions.begin() as session:
        for pid in pids:
            session.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


def use_two(pool):
    with pool() as one, pool() as other:
        return [session.execute(text("SELECT pg_backend_pid()")).scalar_one() for session in (one, other)]


def test_a_connection_that_has_been_idle_is_replaced_unnoticed(pool, sessions, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0)
    pids = use_two(pool)
    end(sessions, *pids)
    assert use(pool) not in pids
    assert not set(use_two(pool)) & set(pids)


def test_of_connections_that_were_just_used_one_fails_and_takes_the_others_with_it(pool, sessions, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 60)
    pids = use_two(pool)
    end(sessions, *pids)
    with pytest.raises(DBAPIError) as caught:
        use(pool)
    assert is_temporary(caught.value)
    assert not set(use_two(pool)) & set(pids)
    assert use(pool) not in pids


def test_a_living_connection_is_used_again_without_being_asked(pool, monkeypatch):
    pid = use(pool)
    asked = []
    dialect = pool.kw["bind"].dialect
    monkeypatch.setattr(dialect, "do_ping", asked.append)
    monkeypatch.setattr(module, "IDLE_SECONDS", 60)
    assert use(pool) == pid
    assert asked == []
    monkeypatch.setattr(module, "IDLE_SECONDS", 0)
    assert use(pool) == pid
    assert len(asked) == 1
