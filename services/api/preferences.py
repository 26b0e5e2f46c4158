"""What the client prefers (RFC 7240): whether it waits for the result, and for how long."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_WAIT_SECONDS = 600
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.IGNORECASE)


@dataclass(frozen=True)
class Preference:
    """``asynchronous``: not to wait. ``wait_seconds``: how long to wait at most; None: it was not said."""

    asynchronous: bool = False
    wait_seconds: int | None = None


def read_preference(headers: Iterable[str]) -> Preference:
    """Return what the values of the ``Prefer`` headers say. What is not understood is ignored, as the standard says."""
    asynchronous, wait = False, None
    for token in (token.strip() for value in headers for token in re.split("[,;]", value)):
        asynchronous = asynchronous or token.lower() == "respond-async"
        if wait is None and (match := _WAIT.fullmatch(token)):
            wait = min(int(match[1]), LONGEST_WAIT_SECONDS)
    return Preference(asynchronous, wait)
