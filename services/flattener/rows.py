"""Records become rows of tables: one table for the records, and one for each array of objects in them.

The tables are those that flatterer 0.25 makes with the options of the OCP Data Registry (``pushdown=["ocid", "id"]``,
``no_link``), cell by cell; docs/decisions/0011-own-flattening.md lists the few differences. The rules:

- Values of nested objects are columns of the object that they are in: ``{"tender": {"id": 1}}`` has ``tender_id``.
- An array that begins with an object is a table, called by the keys on the way to it: ``tender_items``. Items that are
  no objects have their text in a column ``value``; empty objects are left out. An empty array is nothing, an array of
  texts is one cell with commas between them, any other array is a cell of JSON.
- A row of an array's item ends with the ``ocid`` and ``id`` of each object that it is in: ``main_ocid``, ``tender_id``.
- Columns are in the order in which they first occur, where a record that lost a member to a table or to columns of its
  own has its last member in that place. This is how flatterer's maps remove; people have scripts that rely on it.

Objects of a place look alike, so what is to be done with one is worked out once for each list of keys and types
(:class:`Shape`), and done with few steps for each object rather than several for each value.

This is the reference. Where a compiler was at hand when the suite was installed, core.c does the same many times faster
(compiled.py); tests compare the two, cell by cell.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntFlag
from operator import itemgetter
from typing import Any

import msgspec
import polars as pl

MAIN = "main"
"""The table of the records."""
PUSHED_DOWN = ("ocid", "id")
MAX_DEPTH = 127
"""Of nested objects, as flatterer has it."""
MAX_SHAPES = 10_000
"""Shapes that a place remembers: data with keys of its own in each record must not fill the memory."""

Row = tuple[str | None, ...]
"""Cells; None where there is no value, or null."""


class Kind(IntFlag):
    """What a cell was in JSON. Arrays and objects in cells are texts."""

    NONE = 0
    TEXT = 1
    INTEGER = 2
    FLOAT = 4
    BOOLEAN = 8


KINDS = {str: Kind.TEXT, int: Kind.INTEGER, float: Kind.FLOAT, bool: Kind.BOOLEAN, type(None): Kind.NONE}

# White space as Unicode has it; Python's own strip() also takes away four separators of ASCII.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_BROKEN = re.compile('["\r\n]')
_QUOTED = re.compile('[",\r\n]')


class TooDeepError(Exception):
    """Objects are nested more than :data:`MAX_DEPTH` levels deep."""


REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TooDeepError, ValueError)
"""What a bad record raises; the last if it has a number of thousands of digits."""
_DECODER = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Batch:
    """The rows that a table got since the last ones were taken.

    :param blank: rows without a cell that came before the table's first column.
    :param columns: the names and kinds of all that the table has by now.
    :param rows: how many.
    :param cells: by the number of the column. One without a cell may be left out.
    """

    table: str
    blank: int
    columns: Sequence[tuple[str, Kind]]
    rows: int
    cells: Mapping[int, pl.Series]


class Rows:
    """The rows of a table that were not taken yet, and the columns of all that ever were added."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: dict[str, int] = {}
        self.kinds: list[Kind] = []
        self.blank = 0
        """Rows without a cell that came before the first column."""
        self._rows: list[tuple[Layout, Sequence[str | None]]] = []

    def column(self, name: str, kind: Kind) -> int:
        """Return the number of a column, which is new or gets values of a kind."""
        number = self.columns.setdefault(name, len(self.columns))
        if number == len(self.kinds):
            self.kinds.append(kind)
        else:
            self.kinds[number] |= kind
        return number

    def add(self, layout: "Layout", cells: Sequence[str | None]) -> None:
        """Add a row. The last of the cells is None, for columns that the row lacks."""
        if self.columns:
            self._rows.append((layout, cells))
        else:
            self.blank += 1

    def take(self, size: int) -> Iterator[Batch]:
        """Yield the rows that were added since, each as wide as the table is now, with some ``size`` cells at once."""
        width = len(self.columns)
        columns = list(zip(self.columns, self.kinds, strict=True))
        rows, self._rows = self._rows, []
        at_once = max(1, size // max(width, 1))
        for layout in {layout for layout, _ in rows}:
            layout.fit(width)
        for start in range(0, max(len(rows), 1), at_once):
            some = [layout.arrange(cells) for layout, cells in rows[start : start + at_once]]
            cells = {number: pl.Series(cells, dtype=pl.String) for number, cells in enumerate(zip(*some, strict=True))}
            yield Batch(self.name, self.blank, columns, len(some), cells)


class Layout:
    """Where the cells of some rows go in their table.

    :param columns: the name of the column that each cell is of, and the cell's kind. Of two with the same name, the
        first counts.
    """

    __slots__ = ("_places", "_width", "arrange")

    def __init__(self, table: Rows, columns: Iterable[tuple[str, Kind]]) -> None:
        self._places: dict[int, int] = {}
        seen = set()
        for number, (name, kind) in enumerate(columns):
            if name not in seen:
                seen.add(name)
                self._places[table.column(name, kind)] = number
        self._width = -1
        self.arrange: Callable[[Sequence[str | None]], Row] = tuple
        """Returns cells, of which the last is None, in the order of the table's columns."""

    def fit(self, width: int) -> None:
        """Arrange cells for a table that is so wide from now on."""
        if width != self._width:
            self.arrange = picker([self._places.get(place, -1) for place in range(width)])
            self._width = width


class Chain:
    """Columns that rows get from the objects they are in. Equal chains are the same object."""

    def __init__(self, columns: tuple[tuple[str, Kind], ...] = ()) -> None:
        self.columns = columns
        self.longer: dict[Shape, Chain] = {}

    def with_those_of(self, shape: "Shape") -> "Chain":
        """Return the chain with what an object of a shape adds."""
        chain = self.longer.get(shape)
        if chain is None:
            make_room(self.longer)
            chain = self.longer[shape] = Chain((*self.columns, *shape.pushed))
        return chain


class Place:
    """Where objects are: a path of keys. ``shapes`` are those of the objects that were seen there."""

    def __init__(self, path: tuple[str, ...], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooDeepError
        self.path = path
        self.depth = depth
        self.name = "_".join(path) if path else MAIN
        self.table: Rows | None = None
        self.shapes: dict[tuple[Any, ...], Shape] = {}
        self._within: dict[tuple[str, int], Place] = {}

    def within(self, key: str, levels: int) -> "Place":
        """Return the place of a member, or (two levels further) of the items of one."""
        place = self._within.get((key, levels))
        if place is None:
            place = self._within[key, levels] = Place((*self.path, key), self.depth + levels)
        return place

    def learn(self, record: dict[str, Any]) -> "Shape":
        """Return a shape for an object that is like none before."""
        make_room(self.shapes)
        keys, types = tuple(record), tuple(map(type, record.values()))
        shape = self.shapes[keys + types] = Shape(self, keys, types)
        return shape


class Shape:
    """Objects with the same keys, with values of the same types."""

    def __init__(self, place: Place, keys: Sequence[str], types: Sequence[type]) -> None:
        self.keys = keys
        self.kinds = [KINDS.get(each, Kind.TEXT) for each in types]
        of = {each: [number for number, other in enumerate(types) if other is each] for each in set(types)}
        self.converters = [
            (number, convert)
            for each, convert in ((int, str), (float, number_text), (bool, _bool_text))
            for number in of.get(each, ())
        ]
        self.lists = [(number, place.within(keys[number], 2)) for number in of.get(list, ())]
        self.objects = [(number, place.within(keys[number], 1)) for number in of.get(dict, ())]
        pushed = [key for key in PUSHED_DOWN if key in keys and types[keys.index(key)] is not type(None)]
        self.pushed = [(f"{place.name}_{key}", self.kinds[keys.index(key)]) for key in pushed]
        self.push = picker([keys.index(key) for key in pushed])
        self.nested = bool(self.lists or self.objects)
        self.plain = not (self.nested or self.converters)
        self.flat = Form(list(zip(keys, self.kinds, strict=True)), tuple)
        self.forms: dict[tuple[Any, ...], Form] = {}

    def learn(self, details: tuple[Any, ...]) -> "Form":
        """Return what objects look like whose arrays and nested objects are of some sorts and forms."""
        make_room(self.forms)
        form = self.forms[details] = self._new_form(details)
        return form

    def _new_form(self, details: tuple[Any, ...]) -> "Form":
        # The source of each column among the values, which those of the nested objects follow.
        columns = {key: (number, self.kinds[number]) for number, key in enumerate(self.keys)}
        order = list(self.keys)
        gone = [number for (number, _), sort in zip(self.lists, details, strict=False) if sort in (ROWS, NOTHING)]
        for number in (*gone, *(number for number, _ in self.objects)):
            _swap_out(order, self.keys[number])
        source = len(self.keys)
        for (number, _), form in zip(self.objects, details[len(self.lists) :], strict=True):
            for name, kind in form.columns:
                column = f"{self.keys[number]}_{name}"
                if column not in order:
                    order.append(column)
                columns[column] = source, kind
                source += 1
        return Form(
            [(column, columns[column][1]) for column in order], picker([columns[column][0] for column in order])
        )


class Form:
    """The columns of objects that look alike down to their last member, and how to pick them among the values."""

    __slots__ = ("columns", "layouts", "pick")

    def __init__(self, columns: list[tuple[str, Kind]], pick: Callable[[Sequence[str | None]], Row]) -> None:
        self.columns = columns
        self.pick = pick
        self.layouts: dict[Chain, Layout] = {}

    def learn(self, table: Rows, chain: Chain) -> Layout:
        """Return where the cells of an object go, with those of the chain behind them."""
        make_room(self.layouts)
        layout = self.layouts[chain] = Layout(table, (*self.columns, *chain.columns))
        return layout


class Flattener:
    """Turns records into rows. ``tables`` are in the order in which they first occurred."""

    def __init__(self) -> None:
        self.tables: dict[str, Rows] = {}
        self._root = Place((), 1)
        self._no_chain = Chain()

    def flatten(self, lines: bytes, size: int) -> Iterator[Batch]:
        """Yield the rows of JSON Lines, some ``size`` cells at once. Raise one of :data:`REFUSED`."""
        records = _DECODER.decode_lines(lines)
        if len(records) != lines.count(b"\n"):
            _decode_each(lines)
        for record in records:
            self.add(record)
        for rows in self.tables.values():
            yield from rows.take(size)

    def add(self, record: dict[str, Any]) -> None:
        """Add the rows of a record. Raise :class:`TooDeepError`."""
        self._add_row(self._root, record, self._no_chain, ())

    def _add_row(self, place: Place, record: dict[str, Any], chain: Chain, carried: Row) -> None:
        table = place.table
        if table is None:
            table = place.table = self.tables.setdefault(place.name, Rows(place.name))
        form, cells = self._walk(place, record, chain, carried)
        table.add(form.layouts.get(chain) or form.learn(table, chain), (*cells, *carried, None))

    def _walk(
        self, place: Place, record: dict[str, Any], chain: Chain, carried: Row
    ) -> tuple[Form, Iterable[str | None]]:
        """Return an object's own cells, after adding the rows of the arrays in it."""
        shape = place.shapes.get((*record, *map(type, record.values()))) or place.learn(record)
        if shape.plain:
            return shape.flat, record.values()
        values: list[Any] = [*record.values()]
        for number, convert in shape.converters:
            values[number] = convert(values[number])
        if not shape.nested:
            return shape.flat, values
        if shape.pushed:
            chain = chain.longer.get(shape) or chain.with_those_of(shape)
            carried += tuple(map(_cell, shape.push(values)))
        details: list[Any] = []
        for number, inner in shape.lists:
            items = values[number]
            details.append(sort := _sort(items))
            if sort is ROWS:
                for item in filter(None, map(_object, items)):
                    self._add_row(inner, item, chain, carried)
            elif sort is not NOTHING:
                values[number] = _joined(items) if sort is TEXTS else json_text(items)
        for number, inner in shape.objects:
            form, cells = self._walk(inner, values[number], chain, carried)
            details.append(form)
            values += cells
        key = tuple(details)
        form = shape.forms.get(key) or shape.learn(key)
        return form, form.pick(values)


def _decode_each(lines: bytes) -> None:
    """Make sure that no line has two records: together, lines are decoded as if there were no ends of them."""
    for line in lines.split(b"\n"):
        if line.strip():
            _DECODER.decode(line)


NOTHING, ROWS, TEXTS, MIXED = "nothing", "rows", "texts", "mixed"
"""What becomes of an array."""


def _sort(items: list[Any]) -> str:
    if not items:
        return NOTHING
    if type(items[0]) is dict:
        return ROWS
    return TEXTS if set(map(type, items)) == {str} else MIXED


def _object(item: Any) -> dict[str, Any]:
    """Return an item of an array of objects as one, if it is none."""
    return item if type(item) is dict else {"value": _cell(item)}


def make_room(remembered: dict[Any, Any]) -> None:
    """Forget all, if it is too much."""
    if len(remembered) >= MAX_SHAPES:
        remembered.clear()


def picker(order: Sequence[int]) -> Callable[[Sequence[str | None]], Row]:
    """Return a function that picks items of a sequence, by their numbers, as a tuple."""
    if len(order) > 1:
        return itemgetter(*order)
    if not order:
        return lambda _: ()
    (number,) = order
    return lambda cells: (cells[number],)


def number_text(number: float) -> str:
    """Return the shortest text that is read as the same number, without exponent: ``1500``, ``0.00001``."""
    text = repr(number)
    if text.endswith(".0"):
        return text[:-2]
    return f"{Decimal(text):f}" if "e" in text else text


def _bool_text(value: bool) -> str:
    return "true" if value else "false"


def _cell(value: Any) -> str:
    return value if type(value) is str else json_text(value)


def json_text(value: Any) -> str:
    """Return a value as compact JSON."""
    return msgspec.json.encode(value).decode()


def _joined(texts: list[str]) -> str:
    """Return texts as a row of CSV, less white space around it."""
    if len(texts) == 1 and texts[0].isalnum():
        return texts[0]
    row = ",".join(texts)
    if row.count(",") >= len(texts) or _BROKEN.search(row) or texts == [""]:
        row = ",".join(f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.search(text) else text for text in texts)
        row = row or '""'
    return row.strip(_WHITE)


def _swap_out(order: list[str], key: str) -> None:
    """Remove a key, and put the last one in its place."""
    last = order.pop()
    if last != key:
        order[order.index(key)] = last
