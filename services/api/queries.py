"""Query values that several endpoints take, and the problem of those that are not possible."""

import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Query

from services.api.problems import ProblemError
from services.api.schemas import PROBLEMS
from shared.durations import parse_duration
from shared.errors import BowerbirdError

MAX_TEXT_CHARACTERS = 1000
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)
NO_NUL = r"^[^\x00]*$"  # the database has no such character

Moment = Annotated[
    str | None,
    Query(
        alias="datetime",
        description="Only those planned at this moment, or in this interval: `2026-03-01T00:00:00Z`, `a/b`, `a/..`, "
        "`../b`.",
        max_length=100,
        examples=["2026-03-01T00:00:00Z/.."],
    ),
]
Since = Annotated[
    str | None, Query(description="Only those of this last time: `90m`, `2h`, `2d`.", max_length=20, examples=["2d"])
]


def text_query(description: str, example: str) -> Any:
    """Return a query parameter that is a text."""
    return Query(description=description, max_length=MAX_TEXT_CHARACTERS, pattern=NO_NUL, examples=[example])


def since_of(text: str | None) -> timedelta | None:
    """Return a time that was written. Raise a problem (400) if it is none."""
    with naming("since"):
        return parse_duration(text) if text is not None else None


def interval_of(text: str | None) -> tuple[datetime | None, datetime | None]:
    """Return first and last moment of an interval (RFC 3339, section 5.6; `..` or nothing: open), or one moment twice.

    Raise a problem (400) if it is none. A ``+`` that came as a space, as forms send it, is taken for what was meant.
    """
    if text is None:
        return None, None
    with naming("datetime"):
        first, slash, last = text.replace(" ", "+").partition("/")
        bounds = [_moment(first), _moment(last if slash else first)]
        if bounds == [None, None] or (all(bounds) and bounds[0] > bounds[1]):  # type: ignore[operator]
            raise ValueError("An interval has a beginning or an end, in that order: 2026-03-01T00:00:00Z/..")
        return bounds[0], bounds[1]


def _moment(text: str) -> datetime | None:
    if text in ("", ".."):
        return None
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text!r:.60} is no moment, such as 2026-03-01T00:00:00Z")
    return datetime.fromisoformat(text.upper())


def words_of(name: str, given: list[str] | None, known: Collection[str] = ()) -> list[str]:
    """Return the values of a parameter that may be repeated, or hold several with commas between.

    Raise a problem (400) for one that is not known, if it is said which are.
    """
    words = [word.strip() for value in given or () for word in value.split(",") if word.strip()]
    for word in words:
        if known and word not in known:
            raise bad_query(name, f"{word!r:.60} is none of {', '.join(known)}.")
        if "\x00" in word:
            raise bad_query(name, "There is a character in it that no name has.")
    return words


def bad_query(name: str, fault: str) -> ProblemError:
    """Return the problem (400) of a query value."""
    return ProblemError(HTTPStatus.BAD_REQUEST, f"{name}: {fault}", kind=f"{PROBLEMS}invalid-query")


@contextlib.contextmanager
def naming(name: str, problem: Callable[[str], ProblemError] | None = None) -> Iterator[None]:
    """Make of what is wrong with a value a problem that names it: 400 for a query, 422 with ``bodies.invalid``."""
    try:
        yield
    except (ValueError, OverflowError, BowerbirdError) as error:
        raise (problem(f"{name}: {error}") if problem else bad_query(name, str(error))) from None
