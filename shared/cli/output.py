"""How things are printed: results to standard output, what is said meanwhile to standard error."""

import functools
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.logging import mask

STYLES = {
    "OK": "green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "SKIPPED": "dim",
    "RUNNING": "cyan",
    "WAITING": "yellow",
    "PLANNED": "dim",
    "alive": "green",
    "not seen": "yellow",
}
# Not on a terminal nothing is cut or folded: a program that reads a table has no width.
PIPE_WIDTH = 10_000
KILO = 1000


def out() -> Console:
    """Return the console of standard output."""
    return _console(stderr=False, terminal=sys.stdout.isatty())


def err() -> Console:
    """Return the console of standard error: always the same, so that what is said goes above a live table."""
    return _console(stderr=True, terminal=sys.stderr.isatty())


@functools.cache
def _console(*, stderr: bool, terminal: bool) -> Console:
    return Console(stderr=stderr, markup=False, highlight=False, width=None if terminal else PIPE_WIDTH)


def say(text: str, *, style: str = "") -> None:
    """Tell the person something, beside the results."""
    err().print(Text(printable(text), style=style), soft_wrap=True)


def show(text: str = "", *, style: str = "") -> None:
    """Print a line of the result."""
    out().print(Text(printable(text), style=style), soft_wrap=True)


def show_json(value: Any) -> None:
    """Print the result for programs."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=_plain)
    print(mask(text))  # noqa: T201


def show_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under headers (a header that ends with ``>`` is of numbers), or ``empty`` if there is none."""
    rows = list(rows)
    if not rows:
        say(empty)
        return
    table = new_table(headers)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    out().print(table)


def new_table(headers: Sequence[str]) -> Table:
    """Return an empty table without lines: easy on the eye, and on ``awk``."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header.removesuffix(">"), justify="right" if header.endswith(">") else "left", overflow="fold")
    return table


def cell(value: Any) -> Text:
    """Return a value as it stands in a table."""
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int):
        return Text(f"{value:,}")
    text = printable(str(value))
    return Text(text, style=STYLES.get(text, ""))


def printable(text: str) -> str:
    """Return the text without passwords in URLs, and without characters that would do something to a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in mask(text))


def size(count: int) -> str:
    """Return a number of bytes for people: ``1.2 MB``."""
    if count < KILO:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= KILO
        if round(value, 1) < KILO:
            return f"{value:.1f} {unit}"
    return f"{value:,.1f} TB"


def duration(seconds: float | None) -> str:
    """Return a duration for people: ``0.24 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 10 min``; empty for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
