"""Counting what checks find: how many places were judged, how many failed, and the first that did."""

from typing import Any

import msgspec
from msgspec import Raw

from shared.quality import CHECKS, Outcome
from shared.units import storable

EXAMPLES = 5
"""Examples kept of each check."""
SHOWN_CHARACTERS = 200

Path = tuple[str | int, ...]


class Tally:
    """The counts of one check. ``applicable`` is added to directly: it is done for every field there is."""

    __slots__ = ("applicable", "check", "examples", "failed")

    def __init__(self, check: str) -> None:
        self.check = check
        self.applicable = 0
        self.failed = 0
        self.examples: list[dict[str, str]] = []

    def fail(self, record: str, path: Path, value: Any = None) -> None:
        """Count a place that fails. It is to be counted as applicable as well."""
        self.failed += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"record": _cut(record), "path": _cut(pointer(path)), "value": shown(value)})

    def judge(self, passes: bool, record: str, path: Path, value: Any = None) -> None:
        """Count a place, which passes or fails."""
        self.applicable += 1
        if not passes:
            self.fail(record, path, value)

    def outcome(self) -> Outcome:
        """Return what was found."""
        return Outcome(self.check, self.applicable, self.failed, self.examples)


def tallies() -> dict[str, Tally]:
    """Return an empty tally of every check."""
    return {check: Tally(check) for check in CHECKS}


def pointer(path: Path) -> str:
    """Return a path as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def shown(value: Any) -> str:
    """Return a value as JSON, cut if it is long."""
    try:
        text = msgspec.json.encode(value).decode()
    except (ValueError, TypeError, RecursionError, OverflowError):
        text = repr(value) if isinstance(value, str | float | int | Raw) else "…"
    return _cut(text)


def _cut(text: str) -> str:
    text = storable(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
