"""Which failures are temporary: the same work may succeed later, with nobody having changed it. Decided here, once.

Whoever does not know an error asks :func:`classify`; whoever has an answer of a server, :func:`is_temporary_status`.
docs/operations.md ("What is tried again by itself") lists it all for people, and tests/unit/test_failures.py compares
the two. What the database's driver raises is known to ``shared.db.errors`` alone.

The rule: temporary is what a peer, an operator or time mends while we wait. An error that nobody foresaw is permanent:
repeating it repeats its harm.
"""

import errno
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.db import errors as database
from shared.errors import BowerbirdError, TemporaryError

TEMPORARY_ERRNOS = frozenset(
    {
        # An operator mends it: space, permissions, limits, memory, a disk or a network file system.
        errno.EACCES,
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
        errno.EBUSY,
        # The network, or the peer, is away.
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)
TEMPORARY_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
"""HTTP: request timeout, too early, too many requests, and whatever the server blames itself for. 501 and 505 too: most
come from a proxy in trouble, and a wrong one costs a few requests."""
PERMANENT_REQUEST_ERRORS = ("InvalidHeader", "InvalidSchema", "InvalidURL", "MissingSchema", "TooManyRedirects")
"""Of the errors of ``requests``, those that are about the address; the others are about the way there."""


@dataclass(frozen=True)
class Failure:
    """What an error means for the work that met it. ``text`` is for people, ``retry_after`` a peer's wish."""

    kind: Literal["temporary", "permanent"]
    text: str
    foreseen: bool = True
    """False: nobody thought of this error, so it is a defect of ours."""
    retry_after: float | None = None


def classify(error: BaseException) -> Failure:
    """Say of any error whether the same work may succeed later."""
    if isinstance(error, BowerbirdError):
        if isinstance(error, TemporaryError):
            return Failure("temporary", str(error), retry_after=error.retry_after)
        return Failure("permanent", str(error))
    if database.is_temporary(error) or isinstance(error, PoolTimeoutError):
        return Failure("temporary", f"The database was not available: {error}")
    if _is_request_error(error):
        return _classify_request(error)
    if isinstance(error, OSError) and (error.errno in TEMPORARY_ERRNOS or isinstance(error, TimeoutError)):
        return Failure("temporary", f"The operating system refused: {error}")
    if isinstance(error, MemoryError):
        return Failure("temporary", f"There was not enough memory: {str(error) or 'MemoryError'}")
    return Failure("permanent", f"Unexpected {type(error).__name__}: {error}", foreseen=False)


def is_temporary(error: BaseException) -> bool:
    """Return whether the same work may succeed later."""
    return classify(error).kind == "temporary"


def is_temporary_status(status: int) -> bool:
    """Return whether a server that answers so may answer better later."""
    return status in TEMPORARY_STATUSES


def retry_after_seconds(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which has seconds or a date (RFC 9110, 10.2.3); None: no such.

    What becomes of it is :func:`shared.backoff.delay_before`'s to decide.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    now = datetime.now(date.tzinfo or UTC)
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def _is_request_error(error: BaseException) -> bool:
    # Not imported for this: who has not loaded it cannot have raised its errors.
    requests: Any = sys.modules.get("requests")
    return requests is not None and isinstance(error, requests.RequestException)


def _classify_request(error: Any) -> Failure:
    if error.response is not None and not is_temporary_status(error.response.status_code):
        return Failure("permanent", str(error))
    if any(base.__name__ in PERMANENT_REQUEST_ERRORS for base in type(error).__mro__):
        return Failure("permanent", str(error))
    headers = error.response.headers if error.response is not None else {}
    return Failure("temporary", str(error), retry_after=retry_after_seconds(headers.get("Retry-After")))
