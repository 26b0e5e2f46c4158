"""From a JSON Lines file to tables, and the words for a record or a table that cannot be one."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from isal import igzip

from services.flattener import compiled, rows
from services.flattener.rows import MAIN, MAX_DEPTH, REFUSED
from services.flattener.source import blocks
from services.flattener.tables import PIECE_CELLS, Keeper, Table
from shared.errors import PermanentError

MAX_NAME_BYTES = 255
"""Of a file, on all systems that people unpack archives on."""
REMEDY = "Correct it at the source, or leave flatten out of the collection's tasks plan."
Flattener = compiled.Flattener if compiled.AVAILABLE else rows.Flattener


def convert(path: Path, directory: Path, progress: Callable[[int], object]) -> dict[str, Table]:
    """Flatten a file into tables, in the order in which they first occur; their rows are kept in the directory.

    Several files may be flattened into one directory.

    :param progress: called with the number of records that are done.
    :raises PermanentError: naming the record or the table that cannot be flattened.
    """
    flattener, keeper, done = Flattener(), Keeper(directory, path.name), 0
    with _without_collector():
        for lines in blocks(path):
            try:
                for batch in flattener.flatten(lines, PIECE_CELLS):
                    keeper.keep(batch)
            except REFUSED as error:
                raise _explain(error, path) from error
            done += lines.count(b"\n")
            progress(done)
    for name in keeper.tables:
        _check_name(name, path)
    return {MAIN: Table(MAIN), **keeper.tables} if MAIN not in keeper.tables else keeper.tables


@contextmanager
def _without_collector() -> Iterator[None]:
    """Look for no cycles meanwhile: there are none, and looking for them takes half as long again as the work."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _check_name(table: str, path: Path) -> None:
    name = f"{table}.csv"
    bad = next((words for character, words in (("/", "a slash"), ("\0", "a NUL")) if character in name), None)
    if bad is None and len(name.encode()) > MAX_NAME_BYTES:
        bad = f"more than {MAX_NAME_BYTES} bytes"
    if bad is not None:
        shown = table.replace("\0", "\\0")
        raise PermanentError(
            f"{path.name}: the keys on the way to an array would make a table {shown!r}, and no file can have that "
            f"name ({bad}). {REMEDY}"
        )


def _explain(error: Exception, path: Path) -> Exception:
    """Return what is wrong with which record; the error itself, if it is no record's."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    with igzip.open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    rows.Flattener().add(decode(line))
            except REFUSED:
                start = line[:80].decode(errors="replace").rstrip()
                return PermanentError(
                    f"{path.name}, line {number}, which starts {start!r}: this record cannot be flattened. Either it is"
                    f" no JSON object, or it is nested more than {MAX_DEPTH} levels deep, has a number out of range or"
                    f" half a surrogate pair. {REMEDY}"
                )
    return error
