"""What the text of a ``date`` says: its year (which file a record goes to), its day, its place in time.

Publishers write dates in many ways, and no way of writing one fails a job. The three questions are answered apart:

- the *year* asks for no more than ``YYYY-MM`` in front, so ``2012-11-99`` is of 2012, and ``2019`` alone of no year;
- the *day* is that of the calendar, as written: an offset moves nothing to another day;
- the *order* of releases is that of the instants, whatever their offsets and precision.
"""

import re
from datetime import UTC, date, datetime
from functools import lru_cache

YEAR_SQL = """CASE WHEN date COLLATE "C" ~ '^[0-9]{4}-(0[1-9]|1[0-2])' AND left(date, 4) <> '0000'
    THEN left(date, 4)::smallint END"""
"""SQL expression that is to a text column ``date`` what :func:`year_of` is to a string."""

_YEAR_AND_MONTH = re.compile(r"(?!0000)([0-9]{4})-(?:0[1-9]|1[0-2])")
_DATE_AND_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2})(?:(:[0-9]{2})(?:[.,]([0-9]+))?)? ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


def year_of(text: str | None) -> int | None:
    """Return the year, 1 to 9999, if the text starts with ``YYYY-MM`` in ASCII digits, else None."""
    match = _YEAR_AND_MONTH.match(text) if text else None
    return int(match[1]) if match else None


@lru_cache(maxsize=4096)
def day_of(text: str) -> date | None:
    """Return the day that the first ten characters name as ``YYYY-MM-DD``, else None."""
    day = text[:10]
    if len(day) < 10 or day[7] != "-":
        return None  # Python would also read 20190501 and 2019-W01-1
    try:
        return date.fromisoformat(day)
    except ValueError:
        return None


def order_of(text: str | None) -> tuple[bool, str]:
    """Return a key that sorts dates: missing ones, then those without a year, then by time.

    Instants are compared in UTC, to every digit of a fraction of a second (some publishers write seven); without an
    offset they are taken as UTC, without a time as midnight. What names no instant, such as ``2012-11-99``, is compared
    with the others as text.
    """
    return year_of(text) is not None, _utc_text(text or "")


def _utc_text(text: str) -> str:
    match = _DATE_AND_TIME.fullmatch(text)
    if match is None:
        return text
    day, minutes, seconds, fraction, offset = match.groups(default="")
    try:
        instant = datetime.fromisoformat(f"{day}T{minutes or '00:00'}{seconds}{'' if offset in 'Zz' else offset}")
        utc = instant.astimezone(UTC) if instant.tzinfo else instant
    except (ValueError, OverflowError):
        return text
    return f"{utc.replace(tzinfo=None).isoformat()}.{fraction}".rstrip("0").rstrip(".")
