"""Importing a Data Registry: of either generation, from its database, a dump or fixtures; again and again."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import delete, func, select, text
from typer.testing import CliRunner

from shared import views
from shared.cli.app import app
from shared.db import Base, make_engine
from shared.db.embedded import server_program
from shared.db.models import (
    Audit,
    Collection,
    File,
    Issue,
    Job,
    JobStatus,
    Licence,
    Pause,
    Result,
    Setting,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
)
from shared.editing import apply, chosen, compare, prepare
from shared.exports import Export
from shared.jobs import JobStateError, plan_job, restart_job
from shared.pauses import resume_collection
from shared.publications import remove_collection
from shared.registry import RegistryError
from shared.registry.files import take_over
from shared.registry.importer import import_rows
from shared.registry.sources import open_source
from tests import backends, registry
from tests.factories import make_collection, make_job


@pytest.fixture(scope="module")
def registries(postgres_url):
    """URLs of a Data Registry's database of each generation; only read."""
    with backends.fresh_database(postgres_url) as new, backends.fresh_database(postgres_url) as old:
        registry.fill(new, "new")
        registry.fill(old, "old")
        yield {"new": new, "old": old}


@pytest.fixture
def changing(postgres_url):
    """A Data Registry of the newer generation that the test may change; ``changing(statement)``."""
    with backends.fresh_database(postgres_url) as url:
        registry.fill(url, "new")
        engine = make_engine(url, application_name="test")

        def change(statement):
            with engine.begin() as connection:
                connection.execute(text(statement))

        change.url = url
        yield change
        engine.dispose()


@pytest.fixture
def take(sessions):
    """Import a place, and return the report."""

    def import_(place, *, dry_run=False, start=False, language="en"):
        with open_source(str(place)) as source:
            return import_rows(
                sessions, source, place="there", default_language=language, actor="tester", start=start, dry_run=dry_run
            )

    return import_


def dump(url, path, *arguments):
    program = server_program("pg_dump")
    assert program is not None, "the embedded PostgreSQL has pg_dump"
    subprocess.run([program, *arguments, f"--file={path}", url], check=True, capture_output=True)
    return path


@pytest.fixture
def place(request, registries, tmp_path):
    """A Data Registry in one of the forms that can be imported."""
    generation, form = request.param.split(" ", 1)
    url = registries[generation]
    if form == "database":
        return url
    if form == "plain dump":
        return dump(url, tmp_path / "registry.sql")
    if form == "gzipped dump":
        path = tmp_path / "registry.sql.gz"
        path.write_bytes(gzip.compress(dump(url, tmp_path / "registry.sql").read_bytes()))
        return path
    if form in ("custom", "tar", "directory"):
        return dump(url, tmp_path / "registry.dump", f"--format={form}")
    path = tmp_path / "fixtures"
    path.mkdir()
    content = registry.fixtures(generation)
    if form == "JSON directory":
        items = json.loads(content)
        (path / "a.json").write_text(json.dumps(items[:4]))
        (path / "b.json.gz").write_bytes(gzip.compress(json.dumps(items[4:]).encode()))
        return path
    if form == "JSON lines":
        (path / "all.jsonl").write_text("\n".join(json.dumps(item) for item in json.loads(content)))
    else:
        (path / "all.json").write_text(content)
    return next(path.iterdir())


FORMS = ["database", "plain dump", "gzipped dump", "custom", "tar", "directory", "JSON", "JSON lines", "JSON directory"]
EVERY_FORM = pytest.mark.parametrize(
    "place", [f"new {form}" for form in FORMS] + ["old database", "old plain dump", "old JSON"], indirect=True
)


@EVERY_FORM
def test_whatever_the_form_the_same_is_imported_and_a_second_time_nothing(take, sessions, place):
    first = take(place)
    new = first.added["bundle"] == 1
    assert first.added["collection"] == 3
    assert first.added["job"] == 3
    assert (first.added["licence"], first.added["issue"]) == (1, 0 if new else 1)
    assert first.added["note"] == (2 if new else 0)
    with sessions() as session:
        moldova = views.get_collection(session, "moldova", public_only=False)
        assert moldova.title == ("Contratos" if new else "Contracts")
        assert (moldova.country, moldova.description) == ("Moldova", registry.ODD_TEXT)
        assert moldova.description_long == "The rest."
        assert moldova.translations["es"]["country"] == "Moldavia"
        assert moldova.translations["ru"] == {"country": "Молдова"}
        assert (moldova.region, moldova.update_frequency) == ("EECA", "DAILY" if new else "HALF_YEARLY")
        assert (moldova.last_retrieved, moldova.last_reviewed) == (date(2026, 1, 11), date(2025, 12, 1))
        assert (moldova.licence.name, moldova.license) == ("CC BY", "https://cc.example/by")
        assert moldova.issues == ([] if new else ["Odd."])
        assert moldova.bundle == ("slow" if new else None)
        assert (moldova.date_from, moldova.date_to) == (
            date(2012, 1, 1) if new else date(2015, 2, 3),
            date(2026, 1, 10),
        )
        assert moldova.ocid_prefix == ("ocds-b0w3rb" if new else "ocds-h6i7j8")
        assert (moldova.registry_id, moldova.paused) == (1, True)
        active = session.get_one(Job, moldova.active_job_id)
        assert (active.registry_id, active.tenders_count) == (11, 12)
        assert active.start == datetime(2026, 1, 11, 4, 0, 0, 250_000, tzinfo=UTC)
        assert active.context["registry"]["collect_error_rate"] == 0.004
        assert active.coverage == ({"/ocid": 12, "/tender": 12} if new else {})
        tasks = session.scalars(select(Task).where(Task.job_id == active.id).order_by(Task.order)).all()
        expected = ["collect", "process", *(["export", "coverage"] if new else ["coverage", "export"]), "flatten"]
        assert [task.type for task in tasks] == expected
        assert {task.result for task in tasks} == {Result.OK}
        notes = session.scalars(select(TaskNote).order_by(TaskNote.id)).all()
        if new:
            assert (notes[0].note, notes[0].data) == (registry.ODD_TEXT, {"type": "HTTP 500", "x": 'a"b'})
        assert session.scalar(select(func.count()).select_from(Setting)) == (2 if new else 0)
        before = everything(session)

    again = take(place)
    assert (again.added, again.updated, again.kept) == ({}, {}, [])
    with sessions() as session:
        assert everything(session) == before


def everything(session):
    """All rows of all tables but the audit, as a repeated import must leave them."""
    return {
        table.name: [tuple(row) for row in session.execute(table.select().order_by(*table.primary_key))]
        for table in Base.metadata.sorted_tables
        if table.name not in ("audit", "broker_message")
    }


def test_what_ended_badly_there_did_so_here(take, sessions, registries):
    take(registries["new"])
    with sessions() as session:
        found = {
            row.registry_id: [task.result for task in sorted(row.tasks, key=lambda task: task.order)]
            for row in session.scalars(select(Job))
        }
        assert found[10] == [Result.OK, Result.FAILED] + [Result.SKIPPED] * 3
        assert found[13] == [Result.OK] * 2 + [Result.CANCELLED] * 3
        assert {job.status for job in session.scalars(select(Job))} == {JobStatus.COMPLETED}
        assert {job.archived for job in session.scalars(select(Job))} == {True}
        results = {view.id: view.result for view in views.list_jobs(session, public_only=False, limit=9)}
        assert sorted(results.values()) == ["CANCELLED", "FAILED", "OK"]


def test_what_cannot_be_taken_over_as_it_is_is_told_of(take, registries):
    remarks = "\n".join(take(registries["new"]).remarks)
    assert "job 12 of moldova is RUNNING there" in remarks
    assert "publication 3: another is called moldova; it is called moldova-3" in remarks


def test_a_rehearsal_changes_nothing_and_says_the_same(take, sessions, registries):
    rehearsal = take(registries["new"], dry_run=True)
    with sessions() as session:
        assert not any(everything(session).values())
        assert session.scalar(select(func.count()).select_from(Audit)) == 0
    assert take(registries["new"]).added == rehearsal.added


def test_what_changed_there_is_updated_and_what_changed_here_stays(take, sessions, changing):
    take(changing.url)
    with sessions.begin() as session:  # somebody edits one of them here
        wanted = prepare(session, {"title": "Ours"}, default_language="en")
        (chile,) = chosen(session, [Collection.source_id == "chile"])
        apply(session, compare(chile, wanted), actor="me")
    changing("UPDATE data_registry_collection SET title = 'Theirs', modified = now() WHERE id IN (1, 2)")
    changing("UPDATE data_registry_license SET url = 'https://cc.example/new', modified = now()")
    changing("UPDATE data_registry_setting SET value = '9', modified = now() WHERE key = 'DOWNLOAD_DELAY'")
    changing("DELETE FROM data_registry_setting WHERE key = 'PROXY'")
    changing("UPDATE data_registry_job SET tenders_count = 99, modified = now() WHERE id = 11")
    report = take(changing.url)
    assert report.updated == {"collection": 1, "licence": 1, "bundle": 1, "job": 1}
    assert report.kept == ["chile: changed there and here"]
    with sessions() as session:
        titles = {row.source_id: row.title for row in session.scalars(select(Collection))}
        assert (titles["moldova"], titles["chile"]) == ("Theirs", "Ours")
        assert session.scalar(select(Licence.url)) == "https://cc.example/new"
        assert {row.key: row.value for row in session.scalars(select(Setting))} == {"DOWNLOAD_DELAY": "9"}
        assert session.scalar(select(Job.tenders_count).where(Job.registry_id == 11)) == 99
        assert session.scalar(select(func.count()).select_from(TaskNote)) == 2, "replaced, not doubled"
    assert take(changing.url).updated == {}


def test_a_job_comes_when_it_is_completed_and_becomes_the_active_one(take, sessions, changing):
    take(changing.url)
    changing("UPDATE data_registry_task SET status = 'COMPLETED', result = 'OK', modified = now() WHERE job_id = 12")
    changing("UPDATE data_registry_job SET status = 'COMPLETED', modified = now() WHERE id = 12")
    changing("UPDATE data_registry_collection SET active_job_id = 12, modified = now() WHERE id = 1")
    changing("UPDATE data_registry_collection SET last_retrieved = '2026-02-02' WHERE id = 1")
    report = take(changing.url)
    assert (report.added["job"], report.added["note"], report.updated) == (1, 1, {"collection": 1})
    with sessions() as session:
        view = views.get_collection(session, "moldova")
        assert session.get_one(Job, view.active_job_id).registry_id == 12
        assert view.last_retrieved == date(2026, 2, 2)
    assert take(changing.url).kept == [], "what the import did is no change of ours"


def test_a_job_that_ran_here_stays_the_active_one(take, sessions, changing):
    take(changing.url)
    with sessions.begin() as session:
        collection = session.scalar(select(Collection).where(Collection.source_id == "moldova"))
        ours = make_job(session, collection, status=JobStatus.COMPLETED).id
        collection.active_job_id = ours
    changing("UPDATE data_registry_collection SET title = 'Theirs', modified = now() WHERE id = 1")
    report = take(changing.url)
    assert sorted(report.kept) == ["moldova: changed there and here", "moldova: its active job ran here, and is newer"]
    with sessions() as session:
        assert views.get_collection(session, "moldova").active_job_id == ours


def test_a_collection_that_is_here_already_is_not_mixed_with_theirs(take, sessions, registries):
    with sessions.begin() as session:
        make_collection(session, "moldova")
    report = take(registries["new"])
    assert any("a collection moldova is here already" in remark for remark in report.remarks)
    with sessions() as session:
        assert views.get_collection(session, "moldova").title == "Moldova"
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_what_was_removed_here_does_not_come_back(take, sessions, registries):
    take(registries["new"])
    with sessions.begin() as session:
        chile = session.scalar(select(Collection).where(Collection.source_id == "chile"))
        remove_collection(session, chile.id, actor="me")
        session.execute(delete(Job).where(Job.collection_id == chile.id))
        session.execute(delete(Collection).where(Collection.id == chile.id))
    assert take(registries["new"]).kept == ["chile: it was removed here"]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Collection)) == 2


def test_new_collections_are_paused_unless_they_are_to_start(take, sessions, registries):
    take(registries["new"])
    with sessions.begin() as session:
        assert session.scalar(select(func.count()).select_from(Pause)) == 3
        resume_collection(
            session, session.scalar(select(Collection).where(Collection.source_id == "chile")), actor="me"
        )
    take(registries["new"])
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Pause)) == 2, "a repeated import pauses nothing again"


def test_the_default_language_is_the_one_of_the_setting(take, sessions, registries):
    take(registries["new"], language="es", start=True)
    with sessions() as session:
        moldova = views.get_collection(session, "moldova", public_only=False)
        assert moldova.country == "Moldavia"
        assert moldova.translations["en"]["country"] == "Moldova"
        assert moldova.description == registry.ODD_TEXT, "without a Spanish text, the English one"
        assert views.get_collection(session, "moldova", language="en").country == "Moldova"
        assert not moldova.paused


def test_imported_jobs_hold_nothing_up_and_cannot_be_restarted_without_their_data(take, sessions, registries):
    take(registries["new"], start=True)
    with sessions.begin() as session:
        collection = session.scalar(select(Collection).where(Collection.source_id == "moldova"))
        with pytest.raises(JobStateError, match="temporary data is deleted"):
            restart_job(session, collection.active_job_id, actor="me", from_task="export")
        assert plan_job(session, collection, plan=["collect"]).status == JobStatus.PLANNED


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.sql", "CREATE TABLE a (b int);\n", "no table data_registry_collection"),
        ("x.sql", "INSERT INTO public.data_registry_job VALUES (1);\n", "without --inserts"),
        ("x.sql", "COPY public.data_registry_job (id) FROM stdin;\n1\n", "ends too early"),
        ("x.sql", "SET client_encoding = 'LATIN1';\n", "UTF-8"),
        ("x.json", "[1, 2]", "not what dumpdata writes"),
        ("x.json", "[{", "no JSON"),
        ("x.json", "[]", "no table data_registry_collection"),
        ("x.dump", "PGDMP\x01\x0e\x00 nothing else", "pg_restore cannot read"),
    ],
)
def test_what_is_no_data_registry_is_refused_with_the_reason(take, tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RegistryError, match=complaint):
        take(path)


def test_a_missing_file_is_named_with_what_can_be_read(take, tmp_path):
    with pytest.raises(RegistryError, match=r"no file or directory .*postgresql://"):
        take(tmp_path / "nothing")


# Files


def archive(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("full/main.csv"), io.BytesIO(b""))
    return buffer.getvalue()


def workbook():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/workbook.xml", "<workbook/>" * 100)
    return buffer.getvalue()


@pytest.fixture
def exporter_dir(tmp_path):
    """The Data Registry's EXPORTER_DIR, with files of its active job 11."""
    directory = tmp_path / "exporter" / "moldova" / "11"
    directory.mkdir(parents=True)
    (directory / "full.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    (directory / "2021.jsonl.gz").write_bytes(gzip.compress(b'{"a": 2}\n'))
    (directory / "full.csv.tar.gz").write_bytes(archive(b""))
    (directory / "full.xlsx").write_bytes(workbook())
    return tmp_path / "exporter"


def test_files_are_taken_over_with_hash_size_and_records(take, sessions, settings, registries, exporter_dir):
    report = take(registries["new"])
    files = take_over(sessions, exporter_dir, settings.exports, report.jobs, dry_run=False)
    assert (files.jobs, files.files, files.linked, files.remarks) == (1, 4, 4, [])
    with sessions() as session:
        collection = session.scalar(select(Collection).where(Collection.source_id == "moldova"))
        listed = views.list_files(session, collection.active_job_id)
        assert {file.name: file.records for file in listed} == {
            "full.jsonl.gz": 2,
            "full.csv.tar.gz": 2,
            "full.xlsx": 2,
            "2021.jsonl.gz": 1,
        }
        export = Export(settings.exports, "moldova", collection.active_job_id)
        for file in listed:
            content = export.path(file.name).read_bytes()
            assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        manifest = json.loads((export.directory / "manifest.json").read_text())
        assert [entry["name"] for entry in manifest["files"]] == sorted(file.name for file in listed)

    again = take_over(sessions, exporter_dir, settings.exports, take(registries["new"]).jobs, dry_run=False)
    assert (again.files, again.present, again.remarks) == (0, 4, [])


def test_a_file_of_theirs_that_is_deleted_stays_here(take, sessions, settings, registries, exporter_dir):
    take_over(sessions, exporter_dir, settings.exports, take(registries["new"]).jobs, dry_run=False)
    for path in (exporter_dir / "moldova" / "11").iterdir():
        path.unlink()
    with sessions() as session:
        job_id = session.scalar(select(Collection.active_job_id).where(Collection.source_id == "moldova"))
    assert len(list(Export(settings.exports, "moldova", job_id).paths())) == 4


def test_what_is_not_whole_or_cannot_be_downloaded_is_told_of_and_left_out(
    take, sessions, settings, registries, exporter_dir
):
    directory = exporter_dir / "moldova" / "11"
    whole = (directory / "full.csv.tar.gz").read_bytes()
    (directory / "2020.csv.tar.gz").write_bytes(whole[: len(whole) // 2])
    (directory / "2019.jsonl.gz").touch()
    damaged = bytearray(gzip.compress(hashlib.sha256(b"x").digest() * 100 + bytes(range(256)) * 9))
    damaged[40:60] = b"\xff" * 20
    (directory / "2016.jsonl.gz").write_bytes(damaged)
    (directory / "2018.xlsx").write_bytes(b"no workbook")
    (directory / "999.jsonl.gz").write_bytes(whole)
    (directory / "2021_03.jsonl.gz").write_bytes(whole)
    (directory / "README").touch()
    (directory / "2017.xlsx").write_bytes(workbook())
    files = take_over(sessions, exporter_dir, settings.exports, take(registries["new"]).jobs, dry_run=False)
    remarks = "\n".join(files.remarks)
    for name in (
        "2020.csv.tar.gz is not whole",
        "2019.jsonl.gz is not whole (it is empty)",
        "2018.xlsx is not whole",
        "2016.jsonl.gz is not whole",
    ):
        assert name in remarks
    for name in ("999.jsonl.gz", "2021_03.jsonl.gz", "README"):
        assert f"{name} is no file that can be downloaded" in remarks
    assert "how many records 2017.xlsx has is not known" in remarks
    assert files.files == 5


def test_a_directory_with_a_lock_is_left_until_it_is_done(take, sessions, settings, registries, exporter_dir):
    (exporter_dir / "moldova" / "11" / "exporter_full.jsonl.gz.lock").touch()
    files = take_over(sessions, exporter_dir, settings.exports, take(registries["new"]).jobs, dry_run=False)
    assert (files.files, len(files.remarks)) == (0, 1)
    assert "lock file" in files.remarks[0]


def test_files_by_job_alone_are_found_too_and_a_published_job_without_files_is_named(
    take, sessions, settings, registries, exporter_dir, tmp_path
):
    jobs = take(registries["new"]).jobs
    missing = take_over(sessions, tmp_path / "exporter" / "moldova" / "11", settings.exports, jobs, dry_run=False)
    assert missing.missing == ["moldova, job 11"]
    assert take_over(sessions, exporter_dir / "moldova", settings.exports, jobs, dry_run=True).files == 4
    assert take_over(sessions, exporter_dir / "moldova", settings.exports, jobs, dry_run=False).files == 4


def test_flattening_an_imported_job_again_replaces_its_files_one_by_one(
    take, sessions, settings, registries, exporter_dir
):
    take_over(sessions, exporter_dir, settings.exports, take(registries["new"], start=True).jobs, dry_run=False)
    with sessions.begin() as session:
        job_id = session.scalar(select(Collection.active_job_id).where(Collection.source_id == "moldova"))
        restart_job(session, job_id, actor="me", from_task="flatten")
        task = session.scalar(select(Task).where(Task.job_id == job_id, Task.type == "flatten"))
        assert task.status == TaskStatus.PLANNED
        units = session.scalars(select(Unit).where(Unit.task_id == task.id)).all()
        assert [unit.params for unit in units] == [{"name": "full.jsonl.gz"}]
        assert session.scalar(select(func.count()).select_from(File)) == 4


# The command


def test_the_command_imports_and_tells(environment_of, settings, registries, exporter_dir, sessions):
    arguments = ["import-registry", registries["new"], "--exporter-dir", str(exporter_dir)]
    rehearsal = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert rehearsal.exit_code == 0, rehearsal.output
    assert "this was a rehearsal" in rehearsal.stdout
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "job 12 of moldova is RUNNING there" in result.stdout
    assert "Files: 4 of 1 jobs taken over" in result.stdout
    again = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (again["added"], again["files"]["present"]) == ({}, 4)
    with sessions() as session:
        audits = session.scalars(select(Audit).where(Audit.action == "import registry").order_by(Audit.id)).all()
        assert [audit.details["added"].get("job", 0) for audit in audits] == [3, 0]
        assert session.scalar(select(func.count()).select_from(Issue)) == 0


@pytest.fixture
def environment_of(settings, monkeypatch):
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
