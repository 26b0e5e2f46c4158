"""Fixtures shared by all tests. Real PostgreSQL, real RabbitMQ; a fresh database and fresh names for every run."""

import uuid
from collections.abc import Iterator

import hypothesis
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from shared.db import Base, make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.settings import Settings

from . import backends

# No test fails because the machine has other work.
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server where databases can be created."""
    with backends.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database with the migrated schema, shared by the tests of a run; ``sessions`` empties its tables."""
    with backends.fresh_database(postgres_url) as url:
        upgrade(url)
        yield url


@pytest.fixture(scope="session")
def _engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, application_name="bowerbird tests")
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(_engine: Engine) -> sessionmaker[Session]:
    """A session factory on the run's database, its tables emptied before each test."""
    tables = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
    with _engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return make_sessions(_engine)


@pytest.fixture
def settings(database_url: str, tmp_path) -> Settings:
    """Settings on the run's database, files under the test's own directory, short intervals."""
    return Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        broker_prefix=f"t{uuid.uuid4().hex[:12]}",
        tick_seconds=0.5,
        lease_seconds=3,
        retry_base_seconds=0.1,
        retries="",
        allowed_networks="127.0.0.0/8",  # where the tests' own servers are
        api_port=0,
        api_validation="fail",
    )


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """A RabbitMQ server, shared: use a prefix of your own, never stop it."""
    with backends.rabbitmq() as url:
        yield url


@pytest.fixture(params=["postgresql", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker_url(request, database_url: str) -> str:
    """Each broker in turn. For RabbitMQ's queues to be removed after the test, use ``any_settings``."""
    return database_url if request.param == "postgresql" else request.getfixturevalue("amqp_url")


@pytest.fixture
def any_settings(settings: Settings, broker_url: str) -> Iterator[Settings]:
    """``settings`` with each broker in turn; what the test declares on the shared server is removed after it."""
    yield settings.model_copy(update={"broker_url": broker_url})
    if broker_url.startswith("amqp"):
        backends.remove_from_rabbitmq(broker_url, settings.broker_prefix)
