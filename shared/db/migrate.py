"""Migrations: ``bowerbird migrate``. An advisory lock orders processes that migrate at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from shared.db.engine import make_engine
from shared.errors import ConfigurationError

# Any number, as long as nothing else in the database uses it: "bowr" in ASCII.
MIGRATION_LOCK = 0x626F7772


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to a revision.

    Raise :class:`ConfigurationError` if the database was migrated by a newer version of the suite.
    """
    _run(database_url, revision, command.upgrade)


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to a revision (``base``: no tables). Data in what is dropped is lost."""
    _run(database_url, revision, command.downgrade)


def _run(database_url: str, revision: str, run: object) -> None:
    engine = make_engine(database_url, application_name="bowerbird migrate")
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            try:
                run(_config(connection), revision)  # type: ignore[operator]
            except CommandError as error:
                raise ConfigurationError(
                    f"The database's schema is not one this version knows ({error}). "
                    "It was probably migrated by a newer version: use that version, or another database."
                ) from error
    finally:
        engine.dispose()
