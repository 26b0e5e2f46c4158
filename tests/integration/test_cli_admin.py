"""Administration from the command line, on a real database: what changes, what is shown first, what is audited."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update
from typer.testing import CliRunner

from services.scheduler.scheduler import Scheduler
from shared.broker import open_broker
from shared.cli import edit as edit_module
from shared.cli.app import app
from shared.db.models import (
    Audit,
    Collection,
    Compiled,
    File,
    Issue,
    Job,
    JobStatus,
    Licence,
    NoteLevel,
    Pause,
    Record,
    Result,
    Setting,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
    Wiping,
)
from shared.exports import Export
from shared.jobs import JobStateError, plan_job
from shared.messages import work_queue
from shared.publications import CollectionInUseError, remove_collection
from shared.selection import CONDITIONS, UnknownConditionError, conditions
from shared.settings import PREFIX
from shared.views import list_collections, list_jobs
from tests.factories import make_collection, make_job, make_unit
from tests.waiting import eventually


@pytest.fixture
def three(sessions):
    """Three collections."""
    with sessions.begin() as session:
        make_collection(session, "chile", country="Chile", region="LAC", retrieval_frequency="MONTHLY")
        make_collection(session, "moldova", country="Moldova", region="EECA")
        make_collection(session, "secret", public=False, frozen=True)


def collection(sessions, name="moldova"):
    with sessions() as session:
        return session.scalar(select(Collection).where(Collection.source_id == name))


def audits(sessions, action):
    with sessions() as session:
        return session.scalars(select(Audit).where(Audit.action == action).order_by(Audit.id)).all()


def finished(session, owner, result=Result.OK, **fields):
    """Insert a completed job."""
    now = datetime.now(UTC)
    tasks = ("collect", "process", "export")
    job = make_job(session, owner, tasks=tasks, status=JobStatus.COMPLETED, start=now, end=now, **fields)
    for task in job.tasks:
        task.status, task.result = TaskStatus.COMPLETED, result
    session.flush()
    return job


# Changing


def test_everything_about_a_collection_can_be_changed(call, sessions, three, tmp_path):
    source = tmp_path / "data.jsonl"
    source.write_text("{}\n")
    (tmp_path / "long.md").write_text("Two\n\nparagraphs.\n")
    call("licence", "add", "CC BY", "--url", "https://cc.example/by")
    call("bundle", "add", "slow", "DOWNLOAD_DELAY=2")
    values = {
        "--title": "Contracts",
        "--country": "Republic of Moldova",
        "--flag": "md.png",
        "--region": "eu",
        "--language": "Romanian",
        "--description": "First.",
        "--description-long": f"@{tmp_path / 'long.md'}",
        "--additional-data": "Milestones.",
        "--summary": "Good.",
        "--reviewed": "2026-01-31",
        "--no-data-rationale": "Soon.",
        "--frequency": "half-yearly",
        "--update-frequency": "real-time",
        "--source-url": "https://example.org/data",
        "--source": str(source),
        "--id-field": "item.id",
        "--plan": "collect, export",
        "--bundle": "slow",
        "--licence": "CC BY",
        "--publication-policy": "https://example.org/policy",
        "--date-from": "2012-01-01",
        "--date-to": "2020-12-31",
        "--ocid-prefix": "ocds-b0w3rb",
        "--translation": "es.title=Contratos",
    }
    arguments = [part for pair in values.items() for part in pair]
    (edit,) = json.loads(call("edit", "moldova", *arguments, "--freeze", "--private", "--json").stdout)
    assert edit["changes"]["title"] == {"from": "Moldova", "to": "Contracts"}
    view = json.loads(call("collections", "--where", "name=moldova", "--json").stdout)[0]
    expected = {
        "title": "Contracts",
        "country": "Republic of Moldova",
        "country_flag": "md.png",
        "region": "EU",
        "language": "Romanian",
        "description": "First.",
        "description_long": "Two\n\nparagraphs.",
        "additional_data": "Milestones.",
        "summary": "Good.",
        "last_reviewed": "2026-01-31",
        "no_data_rationale": "Soon.",
        "retrieval_frequency": "HALF_YEARLY",
        "update_frequency": "REAL_TIME",
        "source_url": "https://example.org/data",
        "source": str(source),
        "options": {"id_field": "item.id"},
        "tasks_plan": ["collect", "export"],
        "bundle": "slow",
        "license": "https://cc.example/by",
        "publication_policy": "https://example.org/policy",
        "date_from": "2012-01-01",
        "date_to": "2020-12-31",
        "ocid_prefix": "ocds-b0w3rb",
        "translations": {"es": {"title": "Contratos"}},
        "frozen": True,
        "public": False,
    }
    assert {name: view[name] for name in expected} == expected
    (audit,) = audits(sessions, "collection edit")
    assert audit.details["collection"] == "moldova"
    assert audit.details["changes"]["frozen"] == {"from": False, "to": True}
    assert "@" in audit.actor


def test_a_blank_clears_and_what_is_not_said_stays(call, sessions, three):
    call("licence", "add", "CC BY")
    call("edit", "moldova", "--licence", "1", "--reviewed", "today", "--summary", "x", "--plan", "collect")
    call("edit", "moldova", "--licence", "", "--reviewed", "", "--summary", "", "--plan", "", "--frequency", "")
    after = collection(sessions)
    assert (after.licence_id, after.last_reviewed, after.summary, after.tasks_plan) == (None, None, "", None)
    assert after.country == "Moldova"


def test_translations_are_merged_and_taken_away_one_by_one(call, sessions, three):
    for each in ("es.title=Contratos", "es.description-long=Más", "ru.title=Контракты", "pt_BR.title=Contratações"):
        call("edit", "moldova", "--translation", each)
    shown = call("edit", "moldova", "--translation", "es.title=", "--translation", "ru.title=").stdout
    assert [line.split()[1:] for line in shown.splitlines()[1:3]] == [
        ["es.title", "Contratos"],
        ["ru.title", "Контракты"],
    ]
    expected = {"es": {"description_long": "Más"}, "pt-br": {"title": "Contratações"}}
    assert collection(sessions).translations == expected


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["moldova"], "Say what to change"),
        (["--title", "x"], "Say which"),
        (["nobody", "--title", "x"], "no collection nobody"),
        (["moldova", "--title", " "], "has a title"),
        (["moldova", "--region", "MARS"], "Known: MEA, AS"),
        (["moldova", "--frequency", "often"], "no frequency"),
        (["moldova", "--update-frequency", "often"], "no update frequency"),
        (["moldova", "--reviewed", "yesterday"], "no date"),
        (["moldova", "--source-url", "javascript:alert(1)"], "no http"),
        (["moldova", "--licence", "none such"], "no licence 'none such'"),
        (["moldova", "--bundle", "none such"], "no settings bundle"),
        (["moldova", "--plan", "collect,fly"], "No such task type"),
        (["moldova", "--source", "/nowhere/at/all"], "no file or directory"),
        (["moldova", "--active-job", "4711"], "has no job 4711"),
        (["moldova", "--translation", "title=x"], "Write LANGUAGE.FIELD=TEXT"),
        (["moldova", "--translation", "es.region=x"], "'region' is not translated"),
        (["moldova", "--translation", "english.title=x"], "no language"),
        (["moldova", "--translation", "en.title=x"], "is the default language"),
        (["moldova", "--date-from", "2021-01-01", "--date-to", "2020-01-01"], "cannot go from"),
        (["moldova", "--description", "@/nowhere/at/all"], "cannot be read"),
        (["--where", "purple", "--title", "x"], "no condition"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy_and_changes_nothing(call, sessions, three, arguments, complaint):
    before = collection(sessions).modified
    result = CliRunner().invoke(app, ["edit", *arguments, "--yes"])
    assert result.exit_code in (1, 2)
    assert complaint in result.stderr
    assert collection(sessions).modified == before
    assert audits(sessions, "collection edit") == []


def test_many_are_changed_after_a_preview_and_a_question(call, sessions, three):
    refused = call("edit", "--all", "--freeze", say="n\n", status=1)
    assert "chile" in refused.stdout
    assert "This would change 2 collections" in refused.stderr
    assert "Not confirmed" in refused.stderr
    assert not collection(sessions).frozen
    assert (
        "Changed 2 collections; 1 collection stay as they are." in call("edit", "--all", "--freeze", say="y\n").stdout
    )
    assert collection(sessions).frozen
    assert len(audits(sessions, "collection edit")) == 2, "the one that was frozen already is not changed"


def test_a_rehearsal_shows_what_would_change_and_changes_nothing(call, sessions, three):
    shown = call("edit", "--where", "region=LAC", "--where", "not-frozen", "--private", "--dry-run").stdout
    assert "chile" in shown
    assert "moldova" not in shown
    assert "Would change 1 collection." in shown
    assert collection(sessions, "chile").public
    assert audits(sessions, "collection edit") == []


def test_the_files_of_another_successful_job_can_be_published_and_of_no_other(call, sessions, three):
    with sessions.begin() as session:
        owner = session.scalar(select(Collection).where(Collection.source_id == "moldova"))
        other = session.scalar(select(Collection).where(Collection.source_id == "chile"))
        old, new = finished(session, owner), finished(session, owner)
        failed = finished(session, owner, Result.FAILED)
        foreign = finished(session, other)
        going = finished(session, owner, wiping=Wiping.ALL)
        owner.active_job_id = new.id
        ids = old.id, failed.id, foreign.id, going.id
    call("edit", "moldova", "--active-job", ids[0])
    assert collection(sessions).active_job_id == ids[0]
    for job_id, reason in zip(ids[1:], ("did not succeed", "has no job", "is being deleted"), strict=True):
        assert reason in call("edit", "moldova", "--active-job", job_id, status=2).stderr
    assert reason in call("edit", "moldova", "--active-job", ids[3], "--dry-run", status=2).stderr
    call("edit", "moldova", "--active-job", "")
    assert collection(sessions).active_job_id is None
    assert "one NAME" in call("edit", "--all", "--active-job", "1", "--yes", status=2).stderr


def test_a_change_between_preview_and_answer_is_not_undone(call, sessions, three, monkeypatch):
    """What is written is compared again under the lock."""

    def somebody_else_answers(_what):
        with sessions.begin() as session:
            session.execute(update(Collection).values(country="Elsewhere"))

    monkeypatch.setattr(edit_module, "_confirm", somebody_else_answers)
    call("edit", "--all", "--summary", "Good.")
    assert (collection(sessions).country, collection(sessions).summary) == ("Elsewhere", "Good.")


# Which


def matching(sessions, *texts):
    with sessions() as session:
        return [
            view.source_id for view in list_collections(session, public_only=False, limit=9, where=conditions(texts))
        ]


def test_every_condition_chooses_what_it_says_and_its_opposite_the_rest(sessions):
    with sessions.begin() as session:
        licence = Licence(name="CC BY")
        session.add(licence)
        session.flush()
        plain = make_collection(session, "plain", public=False)
        full = make_collection(
            session,
            "full_x",
            title="Contratos",
            country="Chile",
            region="LAC",
            language="Spanish",
            description="All.",
            source_url="https://example.org",
            retrieval_frequency="MONTHLY",
            update_frequency="DAILY",
            summary="Good.",
            last_reviewed=datetime.now(UTC).date(),
            licence_id=licence.id,
            frozen=True,
            registry_id=7,
            translations={
                "es": dict.fromkeys(("title", "country", "language", "description", "summary"), "x"),
                "ru": {"title": "Контракты"},
            },
        )
        full.active_job_id = finished(session, full).id
        make_job(session, full)
        session.add(Pause(collection_id=full.id, actor="me"))
        session.execute(text("INSERT INTO settings_bundle (name) VALUES ('slow')"))
        full.settings_bundle_id = 1
        assert plain.id
    chosen = {
        "name=full*": ["full_x"],
        "name=ful?_x": ["full_x"],
        "search=контракты": ["full_x"],
        "search=chil": ["full_x"],
        "search=ALL  contratós": ["full_x"],
        "search=contratos plain": [],
        "search=%": [],
        "public": ["full_x"],
        "frozen": ["full_x"],
        "paused": ["full_x"],
        "published": ["full_x"],
        "running": ["full_x"],
        "licence": ["full_x"],
        "licence=CC BY": ["full_x"],
        "licence=1": ["full_x"],
        "bundle": ["full_x"],
        "bundle=slow": ["full_x"],
        "summary": ["full_x"],
        "incomplete": ["plain"],
        "untranslated=es": ["plain"],
        "untranslated=ru": ["plain", "full_x"],
        "unreviewed=365d": ["plain"],
        "unreviewed=2020-01-01": ["plain"],
        "country=chile": ["full_x"],
        "region=lac": ["full_x"],
        "region=none": ["plain"],
        "frequency=monthly": ["full_x"],
        "frequency=none": ["plain"],
        "update-frequency=daily": ["full_x"],
        "imported": ["full_x"],
    }
    assert {text.partition("=")[0] for text in chosen} == set(CONDITIONS)
    for text_, names in chosen.items():
        assert matching(sessions, text_) == names, text_
        rest = [name for name in ("plain", "full_x") if name not in names]
        assert matching(sessions, f"not-{text_}") == rest, f"not-{text_}"
    assert matching(sessions, "public", "not-licence") == []


@pytest.mark.parametrize(
    "wrong",
    ["purple", "public=yes", "region", "region=Mars", "unreviewed=soon", "untranslated=x;y", "name", "not-", "="],
)
def test_a_condition_that_does_not_exist_is_refused(wrong):
    with pytest.raises(UnknownConditionError):
        conditions([wrong])


def test_the_conditions_are_listed(call):
    assert "untranslated=LANGUAGE" in call("conditions").stdout
    assert {row["name"] for row in json.loads(call("conditions", "--json").stdout)} == set(CONDITIONS)
    assert "no condition" in call("collections", "--where", "purple", status=2).stderr


# Removing


@pytest.fixture
def scheduler(settings, sessions):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield Scheduler(settings, sessions, broker)
    broker.close()


def published(session, settings, name="moldova", jobs=2):
    owner = make_collection(session, name)
    for _ in range(jobs):
        job = finished(session, owner)
        unit = make_unit(job.tasks[0], status=UnitStatus.COMPLETED, result=Result.OK)
        session.add(unit)
        session.flush()
        session.add(File(job_id=job.id, unit_id=unit.id, name="full.jsonl.gz", size=3, records=1, sha256="0" * 64))
        session.add_all([Record(job_id=job.id, kind="json", data="{}"), Compiled(job_id=job.id, data="{}")])
        directory = Export(settings.exports, name, job.id).directory
        directory.mkdir(parents=True)
        (directory / "full.jsonl.gz").write_bytes(b"abc")
        owner.active_job_id = job.id
    session.flush()
    return owner.id


def count(sessions, table):
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_collection_is_removed_with_its_jobs_records_and_files(call, sessions, settings, scheduler, monkeypatch):
    with sessions.begin() as session:
        published(session, settings, jobs=25)
        published(session, settings, "other", jobs=1)
    asked = []
    monkeypatch.setattr(edit_module, "run_service", lambda *arguments: asked.append(arguments))
    assert "Would delete moldova, its jobs (25) and files (25, 75 B)." in call("remove", "moldova", "--dry-run").stdout
    assert count(sessions, Job) == 26
    refused = call("remove", "moldova", say="n\n", status=1)
    assert "moldova is published" in refused.stderr
    assert collection(sessions).active_job_id is not None

    call("remove", "moldova", say="y\n")
    assert asked == [("scheduler", "--delete-marked")]
    gone = collection(sessions)
    assert (gone.removing, gone.public, gone.active_job_id) == (True, False, None)
    assert count(sessions, File) == 1, "nothing of it is listed from now on"
    assert "being deleted" in call("collections").stdout
    with sessions.begin() as session, pytest.raises(JobStateError, match="is being deleted"):
        plan_job(session, session.get_one(Collection, gone.id), plan=["collect"])

    assert scheduler.delete_all_marked() == 0
    assert collection(sessions) is None
    assert [count(sessions, table) for table in (Collection, Job, Record, Compiled)] == [1, 1, 1, 1]
    assert not (settings.exports / "moldova").exists()
    assert (settings.exports / "other").exists()
    (audit,) = audits(sessions, "collection remove")
    assert audit.details == {"collection": "moldova", "jobs": 25, "files": 25, "bytes": 75}


def test_the_command_itself_deletes_everything(settings, sessions):
    with sessions.begin() as session:
        published(session, settings)
    command = [sys.executable, "-c", "from shared.cli import main; main()", "remove", "moldova", "--yes", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(command, env=environment | settings.environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["jobs"] == 2
    assert collection(sessions) is None
    assert not (settings.exports / "moldova").exists()


def test_the_scheduler_finishes_a_removal_that_was_interrupted(sessions, settings, scheduler):
    with sessions.begin() as session:
        remove_collection(session, published(session, settings), actor="me")
        remove_collection(session, make_collection(session, "empty").id, actor="me")
    while scheduler.tick():
        pass
    assert count(sessions, Collection) == 0


def test_files_that_cannot_be_deleted_hold_nobody_up(sessions, settings, scheduler, monkeypatch):
    with sessions.begin() as session:
        remove_collection(session, published(session, settings), actor="me")
        remove_collection(session, published(session, settings, "other"), actor="me")
    remove = Export.remove

    def refuse(export):
        if export.source_id == "moldova":
            raise OSError("read-only file system")
        remove(export)

    with monkeypatch.context() as patched:
        patched.setattr(Export, "remove", refuse)
        assert scheduler.delete_all_marked() == 2
    assert collection(sessions, "other") is None
    assert scheduler.delete_all_marked() == 0
    assert collection(sessions) is None


def test_a_collection_with_a_job_in_progress_is_not_removed(call, sessions, three):
    with sessions.begin() as session:
        make_job(session, session.scalar(select(Collection).where(Collection.source_id == "moldova")))
    assert "bowerbird job cancel 1" in call("remove", "moldova", "--yes", status=1).stderr
    assert not collection(sessions).removing


def test_a_job_that_is_planned_at_the_same_moment_wins_or_loses_but_never_both(sessions, settings, three):
    collection_id = collection(sessions).id
    with sessions() as planner, planner.begin():
        plan_job(planner, planner.get_one(Collection, collection_id), plan=["collect"])
        with sessions() as remover, remover.begin():
            remover.execute(text("SET LOCAL lock_timeout = '200ms'"))
            with pytest.raises(Exception, match="lock timeout"):
                remove_collection(remover, collection_id, actor="me")
    with sessions.begin() as session, pytest.raises(CollectionInUseError):
        remove_collection(session, collection_id, actor="me")


def test_whoever_plans_a_job_while_its_collection_is_removed_waits_and_is_refused(sessions, three):
    collection_id = collection(sessions).id
    refused = []

    def plan():
        with sessions.begin() as session:
            try:
                plan_job(session, session.get_one(Collection, collection_id), plan=["collect"])
            except JobStateError as error:
                refused.append(str(error))

    def waits():
        with sessions() as session:
            return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    with sessions() as remover:
        remove_collection(remover, collection_id, actor="me")
        planner = threading.Thread(target=plan)
        planner.start()
        eventually(waits, what="the planner waits for the lock")
        remover.commit()
    planner.join()
    assert refused == ["moldova is being deleted."]
    assert count(sessions, Job) == 0


# Licences, settings bundles, issues


def test_a_licence_lives_from_add_to_remove(call, sessions, three):
    arguments = ("--url", "https://cc.example/by", "--description", "Name the source.")
    call("licence", "add", "CC BY", *arguments, "--translation", "es.name=CC BY (es)")
    call("edit", "moldova", "--licence", "CC BY")
    (row,) = json.loads(call("licence", "list", "--json").stdout)
    assert (row["name"], row["collections"]) == ("CC BY", ["moldova"])
    assert row["translations"] == {"es": {"name": "CC BY (es)"}}
    call("licence", "edit", "CC BY", "--name", "CC BY 4.0", "--translation", "es.name=")
    assert "CC BY 4.0" in call("licence", "list").stdout
    assert "named by moldova" in call("licence", "remove", "1", status=1).stderr
    call("edit", "--where", "licence=1", "--licence", "")
    call("licence", "remove", "1")
    assert json.loads(call("licence", "list", "--json").stdout) == []
    assert [len(audits(sessions, f"licence {action}")) for action in ("add", "edit", "remove")] == [1, 1, 1]
    assert "no http" in call("licence", "add", "X", "--url", "javascript:x", status=2).stderr
    assert "no licence '1'" in call("licence", "edit", "1", "--name", "X", status=2).stderr


def test_two_licences_of_one_name_are_told_apart_by_number(call, three):
    call("licence", "add", "CC BY")
    call("licence", "add", "CC BY")
    assert "by its number (1, 2)" in call("edit", "moldova", "--licence", "CC BY", status=2).stderr
    call("edit", "moldova", "--licence", "2")


def test_a_settings_bundle_lives_from_add_to_remove(call, sessions, three):
    call("bundle", "add", "slow", "DOWNLOAD_DELAY=2", "TOKEN=a=b")
    call("edit", "moldova", "--bundle", "slow")
    call("bundle", "edit", "slow", "DOWNLOAD_DELAY=5", "--unset", "TOKEN", "--name", "slower")
    (row,) = json.loads(call("bundle", "list", "--json").stdout)
    assert (row["name"], row["settings"], row["collections"]) == ("slower", {"DOWNLOAD_DELAY": "5"}, ["moldova"])
    assert "DOWNLOAD_DELAY=5" in call("bundle", "list").stdout
    assert "a=b" not in str([audit.details for audit in audits(sessions, "bundle add")]), "values may be secret"
    call("bundle", "remove", "slower")
    assert collection(sessions).settings_bundle_id is None
    assert count(sessions, Setting) == 0
    assert "Write KEY=VALUE" in call("bundle", "add", "x", "nothing", status=2).stderr


def test_an_issue_lives_from_add_to_remove(call, sessions, three):
    call("issue", "add", "moldova", "Prices are without taxes.", "--translation", "es.description=Sin impuestos.")
    call("issue", "edit", "1", "--text", "Prices of 2024 are without taxes.")
    (row,) = json.loads(call("issue", "list", "moldova", "--json").stdout)
    assert (row["description"], row["translations"]["es"]) == (
        "Prices of 2024 are without taxes.",
        {"description": "Sin impuestos."},
    )
    assert "without taxes" in call("issue", "list").stdout
    assert json.loads(call("issue", "list", "chile", "--json").stdout) == []
    call("issue", "remove", "1")
    assert count(sessions, Issue) == 0
    assert "no issue 1" in call("issue", "remove", "1", status=1).stderr
    assert "no collection" in call("issue", "add", "nobody", "x", status=1).stderr


# Jobs


def listed(call, *arguments):
    return [row["id"] for row in json.loads(call("jobs", *arguments, "--json").stdout)]


def test_jobs_are_filtered_by_how_they_ended_and_what_became_of_them(call, sessions, three):
    with sessions.begin() as session:
        owner = session.scalar(select(Collection).where(Collection.source_id == "moldova"))
        other = session.scalar(select(Collection).where(Collection.source_id == "chile"))
        ok = finished(session, owner, archived=True)
        finished(session, owner, Result.FAILED)
        finished(session, other, Result.CANCELLED)
        owner.active_job_id = ok.id
        finished(session, other, created=datetime.now(UTC) - timedelta(days=3))
        make_job(session, owner)
    assert listed(call) == [5, 4, 3, 2, 1]
    assert listed(call, "--result", "ok") == [4, 1]
    assert listed(call, "--result", "failed") == [2]
    assert listed(call, "--result", "Cancelled") == [3]
    assert listed(call, "--result", "failed", "chile") == []
    assert listed(call, "--active") == [1]
    assert listed(call, "--not-active") == [5, 4, 3, 2]
    assert listed(call, "--archived") == [1]
    assert listed(call, "--not-archived", "--status", "completed") == [4, 3, 2]
    assert listed(call, "--since", "2d") == [5, 3, 2, 1]
    assert "no result of a job" in call("jobs", "--result", "fine", status=2).stderr


def test_thresholds_of_a_collection_are_changed_and_taken_away(call, sessions, three):
    def options():
        with sessions() as session:
            return session.scalar(select(Collection.options).where(Collection.source_id == "chile"))

    call("edit", "chile", "--id-field", "x", "--threshold", "error=0.9", "--threshold", "references.awards=1")
    assert options() == {"id_field": "x", "quality_thresholds": {"error": 0.9, "references.awards": 1.0}}
    call("edit", "chile", "--id-field", "y")
    assert options()["quality_thresholds"] == {"error": 0.9, "references.awards": 1.0}
    call("edit", "chile", "--threshold", "")
    assert options() == {"id_field": "y"}
    assert "no check" in call("edit", "chile", "--threshold", "nonsense=1", status=2).stderr


def test_a_schedule_takes_the_place_of_a_frequency_and_the_other_way_round(call, sessions, three):
    def facts():
        with sessions() as session:
            row = session.scalar(select(Collection).where(Collection.source_id == "chile"))
            return row.retrieval_frequency, row.cron, row.time_zone, row.catch_up, row.priority, row.look_at

    later = datetime.now(UTC) + timedelta(days=1)
    with sessions.begin() as session:
        session.execute(update(Collection).values(look_at=later))
    schedule = ("--cron", "0 3 * * mon", "--time-zone", "America/Santiago", "--no-catch-up", "--priority", "5")
    call("edit", "chile", *schedule)
    assert facts()[:5] == ("", "0 3 * * MON", "America/Santiago", False, 5)
    assert facts()[5] < later, "the scheduler looks at it again"
    call("edit", "chile", "--frequency", "weekly")
    assert facts()[:3] == ("WEEKLY", "", "")
    call("edit", "chile", "--cron", "0 3 * * *", "--time-zone", "UTC")
    call("edit", "chile", "--cron", "")
    assert facts()[:3] == ("", "", "")
    for wrong, sentence in (
        (("--cron", "often"), "five fields"),
        (("--time-zone", "UTC"), "belongs to a cron schedule"),
        (("--cron", "0 3 * * *", "--time-zone", "Europe/Atlantis"), "no time zone 'Europe/Atlantis'"),
        (("--priority", "101"), "from -100 to 100"),
        (("--priority", "high"), "no priority"),
    ):
        assert sentence in call("edit", "chile", *wrong, status=2).stderr


def test_the_temporary_data_of_a_job_is_kept_on_request(call, sessions, three):
    with sessions.begin() as session:
        owner = session.scalar(select(Collection).where(Collection.source_id == "moldova"))
        finished(session, owner)
        finished(session, owner, archived=True)
    assert json.loads(call("job", "keep", "1", "--json").stdout)["keep_all_data"] is True
    assert "keeps its temporary data already" in call("job", "keep", "1").stdout
    assert json.loads(call("job", "keep", "1", "--no-keep", "--json").stdout)["keep_all_data"] is False
    assert "it is deleted" in call("job", "keep", "2", status=1).stderr
    assert "no job 3" in call("job", "keep", "3", status=1).stderr
    assert [audit.details for audit in audits(sessions, "job keep")] == [{"keep": True}, {"keep": False}]


def test_notes_are_grouped_by_task_level_and_type_with_the_most_frequent_first(call, sessions, three):
    with sessions.begin() as session:
        job = make_job(session, session.scalar(select(Collection).where(Collection.source_id == "moldova")))
        first, second = job.tasks[:2]
        notes = [
            (second, NoteLevel.INFO, "", "fine", 1),
            (first, NoteLevel.WARNING, "", "odd", 2),
            (first, NoteLevel.WARNING, "HTTP", "404", 1),
            (first, NoteLevel.ERROR, "HTTP", "500 a", 2),
            (first, NoteLevel.ERROR, "HTTP", "500 b", 3),
            (first, NoteLevel.ERROR, "HTTP", "500 c", 1),
        ]
        for task, level, kind, note, number in notes:
            data = {"type": kind} if kind else {}
            session.add_all(TaskNote(task_id=task.id, level=level, note=note, data=data) for _ in range(number))
    groups = json.loads(call("notes", "1", "--examples", "2", "--json").stdout)
    assert [(group["task"], group["level"], group["type"], group["count"]) for group in groups] == [
        ("collect", "ERROR", "HTTP", 6),
        ("collect", "WARNING", "", 2),
        ("collect", "WARNING", "HTTP", 1),
        ("process", "INFO", "", 1),
    ]
    assert groups[0]["notes"] == [{"note": "500 b", "count": 3}, {"note": "500 a", "count": 2}]
    shown = call("notes", "1", "--examples", "2").stdout
    assert "collect, error, HTTP: 6" in shown
    assert "1  others" in shown
    assert [group["count"] for group in json.loads(call("notes", "1", "--level", "info", "--json").stdout)] == [1]
    assert "no job 2" in call("notes", "2", status=1).stderr
    assert "no level" in call("notes", "1", "--level", "loud", status=2).stderr


# Stuck


def stuck(sessions, after=timedelta(minutes=5)):
    with sessions() as session:
        return [view.id for view in list_jobs(session, public_only=False, stuck_after=after, limit=99)]


LONG_AGO = func.now() - timedelta(minutes=6)


@pytest.fixture
def still(sessions):
    """A function that makes a running job that nobody has touched for 6 minutes; its unit waits for a worker."""

    def make(name="still", *, unit=True, job=None, task=None, **unit_fields):
        with sessions.begin() as session:
            made = make_job(session, make_collection(session, name), tasks=("collect", "export"))
            made.tasks[0].status = TaskStatus.RUNNING
            session.flush()
            if unit:
                row = make_unit(made.tasks[0], status=UnitStatus.QUEUED)
                session.add(row)
                session.flush()
                session.execute(update(Unit).where(Unit.id == row.id).values(**unit_fields, modified=LONG_AGO))
            values = {"modified": LONG_AGO}
            session.execute(update(Task).where(Task.job_id == made.id).values(values))
            session.execute(update(Task).where(Task.id == made.tasks[0].id).values(values | (task or {})))
            session.execute(update(Job).where(Job.id == made.id).values(values | (job or {})))
            return made.id

    return make


def test_a_job_that_nobody_works_on_is_stuck(still, sessions, call):
    job_id = still()
    assert stuck(sessions) == [job_id]
    assert stuck(sessions, timedelta(minutes=7)) == []
    assert listed(call, "--stuck") == [job_id], "by the settings of the test, after some minutes"
    assert f"Stuck: job {job_id}." in call("status").stdout
    assert json.loads(call("status", "--json").stdout)["stuck"] == [job_id]


def test_a_planned_job_that_is_not_started_and_an_ended_one_that_is_not_noticed_are_stuck(still, sessions):
    planned = still("planned", unit=False, job={"status": "PLANNED"}, task={"status": "PLANNED"})
    ended = still("ended", status=UnitStatus.COMPLETED, result=Result.OK, end=LONG_AGO)
    away = still("away", unit=False, task={"status": "RUNNING", "result": "FAILED", "note": "no answer"})
    assert stuck(sessions) == [away, ended, planned]


@pytest.mark.parametrize(
    "sign",
    [
        {"job": {"modified": func.now()}},
        {"task": {"modified": func.now()}},
        {"start": func.now() - timedelta(minutes=4)},
        {"end": func.now(), "status": "COMPLETED", "result": "OK"},
        {"status": "RUNNING", "lease_until": func.now() + timedelta(seconds=20)},
        {"next_attempt_at": func.now() + timedelta(hours=1)},
        {"next_attempt_at": func.now() - timedelta(minutes=4)},
        {"job": {"status": "COMPLETED"}},
        {"unit": False},
    ],
    ids=["job", "task", "claimed", "ended", "lease", "retry to come", "retry just due", "completed", "elsewhere"],
)
def test_any_sign_of_life_or_a_reason_to_wait_means_not_stuck(still, sessions, sign):
    still(**sign)
    assert stuck(sessions) == []


def test_what_is_paused_is_not_stuck(still, sessions):
    still()
    with sessions.begin() as session:
        session.add(Pause(queue=work_queue("collector"), actor="me"))
    assert stuck(sessions) == []
    with sessions.begin() as session:
        session.execute(update(Pause).values(queue=work_queue("flattener")))
    assert stuck(sessions) == [1], "another queue's pause is no reason"
    with sessions.begin() as session:
        session.execute(update(Pause).values(queue=None, collection_id=1))
    assert stuck(sessions) == []
