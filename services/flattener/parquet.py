"""Parquet: a file for each table, with types where every value is one of them, in a tar file.

Types come from JSON, except for those of dates, which JSON lacks. A text is never made a number: what a publisher
quotes is a name, and may have leading zeros.
"""

import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from services.flattener.archive import header
from services.flattener.rows import Kind
from services.flattener.tables import Column, Table

MAX_EXACT = 2**53
"""Beyond it, some integers are no floats."""
_NUMBERS = Kind.INTEGER | Kind.FLOAT
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z$"


def pack(tables: Iterable[Table], archive: Path, name: str) -> None:
    """Pack those tables that have columns as ``.tar`` of Parquet files, in a directory called ``name``."""
    beside = archive.with_name(f"{archive.name}.table")
    with archive.open("wb") as file:
        file.write(header(name, tarfile.DIRTYPE, 0o755))
        for table in sorted(tables, key=lambda table: table.name):
            if not table.columns:
                continue
            table.scan().select(typed(table)).sink_parquet(beside)
            size = beside.stat().st_size
            file.write(header(f"{name}/{table.name}.parquet", tarfile.REGTYPE, 0o644, size))
            with beside.open("rb") as body:
                shutil.copyfileobj(body, file)
            file.write(bytes(-size % tarfile.BLOCKSIZE))
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    beside.unlink(missing_ok=True)


def typed(table: Table) -> list[pl.Expr]:
    """Return the columns under their names, of a type that holds each of their values."""
    candidates = {str(number): _candidates(str(number), column) for number, column in enumerate(table.columns)}
    for frame in table.frames():
        for name, types in candidates.items():
            while types and not _fits(frame, name, types[0]):
                types.pop(0)
    return [
        (types[0][0] if types else pl.col(name)).alias(column.name)
        for (name, types), column in zip(candidates.items(), table.columns, strict=True)
    ]


def _candidates(name: str, column: Column) -> list[tuple[pl.Expr, pl.Expr]]:
    """Return the types that a column may have: its values in one, and whether a text is that value."""
    cells, kinds = pl.col(name), column.kinds
    if kinds == Kind.BOOLEAN:
        return [(cells == "true", pl.lit(value=True))]
    if kinds == Kind.TEXT:
        day = cells.str.to_date("%Y-%m-%d", strict=False)
        moment = cells.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", strict=False, time_unit="us")
        return [
            (day, cells.str.contains(_DATE)),
            (moment.dt.replace_time_zone("UTC"), cells.str.contains(_TIME)),
        ]
    integer, number = cells.cast(pl.Int64, strict=False), cells.cast(pl.Float64, strict=False)
    exact = cells.str.contains(".", literal=True) | (integer.abs() <= MAX_EXACT).fill_null(value=False)
    if kinds == Kind.INTEGER:
        return [(integer, pl.lit(value=True))]
    if kinds == Kind.FLOAT:
        return [(number, pl.lit(value=True))]
    return [(number, exact)] if kinds == _NUMBERS else []


def _fits(frame: pl.DataFrame, name: str, candidate: tuple[pl.Expr, pl.Expr]) -> bool:
    value, is_it = candidate
    return bool(frame.select((pl.col(name).is_null() | (value.is_not_null() & is_it)).all()).item())
