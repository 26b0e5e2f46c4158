"""The flatten handler: tables complete and the same in both formats, Excel's limits told, reruns harmless."""

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import flatterer
import openpyxl
import pytest

from services.flattener import handlers, tables
from services.flattener.handlers import COUNTED, flatten
from shared.db.models import NoteLevel
from shared.errors import PermanentError
from shared.exports import read_lock
from tests.factories import make_collection, make_job, make_work


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


@pytest.fixture
def start_joined(start):
    """Return a function that publishes lists of records by year, and a full file of them all, and returns the work."""

    def make(joined=True, **records):
        work = start([], name="full.jsonl.gz")
        parts = {f"{stem.removeprefix('y')}.jsonl.gz": gzip.compress(to_lines(each)) for stem, each in records.items()}
        for name, content in parts.items():
            work.export.path(name).write_bytes(content)
        whole = b"".join(parts.values())
        work.export.path("full.jsonl.gz").write_bytes(whole if joined else gzip.compress(gzip.decompress(whole)))
        work.params["parts"] = list(parts)
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
    """Return the cells of each sheet that are not empty as ``{(row, column letters): str or float}``, by name."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    cells = {}
    for sheet in openpyxl.load_workbook(path):
        filled = [cell for row in sheet.iter_rows() for cell in row if cell.value is not None]
        assert {cell.data_type for cell in filled} <= {"s", "inlineStr", "n"}, "no formula, no date"
        cells[sheet.title] = {
            (cell.row, cell.column_letter): unescape(cell.value) if isinstance(cell.value, str) else float(cell.value)
            for cell in filled
        }
    return cells


def unescape(text):
    """Return a text of a workbook as Excel shows it: XML has no carriage return, so it is written ``_x000D_``."""
    return re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)


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


def test_sheet_names_that_clash_are_told_apart_and_told(start):
    work = start([{"id": "1", "Lots": [{"q": 1}], "lots": [{"q": 2}]}])
    assert flatten(work)["files"] == ["2021.csv.tar.gz", "2021.xlsx"]
    sheets = read_workbook(files_of(work)["2021.xlsx"])
    assert {name: sheet[2, "A"] for name, sheet in sheets.items()} == {"main": "1", "Lots": 1, "lots_2": 2}
    (note,) = work.notes
    assert note.level == NoteLevel.INFO
    assert note.data == {"file": "2021.xlsx", "sheets": {"lots": "lots_2"}}


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
    assert note.note.startswith("2021.xlsx: 3 cells were cut to 32,767 characters")
    assert note.data == {"file": "2021.xlsx", "cells": {"a": 1, "main": 2}}
    assert read_archive(files_of(work)["2021.csv.tar.gz"], "2021")["main"][1] == ["1", long]
    assert read_workbook(files_of(work)["2021.xlsx"])["main"][2, "B"] == long[:32_767]


@pytest.mark.parametrize(("guard", "cell"), [(False, "=1+1"), (True, "'=1+1")])
def test_formulas_are_texts_in_excel_and_guarded_in_csv_if_wanted(start, guard, cell):
    work = start([{"id": "1", "a": "=1+1", "b": -5}], csv_guard=guard)
    flatten(work)
    assert read_archive(files_of(work)["2021.csv.tar.gz"], "2021")["main"][1] == ["1", cell, "-5"]
    assert read_workbook(files_of(work)["2021.xlsx"])["main"][2, "B"] == "=1+1"


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


def progress_of(work):
    return [value for kind, value in work.reports if kind == "progress"]


def test_progress_counts_each_record_when_it_is_read_and_when_it_is_written(start):
    work = start(releases(7))
    flatten(work)
    assert {value["of"] for value in progress_of(work)} == {COUNTED}
    done = [(value["done"], value["total"]) for value in progress_of(work)]
    assert (done[0], done[-1]) == ((0, 14), (14, 14))
    assert done == sorted(done)


def test_progress_counts_the_full_file_too(start_joined):
    work = start_joined(y2020=releases(3), y2021=releases(4))
    flatten(work)
    done = [(value["done"], value["total"]) for value in progress_of(work)]
    assert (done[0], done[-1]) == ((0, 21), (21, 21))
    assert done == sorted(done)


def test_nothing_is_left_in_scratch_but_what_the_runtime_removes(start):
    work = start(releases(3))
    flatten(work)
    work.remove_directories()
    assert list(work.settings.scratch.iterdir()) == []


@pytest.mark.parametrize("joined", [True, False])
def test_a_full_file_and_its_parts_are_each_made_as_by_themselves(start, start_joined, joined):
    records = releases(30)
    odd = [{"id": "x", "new": 1, "tender": {"items": [{"weight": 1.5, "id": "i"}]}}]
    by_stem = {
        "2020": records[:10],
        "2021": odd + records[10:],
        "undated": [],
        "full": records[:10] + odd + records[10:],
    }
    work = start_joined(joined, y2020=by_stem["2020"], y2021=by_stem["2021"], undated=[])
    output = flatten(work)
    assert set(output["files"]) == {f"{stem}.{suffix}" for stem in by_stem for suffix in ("csv.tar.gz", "xlsx")}
    assert output["name"] == "full.jsonl.gz"
    assert output["tables"]["main"] == 31
    for stem, expected in by_stem.items():
        alone = start(expected, name=f"{stem}.jsonl.gz")
        flatten(alone)
        csv_name, xlsx_name = files_of(alone)
        assert read_archive(files_of(work)[csv_name], stem) == read_archive(files_of(alone)[csv_name], stem)
        assert read_workbook(files_of(work)[xlsx_name]) == read_workbook(files_of(alone)[xlsx_name])
    assert {file.name: file.records for file in work.files} == {
        f"{stem}.{suffix}": len(expected) for stem, expected in by_stem.items() for suffix in ("csv.tar.gz", "xlsx")
    }


def test_a_part_that_cannot_be_flattened_stops_only_the_full_file(start_joined):
    work = start_joined(y2020=[{"id": "1"}], y2021=[{"a/b": [{"c": 1}]}], y2022=[{"id": "2"}])
    output = flatten(work)
    assert output["files"] == ["2020.csv.tar.gz", "2020.xlsx", "2022.csv.tar.gz", "2022.xlsx"]
    assert output["failed"].keys() == {"2021.jsonl.gz", "full.jsonl.gz"}
    assert "table 'a/b'" in output["failed"]["full.jsonl.gz"]
    assert [(note.level, note.data["file"]) for note in work.notes] == [
        (NoteLevel.ERROR, "2021.jsonl.gz"),
        (NoteLevel.ERROR, "full.jsonl.gz"),
    ]


def test_a_part_that_is_gone_stops_only_the_full_file(start_joined):
    work = start_joined(y2020=[{"id": "1"}], y2021=[{"id": "2"}])
    work.export.path("2021.jsonl.gz").unlink()
    output = flatten(work)
    assert {name: "is not there" in reason for name, reason in output["failed"].items()} == {"2021.jsonl.gz": True}
    assert "full.csv.tar.gz" in output["files"]


def test_a_job_of_which_nothing_can_be_flattened_fails_with_the_reason(start_joined):
    with pytest.raises(PermanentError, match=r"^2020\.jsonl\.gz, line 1, which starts '1'"):
        flatten(start_joined(y2020=[1]))


def test_every_lock_shows_while_parts_are_made(start_joined, monkeypatch):
    work = start_joined(y2020=[{"id": "1"}])
    seen = []
    convert = handlers.convert

    def look(*args):
        seen.extend(read_lock(work.export.lock_path(f"{stem}.xlsx"))["job"] for stem in ("2020", "full"))
        return convert(*args)

    monkeypatch.setattr(handlers, "convert", look)
    flatten(work)
    assert seen == [work.job_id] * 2
    assert not any(work.export.lock_path(f"{stem}.xlsx").exists() for stem in ("2020", "full"))


def test_tables_are_published_as_parquet_if_wanted(start):
    work = start(releases(5), parquet=True)
    assert flatten(work)["files"] == ["2021.csv.tar.gz", "2021.xlsx", "2021.parquet.tar"]
    tables = read_archive(files_of(work)["2021.csv.tar.gz"], "2021")
    with tarfile.open(files_of(work)["2021.parquet.tar"]) as tar:
        assert tar.getnames() == ["2021", *(f"2021/{name}.parquet" for name in sorted(tables))]
