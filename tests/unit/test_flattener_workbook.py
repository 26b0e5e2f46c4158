"""Workbooks: what Excel is given, read by another library."""

import zipfile

import openpyxl
import pytest

from services.flattener import workbook
from services.flattener.rows import Kind, Layout, Rows
from services.flattener.tables import Keeper
from services.flattener.workbook import sheet_names


def write(tmp_path, *tables):
    """Write tables (name, header, rows of texts) and return what was lost, and the cells of each sheet."""
    keeper = Keeper(tmp_path)
    for name, header, lines in tables:
        rows = Rows(name)
        layout = Layout(rows, [(column, Kind.TEXT) for column in header])
        for line in lines:
            rows.add(layout, (*line, None))
        for batch in rows.take(1000):
            keeper.keep(batch)
    written = workbook.write(list(keeper.tables.values()), tmp_path / "x.xlsx")
    with zipfile.ZipFile(tmp_path / "x.xlsx") as archive:
        assert archive.testzip() is None
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    return written, {sheet.title: sheet for sheet in book}


@pytest.mark.parametrize("text", ["=1+1", "+1-2", "-x", "@SUM(A1)", "\tx", '=HYPERLINK("http://a")'])
def test_what_looks_like_a_formula_is_a_text(tmp_path, text):
    _, sheets = write(tmp_path, ("main", [text, "b"], [[text, "x"]]))
    for cell in (sheets["main"]["A1"], sheets["main"]["A2"]):
        assert (cell.value, cell.data_type) == (text, "s")


@pytest.mark.parametrize(
    "text", ["<b>&amp;</b>", "]]>", " both ", "two\nlines\n", "'", '"', "é😀", "a  b", "<", "&lt;"]
)
def test_texts_are_what_they_were(tmp_path, text):
    _, sheets = write(tmp_path, ("main", ["a"], [[text]]))
    assert sheets["main"]["A2"].value == text


def test_what_xml_cannot_hold_is_escaped_as_excel_does_or_left_out(tmp_path):
    _, sheets = write(tmp_path, ("main", ["a\1"], [["a\rb"], ["a\0\x0bb\uffff"], ["_x0041_"], ["\1"]]))
    assert [row[0].value for row in sheets["main"]["A1":"A5"]] == ["a ", "a_x000D_b", "ab", "_x005F_x0041_", None]


def test_cells_keep_their_places_between_empty_ones(tmp_path):
    _, sheets = write(tmp_path, ("main", ["a", "b", "c"], [[None, "x", None], [None, None, None], ["", "", "y"]]))
    assert list(sheets["main"].values)[1:] == [(None, "x", None), (None, None, None), (None, None, "y")]


@pytest.mark.parametrize(
    ("text", "kept", "cut"),
    [("y" * 32_767, 32_767, 0), ("y" * 32_768, 32_767, 1), ("é" * 32_767, 32_767, 0), ("😀" * 16_384, 16_383, 1)],
)
def test_cells_are_cut_where_excel_stops_to_count(tmp_path, text, kept, cut):
    written, sheets = write(tmp_path, ("main", ["a"], [[text], ["x"]]))
    assert sheets["main"]["A2"].value == text[:kept]
    assert written.cut == ({"main": cut} if cut else {})


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["main", "awards"], ["main", "awards"]),
        (["contracts_implementation_transactions"], ["contract_implemen_transactions"]),
        (["a" * 40], ["a" * 31]),
        (["a" * 31 + "x", "a" * 31 + "y", "A" * 32], ["a" * 31, "a" * 29 + "_2", "A" * 29 + "_3"]),
        (["Lots", "lots"], ["Lots", "lots_2"]),
        (["a:b", "[x]*?/\\", "'q'", "", "history"], ["a_b", "_x_____", "_q_", "_", "history_2"]),
        (["поставщикиуслуги", "и" * 40], ["поставщикиуслуги", "и" * 31]),
        (["x_" + "y" * 40], ["y" * 31]),
    ],
)
def test_names_of_sheets_are_what_excel_allows(tables, expected):
    names, _ = sheet_names(tables)
    assert names == expected
    assert all(len(name) <= 31 for name in names)


def test_names_that_are_not_just_shorter_are_told():
    assert sheet_names(["awards_" + "x" * 40, "a:b", "Lots", "lots"])[1] == {"a:b": "a_b", "lots": "lots_2"}


def test_the_same_tables_give_the_same_bytes(tmp_path):
    content = []
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        write(directory, ("main", ["a"], [["1"]]))
        content.append((directory / "x.xlsx").read_bytes())
    assert content[0] == content[1]


def test_more_than_a_zip_file_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "MAX_MEMBER_BYTES", 500)
    with pytest.raises(workbook.TooLargeError):
        write(tmp_path, ("main", ["a"], [["x" * 1000]]))
