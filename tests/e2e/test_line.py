"""The line from source to downloads, as processes, on both brokers."""

import csv
import gzip
import io
import json
import tarfile
from collections import Counter
from decimal import Decimal
from pathlib import Path

import flatterer
import pytest
from sqlalchemy import select, text

from shared.db.models import Collection, Result, TaskStatus, Unit, UnitStatus
from shared.sample import PACKAGES
from tests.e2e.suite import Suite
from tests.waiting import eventually

REAL = Path(__file__).parents[3] / "shared" / "data" / "pt-base-releases.json"


@pytest.fixture
def suite(any_settings, sessions, tmp_path):
    suite = Suite(any_settings, sessions, tmp_path / "logs")
    yield suite
    suite.close()


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def exact(line):
    return json.loads(line, parse_float=Decimal)


def csv_rows(path):
    """Return the number of rows of each table of a ``.csv.tar.gz``."""
    with tarfile.open(path) as archive:
        return {
            Path(member.name).stem: count_rows(archive.extractfile(member).read().decode())
            for member in archive
            if member.isfile()
        }


def count_rows(text):
    return sum(1 for _ in csv.reader(io.StringIO(text))) - 1


def test_the_sample_becomes_downloads_in_every_format(suite):
    suite.start()
    job = suite.run(suite.add(PACKAGES))
    assert [(task.type, task.result) for task in job.tasks] == [
        (task_type, "OK") for task_type in ("collect", "process", "check", "export", "coverage", "flatten")
    ]
    names = {file.name for file in job.files}
    assert {
        f"{stem}.{suffix}"
        for stem in ("full", "undated", "2019", "2024")
        for suffix in ("jsonl.gz", "csv.tar.gz", "xlsx")
    } <= names
    export = suite.export(job)
    full = lines(export.path("full.jsonl.gz"))
    parts = [line for path in export.convertible_paths() if not path.name.startswith("full") for line in lines(path)]
    assert Counter(full) == Counter(parts)
    assert len({exact(line)["ocid"] for line in full}) == len(full)
    assert any("1234567890.10" in line for line in full), "numbers keep their digits"
    assert job.coverage["/ocid"] == len(full)
    assert job.counts["tenders"] > 0
    assert job.ocid_prefix == "ocds-b0w3rb"
    assert job.license.startswith("https://")
    manifest = json.loads((export.directory / "manifest.json").read_text())
    assert {file["name"] for file in manifest["files"]} == names == {path.name for path in export.paths()}
    assert sorted(path.name for path in export.directory.iterdir()) == sorted(names | {"manifest.json"})
    eventually(lambda: suite.job(job.id).archived, what="temporary data is deleted")
    with suite.sessions() as session:
        assert (
            session.execute(text("SELECT (SELECT count(*) FROM record) + (SELECT count(*) FROM compiled)")).scalar()
            == 0
        )


@pytest.mark.skipif(not REAL.exists(), reason="the real data is not beside this checkout")
def test_a_real_package_keeps_every_release_and_every_value(suite, tmp_path):
    suite.start()
    job = suite.run(suite.add(REAL))
    assert job.result == "OK"
    export = suite.export(job)
    source = {release["ocid"]: release for release in exact(REAL.read_text())["releases"]}
    full = [exact(line) for line in lines(export.path("full.jsonl.gz"))]
    assert len(full) == len(source) == 100
    for compiled in full:
        release = source[compiled["ocid"]]
        assert compiled["tag"] == ["compiled"]
        assert compiled["date"] == release["date"]
        for name in release.keys() - {"tag", "id"}:
            assert compiled[name] == release[name], f"{compiled['ocid']} {name}"
    assert lines(export.path("2019.jsonl.gz")) == lines(export.path("full.jsonl.gz"))

    by_hand = tmp_path / "by-hand"
    flatterer.flatten(
        str(export.path("full.jsonl.gz")), str(by_hand), ndjson=True, force=True, gzip_input=True,
        pushdown=["ocid", "id"], no_link=True, threads=1,
    )  # fmt: skip
    expected = {path.stem: count_rows(path.read_text()) for path in (by_hand / "csv").iterdir()}
    assert csv_rows(export.path("full.csv.tar.gz")) == expected
    assert expected["main"] == 100


def test_an_exporter_killed_at_work_costs_time_and_nothing_else(suite):
    suite.start(*(name for name in ("scheduler", "collector", "processor", "flattener")))
    job_id = suite.plan(suite.add(PACKAGES))

    def export_unit():
        with suite.sessions() as session:
            task = next(task for task in suite.job(job_id).tasks if task.type == "export")
            if task.status == TaskStatus.PLANNED:
                return None
            return session.scalars(select(Unit).where(Unit.job_id == job_id).order_by(Unit.id.desc())).first()

    eventually(export_unit, seconds=60)
    with suite.sessions() as blocker:
        # With the job's row locked, the exporter does its work, and its commit has to wait.
        blocker.execute(text("SELECT id FROM job WHERE id = :id FOR UPDATE"), {"id": job_id})
        suite.start("exporter")
        eventually(lambda: export_unit().status == UnitStatus.RUNNING, what="the exporter has claimed its unit")
        directory = suite.settings.exports / suite.job(job_id).source_id / str(job_id)
        eventually(lambda: list(directory.glob(".attempt-*/full.jsonl.gz")), what="the exporter has written files")
        assert not list(directory.glob("*.jsonl.gz")), "nobody sees a partial file"
        suite.kill("exporter")
        blocker.rollback()
    suite.start("exporter")
    job = suite.wait(job_id)
    assert job.result == "OK"
    assert next(task for task in job.tasks if task.type == "export").attempts == 2
    export = suite.export(job)
    assert sorted(path.name for path in export.directory.iterdir()) == sorted(
        [*(file.name for file in job.files), "manifest.json"]
    )
    assert len(lines(export.path("full.jsonl.gz"))) == next(
        file.records for file in job.files if file.name == "full.jsonl.gz"
    )


RELEASE = b'{"ocid": "a-1", "id": "1", "date": "2020-01-01", "tag": ["tender"]}\n'
BAD = {
    "malformed.json": (b'{"releases": [' + RELEASE + b', {"ocid": ]}', "malformed.json"),
    "truncated.jsonl.gz": (gzip.compress(RELEASE * 500)[:60], "truncated.jsonl.gz"),
    "empty.json": (b"", "empty.json"),
    "page.json": (b"<!DOCTYPE html><html><body>Please log in</body></html>", "HTML"),
    "missing.json": (None, "missing.json"),
}


def test_bad_sources_fail_their_jobs_by_name_and_nothing_else(suite, tmp_path):
    suite.start()
    source = tmp_path / "source"
    name = suite.add(source)
    source.write_bytes(RELEASE)
    good = suite.run(name)
    assert good.result == "OK"
    for bad, (content, named) in BAD.items():
        path = tmp_path / bad
        if content is not None:
            path.write_bytes(content)
        with suite.sessions.begin() as session:
            session.scalars(select(Collection).where(Collection.source_id == name)).one().source = str(path)
        job = suite.run(name)
        assert job.result == "FAILED", bad
        collect, *others = job.tasks
        assert collect.result == Result.FAILED
        assert named in collect.note, bad
        assert {task.result for task in others} == {Result.SKIPPED}
        with suite.sessions() as session:
            active = session.scalars(select(Collection.active_job_id).where(Collection.source_id == name)).one()
        assert active == good.id, "the files of the last good job stay published"
        assert suite.export(good).path("full.jsonl.gz").exists()
    assert all(process.poll() is None for process in suite.processes.values()), "every worker lives on"
    with suite.sessions.begin() as session:
        session.scalars(select(Collection).where(Collection.source_id == name)).one().source = str(source)
    assert suite.run(name).result == "OK"
