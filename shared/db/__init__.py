"""The database: engine, tables, migrations, and the embedded server. Nothing else opens a connection."""

from shared.db.engine import connect, make_engine, make_sessions
from shared.db.models import Base

__all__ = ["Base", "connect", "make_engine", "make_sessions"]
