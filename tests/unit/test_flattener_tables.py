"""Tables: their rows in pieces, their columns in Excel, and Excel's limits."""

import polars as pl
import pytest

from services.flattener.rows import Kind
from services.flattener.tables import (
    MAX_COLUMNS,
    MAX_ROWS,
    Column,
    Piece,
    Table,
    excel_obstacle,
    look,
    merge,
)

REAL, TEXT = Kind.FLOAT, Kind.TEXT
LONG = "0.123456789012345678"


def column(*looks):
    """Return a column that took in lists of cells, each with their kinds."""
    made = Column("a")
    for kinds, cells in looks:
        made.kinds |= kinds
        look(pl.DataFrame({"0": cells}, schema={"0": pl.String}), {"0": made})
    return made


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(REAL, ["1.5", None, "2"])], True),
        ([(Kind.INTEGER, ["1"])], True),
        ([(TEXT, ["1", "2"])], False),
        ([(TEXT, ["1", "2.5"])], True),
        ([(TEXT, ["1"]), (REAL, ["2"])], True),
        ([(REAL, ["1"]), (TEXT, ["007"])], False),
        ([(REAL, ["1"]), (TEXT, ["x"])], False),
        ([(REAL, ["1"]), (Kind.BOOLEAN, ["true"])], False),
        ([(Kind.NONE, [None])], False),
        ([(TEXT, [""])], False),
        ([(TEXT, ["1 "])], False),
        ([(TEXT, ["inf", "-.5", "+5.", "1e5"])], True),
        ([(REAL, [LONG, "1"])], True),
        ([(REAL, ["1", LONG])], False),
        ([(REAL, ["1"]), (REAL, [LONG])], False),
        ([(TEXT, [LONG, "1.5"])], False),
    ],
)
def test_a_column_is_one_of_numbers_if_all_it_has_are(looks, expected):
    assert column(*looks).is_number is expected


def test_of_two_columns_that_follow_only_the_very_first_number_may_be_long():
    first = column((REAL, ["1"]))
    first.include(column((REAL, [LONG])))
    assert not first.is_number
    empty = Column("a")
    empty.include(column((REAL, [LONG, "1"])))
    assert empty.is_number


def table(name, rows, columns):
    return Table(name, [Column(str(number)) for number in range(columns)], [Piece(rows)])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (table("items", MAX_ROWS - 1, MAX_COLUMNS), None),
        (table("items", MAX_ROWS, 1), "table 'items' has 1,048,576 rows, and a sheet holds 1,048,575 below its header"),
        (table("items", 1, MAX_COLUMNS + 1), "table 'items' has 16,385 columns, and a sheet holds 16,384"),
    ],
)
def test_a_table_beyond_excels_limits_is_named_with_the_limit(made, words):
    assert excel_obstacle([table("main", 1, 1), made]) == words


def test_rows_without_a_cell_count_once_the_table_has_a_column():
    blank, filled = Table("main", blank=2), table("main", 1, 1)
    assert merge([{"main": blank}, {"main": filled}])["main"].rows == 1
    assert merge([{"main": filled}, {"main": blank}])["main"].rows == 3
