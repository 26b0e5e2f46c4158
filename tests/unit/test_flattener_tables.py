"""Measuring CSV files, and comparing them with Excel's limits."""

import csv

import pytest

from services.flattener.tables import (
    MAX_CELL_BYTES,
    MAX_COLUMNS,
    MAX_ROWS,
    Table,
    excel_obstacle,
    read_table,
    read_tables,
)


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def test_rows_and_columns_are_counted(tmp_path):
    path = write(tmp_path / "main.csv", [["ocid", "a,b"], ["1", "x"], ["2", "y"]])
    assert read_table(path) == Table(rows=2, columns=2, long_cells=0)


def test_line_breaks_and_quotes_within_cells_make_no_rows(tmp_path):
    cells = ["a\nb", '"', 'say "hi"\n\n"', '""', "\r\n", ",\n,"]
    path = write(tmp_path / "main.csv", [["text"], *([cell] for cell in cells)])
    assert read_table(path) == Table(rows=len(cells), columns=1, long_cells=0)


def test_a_line_break_in_the_header_makes_no_row(tmp_path):
    assert read_table(write(tmp_path / "main.csv", [["a\nb", "c"], ["1", "2"]])) == Table(1, 2, 0)


def test_an_empty_file_has_neither_rows_nor_columns(tmp_path):
    (tmp_path / "main.csv").touch()
    assert read_tables(tmp_path) == {"main": Table(0, 0, 0)}


def test_cells_too_long_for_excel_are_counted_in_bytes(tmp_path):
    fits, long = "x" * MAX_CELL_BYTES, "x" * (MAX_CELL_BYTES + 1)
    wide = "é" * (MAX_CELL_BYTES // 2 + 1)
    rows = [["a", "b"], [fits, fits], [long, "1"], ["1", wide], [long, '"\n' * MAX_CELL_BYTES]]
    assert read_table(write(tmp_path / "main.csv", rows)) == Table(rows=4, columns=2, long_cells=4)


def test_tables_are_read_by_name(tmp_path):
    write(tmp_path / "main.csv", [["a"], ["1"]])
    write(tmp_path / "awards.csv", [["a", "b"], ["1", "2"], ["3", "4"]])
    assert list(read_tables(tmp_path).items()) == [("awards", Table(2, 2, 0)), ("main", Table(1, 1, 0))]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table(MAX_ROWS - 1, MAX_COLUMNS, 0), None),
        (Table(MAX_ROWS, 1, 0), "table 'items' has 1,048,576 rows, and a sheet holds 1,048,575 below its header"),
        (Table(1, MAX_COLUMNS + 1, 0), "table 'items' has 16,385 columns, and a sheet holds 16,384"),
    ],
)
def test_a_table_beyond_excels_limits_is_named_with_the_limit(table, words):
    assert excel_obstacle({"main": Table(1, 1, 0), "items": table}) == words
