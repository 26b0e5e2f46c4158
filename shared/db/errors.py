"""Which database errors may pass by themselves."""

import psycopg2
from sqlalchemy.exc import DBAPIError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
TEMPORARY_CLASSES = (
    "08",  # connection lost
    "40",  # serialization failure, deadlock
    "53",  # out of memory, disk full, too many connections
    "57P",  # the server is shutting down or starting up
    "58",  # its disk or operating system failed
)
LOCK_NOT_AVAILABLE = "55P03"

DriverError = psycopg2.Error
"""What a connection of :func:`shared.db.connect` raises; its ``pgcode`` is the server's code, if it came from there."""


def is_temporary(error: BaseException) -> bool:
    """Return whether an error of SQLAlchemy or psycopg2 deserves another try: outage, deadlock, lock, disk full."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_temporary(error.orig))
    if not isinstance(error, psycopg2.Error):
        return False
    code = error.pgcode or ""
    # Without a code, the error is the driver's own: no connection, or one that broke (then perhaps of the base class).
    drivers_own = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    without_code = not code and (drivers_own or type(error) is psycopg2.DatabaseError)
    return without_code or code.startswith(TEMPORARY_CLASSES) or code == LOCK_NOT_AVAILABLE
