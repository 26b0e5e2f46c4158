"""The rows of a large job's files, which many units read, for the one unit that makes the full file of them.

Each unit makes the files of some years, and leaves the pieces of their tables beside them, with an index. They are not
published: they lie in the place that the attempt's commit gave them until the job ends well. Whoever finds them gone
reads the full file itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from services.flattener.rows import Kind
from services.flattener.source import Source, joined
from services.flattener.tables import Column, Piece, Table, merge
from shared.db.models import Unit
from shared.worker.context import Work

INDEX = "tables.json"


@dataclass(frozen=True)
class _Column:
    name: str
    kinds: int
    numeric: bool
    whole: bool
    first_long: bool | None


@dataclass(frozen=True)
class _Piece:
    rows: int
    columns: dict[str, int]
    file: str


@dataclass(frozen=True)
class _Table:
    name: str
    blank: int
    columns: list[_Column]
    pieces: list[_Piece]


def leave(work: Work, read: Sequence[tuple[Source, Mapping[str, Table]]]) -> dict[str, Any]:
    """Leave the tables of files, whose pieces are in ``staging``, to the unit of the full file.

    :return: ``place``, where they are once the unit completes; ``size`` and ``records`` of the files they are of.
    """
    index = [[_described(table) for table in tables.values()] for _, tables in read]
    path = work.staging / INDEX
    path.write_bytes(msgspec.json.encode(index))
    pieces = [piece.path for _, tables in read for table in tables.values() for piece in table.pieces]
    for each in (path, *pieces):
        if each is not None:
            work.leave(each)
    sources = [source for source, _ in read]
    return {
        "place": work.place,
        "size": sum(source.size for source in sources),
        "records": sum(source.records for source in sources),
    }


def take(work: Work, path: Path) -> tuple[Source, Mapping[str, Table]] | None:
    """Return the full file and its tables, if it is what the task's other units read, and all that they left is there.

    :param path: the full file.
    """
    query = select(Unit.params, Unit.output).where(
        Unit.task_id == work.assignment.task_id, Unit.params.has_key("share")
    )
    units = list(work.session.execute(query.order_by(Unit.params["share"].as_integer())))
    if len(units) != work.params["join"]:
        raise RuntimeError(f"there are {len(units)} shares, not {work.params['join']}")
    read: list[Mapping[str, Table]] = []
    try:
        if not joined(path, [work.input(part) for unit in units for part in unit.params["parts"]]):
            return None
        for unit in units:
            read += _tables(work.export.directory / unit.output["place"])
    except FileNotFoundError:
        return None
    size, records = (sum(unit.output[name] for unit in units) for name in ("size", "records"))
    return Source(path, size, records), merge(read)


def _described(table: Table) -> _Table:
    columns = [_Column(one.name, int(one.kinds), one.numeric, one.whole, one.first_long) for one in table.columns]
    pieces = [_Piece(piece.rows, dict(piece.columns), piece.path.name if piece.path else "") for piece in table.pieces]
    return _Table(table.name, table.blank, columns, pieces)


def _tables(place: Path) -> list[dict[str, Table]]:
    index = msgspec.json.decode((place / INDEX).read_bytes(), type=list[list[_Table]])
    return [{table.name: _restored(table, place) for table in tables} for tables in index]


def _restored(table: _Table, place: Path) -> Table:
    columns = [Column(one.name, Kind(one.kinds), one.numeric, one.whole, one.first_long) for one in table.columns]
    paths = [place / piece.file if piece.file else None for piece in table.pieces]
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(path)
    pieces = [Piece(piece.rows, piece.columns, path) for piece, path in zip(table.pieces, paths, strict=True)]
    return Table(table.name, columns, pieces, table.blank)
