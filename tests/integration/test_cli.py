"""The command line on a real database: what is stored, what is printed, what is refused."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from rich.console import Console
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from shared import errands, units
from shared.broker import open_broker
from shared.cli import watch
from shared.cli.demo import problems_of
from shared.cli.errors import CommandError
from shared.cli.line import Line
from shared.cli.publish import publish_collection
from shared.db.models import (
    Audit,
    Collection,
    DeadLetter,
    File,
    Job,
    JobStatus,
    Result,
    Task,
    TaskStatus,
    UnitStatus,
)
from shared.dead_letters import record_message
from shared.exports import Export
from shared.logging import mask
from shared.messages import EVENTS_QUEUE, JobPlanned
from shared.sample import facts
from shared.supervisor import SERVICES, SupervisorLock, answers
from tests import backends
from tests.factories import make_collection, make_job, make_unit
from tests.waiting import eventually

BOWERBIRD = [sys.executable, "-c", "from shared.cli import main; main()"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "releases.json"
    path.write_text("[]")
    return path


def published(sessions, settings, source_id="sample"):
    """Insert a collection with a completed, active job that has one file; return the job's id."""
    with sessions.begin() as session:
        collection = make_collection(session, source_id)
        now = datetime.now(UTC)
        job = make_job(session, collection, tasks=("export",), status=JobStatus.COMPLETED, start=now, end=now)
        (task,) = job.tasks
        task.status, task.result, task.start, task.end = TaskStatus.COMPLETED, Result.OK, now, now
        unit = make_unit(
            task,
            status=UnitStatus.COMPLETED,
            result=Result.OK,
            attempt=1,
        )
        session.add(unit)
        session.flush()
        session.add(
            File(job_id=job.id, unit_id=unit.id, name="full.jsonl.gz", size=1500, records=12_345, sha256="0" * 64)
        )
        collection.active_job_id = job.id
        return job.id


def failed(sessions):
    """Insert a collection with a failed job; return the job's id."""
    with sessions.begin() as session:
        job = make_job(session, make_collection(session, "broken"), tasks=("collect", "export"))
        job.status = JobStatus.COMPLETED
        task = job.tasks[0]
        task.status, task.result, task.note = TaskStatus.COMPLETED, Result.FAILED, "/data/x.json, byte 17: no JSON"
        return job.id


# Collections


def test_a_collection_is_added_with_everything_that_was_said_about_it(call, source):
    arguments = ("--title", "Moldova", "--country", "Moldova", "--frequency", "monthly", "--id-field", "item.id")
    view = json.loads(call("add", "moldova", source, *arguments, "--plan", "collect, export", "--json").stdout)
    expected = {
        "source_id": "moldova",
        "source": str(source),
        "title": "Moldova",
        "country": "Moldova",
        "retrieval_frequency": "MONTHLY",
        "options": {"id_field": "item.id"},
        "tasks_plan": ["collect", "export"],
        "public": True,
    }
    assert {key: view[key] for key in expected} == expected
    assert [row["source_id"] for row in json.loads(call("collections", "--json").stdout)] == ["moldova"]
    assert "moldova" in call("collections").stdout


def test_backends_are_chosen_shown_and_refused_when_they_do_not_go_together(call, sessions):
    three = ("collect:scrapyd", "process:kingfisher-process", "export:kingfisher-process")
    options = [part for entry in three for part in ("--backend", entry)]
    view = json.loads(call("add", "moldova", "--spider", "md", *options, "--json").stdout)
    assert view["backends"] == dict(entry.split(":") for entry in three)
    assert (view["source"], view["options"]) == ("", {"spider": "md"})
    shown = json.loads(call("backends", "moldova", "--json").stdout)
    assert shown == view["backends"] | {"check": "native", "coverage": "native", "flatten": "native"}
    assert "scrapyd" in call("backends", "moldova").stdout

    refused = call("backends", "moldova", "export:native", status=2)
    assert "Choose backends that go together" in refused.stderr
    assert "no backend 'x'" in call("backends", "moldova", "collect:x", status=2).stderr
    assert "no task pelican" in call("backends", "moldova", "pelican:pelican", status=2).stderr
    assert "TASK:BACKEND" in call("backends", "moldova", "scrapyd", status=2).stderr
    assert json.loads(call("backends", "moldova", "--json").stdout) == shown, "nothing of it was kept"

    assert set(json.loads(call("backends", "moldova", "native", "--json").stdout).values()) == {"native"}
    with sessions() as session:
        (audit,) = session.scalars(select(Audit).where(Audit.action == "backends"))
    assert audit.details["before"]["collect"] == "scrapyd"


def test_a_plan_may_say_who_does_what(call):
    plan = "collect:scrapyd, process:kingfisher-process"
    view = json.loads(call("add", "moldova", "--plan", plan, "--json").stdout)
    assert view["tasks_plan"] == ["collect", "process"]
    assert view["backends"] == {"collect": "scrapyd", "process": "kingfisher-process"}


def test_a_collection_that_we_collect_needs_a_source(call):
    assert "Say what to collect" in call("add", "moldova", status=2).stderr


def test_what_other_systems_have_yet_to_be_told_is_in_the_status(call, sessions):
    with sessions.begin() as session:
        for delay in (timedelta(0), timedelta(hours=1)):
            what = {"job_id": 7, "source_id": "moldova", "params": {}, "delay": delay}
            errands.plan(session, "collect", "scrapyd", "stop", **what)
    (errand,) = json.loads(call("status", "--json").stdout)["errands"]
    assert (errand["backend"], errand["action"], errand["job_id"]) == ("scrapyd", "stop", 7)
    assert "To stop at scrapyd: moldova, job 7" in call("status").stdout


def test_a_private_collection_is_only_what_was_asked_for(call, source):
    assert "private" in call("add", "secret", source, "--private").stdout
    assert json.loads(call("collections", "--json").stdout)[0]["public"] is False


def test_a_name_is_given_once(call, source):
    call("add", "moldova", source)
    result = call("add", "moldova", source, status=1)
    assert result.stderr.startswith("Error: There is a collection 'moldova' already")
    assert result.stdout == ""


def test_an_unknown_frequency_or_task_is_a_wrong_call_and_adds_nothing(call, source):
    call("add", "moldova", source, "--frequency", "daily", status=2)
    call("add", "moldova", source, "--plan", "collect,expert", status=2)
    assert json.loads(call("collections", "--json").stdout) == []


def test_passwords_in_a_source_are_not_printed(call):
    call("add", "moldova", "https://me:secret@example.org/x.json")
    assert "secret" not in call("collections").stdout + call("collections", "--json").stdout


# Jobs


def test_running_a_collection_plans_a_job_and_tells_the_scheduler(call, source, settings):
    call("add", "moldova", source)
    job = json.loads(call("run", "moldova", "--keep-all-data", "--json").stdout)
    assert (job["status"], job["keep_all_data"]) == ("PLANNED", True)
    assert [task["type"] for task in job["tasks"]] == list(settings.job_tasks_plan)
    broker = open_broker(settings, settings.database_url)
    assert broker.depth(EVENTS_QUEUE).ready == 1
    broker.close()


def test_a_second_job_at_once_is_refused_with_the_number_of_the_first(call, source):
    call("add", "moldova", source)
    call("run", "moldova")
    assert "bowerbird job 1 --watch" in call("run", "moldova", status=1).stderr


def test_whoever_runs_a_job_without_services_is_told_what_starts_them(call, source):
    call("add", "moldova", source)
    assert "bowerbird up" in call("run", "moldova").stderr


def test_unknown_names_and_numbers_are_errors_that_say_where_to_look(call):
    assert "bowerbird collections" in call("run", "nowhere", status=1).stderr
    assert "bowerbird jobs" in call("job", "7", status=1).stderr
    assert "bowerbird collections" in call("files", "nowhere", status=1).stderr
    assert "PLANNED, RUNNING, COMPLETED" in call("jobs", "--status", "lost", status=2).stderr


def test_jobs_are_listed_newest_first_by_collection_and_status(call, sessions, settings):
    one, two = published(sessions, settings), failed(sessions)
    assert [job["id"] for job in json.loads(call("jobs", "--json").stdout)] == [two, one]
    assert [job["id"] for job in json.loads(call("jobs", "sample", "--json").stdout)] == [one]
    assert json.loads(call("jobs", "--status", "running", "--json").stdout) == []
    assert len(json.loads(call("jobs", "--limit", "1", "--json").stdout)) == 1
    assert "broken" in call("jobs").stdout


def test_a_job_is_shown_with_what_went_wrong(call, sessions):
    job_id = failed(sessions)
    with sessions.begin() as session:
        task = session.query(Task).filter_by(job_id=job_id, type="collect").one()
        error = {"error": "broken", "traceback": "Traceback: it"}
        session.add(make_unit(task, attempt=5, **error))
    text = call("job", job_id).stdout
    assert "/data/x.json, byte 17: no JSON" in text
    assert "collect, unit 1, attempt 5: broken" in text
    assert "Traceback: it" in text
    assert json.loads(call("job", job_id, "--json").stdout)["errors"][0]["traceback"] == "Traceback: it"
    assert json.loads(call("job", job_id, "--json").stdout)["tasks"][0]["note"] == "/data/x.json, byte 17: no JSON"


def test_following_a_job_that_fails_ends_with_its_note_and_status_1(call, sessions):
    result = call("job", failed(sessions), "--watch", "--json", status=1)
    assert json.loads(result.stdout)["result"] == "FAILED"
    assert "job 1  collect   FAILED" in result.stderr
    assert result.stderr.endswith("Error: collect: /data/x.json, byte 17: no JSON\n")


def test_files_of_a_job_and_of_a_collection_are_listed_with_their_place(call, sessions, settings):
    job_id = published(sessions, settings)
    path = Export(settings.exports, "sample", job_id).path("full.jsonl.gz")
    (file,) = json.loads(call("files", "sample", "--json").stdout)
    assert (file["name"], file["records"], file["size"], file["sha256"]) == ("full.jsonl.gz", 12_345, 1500, "0" * 64)
    assert file["path"] == str(path)
    assert json.loads(call("files", job_id, "--json").stdout) == [file]
    line = call("files", "sample").stdout.splitlines()[1].split()
    assert line == ["full.jsonl.gz", "12,345", "1.5", "kB", "0" * 64, str(path)]


def test_a_collection_that_has_published_nothing_says_what_to_do(call, source):
    call("add", "moldova", source)
    assert "bowerbird run moldova --wait" in call("files", "moldova", status=1).stderr


# Dead letters, pauses, lost messages


@pytest.fixture
def dead(sessions, settings):
    """Three dead letters: two units of a job, and a message that the broker has; return their numbers."""
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    broker.publish("exporter.v1", JobPlanned(job_id=4711))
    consumer = broker.consume(["exporter.v1"], prefetch=1)
    delivery = eventually(lambda: consumer.receive(0.2))
    with sessions.begin() as session:
        job = make_job(session, make_collection(session, "broken"), tasks=("export", "flatten"))
        job.status = JobStatus.COMPLETED
        export, flatten = job.tasks
        export.status, export.result, flatten.result = TaskStatus.COMPLETED, Result.FAILED, Result.SKIPPED
        flatten.status = TaskStatus.COMPLETED
        for number in (1, 2):
            unit = make_unit(export, number=number, attempt=5)
            unit.status, unit.result = UnitStatus.COMPLETED, Result.FAILED
            session.add(unit)
            session.flush()
            letter = DeadLetter(kind="UNIT", queue="exporter.v1", key=f"unit {unit.id}", body=b"{}", body_bytes=2)
            letter.unit_id, letter.task_id, letter.job_id, letter.attempts = unit.id, export.id, job.id, 5
            letter.reason, letter.traceback = f"the disk {number} is full", "Traceback: it"
            session.add(letter)
            session.flush()
        record_message(session, delivery, reason="not understood")
    consumer.reject(delivery, "not understood")
    consumer.close()
    yield [1, 2, 3]
    broker.close()


def dead_numbers(call, *arguments):
    return [letter["id"] for letter in json.loads(call("dead", "list", *arguments, "--json").stdout)]


def test_dead_letters_are_listed_and_shown_in_full(call, dead):
    assert sorted(dead_numbers(call)) == dead
    assert dead_numbers(call, "--reason", "DISK 2") == dead_numbers(call, "2") == [2]
    assert dead_numbers(call, "--collection", "broken", "--job", "1", "--queue", "exporter", "--since", "2d") == [2, 1]
    assert dead_numbers(call, "--queue", "scheduler") == []
    text = call("dead", "list").stdout
    assert "the disk 1 is full" in text
    assert "broken" in text
    text = call("dead", "1").stdout
    assert "Traceback: it" in text
    assert "body, 2 bytes: {}" in text
    assert json.loads(call("dead", "show", 3, "--json").stdout)[0]["body"]["job_id"] == 4711
    assert "no dead letter 9" in call("dead", "show", 9, status=1).stderr
    assert json.loads(call("status", "--json").stdout)["dead_letters"] == 3
    assert "Dead letters: 3" in call("status").stdout


def test_a_replay_is_previewed_and_confirmed_before_it_is_done(call, dead, sessions):
    assert "Would replay 2 dead letters" in call("dead", "replay", "--job", "1", "--dry-run").stdout
    result = call("dead", "replay", "--job", "1", status=1)
    assert "Not confirmed" in result.stderr
    assert "the disk 1 is full" in result.stderr
    assert sorted(dead_numbers(call)) == dead
    outcomes = json.loads(call("dead", "replay", "--job", "1", "--yes", "--json").stdout)
    assert {(outcome["id"], outcome["outcome"]) for outcome in outcomes} == {(1, "replayed"), (2, "replayed")}
    assert dead_numbers(call) == [3]
    assert "1 unchanged" in call("dead", "replay", "1").stdout
    assert "No dead letters." in call("dead", "replay", "--job", "1").stdout
    with sessions() as session:
        assert session.get_one(Job, 1).status == JobStatus.RUNNING
        (audit,) = session.scalars(select(Audit))
    assert "@" in audit.actor


def test_a_refused_replay_is_an_error_with_the_reason(call, dead, sessions):
    with sessions.begin() as session:
        session.query(Task).filter_by(type="flatten").update({"result": Result.CANCELLED})
    result = call("dead", "replay", "1", status=1)
    assert "1 dead letter refused: Job 1 was cancelled. Restart it: bowerbird job restart 1" in result.stderr


def test_dead_letters_are_discarded_once_and_stay_to_be_seen(call, dead, settings):
    assert call("dead", "discard", "--all", "--yes").stdout == "3 discarded\n"
    assert dead_numbers(call) == []
    assert sorted(dead_numbers(call, "--resolved")) == dead
    assert "discarded" in call("dead", "3").stdout
    assert json.loads(call("status", "--json").stdout)["queues"]["exporter.v1"]["dead"] == 0


def test_replay_and_discard_want_to_know_which(call):
    for action in ("replay", "discard"):
        assert "--all" in call("dead", action, status=2).stderr
    assert "2h" in call("dead", "list", "--since", "soon", status=2).stderr
    assert "exporter" in call("dead", "list", "--queue", "nowhere", status=2).stderr


def test_dead_letters_are_listed_while_the_broker_is_away(call, dead, monkeypatch):
    monkeypatch.setenv("BOWERBIRD_BROKER_URL", "amqp://guest:secret@127.0.0.1:1/")
    result = call("dead", "list")
    assert "the disk 1 is full" in result.stdout
    assert "The broker is away" in result.stderr


def test_a_paused_collection_is_shown_and_gets_no_job_until_it_is_resumed(call, source):
    call("add", "moldova", source)
    assert "bowerbird resume collection moldova" in call("pause", "collection", "moldova").stdout
    assert "already" in call("pause", "collection", "moldova").stdout
    assert "bowerbird resume collection moldova" in call("run", "moldova", status=1).stderr
    assert json.loads(call("collections", "--json").stdout)[0]["paused"] is True
    assert "paused" in call("collections").stdout
    (pause,) = json.loads(call("status", "--json").stdout)["paused"]
    assert (pause["kind"], pause["name"]) == ("collection", "moldova")
    assert "Paused: collection moldova" in call("status").stdout
    assert call("resume", "collection", "moldova").stdout == "Resumed collection moldova.\n"
    assert "is not paused" in call("resume", "collection", "moldova").stdout
    call("run", "moldova")
    assert "bowerbird collections" in call("pause", "collection", "nowhere", status=1).stderr


def test_a_paused_queue_is_shown_and_what_waits_is_published_when_it_is_resumed(call, sessions):
    assert json.loads(call("pause", "queue", "exporter", "--json").stdout) == {
        "kind": "queue",
        "name": "exporter.v1",
        "paused": True,
        "changed": True,
    }
    assert "Paused: queue exporter.v1" in call("status").stdout
    waiting_unit(sessions)
    assert json.loads(call("resume", "queue", "exporter.v1", "--json").stdout)["changed"]
    assert json.loads(call("status", "--json").stdout)["queues"]["exporter.v1"]["ready"] == 1
    assert "collector, processor, exporter" in call("pause", "queue", "nowhere", status=2).stderr


def waiting_unit(sessions):
    with sessions.begin() as session:
        job = make_job(session, make_collection(session), tasks=("export",))
        job.tasks[0].status = TaskStatus.RUNNING
        unit = make_unit(job.tasks[0])
        session.add(unit)
        session.flush()
        return unit.id


def test_messages_of_waiting_work_are_published_again_after_a_preview(call, sessions):
    unit_id = waiting_unit(sessions)
    with sessions.begin() as session:
        units.mark_queued(session, [unit_id])  # and then its message is lost
    arguments = ("replay", "--queue", "exporter", "--job", "1", "--since", "1h")
    assert call(*arguments, "--dry-run").stdout == "Would publish 1 message.\n"
    assert json.loads(call(*arguments, "--json").stdout) == {"messages": 1, "published": True}
    assert json.loads(call("status", "--json").stdout)["queues"]["exporter.v1"]["ready"] == 1
    assert "0 messages" in call("replay", "--job", "2").stdout
    with sessions() as session:
        assert [row.action for row in session.scalars(select(Audit))] == ["replay", "replay"]


# Status


def test_status_tells_of_services_queues_and_jobs(call, sessions, settings, source):
    call("add", "moldova", source)
    call("run", "moldova")
    state = json.loads(call("status", "--json").stdout)
    assert state["services"] == dict.fromkeys(SERVICES, False)
    assert state["queues"][EVENTS_QUEUE] == {"ready": 1, "waiting": 0, "dead": 0}
    assert state["dead_letters"] == 0
    assert [job["source_id"] for job in state["jobs"]] == ["moldova"]
    assert state["supervisor"] is None
    text = call("status").stdout
    assert "bowerbird up" in text
    assert "moldova" in text


def test_status_without_a_broker_still_tells_the_rest(call, monkeypatch):
    monkeypatch.setenv("BOWERBIRD_BROKER_URL", "amqp://guest:secret@127.0.0.1:1/")
    state = json.loads(call("status", "--json").stdout)
    assert state["queues"] is None
    assert state["broker_error"]
    assert "secret" not in json.dumps(state)
    assert "The broker is away" in call("status").stdout


# The database


def test_a_database_without_tables_is_an_error_that_names_the_remedy(call, postgres_url, monkeypatch):
    with backends.fresh_database(postgres_url) as url:
        monkeypatch.setenv("BOWERBIRD_DATABASE_URL", url)
        assert "`bowerbird migrate`" in call("collections", status=1).stderr
        assert "from no tables to" in call("migrate").stdout
        assert "Nothing to do" in call("migrate").stdout
        assert call("collections", "--json").stdout == "[]\n"
        assert "to no tables" in call("migrate", "--down", "--revision", "base").stdout


def test_a_database_that_cannot_be_reached_is_one_line(call, monkeypatch):
    monkeypatch.setenv("BOWERBIRD_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/none")
    result = call("collections", status=1)
    assert result.stderr.startswith("Error: The database refused or cannot be reached")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr


def test_the_embedded_database_needs_no_preparation(call, monkeypatch, tmp_path):
    monkeypatch.delenv("BOWERBIRD_DATABASE_URL")
    assert call("collections", "--json").stdout == "[]\n"
    assert "Nothing to do" in call("migrate").stdout


# Processes


def test_a_service_is_run_with_its_arguments_wherever_the_user_is(environment, sessions, tmp_path):
    (tmp_path / "services").mkdir()  # a folder of the user's own, which Python would look into first
    (tmp_path / "services" / "__init__.py").write_text("raise SystemExit('not ours')")
    command = [*BOWERBIRD, "scheduler", "--dry-run"]
    assert subprocess.run(command, env=environment, cwd=tmp_path, check=False).returncode == 0
    del environment["BOWERBIRD_DATABASE_URL"]
    assert subprocess.run(command, env=environment, cwd=tmp_path, check=False).returncode == 0


def test_a_single_service_on_the_embedded_database_ends_when_it_is_told_to(environment, tmp_path):
    del environment["BOWERBIRD_DATABASE_URL"]
    with subprocess.Popen([*BOWERBIRD, "scheduler"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert next(line for line in process.stderr if "service started" in line)
        process.terminate()
        assert "service stopped" in process.stderr.read()
        assert process.wait(30) == 0


def test_ctrl_c_ends_a_command_without_a_traceback_and_with_status_130(environment, sessions):
    environment["PYTHONUNBUFFERED"] = "1"
    command = [*BOWERBIRD, "job", "1", "--watch"]
    with sessions.begin() as session:
        make_job(session, make_collection(session), tasks=("collect",)).tasks[0].status = TaskStatus.RUNNING
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert "collect" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""


def test_up_runs_the_services_until_ctrl_c_and_leaves_none_behind(environment, sessions, settings):
    with sessions.begin() as session:
        make_collection(session)  # else it would publish the sample
    with subprocess.Popen([*BOWERBIRD, "up"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert next(line for line in process.stdout if "Bowerbird is up" in line)
        facts = SupervisorLock(settings).read()
        assert answers(f"{facts['api_url']}/collections")
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) == len(SERVICES)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert [(settings.data_dir / "logs" / f"{name}.log").exists() for name in SERVICES] == [True] * len(SERVICES)


# Following a job


def test_a_database_that_does_not_answer_for_a_while_does_not_end_the_wait(settings, sessions, monkeypatch, capsys):
    job_id = published(sessions, settings)
    answer, calls = watch.read_job, []

    def read_job(*arguments):
        calls.append(arguments)
        if len(calls) < 3:
            raise OperationalError("SELECT", None, psycopg2.OperationalError("server closed the connection"))
        return answer(*arguments)

    monkeypatch.setattr(watch, "read_job", read_job)
    assert watch.follow_job(settings, sessions, job_id).result == "OK"
    assert capsys.readouterr().err.count("server closed the connection") == 1


def test_a_job_is_drawn_with_how_far_each_task_is_and_what_went_wrong(sessions):
    with sessions.begin() as session:
        job = make_job(session, make_collection(session), tasks=("collect", "export"))
        collect, export = job.tasks
        collect.status, export.status = TaskStatus.RUNNING, TaskStatus.RUNNING
        progress = {"done": 1500, "total": 3000, "of": "records"}
        waiting = {"error": "HTTP 503", "attempt": 2}
        session.add(
            make_unit(
                collect,
                status=UnitStatus.RUNNING,
                progress=progress,
                progress_since=func.now() - timedelta(minutes=5),
            )
        )
        session.add(make_unit(export, status=UnitStatus.QUEUED, **waiting))
    console = Console(width=100, file=io.StringIO())
    console.print(watch.job_table(watch.read_job(sessions, job.id)))
    text = console.file.getvalue()
    assert "1,500 of 3,000 records  5.0/s, 5 min 00 s left" in text
    assert "export: attempt 2 failed, trying again: HTTP 503" in text


# demo


def test_the_demonstration_names_whatever_was_not_made(sessions, settings):
    job = watch.read_job(sessions, published(sessions, settings))
    problems = list(problems_of(settings, job))
    assert problems[0] == "no file of format csv, xlsx"
    assert "does not exist" in problems[1]
    assert problems[2] == f"full.jsonl.gz holds 12345 records instead of {facts().ocids}"
    path = Export(settings.exports, "sample", job.id).path("full.jsonl.gz")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"short")
    assert f"{path} has 5 bytes instead of 1500" in list(problems_of(settings, job))


# The line: our services, or another command's


@pytest.fixture
def exporter(tmp_path):
    """Something to run in a service's place: notes that it was started."""
    code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    return {"exporter": [sys.executable, "-c", code, str(tmp_path / "started")]}


@pytest.fixture
def other(settings):
    """Another command that runs the services of the data directory."""
    lock = SupervisorLock(settings)
    assert lock.acquire()
    lock.write(database=mask(settings.database_url), api_url="http://127.0.0.1:1")
    yield lock
    lock.release()


def tend_until(line, condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        line.tend()
        time.sleep(0.01)


def test_services_of_another_command_are_used_until_it_ends_and_then_run_here(
    settings, sessions, other, exporter, tmp_path, capsys
):
    line = Line(settings, settings.database_url, sessions, exporter)
    try:
        line.tend()
        assert line.api_url == "http://127.0.0.1:1"
        assert f"process {os.getpid()}" in capsys.readouterr().err
        other.release()
        tend_until(line, (tmp_path / "started").exists)
        assert "running them here" in capsys.readouterr().err
    finally:
        line.stop()


def test_services_on_another_database_are_not_taken_for_ours(settings, sessions, other, exporter):
    line = Line(settings, "postgresql://elsewhere/other", sessions, exporter)
    with pytest.raises(CommandError, match="another database"):
        line.tend()


def test_publishing_waits_for_a_job_in_progress_and_then_runs_its_own(settings, sessions, exporter, capsys):
    with sessions.begin() as session:
        first = make_job(session, make_collection(session), tasks=("collect",)).id
    line = Line(settings, settings.database_url, sessions, exporter)
    turns, ended = [], []

    def end_jobs():
        """In place of services, once they are started: end whatever job there is."""
        turns.append(None)
        if len(turns) == 1:
            return
        with sessions.begin() as session:
            for job in session.query(Job).filter(Job.status != JobStatus.COMPLETED):
                job.status = JobStatus.COMPLETED
                for task in job.tasks:
                    task.status, task.result = TaskStatus.COMPLETED, Result.OK
                ended.append(job.id)

    line.tend = end_jobs
    job = line.run(lambda session: session.query(Collection).one())
    assert ended == [first, job.id]
    assert f"Job {first} of this collection is in progress" in capsys.readouterr().err


# publish: which collection


def collection_for(sessions, source, name=None, *, public=None, **options):
    with sessions.begin() as session:
        collection = publish_collection(session, str(source), name, options=options, public=public)
        session.flush()
        return collection.source_id, collection.options, collection.public


def test_publishing_a_source_again_uses_its_collection_and_keeps_what_is_not_said(sessions, source):
    assert collection_for(sessions, source, id_field="id") == ("releases", {"id_field": "id"}, True)
    assert collection_for(sessions, source, date_field="on", public=False) == (
        "releases",
        {"id_field": "id", "date_field": "on"},
        False,
    )
    assert collection_for(sessions, source)[2] is False


def test_another_source_of_the_same_name_gets_a_name_with_a_number(sessions, source, tmp_path):
    collection_for(sessions, source)
    assert collection_for(sessions, tmp_path / "other" / "releases.json")[0] == "releases-2"
    with pytest.raises(CommandError, match=f"reads {source}"):
        collection_for(sessions, tmp_path / "third.json", "releases")


def test_a_job_is_cancelled_and_restarted_by_name_of_who_asked(call, source, sessions):
    call("add", "sample", source)
    job_id = json.loads(call("run", "sample", "--json").stdout)["id"]
    cancelled = json.loads(call("job", "cancel", job_id, "--reason", "wrong source", "--json").stdout)
    assert cancelled["result"] == "CANCELLED"
    assert cancelled["tasks"][0]["note"].endswith(": wrong source")
    again = call("job", "cancel", job_id, status=1)
    assert "nothing to cancel" in again.stderr
    restarted = call("job", "restart", job_id)
    assert f"Job {job_id} of sample goes on from collect" in restarted.stdout
    with sessions() as session:
        assert [row.action for row in session.scalars(select(Audit).order_by(Audit.id))] == [
            "collection add",
            "run",
            "job cancel",
            "job restart",
        ]
    assert "because collect is not OK" in call("job", "restart", job_id, "--from", "process", status=1).stderr


def test_one_task_is_restarted_by_name_of_who_asked_and_refusals_say_what_to_do(call, source, sessions):
    call("add", "sample", source)
    job_id = json.loads(call("run", "sample", "--json").stdout)["id"]
    assert "has not come to collect yet" in call("task", "restart", job_id, "collect", status=1).stderr
    call("job", "cancel", job_id)
    refused = call("task", "restart", job_id, "flatten", status=1).stderr
    begin = f"Begin there: bowerbird job restart {job_id} --from collect"
    assert f"flatten reads what collect makes, which is not OK. {begin}" in refused
    assert (
        "collect has no unit that failed"
        in call("task", "restart", job_id, "collect", "--only", "failed", status=1).stderr
    )
    restarted = call("task", "restart", job_id, "collect")
    assert f"Job {job_id} of sample does collect again.  Follow it" in restarted.stdout
    with sessions() as session:
        last = session.scalars(select(Audit).order_by(Audit.id.desc())).first()
    assert (last.action, last.job_id, last.details) == ("task restart", job_id, {"task": "collect"})


# Sources that lead inside


@pytest.mark.parametrize("arguments", [["publish"], ["add", "inside"], ["edit", "sample", "--yes", "--source"]])
def test_a_source_that_plainly_leads_inside_is_refused_before_anything_is_done(call, sessions, arguments):
    published(sessions, None)
    result = call(*arguments, "http://u:sesame@10.0.0.1/data.json", status=2)
    assert "10.0.0.1: it is a private address" in result.output
    assert "BOWERBIRD_ALLOWED_NETWORKS=10.0.0.1" in result.output
    assert "sesame" not in result.output
