"""The migrations make the tables that the models describe, and take them away again."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from shared.db import Base, make_engine
from shared.db.migrate import downgrade, upgrade
from shared.db.revision import VERSIONS, current_revision, head_revision, revisions
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


def test_the_revisions_are_one_line_in_the_order_of_their_files():
    scripts = ScriptDirectory(str(VERSIONS.parent)).walk_revisions()
    assert [script.revision for script in scripts] == revisions()[::-1]


def test_an_empty_database_has_no_revision(empty_database):
    assert current_revision(empty_database) is None


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


OLD_ROWS = """
    INSERT INTO collection (source_id, title, source, country, language, publication_policy, public, frozen)
    VALUES ('moldova', 'Moldova', '/data', 'Moldova', 'Romanian', 'https://example.org/policy', true, true);
    INSERT INTO job (collection_id, status, license, ocid_prefix, date_from)
    VALUES (1, 'COMPLETED', 'CC0', 'ocds-b0w3rb', '2020-01-01');
    UPDATE collection SET active_job_id = 1;
    INSERT INTO task (job_id, type, "order", status, result) VALUES (1, 'collect', 1, 'COMPLETED', 'OK');
"""


def rows(engine, table):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id")).mappings()]


def test_data_of_an_older_version_survives_the_way_up_and_the_way_back(empty_database):
    upgrade(empty_database, "0004")
    engine = make_engine(empty_database, application_name="test")
    with engine.begin() as connection:
        connection.execute(text(OLD_ROWS))
    before = {table: rows(engine, table) for table in ("collection", "job", "task")}

    upgrade(empty_database)
    (collection,) = rows(engine, "collection")
    assert collection.items() >= before["collection"][0].items()
    new = {name: collection[name] for name in collection.keys() - before["collection"][0].keys()}
    assert new["translations"] == {}
    assert new["removing"] is False
    assert {name for name, value in new.items() if value == ""} >= {"description_long", "summary", "ocid_prefix"}
    assert {name for name, value in new.items() if value is None} >= {"licence_id", "date_from", "registry_id"}
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO licence (name) VALUES ('CC0')"))
        connection.execute(text("INSERT INTO settings_bundle (name) VALUES ('proxy')"))
        connection.execute(text("INSERT INTO setting (settings_bundle_id, key) VALUES (1, 'K')"))
        connection.execute(text("INSERT INTO issue (collection_id, description) VALUES (1, 'odd')"))
        connection.execute(text("UPDATE collection SET licence_id = 1, settings_bundle_id = 1, summary = 'good'"))

    downgrade(empty_database, "0004")
    engine.dispose()
    assert {table: rows(engine, table) for table in before} == before
    upgrade(empty_database)
    assert rows(engine, "licence") == []
    engine.dispose()
