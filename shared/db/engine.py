"""Connections. ``pool_pre_ping`` and short transactions: a restarted server costs one failed statement, no more."""

from typing import Any

import psycopg2
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

# A statement that waits for a lock longer than this raises, and the work is retried: nothing hangs for ever.
LOCK_TIMEOUT_MILLISECONDS = 60_000


def libpq_url(url: str) -> str:
    """Return the URL as libpq takes it, whatever dialect prefix it carries."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def make_engine(url: str, *, application_name: str, pool_size: int = 5) -> Engine:
    """Create an engine for the URL (``postgresql://…``). Connects lazily; times are UTC.

    :param application_name: shown in ``pg_stat_activity``, so that an operator sees who holds a lock.
    """
    return create_engine(
        libpq_url(url).replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg2://", 1),
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=10,
        connect_args=_connect_args(application_name),
    )


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    """Create a session factory. Use ``with sessions.begin() as session``: one block, one transaction."""
    return sessionmaker(engine, expire_on_commit=False)


def connect(url: str, *, application_name: str) -> Any:
    """Open one psycopg2 connection outside any pool (``COPY``, ``LISTEN``, server-side cursors)."""
    return psycopg2.connect(libpq_url(url), **_connect_args(application_name))


def _connect_args(application_name: str) -> dict[str, Any]:
    return {
        "application_name": application_name,
        "connect_timeout": 10,
        # A client whose server's host is gone notices in a minute, not in two hours. Of no effect on a local socket.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        "options": f"-c timezone=UTC -c lock_timeout={LOCK_TIMEOUT_MILLISECONDS}",
    }
