"""Calling flatterer, and saying what it means when it fails.

flatterer's options are those of the OCP Data Registry, but for ``threads``. With 1, rows are in the order of the
records, the same input gives the same tables, and an error is told as it was; with 4, rows are in an order that changes
from run to run, and failing threads hide each other's errors. It costs little: with 100 MB of compiled releases on two
cores, CSV and Excel together take 7.4 s with 1 thread, 8.7 s with 4.
"""

import re
from dataclasses import dataclass
from errno import ENAMETOOLONG, ENOENT
from pathlib import Path

import flatterer

from services.flattener.source import Source, batches
from shared.errors import PermanentError

MAIN = "main"
"""The table of the records."""
BATCH_LINES = 10_000
REMEDY = "Correct it at the source, or leave flatten out of the collection's tasks plan."


class FlattererError(Exception):
    """flatterer's own words for what went wrong.

    :param table: the table whose file could not be made, if that was it.
    """

    def __init__(self, message: str, table: str | None = None) -> None:
        super().__init__(message)
        self.table = table


@dataclass(frozen=True)
class Conversion:
    """What was made: a directory of CSV files, ``main.csv`` among them, and a workbook.

    Without a workbook, ``xlsx_error`` is flatterer's reason, or empty where none was wanted.
    """

    csv: Path
    xlsx: Path | None
    xlsx_error: str = ""


def convert(source: Source, directory: Path, *, xlsx: bool) -> Conversion:
    """Flatten a file, in a directory of its own. Where the workbook is impossible, make the CSV files alone.

    Raise :class:`PermanentError` naming the record or the table that cannot be flattened, :class:`OSError` if the
    system failed.
    """
    path, output = _input(source, directory), directory / "flat"
    try:
        xlsx_error = _flatten(path, output, xlsx=xlsx)
    except FlattererError as error:
        raise _explain(error, source, directory) from error
    main = output / "csv" / f"{MAIN}.csv"
    main.parent.mkdir(exist_ok=True)
    main.touch()  # no row has a value outside arrays, or there are no records
    return Conversion(main.parent, output / "output.xlsx" if xlsx and not xlsx_error else None, xlsx_error)


def _flatten(path: Path, output: Path, *, xlsx: bool) -> str:
    """Make the workbook too, if wanted and possible; return flatterer's reason if it is not."""
    reason = ""
    if xlsx:
        try:
            run_flatterer(path, output, xlsx=True)
        except FlattererError as error:
            reason = str(error)
    if not xlsx or reason:
        run_flatterer(path, output, xlsx=False)
    return reason


def run_flatterer(path: Path, output: Path, *, xlsx: bool) -> None:
    """Flatten a JSON Lines file (gzip if called ``.gz``) into ``output``, which is replaced if it is there.

    Holds the interpreter lock until it is done. Raise :class:`FlattererError`, or :class:`OSError` with its text.
    """
    try:
        flatterer.flatten(
            str(path),
            str(output),
            xlsx=xlsx,
            ndjson=True,
            force=True,
            pushdown=["ocid", "id"],
            no_link=True,
            threads=1,
        )
    except BaseException as error:
        # A panic in Rust is not an Exception. One is known: a table's name of which byte 31 is not the end of a
        # character cannot be shortened to a sheet's name.
        if isinstance(error, RuntimeError) or type(error).__name__ == "PanicException":
            raise _translate(str(error)) from error
        raise


def _translate(text: str) -> FlattererError | OSError:
    """Return the error that flatterer's text tells of: what failed, a blank line, its cause, a blank line, a location.

    A failure of the system, such as a full disk, becomes an OSError.
    """
    failure, _, cause = text.partition("\n\nLocation:")[0].partition("\n\nCaused by:\n")
    message = (cause or failure).strip().replace("\0", "\\0") or "no reason given"
    number = re.search(r"\(os error (\d+)\)", message)
    # Tables are files in tmp/: these two say that a key cannot be part of a file's name.
    if number and int(number[1]) not in {ENOENT, ENAMETOOLONG}:
        return OSError(int(number[1]), message)
    table = re.fullmatch(r"Could not write file .*?/flat/tmp/(.+)\.csv", failure, re.DOTALL)
    return FlattererError(message, table[1] if table else None)


def _input(source: Source, directory: Path) -> Path:
    """Return what to flatten: flatterer refuses a file without records, and makes no rows of an empty one."""
    if source.records:
        return source.path
    path = directory / "empty.jsonl"
    path.write_text("{}\n")
    return path


def _explain(error: FlattererError, source: Source, directory: Path) -> PermanentError:
    name = source.path.name
    if error.table is not None:
        return PermanentError(
            f"{name}: the keys on the way to an array would make a table {error.table!r}, and no file can have that "
            f"name ({error}). {REMEDY}"
        )
    refused = _first_refused(source, directory)
    if refused is None:
        return PermanentError(f"{name}: flatterer failed ({error}). {REMEDY}")
    number, line = refused
    start = line[:80].decode(errors="replace").rstrip()
    return PermanentError(
        f"{name}, line {number}, which starts {start!r}: flatterer refuses this record. Either it is no JSON object, or"
        f" it is nested more than 127 levels deep, has a number out of range or half a surrogate pair. {REMEDY}"
    )


def _first_refused(source: Source, directory: Path) -> tuple[int, bytes] | None:
    """Return the number and the text of the first line that flatterer refuses, which it does not tell."""
    for first, lines in batches(source.path, BATCH_LINES):
        if not _refuses(lines, directory):
            continue
        low, high = 0, len(lines)
        while high - low > 1:
            middle = (low + high) // 2
            if _refuses(lines[low:middle], directory):
                high = middle
            else:
                low = middle
        return first + low, lines[low]
    return None


def _refuses(lines: list[bytes], directory: Path) -> bool:
    path = directory / "batch.jsonl"
    path.write_bytes(b"".join(lines))
    try:
        run_flatterer(path, directory / "batch", xlsx=False)
    except FlattererError:
        return True
    return False
