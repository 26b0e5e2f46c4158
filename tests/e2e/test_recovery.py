"""Servers and services that are away, late, cut off or replaced while real jobs run: it costs time and nothing else."""

import contextlib
import shutil
import urllib.request
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import text

from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.sample import PACKAGES
from shared.tasks import WORKER_SERVICES
from tests import backends, faults
from tests.contract.proxy import Proxy
from tests.e2e.suite import SERVICES, Suite
from tests.stress import ledger
from tests.waiting import eventually

PATIENT = {"lease_seconds": 3, "retry_base_seconds": 0.1, "retry_cap_seconds": 0.5, "republish_after_seconds": 60}


@contextlib.contextmanager
def opened(settings, url, logs):
    """Yield a suite on a database of its own, whose units' histories are written down."""
    engine = make_engine(url, application_name="bowerbird tests")
    sessions = make_sessions(engine)
    ledger.set_up(sessions)
    suite = Suite(settings.model_copy(update={**PATIENT, "database_url": url}), sessions, logs)
    try:
        yield suite
    finally:
        suite.close()
        engine.dispose()


@pytest.fixture
def own_database(postgres_url):
    with backends.fresh_database(postgres_url) as url:
        upgrade(url)
        yield url


@pytest.fixture
def any_suite(any_settings, own_database, tmp_path):
    on_database = any_settings.broker_url == any_settings.database_url
    settings = any_settings.model_copy(update={"broker_url": None}) if on_database else any_settings
    with opened(settings, own_database, tmp_path / "logs") as suite:
        yield suite


@pytest.fixture
def suite(settings, own_database, tmp_path):
    with opened(settings, own_database, tmp_path / "logs") as suite:
        yield suite


@pytest.fixture
def place(tmp_path):
    """Where faults leave their marks."""
    return tmp_path / "faults"


def mark(suite, place, word):
    """Wait until a rule has acted; return its mark."""
    return suite.eventually(
        lambda: next((mark for mark in faults.marks(place) if word in mark.rule), None), f"fault {word}"
    )


def check(suite, job_ids):
    """Wait until the jobs are OK; return the claims of each unit, from its history."""
    for job_id in job_ids:
        job = suite.wait(job_id, seconds=200)
        assert {task.result for task in job.tasks} == {"OK"}, job
    histories = ledger.read(suite.sessions)
    assert ledger.violations(histories) == []
    assert all(process.poll() is None for process in suite.processes.values()), "every service lives on"
    return {
        unit_id: [change.attempt for change in history if change.is_claim] for unit_id, history in histories.items()
    }


# Replacing services


@pytest.mark.parametrize("grace_seconds", [60, 0], ids=["with time to finish", "without"])
def test_a_rolling_restart_of_every_service_loses_nothing_and_repeats_nothing(any_suite, place, grace_seconds):
    suite = any_suite
    # The first unit of each service is under way when its worker is told to stop.
    rules = [f"{service}/child.handled=wait:{service}@1" for service in WORKER_SERVICES]
    suite.start(*WORKER_SERVICES, rules=rules, place=place, grace_seconds=grace_seconds)
    suite.start("scheduler")
    jobs = [suite.plan(suite.add(PACKAGES)) for _ in range(3)]
    interrupted = 0
    for service in WORKER_SERVICES:
        begun = mark(suite, place, f"{WORKER_SERVICES.index(service) + 1}-")
        old = suite.processes.pop(service)
        suite.start(service, rules=rules, place=place)
        old.terminate()
        if grace_seconds:
            (place / service).touch()
        assert old.wait(60) == 0
        (place / service).touch()
        interrupted += begun.about["attempt"] == 1
    old = suite.processes.pop("scheduler")
    suite.start("scheduler")
    old.terminate()
    assert old.wait(60) == 0
    claims = check(suite, jobs)
    assert {attempt for attempts in claims.values() for attempt in attempts} == {1}, "nothing counts as a failure"
    repeated = [unit_id for unit_id, attempts in claims.items() if len(attempts) > 1]
    assert len(repeated) == (0 if grace_seconds else interrupted)


def test_an_api_that_is_down_holds_up_no_job(suite):
    (port,) = backends.free_ports(1)
    url = f"http://127.0.0.1:{port}/health/ready"
    suite.start()
    suite.start("api", api_port=port)
    eventually(lambda: answers(url), what="the API answers")
    suite.kill("api")
    job_id = suite.plan(suite.add(PACKAGES))
    check(suite, [job_id])
    suite.start("api", api_port=port)
    eventually(lambda: answers(url), what="the API answers again")


def answers(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return response.status == 200
    return False


# Connections


CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = :name
"""


def cut(suite, name):
    """End the connections of an application, wherever they are in their work; return how many."""
    with suite.sessions() as session:
        return session.scalar(text(CUT), {"name": name})


HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT ON record FOR EACH ROW EXECUTE FUNCTION hold();
"""
COPIES = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE 'COPY record%'"


def test_connections_that_are_cut_in_the_middle_of_a_transaction_cost_an_attempt_at_most(suite, place):
    with suite.sessions.begin() as session:
        session.execute(text(HOLD))
    blocker = suite.sessions()
    blocker.execute(text("SELECT pg_advisory_lock(4711)"))
    rules = [
        "processor/child.recorded=wait:commit@1",
        "exporter/child.handled=wait:work@1",
        "scheduler/scheduler.job_locked=wait:step@3",
    ]
    suite.start(rules=rules, place=place)
    job_id = suite.plan(suite.add(PACKAGES))

    def is_copying():
        with suite.sessions() as session:  # another each time: what it sees of others does not change
            return session.execute(text(COPIES)).all()

    suite.eventually(is_copying, "a COPY is under way")
    assert cut(suite, "bowerbird collector child") > 0
    blocker.execute(text("SELECT pg_advisory_unlock(4711)"))
    blocker.close()

    mark(suite, place, "scheduler.job_locked")
    assert cut(suite, "bowerbird scheduler") > 0
    (place / "step").touch()

    mark(suite, place, "child.recorded")
    assert cut(suite, "bowerbird processor child") > 0
    (place / "commit").touch()

    mark(suite, place, "child.handled")
    cut(suite, "bowerbird exporter")
    (place / "work").touch()

    claims = check(suite, [job_id])
    job = suite.job(job_id)
    attempts = {task.type: task.attempts for task in job.tasks}
    assert (attempts["collect"], attempts["process"], attempts["export"]) == (2, 2, 1)
    assert max(len(tried) for tried in claims.values()) == 2


def through(proxy, url):
    """Return a server's URL by way of the proxy."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}" if user else f"127.0.0.1:{proxy.port}"))


@contextlib.contextmanager
def cuttable(url, port):
    """Yield a proxy of a server, and the server's URL by way of it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or port)
    try:
        yield proxy, through(proxy, url)
    finally:
        proxy.close()


@pytest.mark.rabbitmq
def test_a_broker_that_is_away_in_the_middle_of_a_job_delays_it_and_repeats_nothing(
    settings, own_database, amqp_url, place, tmp_path
):
    with cuttable(amqp_url, 5672) as (proxy, url):
        settings = settings.model_copy(update={"broker_url": url})
        with opened(settings, own_database, tmp_path / "logs") as suite:
            suite.start(rules=["collector/child.handled=wait:go@1"], place=place)
            job_id = suite.plan(suite.add(PACKAGES))
            mark(suite, place, "child.handled")
            proxy.cut(stay=True)
            (place / "go").touch()
            suite.eventually(
                lambda: "units not published yet" in (tmp_path / "logs" / "scheduler").read_text(),
                "the next task is started, and has no message",
            )
            proxy.mend()
            claims = check(suite, [job_id])
        assert {tuple(attempts) for attempts in claims.values()} == {(1,)}
        backends.remove_from_rabbitmq(amqp_url, settings.broker_prefix)


@pytest.mark.rabbitmq
def test_a_broker_that_comes_back_with_nothing_it_had_is_set_up_again_and_the_job_goes_on(
    settings, own_database, place, tmp_path
):
    directory = tmp_path / "rabbitmq"
    directory.mkdir()
    with backends.private_rabbitmq(directory) as node:
        settings = settings.model_copy(update={"broker_url": node.url})
        with opened(settings, own_database, tmp_path / "logs") as suite:
            suite.start(rules=["collector/child.handled=wait:go@1"], place=place)
            job_id = suite.plan(suite.add(PACKAGES))
            mark(suite, place, "child.handled")
            node.kill()
            shutil.rmtree(directory / "data")
            node.start()
            (place / "go").touch()
            claims = check(suite, [job_id])
        assert {tuple(attempts) for attempts in claims.values()} == {(1,)}


# Start order


ORDERS = [("broker", "database", "migrate"), ("database", "broker", "migrate"), ("database", "migrate", "broker")]


@pytest.mark.rabbitmq
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_services_that_start_before_everything_they_need_wait_for_it(settings, postgres_url, amqp_url, order, tmp_path):
    with (
        backends.fresh_database(postgres_url) as database_url,
        cuttable(database_url, 5432) as (database, database_through),
        cuttable(amqp_url, 5672) as (broker, broker_through),
    ):
        for proxy in (database, broker):
            proxy.cut(stay=True)
        settings = settings.model_copy(
            update={**PATIENT, "database_url": database_through, "broker_url": broker_through}
        )
        engine = make_engine(database_url, application_name="bowerbird tests")
        suite = Suite(settings, make_sessions(engine), tmp_path / "logs", declare=False)
        try:
            suite.start(*reversed(SERVICES))
            everyone_says(suite, "waiting for the database")
            for step in order:
                if step == "migrate":
                    upgrade(database_url)
                else:
                    {"database": database, "broker": broker}[step].mend()
                if step == "database":
                    everyone_says(suite, "waiting for `bowerbird migrate`")
                elif step == "migrate" and order[-1] == "broker":
                    everyone_says(suite, "waiting for the broker")
            everyone_says(suite, "service started")
            suite.broker.declare()
            job = suite.run(suite.add(PACKAGES))
            assert {(task.result, task.attempts) for task in job.tasks if task.type != "flatten"} == {("OK", 1)}
            assert all(process.poll() is None for process in suite.processes.values())
        finally:
            suite.close()
            engine.dispose()
            backends.remove_from_rabbitmq(amqp_url, settings.broker_prefix)


def everyone_says(suite, sentence):
    logs = [suite.logs / service for service in SERVICES]
    suite.eventually(lambda: all(sentence in log.read_text() for log in logs), f"everyone says: {sentence}")
