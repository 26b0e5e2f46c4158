"""The suite's own services are held against every check."""

import pytest

from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.settings import Settings
from tests import backends
from tests.e2e.suite import Suite
from tests.ogc.checks import NotOfferedError, all_checks
from tests.ogc.common import CLASSES, NEEDED
from tests.ogc.server import Server


@pytest.fixture(scope="module")
def server(postgres_url, tmp_path_factory):
    """The API with a scheduler and workers, on a database of their own."""
    place = tmp_path_factory.mktemp("ogc")
    (port,) = backends.free_ports(1)
    with backends.fresh_database(postgres_url) as database_url:
        upgrade(database_url)
        settings = Settings(data_dir=place / "data", database_url=database_url, broker_url=database_url, api_port=port)
        settings = settings.model_copy(update={"tick_seconds": 0.5, "allowed_networks": ("127.0.0.0/8",)})
        engine = make_engine(database_url, application_name="bowerbird tests")
        suite = Suite(settings, make_sessions(engine), place / "logs")
        try:
            suite.start("api", "scheduler", "processor")
            server = Server(f"http://127.0.0.1:{port}", "echo")
            suite.eventually(lambda: _answers(server), "the API answers")
            yield server
        finally:
            suite.close()
            engine.dispose()


def _answers(server):
    try:
        return server.get("/health/ready").status_code == 200
    except OSError:
        return False


def test_what_is_declared_is_what_the_checks_are_about(server):
    assert server.read("/conformance")["conformsTo"] == [CLASSES + name for name in NEEDED]


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
def test_the_standard_is_kept(server, check):
    try:
        check.ask(server)
    except NotOfferedError as error:
        pytest.fail(f"not offered: {error}")
