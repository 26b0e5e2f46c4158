"""Disks that are full or read-only: work waits, is tried again, and goes on by itself when the disk is mended."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import select, text

from shared.broker import open_broker
from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.db.models import Result, Task, Unit
from shared.sample import PACKAGES
from tests import faults
from tests.disks import small_disk
from tests.e2e.suite import Suite
from tests.integration.test_worker import Bench
from tests.stress.servers import private_postgres

PATIENT = {"max_attempts": 1000, "retry_cap_seconds": 0.5, "lease_seconds": 2}


class Trouble:
    """A disk and what is wrong with it."""

    def __init__(self, disk, kind):
        self.disk, self.kind = disk, kind
        self.sentence = "No space left on device" if kind == "full" else "Read-only file system"

    def begin(self):
        if self.kind == "full":
            self.disk.fill()
        else:
            self.disk.make_read_only()

    def end(self):
        if self.kind == "full":
            self.disk.free()
        else:
            self.disk.make_writable()


@pytest.fixture(params=["full", "read-only"])
def trouble(request, tmp_path):
    with small_disk(tmp_path / "disk", size="8m") as disk:
        trouble = Trouble(disk, request.param)
        yield trouble
        with contextlib.suppress(Exception):
            trouble.end()


@pytest.fixture
def bench(settings, sessions, tmp_path, trouble):
    settings = settings.model_copy(update={**PATIENT, "export_dir": trouble.disk.path / "exports"})
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    bench = Bench(settings, sessions, broker, tmp_path / "place")
    yield bench
    bench.close()
    broker.close()


def test_a_unit_that_holds_a_lock_file_when_its_disk_fails_waits_and_its_worker_lives_on(bench, trouble):
    bench.plan(a1="wait with a lock")
    worker = bench.start()
    lock = bench.wait_until(lambda: next(bench.export.directory.glob("*.lock"), None))
    trouble.begin()
    held_until = bench.unit().lease_until
    bench.wait_until(lambda: bench.unit().lease_until > held_until, "the lease is renewed, and so the lock's heartbeat")
    (bench.place / "go").touch()
    bench.wait_until(lambda: trouble.sentence in bench.unit().error, "the attempt has failed")
    assert worker.poll() is None
    trouble.end()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, worker.poll()) == (Result.OK, None)
    bench.wait_until(bench.is_settled)
    assert not lock.exists() or json.loads(lock.read_text())["attempt"] == 1, "the scheduler removes it"
    assert not list(bench.export.directory.glob(".attempt-*"))


@pytest.fixture
def suite(settings, sessions, tmp_path, trouble):
    yield from running(settings, sessions, tmp_path, {"export_dir": trouble.disk.path / "exports"})


@pytest.fixture
def suite_with_small_data_dir(settings, sessions, tmp_path, trouble):
    places = {"data_dir": trouble.disk.path / "data", "export_dir": tmp_path / "exports"}
    yield from running(settings, sessions, tmp_path, places)


def running(settings, sessions, tmp_path, places):
    settings = settings.model_copy(update={**PATIENT, **places})
    suite = Suite(settings, sessions, tmp_path / "logs")
    yield suite
    suite.close()


def units(suite, job_id, task_type):
    with suite.sessions() as session:
        statement = select(Unit).join(Task, Task.id == Unit.task_id)
        return session.scalars(statement.where(Unit.job_id == job_id, Task.type == task_type)).all()


def has_failed(suite, job_id, task_type, sentence):
    """Whether a unit of the task was put off for this."""
    return any(sentence in unit.error for unit in units(suite, job_id, task_type))


def check(suite, job_id):
    """Wait until the job is over: OK, all its files as the database knows them, and nobody has ended."""
    job = suite.wait(job_id, seconds=200)
    assert [(task.type, task.result) for task in job.tasks] == [
        (task_type, "OK") for task_type in suite.settings.job_tasks_plan
    ]
    assert all(process.poll() is None for process in suite.processes.values())
    export = suite.export(job)
    manifest = json.loads((export.directory / "manifest.json").read_text())
    names = {file.name for file in job.files}
    assert {file["name"] for file in manifest["files"]} == names
    assert {path.name for path in export.directory.iterdir()} == names | {"manifest.json"}


def test_an_export_directory_that_fails_is_waited_for(suite, trouble):
    suite.start("scheduler", "collector", "processor")
    trouble.begin()
    suite.start("exporter")
    job_id = suite.plan(suite.add(PACKAGES))
    suite.eventually(lambda: has_failed(suite, job_id, "export", trouble.sentence), "the export has failed")
    trouble.end()
    suite.eventually(lambda: [unit for unit in units(suite, job_id, "coverage") if unit.result], "the export is there")
    trouble.begin()
    suite.start("flattener")
    suite.eventually(lambda: has_failed(suite, job_id, "flatten", trouble.sentence), "a conversion has failed")
    trouble.end()
    check(suite, job_id)


# A full disk is none for a commit, which moves files and writes none.
@pytest.mark.parametrize("trouble", ["read-only"], indirect=True)
def test_a_disk_that_fails_in_the_middle_of_a_commit_is_waited_for(suite, trouble, tmp_path):
    suite.start("scheduler", "collector", "processor", "flattener")
    suite.start("exporter", rules=["child.handled=wait:go@1"], place=tmp_path / "faults")
    job_id = suite.plan(suite.add(PACKAGES))
    suite.eventually(lambda: faults.marks(tmp_path / "faults"), "the export's files are ready")
    trouble.begin()
    (tmp_path / "faults" / "go").touch()
    suite.eventually(lambda: has_failed(suite, job_id, "export", trouble.sentence), "the commit has failed")
    assert not suite.job(job_id).files
    trouble.end()
    check(suite, job_id)


def test_a_data_directory_that_fails_is_waited_for_by_those_who_run_and_those_who_start(
    suite_with_small_data_dir, trouble
):
    suite = suite_with_small_data_dir
    suite.start("scheduler", "collector", "exporter")
    job_id = suite.plan(suite.add(PACKAGES))
    suite.eventually(lambda: [unit for unit in units(suite, job_id, "collect") if unit.result], "all run")
    trouble.begin()
    suite.start("processor", "flattener")
    suite.eventually(lambda: has_failed(suite, job_id, "coverage", trouble.sentence), "the coverage has failed")
    trouble.end()
    check(suite, job_id)


@pytest.fixture
def open_directory():
    """A directory that another account reaches, as root's database server runs as one."""
    with tempfile.TemporaryDirectory(prefix="bowerbird-tests-") as path:
        directory = Path(path)
        directory.chmod(0o755)
        yield directory


def test_a_database_without_disk_space_is_waited_for(open_directory, settings):
    directory = open_directory
    with (
        private_postgres(directory / "postgres") as postgres,
        small_disk(directory / "disk", size="1m") as disk,
    ):
        upgrade(postgres.url)
        engine = make_engine(postgres.url, application_name="bowerbird tests")
        owner = (directory / "postgres" / "postgres").stat()
        place = disk.path / "tablespace"
        place.mkdir()
        os.chown(place, owner.st_uid, owner.st_gid)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE TABLESPACE small LOCATION '{place}'"))
            for table in ("record", "compiled"):
                connection.execute(text(f"ALTER TABLE {table} SET TABLESPACE small"))
        settings = settings.model_copy(update={**PATIENT, "database_url": postgres.url})
        suite = Suite(settings, make_sessions(engine), directory / "logs")
        try:
            suite.start()
            source = directory / "source.jsonl"
            source.write_text("".join(f'{{"id": {n}, "text": "{os.urandom(500).hex()}"}}\n' for n in range(2_000)))
            job_id = suite.plan(suite.add(source))
            suite.eventually(lambda: has_failed(suite, job_id, "collect", "No space left"), "the collection has failed")
            disk.resize("64m")
            check(suite, job_id)
        finally:
            suite.close()
            engine.dispose()
