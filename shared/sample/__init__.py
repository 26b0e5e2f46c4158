"""The sample publication: release packages of an invented publisher, for trying the suite without a network.

``PACKAGES`` is a directory that can be collected like any other. ``python -m shared.sample.generate`` wrote it; see
there for what is in it, and for the releases that are difficult on purpose.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).parent / "packages"


@dataclass(frozen=True)
class Facts:
    """What is in the sample. Years are those of the ``date`` as written; None counts what belongs to no year."""

    releases: int
    ocids: int
    releases_by_year: dict[int | None, int]
    ocids_by_year: dict[int | None, int]
    """By the latest release's year: where an export puts the compiled release."""


def releases() -> Iterator[dict[str, Any]]:
    """Yield every release, in the order of the files."""
    for path in sorted(PACKAGES.glob("*.json")):
        yield from json.loads(path.read_text(encoding="utf-8"))["releases"]


@cache
def facts() -> Facts:
    """Count the sample."""
    by_year: Counter[int | None] = Counter()
    latest: dict[str, int | None] = {}
    for release in releases():
        year = _year(release.get("date"))
        by_year[year] += 1
        latest[release["ocid"]] = max(latest.get(release["ocid"]) or 0, year or 0) or None
    return Facts(
        releases=by_year.total(),
        ocids=len(latest),
        releases_by_year=dict(by_year),
        ocids_by_year=dict(Counter(latest.values())),
    )


def _year(date: Any) -> int | None:
    """Return the year of a date that starts with a year and a month of the calendar, else None."""
    if not isinstance(date, str) or not (date[:4].isdecimal() and date[4:5] == "-" and date[5:7].isdecimal()):
        return None
    return int(date[:4]) if 1 <= int(date[5:7]) <= 12 else None
