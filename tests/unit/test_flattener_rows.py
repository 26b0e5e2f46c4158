"""Records become the rows that flatterer makes of them, whatever they are."""

import csv
import gzip
import io
import json
import re
import tarfile

import flatterer
import openpyxl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.flattener import archive, workbook
from services.flattener.conversion import convert
from services.flattener.rows import number_text
from services.flattener.tables import merge

# Few keys, so that paths clash, columns meet with values of several kinds, and arrays of the same name are in turn of
# objects, of texts and mixed.
KEYS = st.sampled_from(["id", "ocid", "a", "b", "a_b", "main", "x y"])
# flatterer's own rows of CSV in a cell are read back by it; NUL and the like are told of in test_flattener_conversion.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["12", "1.5", "007", "0.5", "-3", "1e5", "inf", ".5", "+5", "5.", "2021-01-01", "true", " x ", "", '"', ",", "=1+1"]
)
# Beyond 15 digits, flatterer reads some numbers as their neighbours.
NUMBERS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.integers(-9, 99)
    | st.integers(-(10**14), 10**14).map(lambda number: number / 1000)
    | st.sampled_from([1e15, 1e16, 1e21, 1e-5, 1e-7, 0.1, 0.30000000000000004, -0.0])
)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
RECORDS = st.lists(st.dictionaries(KEYS, JSON, max_size=5), max_size=6)


def write(path, records):
    path.write_bytes(gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in records)))
    return path


def ours(path, directory, stem="x"):
    directory.mkdir()
    return files(convert(path, directory, lambda _: None), directory, stem)


def files(tables, directory, stem="x"):
    """Return the rows of each CSV file and of each sheet."""
    archive.pack(tables.values(), directory / "x.tar.gz", stem)
    workbook.write(list(tables.values()), directory / "x.xlsx")
    with tarfile.open(directory / "x.tar.gz") as tar:
        content = {member.name: tar.extractfile(member).read().decode() for member in tar if member.isfile()}
    tables = {name.removeprefix(f"{stem}/").removesuffix(".csv"): read(text) for name, text in content.items()}
    return {name: rows for name, rows in tables.items() if rows}, sheets(directory / "x.xlsx")


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def sheets(path):
    """Return the cells of each sheet: numbers as float, and no cell where it is empty."""
    return [
        {
            (cell.row, cell.column): plain(unescape(cell.value)) if isinstance(cell.value, str) else float(cell.value)
            for row in sheet.iter_rows()
            for cell in row
            if cell.value is not None
        }
        for sheet in openpyxl.load_workbook(path)
    ]


def unescape(text):
    return re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)


def plain(text):
    """Return a text with numbers in JSON as we write them: without a plus."""
    return re.sub(r"(?<=\d)e\+(?=\d)", "e", text)


def theirs(path, directory):
    (directory / "lines").write_bytes(gzip.decompress(path.read_bytes()) or b"{}\n")
    output = directory / "flat"
    flatterer.flatten(
        str(directory / "lines"),
        str(output),
        ndjson=True,
        xlsx=True,
        force=True,
        pushdown=["ocid", "id"],
        no_link=True,
        threads=1,
    )
    tables = {path.stem: read(plain(path.read_bytes().decode())) for path in (output / "csv").glob("*.csv")}
    return tables, sheets(output / "output.xlsx")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a function that makes a new directory."""
    return lambda: tmp_path_factory.mktemp("flat")


@settings(deadline=None, max_examples=25)
@given(RECORDS)
@example([{"z": {"b": 2}, "y": [{"q": 1}], "a": 1, "b": 2, "c": [], "d": 3, "e": 4}])
@example([{"a_b": 1, "a": {"b": 2}, "c": 3}, {"a": {"b": 2}, "a_b": 1}])
@example([{"main": [{"q": 1}], "z": 1}, {"main": [{"q": 2}], "z": 2}])
@example([{}, {"a": 1}, {}, {"a": []}, {"b": {}}])
@example([{"id": [1, 2], "x": [{"a": 1}]}, {"id": {"q": 1}, "x": [{"a": 1}]}, {"id": None, "x": [{"a": 1}]}])
@example([{"a": ["x,y", 'say "hi"', "l\nm"]}, {"a": [" x", "y "]}, {"a": [""]}, {"a": ["\x1cx"]}])
@example([{"a": "\x1f"}])
@example([{"a": 0.12345678901234567}, {"a": 1}])
@example([{"a": 1}, {"a": 0.12345678901234567}])
@example([{"a": "1.5"}, {"a": "inf"}, {"a": "+5"}])
def test_tables_and_sheets_are_those_of_flatterer(place, records):
    directory = place()
    path = write(directory / "x.jsonl.gz", records)
    tables, cells = ours(path, directory / "ours")
    expected_tables, expected_cells = theirs(path, directory)
    assert tables == expected_tables
    assert cells == expected_cells


@settings(deadline=None, max_examples=25)
@given(st.lists(RECORDS, min_size=1, max_size=3))
@example([[{"a": 1}], [{}, {"b": 1}], [{"b": "x", "a": 2}]])
@example([[{"a": 0.12345678901234567}], [{"a": 0.12345678901234567}]])
def test_the_tables_of_parts_are_those_of_the_whole(place, parts):
    directory = place()
    read_parts = []
    for number, records in enumerate(parts):
        scratch = directory / str(number)
        scratch.mkdir()
        read_parts.append(convert(write(directory / f"{number}.gz", records), scratch, lambda _: None))
    (directory / "merged").mkdir()
    merged = files(merge(read_parts), directory / "merged")
    whole = ours(write(directory / "x.jsonl.gz", [record for records in parts for record in records]), directory / "x")
    assert merged == whole


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-0.0, "-0"),
        (1.5, "1.5"),
        (1e16, "10000000000000000"),
        (1e-7, "0.0000001"),
        (1.2345678901234567e19, "12345678901234567000"),
    ],
)
def test_numbers_have_no_exponent(number, text):
    assert number_text(number) == text
