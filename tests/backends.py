"""Finds or starts the servers the tests talk to, in the order docs/contributing.md gives."""

import contextlib
import os
import uuid
from collections.abc import Iterator

import psycopg2

LOCAL_POSTGRES = "postgresql://127.0.0.1:5432/postgres"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server on which databases can be created."""
    yield os.environ.get("TEST_DATABASE_URL") or LOCAL_POSTGRES


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create a database with a name of its own, yield its URL, drop it."""
    name = f"bowerbird_test_{uuid.uuid4().hex[:12]}"
    _execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield f"{server_url.rpartition('/')[0]}/{name}"
    finally:
        _execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
