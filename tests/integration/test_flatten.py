"""The flatten handler: tables complete and the same in both formats, Excel's limits told, reruns harmless."""

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import flatterer
import pytest

from services.flattener import handlers, tables
from services.flattener.handlers import flatten
from shared.db.models import NoteLevel
from shared.errors import PermanentError
from shared.exports import read_lock
from tests.factories import make_collection, make_job, make_work

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture
def session(sessions):
    with sessions() as session:
        yield session


@pytest.fixture
def start(session, settings):
    """Return a function that publishes records as a JSON Lines file and returns the work of flattening it."""
    job = make_job(session, make_collection(session))
    numbers = iter(range(1, 100))

    def make(records, name="2021.jsonl.gz", **overrides):
        work = make_work(
            session,
            settings.model_copy(update=overrides),
            job,
            "flatten",
            {"name": name},
            number=next(numbers),
        )
        work.export.directory.mkdir(parents=True, exist_ok=True)
        half = len(records) // 2
        members = [gzip.compress(to_lines(part)) for part in (records[:half], records[half:])]
        work.export.path(name).write_bytes(b"".join(members))
        return work

    return make


def to_lines(records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def releases(count):
    """Return records with nested arrays, texts that want quoting, numbers, numbers in texts, and nothing at all."""
    return [
        {
            "ocid": f"ocds-1-{number}",
            "id": f"{number:05d}",
            "date": f"2021-01-{number % 28 + 1:02d}T00:00:00Z",
            "tag": ["compiled", "planning"],
            "tender": {
                "id": str(number),
                "title": f'Rua "{number}", São João\nsecond line' if number % 3 else None,
                "value": {"amount": number * 1.5, "currency": "EUR"},
                "items": [{"id": str(item), "quantity": item} for item in range(number % 4)],
            },
            "awards": [{"id": "a", "suppliers": [{"id": "s1"}, {"id": "s2", "name": "=1+1"}]}] if number % 2 else [],
        }
        for number in range(count)
    ]


def read_archive(path, stem):
    """Return the rows of each table, checking that all is in one directory."""
    with tarfile.open(path) as tar:
        directory, *files = tar.getmembers()
        assert directory.isdir()
        assert directory.name == stem
        content = {file.name: read_rows(tar.extractfile(file).read()) for file in files}
    return {name.removeprefix(f"{stem}/").removesuffix(".csv"): rows for name, rows in content.items()}


def read_rows(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def read_workbook(path):
    """Return the cells of each sheet as ``{(row, column letters): str or float}``, by name."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        workbook = ET.fromstring(archive.read("xl/workbook.xml"))
        names = [sheet.get("name") for sheet in workbook.iter(f"{SHEET}sheet")]
        strings = ET.fromstring(archive.read("xl/sharedStrings.xml")) if names != ["Sheet1"] else []
        texts = [unescape("".join(text.text or "" for text in item.iter(f"{SHEET}t"))) for item in strings]
        return {
            name: read_sheet(archive.read(f"xl/worksheets/sheet{number}.xml"), texts)
            for number, name in enumerate(names, 1)
        }


def unescape(text):
    """Return a text of a workbook as Excel shows it: XML has no carriage return, so it is written ``_x000D_``."""
    return re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)


def read_sheet(xml, texts):
    cells = {}
    for row in ET.fromstring(xml).iter(f"{SHEET}row"):
        for cell in row:
            letters = cell.get("r").removesuffix(row.get("r"))
            value = cell.find(f"{SHEET}v").text
            cells[int(row.get("r")), letters] = texts[int(value)] if cell.get("t") == "s" else float(value)
    return cells


def letters(column):
    """Return the name of the column with the given number, from 0: A, …, Z, AA, …"""
    return (letters(column // 26 - 1) if column >= 26 else "") + chr(ord("A") + column % 26)


def assert_same_cells(table, sheet):
    expected = {
        (number, letters(column)): cell
        for number, row in enumerate(table, 1)
        for column, cell in enumerate(row)
        if cell != ""
    }
    assert set(expected) == set(sheet)
    for place, cell in sheet.items():
        assert (float(expected[place]) if isinstance(cell, float) else expected[place]) == cell, place


def files_of(work):
    return {file.name: file.path for file in work.files}


def test_the_tables_are_those_that_flatterer_makes_by_hand(start, tmp_path):
    records = releases(200)
    work = start(records)
    output = flatten(work)
    made = read_archive(files_of(work)["2021.csv.tar.gz"], "2021")

    (tmp_path / "lines").write_bytes(to_lines(records))
    by_hand = tmp_path / "by hand"
    flatterer.flatten(
        str(tmp_path / "lines"), str(by_hand), ndjson=True, pushdown=["ocid", "id"], no_link=True, threads=4
    )
    expected = {path.stem: read_rows(path.read_bytes()) for path in (by_hand / "csv").iterdir()}

    assert set(made) == set(expected) == {"main", "tender_items", "awards", "awards_suppliers"}
    for name, (header, *rows) in expected.items():
        assert sorted(header) == sorted(made[name][0])
        order = [header.index(column) for column in made[name][0]]
        assert sorted([row[place] for place in order] for row in rows) == sorted(made[name][1:])
    assert output == {
        "name": "2021.jsonl.gz",
        "files": ["2021.csv.tar.gz", "2021.xlsx"],
        "tables": {name: len(rows) - 1 for name, rows in expected.items()},
        "columns": {name: len(rows[0]) for name, rows in expected.items()},
    }
    assert [file.records for file in work.files] == [200, 200]
    assert work.notes == []


def test_the_workbook_has_the_cells_of_the_csv_files(start):
    work = start(releases(100), name="full.jsonl.gz")
    flatten(work)
    csv_tables = read_archive(files_of(work)["full.csv.tar.gz"], "full")
    sheets = read_workbook(files_of(work)["full.xlsx"])
    assert set(sheets) == set(csv_tables)
    for name, table in csv_tables.items():
        assert_same_cells(table, sheets[name])
    assert sheets["main"][2, "B"] == "00000", "a text of digits stays a text"
    assert sheets["tender_items"][2, "B"] == 0.0, "a number stays a number"


def test_published_data_has_the_same_cells_in_both_formats(start):
    source = Path(__file__).parents[3] / "shared" / "data" / "pt-base-releases.json"
    if not source.exists():
        pytest.skip("the sample of published data is not there")
    records = json.loads(source.read_text())["releases"]
    work = start(records)
    output = flatten(work)
    csv_tables = read_archive(files_of(work)["2021.csv.tar.gz"], "2021")
    sheets = read_workbook(files_of(work)["2021.xlsx"])
    assert output["tables"]["main"] == len(records)
    assert output["tables"]["parties"] == sum(len(record["parties"]) for record in records)
    for name, table in csv_tables.items():
        (sheet,) = [
            sheet for title, sheet in sheets.items() if name == title or (len(name) > 31 and title not in csv_tables)
        ]
        assert_same_cells(table, sheet)


def test_no_records_give_an_empty_table_and_an_empty_sheet(start):
    work = start([])
    assert flatten(work) == {
        "name": "2021.jsonl.gz",
        "files": ["2021.csv.tar.gz", "2021.xlsx"],
        "tables": {"main": 0},
        "columns": {"main": 0},
    }
    assert read_archive(files_of(work)["2021.csv.tar.gz"], "2021") == {"main": []}
    assert read_workbook(files_of(work)["2021.xlsx"]) == {"Sheet1": {}}
    assert [file.records for file in work.files] == [0, 0]
    assert work.notes == []


def test_too_many_columns_for_excel_give_csv_alone_and_a_warning(start):
    work = start([{"id": "1", "wide": [{f"k{number}": number for number in range(20_000)}]}])
    assert flatten(work)["files"] == ["2021.csv.tar.gz"]
    (note,) = work.notes
    assert note.level == NoteLevel.WARNING
    assert note.note == (
        "2021.xlsx is left out, because Excel cannot hold it: table 'wide' has 20,001 columns, and a sheet holds "
        "16,384. The CSV files are whole."
    )
    assert len(read_archive(files_of(work)["2021.csv.tar.gz"], "2021")["wide"][1]) == 20_001


def test_too_many_rows_for_excel_give_csv_alone_and_a_warning(start):
    work = start([{"id": "1", "a": [{"b": 1}] * (tables.MAX_ROWS + 1)}])
    output = flatten(work)
    assert output["files"] == ["2021.csv.tar.gz"]
    assert output["tables"] == {"a": 1_048_577, "main": 1}
    (note,) = work.notes
    assert "table 'a' has 1,048,577 rows, and a sheet holds 1,048,575 below its header" in note.note


def test_sheet_names_that_clash_give_csv_alone_and_a_warning(start):
    work = start([{"id": "1", "Lots": [{"q": 1}], "lots": [{"q": 1}]}])
    assert flatten(work)["files"] == ["2021.csv.tar.gz"]
    (note,) = work.notes
    assert "flatterer says: Worksheet name 'lots' has already been used" in note.note


def test_a_file_over_the_limit_gets_no_workbook(start):
    records = releases(10)
    size = len(to_lines(records))
    assert flatten(start(records, xlsx_max_bytes=size))["files"] == ["2021.csv.tar.gz", "2021.xlsx"]
    work = start(records, xlsx_max_bytes=size - 1)
    assert flatten(work)["files"] == ["2021.csv.tar.gz"]
    (note,) = work.notes
    assert note.level == NoteLevel.INFO
    assert f"2021.jsonl.gz has {size:,} bytes uncompressed" in note.note


def test_cells_that_excel_cuts_are_told(start):
    long = "y" * 40_000
    work = start([{"id": "1", "text": long, "a": [{"b": long}, {"b": "short"}]}, {"id": "2", "text": long}])
    flatten(work)
    (note,) = work.notes
    assert note.level == NoteLevel.WARNING
    assert note.note.startswith("2021.xlsx: 3 cells were cut to 32,767 bytes")
    assert note.data == {"file": "2021.xlsx", "cells": {"a": 1, "main": 2}}
    assert read_archive(files_of(work)["2021.csv.tar.gz"], "2021")["main"][1] == ["1", long]
    assert read_workbook(files_of(work)["2021.xlsx"])["main"][2, "B"] == long[:32_767]


def test_records_that_became_no_row_are_told(start):
    work = start([{}, {"id": "1"}, {"id": "2"}])
    assert flatten(work)["tables"] == {"main": 2}
    (note,) = work.notes
    assert note.note.startswith("2021.jsonl.gz has 3 records, and main.csv 2 rows.")


def test_a_file_that_cannot_be_flattened_is_named(start):
    work = start([{"a/b": [{"c": 1}]}])
    with pytest.raises(PermanentError, match=r"^2021\.jsonl\.gz: .* table 'a/b'"):
        flatten(work)
    assert work.files == []
    assert not work.export.lock_path("2021.xlsx").exists()


def test_a_file_that_is_gone_is_named(start):
    work = start([{"id": "1"}])
    work.export.path("2021.jsonl.gz").unlink()
    with pytest.raises(PermanentError, match=r"^2021\.jsonl\.gz is not there"):
        flatten(work)


def test_a_rerun_makes_both_again_with_the_same_archive(start):
    records = releases(50)
    first, second = start(records), start(records)
    flatten(first)
    flatten(second)
    assert [file.name for file in second.files] == ["2021.csv.tar.gz", "2021.xlsx"]
    assert first.files[0].sha256 == second.files[0].sha256
    assert read_workbook(first.files[1].path) == read_workbook(second.files[1].path)


def test_the_lock_shows_while_files_are_made(start, monkeypatch):
    work = start([{"id": "1"}])
    seen = []
    convert = handlers.convert

    def look(*args, **kwargs):
        seen.append(read_lock(work.export.lock_path("2021.xlsx")))
        return convert(*args, **kwargs)

    monkeypatch.setattr(handlers, "convert", look)
    flatten(work)
    assert seen[0]["job"] == work.job_id
    assert work.export.lock_path("2021.xlsx").name == "exporter_2021.csv.tar.gz.lock"
    assert not work.export.lock_path("2021.xlsx").exists()


def test_progress_counts_records_to_the_end(start):
    work = start(releases(7))
    flatten(work)
    progress = [value for kind, value in work.reports if kind == "progress"]
    assert progress[0] == {"done": 0, "total": 7, "of": "records"}
    assert progress[-1] == {"done": 7, "total": 7, "of": "records"}


def test_nothing_is_left_in_scratch_but_what_the_runtime_removes(start):
    work = start(releases(3))
    flatten(work)
    work.remove_directories()
    assert list(work.settings.scratch.iterdir()) == []
