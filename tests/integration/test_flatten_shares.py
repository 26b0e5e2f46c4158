"""A large job's files are flattened by many units: the same files as by one, whatever happens to a share."""

import json

import pytest
from sqlalchemy import insert

from services.flattener.handlers import COUNTED
from services.scheduler.managers.flatten import FILE_BYTES, plan_units
from shared.db.models import Compiled, Job, JobStatus, Result
from shared.jobs import restart_task
from tests.factories import make_collection, make_job
from tests.integration.test_export_shares import Line
from tests.integration.test_flatten import read_archive, read_workbook

YEARS = (2018, 2019, 2020, 2021, None)


def release(number):
    """Return a record whose columns and tables depend on its year."""
    year = YEARS[number % 5]
    items = [{"id": str(item), f"of{year}": item * 1.5} for item in range(number % 4)]
    return {"ocid": f"o-{number}", "id": str(number), "tender": {"items": items, str(year): "007"}, "n": number}


RECORDS = [release(number) for number in range(200)]


@pytest.fixture
def start(sessions, settings):
    """Return a function that starts a job that exports records and flattens them, in one unit or many."""

    def make(share_bytes, records=RECORDS):
        with sessions.begin() as session:
            job = make_job(session, make_collection(session, f"c{share_bytes}"), tasks=("export", "flatten"))
            rows = [
                {"job_id": job.id, "year": YEARS[number % 5], "data": json.dumps(record)}
                for number, record in enumerate(records)
            ]
            session.execute(insert(Compiled), rows)
            job_id = job.id
        return Line(sessions, settings.model_copy(update={"parquet": True, "flatten_share_bytes": share_bytes}), job_id)

    return make


@pytest.fixture
def whole_line(start):
    """The same records, flattened by one unit."""
    line = start(1 << 20)
    assert line.finish() == 2
    return line


@pytest.fixture
def whole(whole_line):
    """The files of the same records."""
    return whole_line.files()


def content(line):
    """Return the full file's tables: their archive is packed in other pieces where they were read in others."""
    return read_archive(line.directory / "full.csv.tar.gz", "full"), read_workbook(line.directory / "full.xlsx")


def task(line):
    with line.sessions() as session:
        return session.get_one(Job, line.job_id).tasks[1]


def flatten_units(line):
    return {
        (unit.params.get("share") or unit.params.get("name")): unit for unit in line.units() if unit.type == "flatten"
    }


def test_files_are_read_in_runs_of_about_the_same_size():
    mega = {"full.jsonl.gz": 9, "2001.jsonl.gz": 1, "2002.jsonl.gz": 5, "2003.jsonl.gz": 2, "undated.jsonl.gz": 1}
    sizes = {name: size << 20 for name, size in mega.items()}
    assert plan_units(sizes, 3 << 20) == [
        {"share": 2, "of": 3, "parts": ["2002.jsonl.gz"]},
        {"share": 3, "of": 3, "parts": ["2003.jsonl.gz", "undated.jsonl.gz"]},
        {"share": 1, "of": 3, "parts": ["2001.jsonl.gz"]},
    ], "the largest first, and each file once, in order"
    parts = [name for name in sorted(sizes) if name != "full.jsonl.gz"]
    assert plan_units(sizes, 9 << 20) == [{"name": "full.jsonl.gz", "parts": parts}]
    other = sizes | {"full.jsonl.gz": 8 << 20}
    assert plan_units(other, 3 << 20) == [{"name": name} for name in sizes], "it is of other bytes"


def test_many_small_files_are_as_much_as_one_that_is_large():
    sizes = {f"{year}.jsonl.gz": 1000 for year in range(2000, 2010)} | {"2010.jsonl.gz": 10 * FILE_BYTES}
    (one, other) = plan_units(sizes | {"full.jsonl.gz": sum(sizes.values())}, 6 * FILE_BYTES)
    assert (one["parts"], len(other["parts"])) == (["2010.jsonl.gz"], 10)


@pytest.mark.parametrize("share_bytes", [1, 1200])
def test_shares_give_the_bytes_of_one_unit(start, whole, share_bytes):
    line = start(share_bytes)
    line.finish()
    assert len(flatten_units(line)) > 3
    assert line.files() == whole
    assert {name.partition(".")[0] for name in whole} == {"2018", "2019", "2020", "2021", "undated", "full"}
    job = line.job()
    assert (job.status, task(line).result) == (JobStatus.COMPLETED, Result.OK)
    assert job.context["flatten"]["tables"] == {"main": 200, "tender_items": 300}
    assert line.hidden() == [], "what shares left, attempts and locks are gone"


def test_all_units_count_alike(start):
    line = start(1)
    line.finish()
    of_task = {unit.id for unit in flatten_units(line).values()}
    last = {unit: value for unit, kind, value in line.reports if kind == "progress" and unit in of_task}
    assert {value["of"] for value in last.values()} == {COUNTED}
    assert all(value["done"] == value["total"] for value in last.values())
    assert sum(value["total"] for value in last.values()) == 3 * 200, "read, in a year's file, in the full one"


def test_the_full_file_is_read_again_where_a_share_is_gone(start, whole_line):
    line = start(1)
    while flatten_units(line).keys().isdisjoint({"full.jsonl.gz"}):
        for unit_id in line.open():
            line.attempt(line.claim(unit_id))
        line.step()
    place = flatten_units(line)[2].output["place"]
    next((line.directory / place).glob("*.arrow")).unlink()
    line.finish()
    assert content(line) == content(whole_line)


def test_the_full_file_alone_can_be_made_again_after_the_job(start, whole_line):
    line = start(1)
    line.finish()
    line.act(restart_task, "flatten", only=["full"])
    assert len(line.open()) == 1
    line.finish()
    assert content(line) == content(whole_line)


def test_a_share_that_cannot_be_flattened_stops_the_full_file_and_no_other(start):
    line = start(1, [*RECORDS[:10], {"a/b": [{"c": 1}]}])
    line.finish()
    assert task(line).result == Result.FAILED
    assert "table 'a/b'" in task(line).note
    assert "full.jsonl.gz" not in flatten_units(line)
