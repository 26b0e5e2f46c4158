"""Durations as people write them."""

import re
from datetime import timedelta

_DURATION = re.compile(r"([0-9]{1,6})(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> timedelta:
    """Return a duration such as ``90s``, ``90m``, ``2h`` or ``2d``. Raise :class:`ValueError` with a sentence."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text[:100]!r} is no time. Write 90s, 90m, 2h or 2d.")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
