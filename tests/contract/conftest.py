"""Brokers and consumers for the contract suite."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from shared.broker import open_broker
from shared.messages import RunUnit
from tests.contract.proxy import Proxy

ROOT = Path(__file__).parents[2]
QUEUE = "exporter.v1"
OTHER_QUEUE = "flattener.v1"


def make_message(unit_id=1, job_id=1):
    return RunUnit(unit_id=unit_id, task_id=1, job_id=job_id, task_type="export")


def unit_of(message):
    """Return the number of the unit that a delivery or dead letter is about."""
    return RunUnit.model_validate_json(message.body).unit_id


def receive_all(consumer, *, patience=0.5):
    """Return what the consumer is given until nothing more comes."""
    received = []
    while (delivery := consumer.receive(patience if received else 10)) is not None:
        received.append(delivery)
    return received


@pytest.fixture
def broker(any_settings):
    broker = open_broker(any_settings, any_settings.database_url)
    broker.declare()
    yield broker
    broker.close()


@pytest.fixture
def consume(request):
    """Make consumers, closed after the test: of ``broker``, which the test asks for too, or of another."""
    made = []

    def make(*queues, prefetch=1, of=None):
        consumer = (of or request.getfixturevalue("broker")).consume(queues or [QUEUE], prefetch=prefetch)
        made.append(consumer)
        return consumer

    yield make
    for consumer in made:
        consumer.close()


@pytest.fixture
def hold(any_settings, broker):
    """Start a process that holds messages; return it once it does."""
    started = []

    def start(number=1, queue=QUEUE):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.holder", queue, str(number)],
            cwd=ROOT,
            env={**os.environ, **any_settings.environment()},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "holding\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


class Line:
    """The way to a broker, which a test can cut."""

    def __init__(self, settings):
        self.settings = settings
        self._proxy = None
        if settings.broker_url.startswith("amqp"):
            host, _, port = settings.broker_url.rpartition("@")[2].partition("/")[0].partition(":")
            self._proxy = Proxy(host, int(port or 5672))
            url = settings.broker_url.replace(f"@{host}:{port}", f"@127.0.0.1:{self._proxy.port}")
            self.settings = settings.model_copy(update={"broker_url": url})

    def cut(self):
        """End all of the test's connections to the broker."""
        if self._proxy is not None:
            self._proxy.cut()
            return
        connection = psycopg2.connect(self.settings.database_url)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s",
                (f"{self.settings.broker_prefix} %",),
            )
        connection.close()

    def close(self):
        if self._proxy is not None:
            self._proxy.close()


@pytest.fixture
def line(any_settings, broker):
    """The way to the broker; ``broker`` itself does not use it, where it can be avoided."""
    line = Line(any_settings)
    yield line
    line.close()


@pytest.fixture
def far_broker(line):
    """A broker at the other end of ``line``."""
    broker = open_broker(line.settings, line.settings.database_url)
    yield broker
    broker.close()


@contextmanager
def running(*targets):
    """Run functions in threads of their own; raise what they raise."""
    errors = []

    def guard(target):
        try:
            target()
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)

    threads = [threading.Thread(target=guard, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    yield  # a test that fails here does not wait for threads that may never end
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
