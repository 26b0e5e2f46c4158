"""The database of a command: the configured one, or the embedded one for as long as the command needs it."""

import contextlib
from collections.abc import Iterator

from sqlalchemy.orm import Session, sessionmaker

from shared.cli.errors import CommandError
from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.db.revision import current_revision, head_revision, is_known
from shared.logging import configure_logging
from shared.settings import Settings, load_settings
from shared.tracing import exporting


def command_settings() -> Settings:
    """Return the settings, and set up logs such as a command wants them: trouble only, unless asked for more."""
    settings = load_settings()
    level = settings.log_level if settings.log_level in ("DEBUG", "ERROR") else "WARNING"
    configure_logging(settings.model_copy(update={"log_level": level}), "bowerbird")
    return settings


@contextlib.contextmanager
def database_server(settings: Settings) -> Iterator[str]:
    """Yield the URL of the configured database, or of the embedded one while the block runs, as it is."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from shared.db.embedded import embedded_database

    with embedded_database(settings.data_dir) as url:
        yield url


@contextlib.contextmanager
def database(settings: Settings, *, migrate: bool = False) -> Iterator[str]:
    """Yield the URL of a migrated database.

    The embedded one is brought up to date by whoever opens it: nobody else looks after it. A configured one belongs to
    an operator, who decides when (``bowerbird migrate``), unless ``migrate`` says that this command is one that runs
    the whole suite by itself.
    """
    with database_server(settings) as url:
        _prepare(url, migrate=migrate or settings.database_url is None)
        yield url


def revive(settings: Settings) -> None:
    """Start the embedded server again if it was killed under us. Harmless while it runs, or with a configured one."""
    if settings.database_url is None:
        from shared.db.embedded import embedded_database

        with embedded_database(settings.data_dir):
            pass


@contextlib.contextmanager
def sessions_on(url: str) -> Iterator[sessionmaker[Session]]:
    """Yield a session factory; its connections are closed afterwards. What is done to jobs shows in their traces."""
    engine = make_engine(url, application_name="bowerbird command")
    try:
        with exporting("command"):
            yield make_sessions(engine)
    finally:
        engine.dispose()


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[sessionmaker[Session]]:
    """Yield a session factory on the settings' database: all that most commands need."""
    with database(settings) as url, sessions_on(url) as sessions:
        yield sessions


def _prepare(url: str, *, migrate: bool) -> None:
    revision = current_revision(url)
    if revision == head_revision():
        return
    if migrate:
        upgrade(url)
    elif revision is None:
        raise CommandError("The database has no tables yet. Run `bowerbird migrate`.")
    elif is_known(revision):
        raise CommandError(f"The database's tables are of an older version ({revision}). Run `bowerbird migrate`.")
    # Else a newer version migrated it: during a rolling upgrade the schema goes first, and it only adds.
