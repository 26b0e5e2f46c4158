"""The servers of one run: a PostgreSQL and, if asked for, a RabbitMQ that nobody else uses, to be killed at will.

PostgreSQL is the embedded one (shared/db/embedded.py): whatever happened to it, entering another block starts it again
where it was. Ending and starting take seconds and are done by a thread, so that only those wait for it who want to.
"""

import abc
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2

from shared.db.embedded import _try_lock, embedded_database
from tests.backends import RabbitNode, private_rabbitmq, rabbitmq_version
from tests.waiting import eventually


class Server(abc.ABC):
    """A server that is up, or on its way down and up again."""

    def __init__(self) -> None:
        self.down = False
        self._failure: Exception | None = None
        self._cycle: threading.Thread | None = None

    def cycle(self, end: Callable[[], None], seconds: float) -> None:
        """End it, and start it again after so many seconds, without waiting for any of that."""
        self.down = True
        self._cycle = threading.Thread(target=self._go_round, args=(end, seconds))
        self._cycle.start()

    def wait(self) -> None:
        """Wait until it is up."""
        if self._cycle is not None:
            self._cycle.join()
        if self._failure is not None:
            raise self._failure

    def _go_round(self, end: Callable[[], None], seconds: float) -> None:
        try:
            end()
            time.sleep(seconds)
            self._start()
            self.down = False
        except Exception as error:  # noqa: BLE001  raised by wait()
            self._failure = error

    @abc.abstractmethod
    def _start(self) -> None:
        """Start it, and return when it is up."""


class Postgres(Server):
    """The embedded server of a directory. ``url`` stays the same."""

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__()
        self._directory, self.url = directory, url

    def stop(self, number: signal.Signals) -> None:
        """End it: SIGQUIT (the server's "immediate" mode) or SIGKILL. Neither finishes what clients are doing."""
        pid = int((self._directory / "postgres" / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, number)

    def _start(self) -> None:
        eventually(self._is_up, seconds=120, what=f"PostgreSQL; see {self._directory / 'postgres.log'}")

    def _is_up(self) -> bool:
        with embedded_database(self._directory) as url:
            if url != self.url:
                raise RuntimeError(f"PostgreSQL's address has changed from {self.url} to {url}.")
            # What was killed a moment ago may have answered once more.
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(url).close()
                return True
        return False

    def cut_connections(self, share: float) -> int:
        """End some of the connections, wherever they are in their work; return how many."""
        statement = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < %s"
        )
        try:
            connection = psycopg2.connect(self.url)
        except psycopg2.OperationalError:
            return 0
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement, (share,))
            return int(cursor.fetchall()[0][0])

    def create_database(self, name: str) -> str:
        """Create a database beside the main one; return its URL."""
        connection = psycopg2.connect(self.url)
        with contextlib.closing(connection), connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(f"CREATE DATABASE {name}")
        return self.url.replace("/bowerbird?", f"/{name}?")


class RabbitMQ(Server):
    """A node of our own."""

    def __init__(self, node: RabbitNode) -> None:
        super().__init__()
        self.node, self.url = node, node.url
        self.version = rabbitmq_version(node.url)

    def stop(self) -> None:
        """End it as an operator does; if that fails, as a power cut does."""
        try:
            self.node.stop()
        except subprocess.SubprocessError:
            self.node.kill()

    def _start(self) -> None:
        self.node.start()

    def messages(self) -> dict[str, int]:
        """Return the queues that hold messages, ready or unacknowledged, and how many."""
        rows = (line.split("\t") for line in self.node.control("list_queues", "name", "messages").splitlines())
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and int(row[1])}


@contextlib.contextmanager
def private_postgres(directory: Path) -> Iterator[Postgres]:
    """Yield a running PostgreSQL whose data is in the directory."""
    with embedded_database(directory) as url:
        server = Postgres(directory, url)
        yield server
        server.wait()
    with (directory / "postgres.keeper.lock").open("a") as lock:
        eventually(lambda: _try_lock(lock), seconds=120, what="the end of PostgreSQL")


@contextlib.contextmanager
def private_broker(kind: str, directory: Path) -> Iterator[RabbitMQ | None]:
    """Yield a running RabbitMQ; None if PostgreSQL is to be the broker."""
    if kind == "postgresql":
        yield None
        return
    directory.mkdir()
    with private_rabbitmq(directory) as node:
        server = RabbitMQ(node)
        yield server
        server.wait()
