"""What is asked of the database costs as much after 20,000 jobs as after 2,000: counted in blocks, not in seconds.

Each statement that a request, a tick or the metrics send is explained on two databases that differ in how much is over.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from services.api.app import create_app
from services.scheduler.scheduler import Scheduler
from services.scheduler.state import State
from shared.broker.postgres import PostgresBroker
from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.db.models import KeyScope
from shared.keys import create_key
from shared.settings import Settings
from tests import backends
from tests.history import fill
from tests.integration.test_api import TestClient

FEW, MANY = 2_000, 20_000
COLLECTIONS = 100
LIMIT = 10
"""Items on a page: so many there are of everything in the smaller database, too."""
GROWING = {"job", "task", "event", "audit", "delivery"}
"""Tables that no statement reads whole where they are large; with few rows that is the fastest way."""
SLACK = 50
"""Blocks: indexes are a level higher, and what is wanted lies further apart."""

LISTS = [
    "/jobs",
    "/jobs?before={half}",
    "/jobs?status=accepted",
    "/jobs?status=running",
    "/jobs?status=successful",
    "/jobs?status=failed",
    "/jobs?status=failed&before={half}",
    "/jobs?status=dismissed",
    "/jobs?status=failed,dismissed",
    "/jobs?status=running,failed",
    "/jobs?status=successful,failed",
    "/jobs?processID=echo",
    "/jobs?processID=nothing",
    "/jobs?minDuration=60",
    "/jobs?minDuration=60&maxDuration=1200",
    "/jobs?minDuration=1000000",
    "/jobs?maxDuration=0",
    "/jobs?minDuration=60&status=failed",
    "/jobs?archived=false",
    "/jobs?active=true",
    "/jobs?active=false",
    "/jobs?since=2d",
    "/jobs?datetime=2020-01-01T00:00:00Z/{year_ago}",
    "/jobs?datetime=2020-01-01T00:00:00Z/{year_ago}&before={half}",
    "/jobs?stuck=true",
    "/jobs?collection=publication_7",
    "/audit",
    "/audit?actor=nobody",
    "/audit?action=nothing",
    "/audit?job={half}",
    "/audit?since=1d",
    "/dead-letters",
    "/dead-letters?resolved=true",
    "/dead-letters?job={half}",
]
DOCUMENTS = [
    "/jobs/{half}",
    "/jobs/{half}/results",
    "/collections",
    "/collections?sort=-published",
    "/collections/publication_7",
    "/publications.json",
    "/catalog",
    "/feed.atom",
    "/pauses",
    "/webhooks",
    "/events?follow=false&last_event_id={last_event}",
    "/events?follow=false&job={half}&last_event_id=1",
]


class History:
    """A database with a past, and the API on it."""

    def __init__(self, url, jobs, directory):
        self._jobs = jobs
        upgrade(url)
        fill(url, collections=COLLECTIONS, jobs=jobs)
        self.settings = Settings(
            database_url=url, data_dir=directory, api_reads_per_minute=0, event_days=10_000, process_results_days=10_000
        )
        self.engine = make_engine(url, application_name="test")
        self.sessions = make_sessions(self.engine)
        with self.sessions.begin() as session:
            self._key = create_key(session, "reader", scope=KeyScope.READ, actor="test")[1]
        self._app = create_app(self.settings, url)
        with self.engine.connect() as connection:
            names = connection.exec_driver_sql(
                f"SELECT {jobs} / 2 AS half, max(id) - 10 AS last_event, "
                "to_char(now() - interval '1 year', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS year_ago FROM event"
            )
            self._names = dict(names.mappings().one())

    def close(self):
        """Give up the connections."""
        self._app.state.live.feed.close()
        for engine in (self.engine, self._app.state.context.sessions.kw["bind"]):
            engine.dispose()

    def request(self, path):
        """Explain what a request sends, and return its blocks; see :meth:`explain`."""
        client = TestClient(self._app)
        with collected(self._app.state.context.sessions.kw["bind"]) as sent:
            response = client.get(path.format(**self._names), headers={"Authorization": f"Bearer {self._key}"})
        assert response.status_code in (200, 204, 404), response.text
        return self.explain(sent)

    def explain(self, sent):
        """Return how many blocks statements touch. Of many jobs, fail if one of them reads a whole table that grows."""
        blocks = 0
        with self.engine.connect() as connection:
            for statement, parameters in sent:
                if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                    plan = connection.exec_driver_sql(
                        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
                    ).scalar_one()
                    root = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
                    whole = {node["Relation Name"] for node in nodes(root) if node["Node Type"] == "Seq Scan"}
                    assert self._jobs == FEW or not whole & GROWING, (whole, statement)
                    blocks += root["Shared Hit Blocks"] + root["Shared Read Blocks"]
            connection.rollback()
        return blocks


def nodes(plan):
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@contextmanager
def collected(engine) -> Iterator[list]:
    """Collect the statements that the block sends, with their parameters."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_rest):
        sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def histories(postgres_url, tmp_path_factory):
    with backends.fresh_database(postgres_url) as few, backends.fresh_database(postgres_url) as many:
        both = [History(url, jobs, tmp_path_factory.mktemp("data")) for url, jobs in ((few, FEW), (many, MANY))]
        yield both
        for history in both:
            history.close()


def check(few, many, slack=SLACK):
    assert 0 < many <= 1.5 * few + slack


@pytest.mark.parametrize("path", LISTS)
def test_a_page_of_a_list_costs_the_same_however_much_is_over(histories, path):
    page = f"{path}{'&' if '?' in path else '?'}limit={LIMIT}"
    check(*(history.request(page) for history in histories))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_costs_the_same_however_much_is_over(histories, path):
    # Active jobs are looked up one by one where there are many jobs, and read together where there are few.
    check(*(history.request(path) for history in histories), slack=SLACK + 2 * COLLECTIONS)


def test_an_idle_tick_costs_the_same_however_much_is_over(histories):
    check(*map(idle_tick, histories))


def idle_tick(history):
    broker = PostgresBroker(history.settings.database_url, prefix="")
    scheduler = Scheduler(history.settings, history.sessions, broker)
    scheduler.tick()
    with collected(history.engine) as sent:
        scheduler.tick()
    broker.close()
    return history.explain(sent)


def test_deciding_what_is_due_costs_the_same_however_much_is_over(histories):
    check(*map(look, histories))


def look(history):
    broker = PostgresBroker(history.settings.database_url, prefix="")
    with history.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE collection SET look_at = now() WHERE id BETWEEN 60 AND 70")
    with collected(history.engine) as sent:
        Scheduler(history.settings, history.sessions, broker).plan_due()
    broker.close()
    looked = [each for each in sent if "look_at <= now()" in each[0]]
    with history.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE collection SET look_at = now() WHERE id BETWEEN 60 AND 70")
    assert looked
    return history.explain(looked)


def test_metrics_cost_the_same_however_much_is_over(histories):
    check(*map(metrics, histories))


def metrics(history):
    broker = PostgresBroker(history.settings.database_url, prefix="")
    with collected(history.engine) as sent:
        State(history.sessions, broker, lease=history.settings.lease).read()
    broker.close()
    return history.explain(sent)
