"""Finds or starts the servers the tests talk to, in the order docs/contributing.md gives."""

import contextlib
import functools
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pika
import psycopg2
import pytest

from shared.broker.topology import Topology
from tests.waiting import eventually

LOCAL_POSTGRES = "postgresql://127.0.0.1:5432/postgres"
LOCAL_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672/"
POSTGRES_IMAGE = "postgres:17-alpine"
RABBITMQ_IMAGE = "rabbitmq:4-alpine"
START_SECONDS = 120

# It tells of each attempt to connect, in several lines with tracebacks, and here many are bound to fail.
logging.getLogger("pika").setLevel(logging.CRITICAL)

RABBITMQ_COMMANDS = "TEST_RABBITMQ_COMMANDS"
"""The setting that names the folder of another version's commands."""

# Debian's commands of the same names refuse to run as anyone but root and rabbitmq, and change the user to the latter.
RABBITMQ_PLACES = "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin:/opt/rabbitmq/sbin"


# PostgreSQL


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server on which databases can be created."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
    elif docker_answers():
        with container(POSTGRES_IMAGE, 5432, POSTGRES_HOST_AUTH_METHOD="trust") as address:
            url = f"postgresql://postgres@{address}/postgres"
            eventually(lambda: postgres_answers(url), seconds=START_SECONDS, what="PostgreSQL in its container")
            yield url
    elif postgres_answers(LOCAL_POSTGRES):
        yield LOCAL_POSTGRES
    else:
        from shared.db.embedded import embedded_database  # noqa: PLC0415  the last resort

        with tempfile.TemporaryDirectory(prefix="bowerbird-tests-") as path, embedded_database(Path(path)) as url:
            yield url


def postgres_answers(url: str) -> bool:
    """Return whether a PostgreSQL server lets us in."""
    try:
        psycopg2.connect(url, connect_timeout=3).close()
    except psycopg2.OperationalError:
        return False
    return True


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create a database with a name of its own, yield its URL, drop it."""
    name = f"bowerbird_test_{uuid.uuid4().hex[:12]}"
    _execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
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


# RabbitMQ


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Yield the URL of a RabbitMQ server, for tests that share it and use names of their own."""
    chosen = os.environ.get(RABBITMQ_COMMANDS)  # who asks for a version means it for all tests
    if url := os.environ.get("TEST_BROKER_URL"):
        yield url
    elif not chosen and docker_answers():
        with container(RABBITMQ_IMAGE, 5672) as address:
            url = f"amqp://guest:guest@{address}/"
            eventually(lambda: rabbitmq_answers(url), seconds=START_SECONDS, what="RabbitMQ in its container")
            yield url
    elif not chosen and rabbitmq_answers(LOCAL_RABBITMQ):
        yield LOCAL_RABBITMQ
    else:
        with tempfile.TemporaryDirectory(prefix="bowerbird-tests-") as path, private_rabbitmq(Path(path)) as node:
            yield node.url


def rabbitmq_answers(url: str) -> bool:
    """Return whether a RabbitMQ server lets us in."""
    try:
        pika.BlockingConnection(pika.URLParameters(url)).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


def rabbitmq_version(url: str) -> str:
    """Return the version that a server says it has."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        return str(connection._impl.server_properties["version"])
    finally:
        connection.close()


def remove_from_rabbitmq(url: str, prefix: str) -> None:
    """Delete every queue and exchange with the prefix."""
    topology = Topology(prefix)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for queue in topology.queues():
        channel.queue_delete(queue.name)
    for exchange in topology.exchanges():
        channel.exchange_delete(exchange.name)
    connection.close()


class RabbitNode:
    """A RabbitMQ server of one test's own, which may be stopped, killed and started again. Its data stays."""

    def __init__(self, directory: Path) -> None:
        self._server = _rabbitmq_command("rabbitmq-server")
        self._control = _rabbitmq_command("rabbitmqctl")
        self._log = directory / "output"
        self.port, distribution_port, self._epmd_port = free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        (directory / "plugins").write_text("[].\n")
        (directory / "rabbitmq.conf").write_text("log.file.level = info\n")
        self._environment = {
            **os.environ,
            "HOME": str(directory),  # and with it an Erlang cookie of its own
            "ERL_CRASH_DUMP": str(directory / "crash"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bowerbird-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; return when it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._server],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._is_up, seconds=START_SECONDS, what=f"RabbitMQ on port {self.port}; see {self._log}")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"RabbitMQ did not start:\n{self._log.read_text()}")
        return rabbitmq_answers(self.url)

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``; return what it prints."""
        return subprocess.run(
            [self._control, "--quiet", "--node", self._environment["RABBITMQ_NODENAME"], *arguments],
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        ).stdout

    def stop(self) -> None:
        """Stop the server as an operator does."""
        if self._process is not None:
            self.control("stop", self._environment["RABBITMQ_PID_FILE"])
            self._process.wait(START_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kill the server as a power cut does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(START_SECONDS)
            self._process = None
            eventually(self._is_unreachable, what="the end of the killed server")

    def _is_unreachable(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) != 0

    def close(self) -> None:
        """Stop the server, and the port mapper that it started."""
        self.kill()
        with contextlib.suppress(FileNotFoundError):
            eventually(self._epmd_is_gone, what="the port mapper's end")

    def _epmd_is_gone(self) -> bool:
        # It refuses to end while it still knows a node, which it does for a moment after the node is killed.
        command = [_epmd(), "-port", str(self._epmd_port), "-kill"]
        output = subprocess.run(command, capture_output=True, check=False, text=True).stdout
        return "not allowed" not in output


@contextlib.contextmanager
def private_rabbitmq(directory: Path) -> Iterator[RabbitNode]:
    """Yield a running server that nobody else uses. Skips the test, or fails it in CI, where none is installed."""
    node = RabbitNode(directory)
    try:
        node.start()
        yield node
    finally:
        node.close()


@functools.cache
def _rabbitmq_command(name: str) -> str:
    found = _rabbitmq_place(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", "rabbitmq-server"], check=False, capture_output=True)
        found = _rabbitmq_place(name)
    if found is None:
        unavailable(
            "RabbitMQ: set TEST_BROKER_URL, start Docker, or install the package rabbitmq-server "
            "(tests that stop the server need the package)"
        )
    return found


def _rabbitmq_place(name: str) -> str | None:
    if chosen := os.environ.get(RABBITMQ_COMMANDS):
        if found := shutil.which(name, path=chosen):
            return found
        raise RuntimeError(f"{RABBITMQ_COMMANDS}={chosen} is no folder with the command {name}.")
    return shutil.which(name, path=f"{RABBITMQ_PLACES}:{os.environ['PATH']}")


def _epmd() -> str:
    """Return the command of Erlang's port mapper: a chosen version may bring its own, and not every version does."""
    return shutil.which("epmd", path=f"{os.environ.get(RABBITMQ_COMMANDS, '')}:{os.environ['PATH']}") or "epmd"


def unavailable(what: str) -> None:
    """Skip the tests that need a server; in CI, fail them, as nobody reads there what was skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"No {what}", pytrace=False)
    pytest.skip(f"No {what}")


# Machines


@functools.cache
def docker_answers() -> bool:
    """Return whether there is a Docker engine, and not only its command."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@contextlib.contextmanager
def container(image: str, port: int, **environment: str) -> Iterator[str]:
    """Run a container; yield ``host:port`` where its port is reached, though perhaps not at once."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  slow, and mostly not needed

    running = DockerContainer(image).with_exposed_ports(port)
    for name, value in environment.items():
        running = running.with_env(name, value)
    with running:
        yield f"{running.get_container_host_ip()}:{running.get_exposed_port(port)}"


def free_ports(number: int) -> list[int]:
    """Return ports that nothing listens on.

    They are below those that Linux gives to clients: a client that keeps trying to reach a stopped server could
    otherwise be given the server's own port, and so reach itself.
    """
    free: list[int] = []
    for port in random.sample(range(15_000, 32_000), 1_000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == number:
            return free
    raise RuntimeError("There are no free ports between 15000 and 32000.")
