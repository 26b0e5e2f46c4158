"""What core.c makes of JSON Lines, for those who know :class:`services.flattener.rows.Flattener`.

It reads the lines itself, without the interpreter's lock, and leaves cells where polars takes them over without another
copy. What it does not know how to do, because it is rare, it asks here.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import structlog

from services.flattener.rows import Batch, Kind, json_text, number_text

try:
    from services.flattener import native
except ImportError:  # there was no compiler when the suite was installed
    AVAILABLE = False
else:
    AVAILABLE = True

if TYPE_CHECKING:
    from services.flattener.native import Arrow

log = structlog.get_logger()

NUMBER_TEXT = 0
"""What is asked for, and not JSON, as in core.h."""
MAX_BYTES = 2**62
"""More than any text has."""


@cache
def tell_if_missing() -> None:
    """Say once that it is not there."""
    if not AVAILABLE:
        log.warning(
            "flattening without compiled code",
            remedy="it is several times slower: install a C compiler and Python's headers, then the suite again",
        )


class Flattener:
    """Turns JSON Lines into rows."""

    def __init__(self) -> None:
        self._native = native.Flattener(_text, os.urandom(16))

    def flatten(self, lines: bytes, size: int) -> Iterator[Batch]:
        """Yield the rows of JSON Lines, some ``size`` cells at once. Raise one of :data:`rows.REFUSED`."""
        at = 0
        while at < len(lines):
            at = self._native.add(lines, at, size)
            for number, (name, blank, rows, found) in enumerate(self._native.tables()):
                columns = [(title, Kind(kinds)) for title, kinds in found]
                # A record can have an array with so many rows that they are too many cells at once.
                at_once = max(-(-rows // max(rows * len(columns) // size, 1)), 1)
                for first in range(0, max(rows, 1), at_once):
                    count = min(at_once, rows - first)
                    taken = self._native.take(number, first, count)
                    cells = {column: pl.Series(_Cells(arrow)) for column, arrow in taken.items()}
                    yield Batch(name, blank, columns, count, cells)


def csv(frame: pl.DataFrame, *, guard: bool) -> bytes:
    """Return rows as CSV."""
    return native.csv(_streams(frame), guard)


def sheet(frame: pl.DataFrame, numbers: Sequence[bool], longest: int = MAX_BYTES) -> bytes | None:
    """Return rows as XML of a sheet, None if a text has more bytes than ``longest``."""
    return native.sheet(_streams(frame), bytes(numbers), longest)


def _streams(frame: pl.DataFrame) -> list[object]:
    return [column.__arrow_c_stream__() for column in frame.rechunk()]


class _Cells:
    """A column. https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html"""

    def __init__(self, arrow: "Arrow") -> None:
        self._arrow = arrow

    def __arrow_c_array__(self, requested_schema: object = None) -> "Arrow":
        return self._arrow


def _text(what: int, json: bytes) -> str:
    value = msgspec.json.decode(json)
    if what != NUMBER_TEXT:
        return json_text(value)
    return number_text(value) if isinstance(value, float) else str(value)
