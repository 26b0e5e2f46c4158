"""Tables, finished: their columns, what Excel makes of these, and their rows, which lie on disk in pieces.

A piece is an Arrow file with some rows of a table; its columns are called by their numbers, are texts, and lack those
that the table got later. Reading a piece for a table adds them. So the tables of all years' files are those of the full
one, too, without another copy of any row (:func:`merge`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from services.flattener.rows import Batch, Kind

MAX_ROWS = 1_048_576
"""Of a sheet, its header included. https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3"""
MAX_COLUMNS = 16_384
MAX_NUMBER_BYTES = 17
"""Longer numbers lose digits in Excel, so that a column with one is a column of texts, as with flatterer."""
PIECE_CELLS = 1 << 20
CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32)), " ")
"""Control characters in names of columns become spaces, as with flatterer."""

# What Rust reads as a number; and not 007, which is a name.
_NUMBER = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))$"
_PADDED = r"^0[^.]"
_WHOLE = r"^[+-]?[0-9]{1,19}$"
_FIRST = re.compile(f"(?!{_PADDED}){_NUMBER}")


@dataclass
class Column:
    """A column, and whether it is one of numbers in Excel.

    It is as flatterer has it: each text must look like a number, and some must have a fraction, unless there are real
    numbers.
    """

    name: str
    kinds: Kind = Kind.NONE
    numeric: bool = True
    """Each cell is read as a number."""
    whole: bool = True
    """Each text is read as a number without fraction."""
    first_long: bool | None = None
    """Whether the first real number is too long: it alone may be. None: there is no real number."""

    @property
    def is_number(self) -> bool:
        """Whether its cells are numbers in Excel."""
        real = bool(self.kinds & (Kind.INTEGER | Kind.FLOAT))
        return self.numeric and not self.kinds & Kind.BOOLEAN and (real or (bool(self.kinds) and not self.whole))

    @property
    def may_be_number(self) -> bool:
        """Whether it depends on what else it has."""
        return self.numeric and Kind.BOOLEAN not in self.kinds

    def include(self, other: "Column") -> None:
        """Take in all cells of a column that follows."""
        self.kinds |= other.kinds
        self.numeric = self.numeric and other.numeric and not (self.first_long is not None and other.first_long)
        self.whole = self.whole and other.whole
        self.first_long = other.first_long if self.first_long is None else self.first_long


def look(frame: pl.DataFrame, columns: Mapping[str, Column]) -> None:
    """Take in some more cells of columns.

    :param columns: by the names that they have in the frame.
    """
    texts = {name: pl.col(name).filter(pl.col(name) != "") for name, column in columns.items() if column.may_be_number}
    if not texts:
        return
    for name, first in frame.select(text.first() for text in texts.values()).row(0, named=True).items():
        column = columns[name]
        if first is None:
            continue
        column.numeric = _FIRST.fullmatch(first) is not None
        if column.kinds & (Kind.INTEGER | Kind.FLOAT) and column.first_long is None:
            column.first_long = len(first) > MAX_NUMBER_BYTES
            texts[name] = texts[name].slice(1)
    texts = {name: text for name, text in texts.items() if columns[name].numeric}
    found = frame.select((text.str.len_bytes() <= MAX_NUMBER_BYTES).all() for text in texts.values())
    for name, short in found.row(0, named=True).items() if texts else ():
        columns[name].numeric = short
    texts = {name: text for name, text in texts.items() if columns[name].numeric and Kind.TEXT in columns[name].kinds}
    if not texts:
        return
    number = [(text.str.contains(_NUMBER) & ~text.str.contains(_PADDED)).all() for text in texts.values()]
    whole = [text.str.contains(_WHOLE).all() for text in texts.values()]
    for name, numeric in frame.select(number).row(0, named=True).items():
        columns[name].numeric = numeric
    for name, is_whole in frame.select(whole).row(0, named=True).items():
        columns[name].whole = columns[name].whole and is_whole


@dataclass(frozen=True)
class Piece:
    """Some rows. ``columns``: the number in the file of each column that it has. Without a file, the rows are blank."""

    rows: int
    columns: Mapping[str, int] = field(default_factory=dict)
    path: Path | None = None


@dataclass
class Table:
    """A table."""

    name: str
    columns: list[Column] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    blank: int = 0
    """Rows without a cell that came before the first column, and are none unless the table has others before."""

    @property
    def rows(self) -> int:
        """How many it has, below the header."""
        return sum(piece.rows for piece in self.pieces)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the rows, some at once, with all columns, which are called by their numbers."""
        at_once = max(1, PIECE_CELLS // max(1, len(self.columns)))
        for piece in self.pieces:
            yield from self._arranged(piece).collect().iter_slices(at_once)

    def scan(self) -> pl.LazyFrame:
        """Return all rows, to be read when they are needed."""
        return pl.concat(self._arranged(piece) for piece in self.pieces)

    def _arranged(self, piece: Piece) -> pl.LazyFrame:
        if piece.path is None:
            nothing = pl.LazyFrame({"": [None] * piece.rows}, schema={"": pl.String})
            return nothing.select(pl.col("").alias(str(number)) for number in range(len(self.columns)))
        places = (piece.columns.get(column.name) for column in self.columns)
        return pl.scan_ipc(piece.path).select(
            (pl.lit(None, pl.String) if place is None else pl.col(str(place))).alias(str(number))
            for number, place in enumerate(places)
        )


class Keeper:
    """Keeps the rows of one file's tables on disk.

    :param name: what the names of its own files begin with.
    """

    def __init__(self, directory: Path, name: str = "rows") -> None:
        self.tables: dict[str, Table] = {}
        self._directory = directory
        self._name = name
        self._written = 0

    def keep(self, batch: Batch) -> None:
        """Take the rows that were added since."""
        table = self.tables.setdefault(batch.table, Table(batch.table))
        table.blank = batch.blank
        table.columns += [Column(name) for name, _ in batch.columns[len(table.columns) :]]
        for column, (_, kinds) in zip(table.columns, batch.columns, strict=True):
            column.kinds = kinds
        if not batch.rows:
            return
        frame = pl.DataFrame([cells.alias(str(number)) for number, cells in batch.cells.items()])
        look(frame, {str(number): table.columns[number] for number in batch.cells})
        path = self._directory / f"{self._name}-{self._written}.arrow" if batch.cells else None
        if path:
            self._written += 1
            frame.write_ipc(path, compression="lz4")
        names = {batch.columns[number][0]: number for number in batch.cells}
        table.pieces.append(Piece(batch.rows, names, path))


def merge(parts: Iterable[Mapping[str, Table]]) -> dict[str, Table]:
    """Return the tables of files that follow each other, as they would be if these were one file."""
    merged: dict[str, Table] = {}
    for part in parts:
        for name, table in part.items():
            whole = merged.setdefault(name, Table(name))
            if whole.columns and table.blank:
                whole.pieces.append(Piece(table.blank))
            elif not whole.columns:
                whole.blank += table.blank
            known = {column.name: column for column in whole.columns}
            for column in table.columns:
                if column.name not in known:
                    whole.columns.append(known.setdefault(column.name, Column(column.name)))
                known[column.name].include(column)
            whole.pieces += table.pieces
    return merged


def excel_obstacle(tables: Sequence[Table]) -> str | None:
    """Return which table exceeds which limit of Excel, None if all sizes are within."""
    for table in tables:
        if table.rows + 1 > MAX_ROWS:
            return f"table {table.name!r} has {table.rows:,} rows, and a sheet holds {MAX_ROWS - 1:,} below its header"
        if len(table.columns) > MAX_COLUMNS:
            return f"table {table.name!r} has {len(table.columns):,} columns, and a sheet holds {MAX_COLUMNS:,}"
    return None
