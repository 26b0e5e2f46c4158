"""Connections, and short transactions: a restarted server costs one failed statement, no more.

A connection that has been idle is asked whether it lives before it is used again (SQLAlchemy's ``pool_pre_ping`` would
ask each time, which small jobs feel). One that breaks in use takes all others of its pool with it.
"""

import time
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg2
from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

# A statement that waits for a lock longer than this raises, and the work is retried: nothing hangs for ever.
LOCK_TIMEOUT_MILLISECONDS = 60_000
IDLE_SECONDS = 1.0


def libpq_url(url: str) -> str:
    """Return the URL as libpq takes it, whatever dialect prefix it carries."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def make_engine(url: str, *, application_name: str, pool_size: int = 5, silence: timedelta | None = None) -> Engine:
    """Create an engine for the URL (``postgresql://…``). Connects lazily; times are UTC.

    :param application_name: shown in ``pg_stat_activity``, so that an operator sees who holds a lock.
    :param silence: how long a transaction may stand still before the server ends it, and with it the connection. For
        who holds locks that others wait for, and may be frozen just then. None: for ever.
    """
    engine = create_engine(
        libpq_url(url).replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg2://", 1),
        pool_size=pool_size,
        max_overflow=10,
        executemany_mode="values_plus_batch",  # many updates in one round trip, as many inserts are
        connect_args=_connect_args(application_name, silence),
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_ask_if_idle, engine.dialect))
    return engine


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _ask_if_idle(dialect: Dialect, connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Have the pool connect anew if the connection is dead, and forget the others."""
    if time.monotonic() - record.info.get("used_at", float("inf")) < IDLE_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except psycopg2.Error as error:
        raise InvalidatePoolError from error


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    """Create a session factory. Use ``with sessions.begin() as session``: one block, one transaction."""
    return sessionmaker(engine, expire_on_commit=False)


def connect(url: str, *, application_name: str) -> Any:
    """Open one psycopg2 connection outside any pool (``COPY``, ``LISTEN``, server-side cursors)."""
    return psycopg2.connect(libpq_url(url), **_connect_args(application_name))


def _connect_args(application_name: str, silence: timedelta | None = None) -> dict[str, Any]:
    # Compiling a query (jit) takes longer than any of ours runs.
    options = f"-c timezone=UTC -c jit=off -c lock_timeout={LOCK_TIMEOUT_MILLISECONDS}"
    if silence is not None:
        options += f" -c idle_in_transaction_session_timeout={silence // timedelta(milliseconds=1)}"
    return {
        "application_name": application_name,
        "connect_timeout": 10,
        # A client whose server's host is gone notices in a minute, not in two hours. Of no effect on a local socket.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        "options": options,
    }
