"""The probes of services without a port: alive, ready, metrics. The server is real, and so are database and clients."""

import concurrent.futures
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from sqlalchemy import text

from shared import metrics, probes
from shared.errors import ConfigurationError
from shared.health import STALE_AFTER_SECONDS, Heartbeat, Pulse
from shared.probes import CHECK_SECONDS
from tests.backends import free_ports

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(settings):
    (port,) = free_ports(1)
    return settings.model_copy(update={"metrics_port": port})


@pytest.fixture(autouse=True)
def _loop_has_not_begun(monkeypatch):
    monkeypatch.setattr(Pulse, "beaten", 0.0)
    monkeypatch.setattr(Pulse, "connected", False)
    monkeypatch.setattr(metrics, "_shown", None)


@pytest.fixture
def ask(settings):
    """Serve probes; return a function that asks for a path: status, body."""

    def ask(path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{settings.metrics_port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    with probes.probes(settings, "exporter", settings.database_url):
        yield ask


def beat(settings, *, connected=True):
    Heartbeat(settings, "exporter").beat(connected=connected)


def faults(answer):
    status, body = answer
    assert status == 503
    return json.loads(body)["faults"]


def test_a_service_that_starts_is_alive_and_not_ready(ask):
    assert ask("/health/live") == (200, '{"status": "ok"}\n')
    assert faults(ask("/health/ready")) == {"service": "is starting"}


def test_a_service_whose_loop_turns_is_alive_and_ready(ask, settings):
    beat(settings)
    assert ask("/health/live")[0] == 200
    assert ask("/health/ready") == (200, '{"status": "ok"}\n')
    assert ask("/health/ready", "HEAD") == (200, "")


def test_a_loop_that_stands_still_is_not_alive(ask, settings):
    beat(settings)
    Pulse.beaten = time.monotonic() - STALE_AFTER_SECONDS
    assert faults(ask("/health/live")).keys() == {"loop"}


def test_without_a_broker_it_is_alive_and_not_ready(ask, settings):
    beat(settings, connected=False)
    assert ask("/health/live")[0] == 200
    assert faults(ask("/health/ready")) == {"broker": "is not connected"}
    beat(settings)
    assert ask("/health/ready")[0] == 200


def test_without_a_database_it_is_not_ready(settings):
    beat(settings)
    database = probes._Database("postgresql://nobody@127.0.0.1:1/none", "test")
    assert probes._readiness(database) == {"database": "does not answer"}
    database.close()


def test_a_storm_of_probes_is_one_question_on_one_connection(ask, settings, sessions):
    beat(settings)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask("/health/ready")[0], range(100)))
    assert set(answers) == {200}
    with sessions() as session:
        count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bowerbird exporter probes'")
        assert session.scalar(count) == 1


def test_a_database_that_does_not_answer_holds_up_nobody_for_long(settings, monkeypatch):
    beat(settings)
    database = probes._Database(settings.database_url, "test")
    monkeypatch.setattr(probes, "PATIENCE_SECONDS", 0.05)
    with database._lock:  # another probe is waiting for it
        assert not database.answers()
    assert database.answers()
    database._engine.dispose()
    monkeypatch.setattr(database, "_ask", lambda: pytest.fail("asked again"))
    assert database.answers()
    database._asked_at -= CHECK_SECONDS
    with pytest.raises(pytest.fail.Exception):
        database.answers()
    database.close()


def test_metrics_are_there_with_the_room_on_the_disks(ask, settings):
    beat(settings)
    status, body = ask("/metrics")
    assert status == 200
    assert 'bowerbird_disk_free_bytes{directory="exports"}' in body
    assert "bowerbird_broker_connected 1.0" in body
    assert ask("/metrics?name[]=x")[0] == 200


def test_other_paths_are_answered_with_those_that_there_are(ask):
    status, body = ask("/metric")
    assert (status, body) == (404, "/health/live, /health/ready, /metrics\n")


def test_a_client_that_says_nothing_holds_up_no_other(ask, settings):
    beat(settings)
    with socket.create_connection(("127.0.0.1", settings.metrics_port)):
        assert ask("/health/live")[0] == 200


def test_without_a_port_there_is_no_server_and_nothing_is_counted(settings):
    settings = settings.model_copy(update={"metrics_port": None})
    with probes.probes(settings, "exporter", settings.database_url):
        assert not metrics.is_enabled()


def test_a_port_that_is_taken_is_named(ask, settings):
    with (
        pytest.raises(ConfigurationError, match=f"port {settings.metrics_port}.*BOWERBIRD_METRICS_PORT"),
        probes.probes(settings, "exporter", settings.database_url),
    ):
        pass


def test_a_pass_by_hand_needs_no_port(ask, settings, sessions):
    """``--dry-run`` beside a running scheduler, with the same settings."""
    result = subprocess.run(
        [sys.executable, "-m", "services.scheduler", "--dry-run"],
        cwd=ROOT,
        env={"PATH": "", **settings.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
