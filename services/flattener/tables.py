"""The tables that flatterer wrote as CSV: how large they are, and whether a sheet of Excel holds them.

Excel's limits: https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_ROWS = 1_048_576
"""Of a sheet, its header included."""
MAX_COLUMNS = 16_384
MAX_CELL_BYTES = 32_767
"""Excel counts characters, flatterer bytes: it cuts what is longer."""

# By default, the csv module refuses cells of more than 131,072 characters.
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Table:
    """One CSV file. ``long_cells`` are those that are cut in Excel."""

    rows: int
    columns: int
    long_cells: int


def read_tables(directory: Path) -> dict[str, Table]:
    """Measure each CSV file of a directory, by name without the suffix."""
    return {path.stem: read_table(path) for path in sorted(directory.glob("*.csv"))}


def read_table(path: Path) -> Table:
    """Measure a CSV file: rows below the header, columns, and cells that are too long for Excel."""
    columns = long_cells = 0
    rows = -1
    with path.open("rb") as file:
        for row in _rows(file):
            rows += 1
            if rows == 0:
                columns = len(_cells(row))
            elif len(row) > MAX_CELL_BYTES:
                long_cells += sum(len(cell.encode()) > MAX_CELL_BYTES for cell in _cells(row))
    return Table(max(rows, 0), columns, long_cells)


def excel_obstacle(tables: Mapping[str, Table]) -> str | None:
    """Return which table exceeds which limit of Excel, None if all sizes are within."""
    for name, table in tables.items():
        if table.rows + 1 > MAX_ROWS:
            return f"table {name!r} has {table.rows:,} rows, and a sheet holds {MAX_ROWS - 1:,} below its header"
        if table.columns > MAX_COLUMNS:
            return f"table {name!r} has {table.columns:,} columns, and a sheet holds {MAX_COLUMNS:,}"
    return None


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rows of a CSV file: lines, joined while a quoted cell is open."""
    parts: list[bytes] = []
    quoted = False
    for line in file:
        quoted ^= line.count(b'"') % 2 == 1
        parts.append(line)
        if not quoted:
            yield b"".join(parts)
            parts.clear()


def _cells(row: bytes) -> list[str]:
    return next(csv.reader([row.decode()]))
