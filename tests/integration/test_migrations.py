"""The migrations make the tables that the models describe, and take them away again."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from shared.db import Base, make_engine
from shared.db.migrate import current_revision, downgrade, head_revision, upgrade
from shared.errors import ConfigurationError
from tests import backends


@pytest.fixture
def empty_database(postgres_url):
    with backends.fresh_database(postgres_url) as url:
        yield url


def test_the_migrated_schema_is_the_one_the_models_describe(empty_database):
    upgrade(empty_database)
    engine = make_engine(empty_database, application_name="test")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()
    assert current_revision(empty_database) == head_revision()


def test_upgrading_twice_changes_nothing_and_downgrading_leaves_nothing(empty_database):
    upgrade(empty_database)
    upgrade(empty_database)
    downgrade(empty_database, "base")
    engine = make_engine(empty_database, application_name="test")
    inspector = inspect(engine)
    assert inspector.get_table_names() == ["alembic_version"]
    assert inspector.get_sequence_names() == []
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused_by_name(empty_database):
    upgrade(empty_database)
    engine = make_engine(empty_database, application_name="test")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationError, match="newer version"):
        upgrade(empty_database)
