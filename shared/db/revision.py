"""Which revision the database is at, and which one this code needs: without Alembic, whose import takes longest of all.

The revisions are those of the files in ``migrations/versions``, called ``{revision}_{topic}.py``, in their order.
"""

from pathlib import Path

from sqlalchemy import text

from shared.db.engine import make_engine

VERSIONS = Path(__file__).parent / "migrations" / "versions"


def revisions() -> list[str]:
    """Return the revisions that this version of the code has, oldest first."""
    return sorted(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


def head_revision() -> str:
    """Return the newest revision that this version of the code knows."""
    return revisions()[-1]


def is_known(revision: str) -> bool:
    """Return whether this version of the code has the revision."""
    return revision in revisions()


def current_revision(database_url: str) -> str | None:
    """Return the database's revision, None for an empty database. On a connection of its own."""
    engine = make_engine(database_url, application_name="bowerbird migrate")
    try:
        with engine.connect() as connection:
            if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                return None
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    finally:
        engine.dispose()
