"""Administration over HTTP: what the command line can do to collections, jobs and tasks, a key's holder can, too."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from services.api import administration_schemas as shapes
from services.api import schemas
from services.api.app import create_app
from services.scheduler.scheduler import Scheduler
from shared.db.models import Audit, Collection, Job, Licence, Result, Task, TaskNote, TaskStatus, Unit
from shared.editing import FIELDS
from shared.views import JobState
from tests.factories import make_collection, make_job
from tests.integration.test_api import TestClient, check_problem, follow, rels
from tests.integration.test_cli_admin import finished, published
from tests.integration.test_control import (  # noqa: F401  fixtures
    api,
    audit,
    broker,
    failed_job,
    has_shape,
    open_api,
    running_job,
)

PROBLEMS = "http://testserver/problems/"


@pytest.fixture
def admin(settings, open_api):  # noqa: F811
    """A client with a key that may delete."""
    return open_api(settings, "admin")


@pytest.fixture
def anyone(settings, database_url):
    """A client without a key."""
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


def three(sessions):
    with sessions.begin() as session:
        for name, options in (("a", {"country": "Chile"}), ("b", {"country": "Chile", "public": False}), ("c", {})):
            make_collection(session, name, **options)


def collection(sessions, name="a"):
    with sessions() as session:
        return session.scalar(select(Collection).where(Collection.source_id == name))


# Changing one


def test_everything_about_a_collection_can_be_changed(api, sessions):  # noqa: F811
    with sessions.begin() as session:
        owner = make_collection(session, "a", title="Old")
        session.add(Licence(name="CC BY"))
        job = finished(session, owner).id
    body = {
        "title": "New",
        "frozen": True,
        "public": False,
        "priority": 7,
        "licence": "CC BY",
        "plan": ["collect", "process"],
        "active_job": job,
        "last_reviewed": "2026-01-31",
        "source": "https://rivers.example/new.jsonl",
        "cron": "0 3 * * MON",
        "time_zone": "Europe/Madrid",
        "catch_up": False,
        "id_field": "number",
        "translations": {"ES": {"title": "Nuevo"}},
    }
    answer = has_shape(api.patch("/collections/a", json=body), shapes.ChangedCollection)
    assert answer.changes["title"] == {"from": "Old", "to": "New"}
    assert answer.changes["last_reviewed"] == {"from": None, "to": "2026-01-31"}
    assert answer.changes["active_job_id"] == {"from": None, "to": job}
    assert (answer.collection.title, answer.collection.frozen, answer.collection.priority) == ("New", True, 7)
    row = collection(sessions)
    assert (row.licence_id, row.tasks_plan, row.active_job_id) == (1, ["collect", "process"], job)
    assert (row.options, row.translations) == ({"id_field": "number"}, {"es": {"title": "Nuevo"}})
    assert audit(sessions) == [("key:operate-key", "collection edit", None)]
    cleared = {"licence": None, "plan": None, "active_job": None, "last_reviewed": None, "frequency": "monthly"}
    assert api.patch("/collections/a", json=cleared).status_code == 200
    row = collection(sessions)
    assert (row.licence_id, row.tasks_plan, row.active_job_id, row.last_reviewed) == (None, None, None, None)
    assert (row.cron, row.retrieval_frequency) == ("", "MONTHLY")


def test_what_the_command_line_can_change_the_api_can_too():
    assert set(FIELDS) <= set(shapes.Change.model_fields)


def test_a_preview_says_what_would_change_and_changes_nothing(api, sessions):  # noqa: F811
    three(sessions)
    answer = api.patch("/collections/a", json={"frozen": True, "dry_run": True}).json()
    assert (answer["dry_run"], answer["changes"]) == (True, {"frozen": {"from": False, "to": True}})
    assert answer["collection"]["frozen"] is False
    assert (collection(sessions).frozen, audit(sessions)) == (False, [])
    assert api.patch("/collections/a", json={"frozen": False}).json()["changes"] == {}
    assert audit(sessions) == [], "nothing differed"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Say what to change: title"),
        ({"dry_run": True}, "Say what to change"),
        ({"frequency": "hourly"}, "'hourly' is no frequency"),
        ({"priority": 101}, "101 is no priority"),
        ({"title": " "}, "A collection has a title"),
        ({"licence": "none"}, "There is no licence 'none'"),
        ({"time_zone": "Europe/Madrid"}, "belongs to a cron schedule"),
        ({"date_from": "2026-02-01", "date_to": "2026-01-01"}, "cannot go from"),
        ({"translations": {"es": {"source": "x"}}}, "'source' is not translated"),
        ({"frozen": "yes"}, "frozen: "),
        ({"colour": "red"}, "colour: there is no such member; there are: title"),
        ({"source": "/etc/passwd"}, "'/etc/passwd' is no http(s):// URL"),
        ({"source": "file:///etc/passwd"}, "is no http(s):// URL"),
        ({"source": ""}, "is no http(s):// URL"),
        ({"source": "http://[x"}, "is no http(s):// URL"),
        ({"source_url": "http://[x"}, "is no http(s):// address"),
        ({"summary": "\x00"}, "summary: "),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name_and_nothing_is_changed(api, sessions, body, words):  # noqa: F811
    three(sessions)
    said = set(body) - {"dry_run"}
    asked = body | ({"country": "Peru"} if said else {})
    problem = check_problem(api.patch("/collections/a", json=asked), 422)
    assert problem["type"] == f"{PROBLEMS}invalid-body"
    assert words in problem["detail"]
    assert (collection(sessions).country, audit(sessions)) == ("Chile", [])


def test_only_a_successful_job_of_the_collection_can_be_published_preview_included(api, sessions):  # noqa: F811
    with sessions.begin() as session:
        failed = finished(session, make_collection(session, "a"), Result.FAILED).id
        foreign = finished(session, make_collection(session, "b")).id
    for job, words in ((failed, "did not succeed"), (foreign, "a has no job")):
        for dry_run in (False, True):
            problem = check_problem(api.patch("/collections/a", json={"active_job": job, "dry_run": dry_run}), 409)
            assert words in problem["detail"]
            assert problem["type"] == f"{PROBLEMS}state-conflict"
    check_problem(api.patch("/collections/4711", json={"frozen": True}), 404)


# Changing many


def test_many_are_changed_after_a_preview(api, sessions):  # noqa: F811
    three(sessions)
    body = {"where": ["country=chile", "not-frozen"], "change": {"frozen": True, "public": True}}
    preview = has_shape(api.patch("/collections", json=body | {"dry_run": True}), shapes.ChangedCollections)
    frozen, shown = {"frozen": {"from": False, "to": True}}, {"public": {"from": False, "to": True}}
    assert [(one.source_id, one.changes) for one in preview.collections] == [("a", frozen), ("b", frozen | shown)]
    assert audit(sessions) == []
    done = api.patch("/collections", json=body).json()
    assert done == json.loads(preview.model_dump_json()) | {"dry_run": False}
    assert [collection(sessions, name).frozen for name in "abc"] == [True, True, False]
    assert audit(sessions) == [("key:operate-key", "collection edit", None)] * 2
    assert api.patch("/collections", json=body).json()["collections"] == []
    every = api.patch("/collections", json={"all": True, "change": {"frozen": True}}).json()["collections"]
    assert [one["source_id"] for one in every if one["changes"]] == ["c"]


def test_if_one_is_refused_none_is_changed(api, sessions):  # noqa: F811
    with sessions.begin() as session:
        make_collection(session, "a")
        make_collection(session, "b", date_to="2020-01-01")
    problem = check_problem(api.patch("/collections", json={"all": True, "change": {"date_from": "2024-01-01"}}), 422)
    assert problem["detail"].startswith("b: its data cannot go")
    assert (collection(sessions).date_from, audit(sessions)) == (None, [])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"change": {"frozen": True}}, "Say which"),
        ({"all": False, "where": [], "change": {"frozen": True}}, "Say which"),
        ({"where": ["purple"], "change": {"frozen": True}}, "where: 'purple' is no condition"),
        ({"all": True, "change": {}}, "Say what to change"),
        ({"all": True}, "change: "),
        ({"all": True, "change": {"active_job": 1}}, "A job is of one collection"),
        ({"all": True, "change": {"colour": "red"}}, "change.colour: there is no such member; there are: title"),
    ],
)
def test_many_are_only_changed_if_it_is_said_which_and_what(api, sessions, body, words):  # noqa: F811
    three(sessions)
    assert words in check_problem(api.patch("/collections", json=body), 422)["detail"]
    assert audit(sessions) == []


# Listing


def test_collections_are_listed_by_condition_for_holders_of_a_key(api, anyone, sessions):  # noqa: F811
    three(sessions)
    page = api.get("/collections?where=country%3Dchile&where=not-frozen&limit=1")
    assert [item["source_id"] for item in page.json()["items"]] == ["a"]
    assert [item["source_id"] for item in follow(api, page).json()["items"]] == ["b"]
    assert "next" not in rels(follow(api, page))
    assert check_problem(api.get("/collections?where=purple"), 400)["detail"].startswith("where: 'purple'")
    check_problem(api.get("/collections?where=country%3D%00"), 400)
    assert check_problem(anyone.get("/collections?where=public"), 401)["type"] == f"{PROBLEMS}no-key"


# Removing


def test_a_collection_is_removed_after_a_preview(admin, broker, sessions, settings):  # noqa: F811
    with sessions.begin() as session:
        published(session, settings, "a")
    preview = admin.delete("/collections/a?dry_run=true")
    facts = {"source_id": "a", "jobs": 2, "files": 2, "bytes": 6, "published": True}
    assert (preview.status_code, preview.json()) == (202, facts | {"dry_run": True})
    assert (collection(sessions).removing, audit(sessions)) == (False, [])
    answer = admin.delete("/collections/a")
    assert (answer.status_code, answer.json()) == (202, facts | {"dry_run": False})
    assert audit(sessions) == [("key:admin-key", "collection remove", None)]
    assert admin.delete("/collections/a").status_code == 202, "again: no harm"
    assert "is being deleted" in check_problem(admin.patch("/collections/a", json={"frozen": True}), 409)["detail"]
    assert Scheduler(settings, sessions, broker).delete_all_marked() == 0
    check_problem(admin.delete("/collections/a"), 404)


def test_a_collection_with_a_job_in_progress_is_not_removed(admin, api, sessions):  # noqa: F811
    with sessions.begin() as session:
        job = running_job(session, "a")
    for query in ("", "?dry_run=true"):
        assert (
            f"Job {job.id} of a is not completed"
            in check_problem(admin.delete(f"/collections/a{query}"), 409)["detail"]
        )
    check_problem(api.delete("/collections/a"), 403)
    assert collection(sessions).removing is False


# Adding


def test_a_collection_is_added_once(api, sessions):  # noqa: F811
    body = {"name": "rivers", "source": "https://rivers.example/x.jsonl", "frequency": "monthly", "id_field": "number"}
    headers = {"Idempotency-Key": '"one"'}
    answer = api.post("/collections", json=body, headers=headers)
    assert (answer.status_code, answer.headers["Location"]) == (201, "http://testserver/collections/rivers")
    resource = has_shape(answer, schemas.OperatorCollectionResource)
    assert (resource.title, resource.public, resource.options) == ("rivers", True, {"id_field": "number"})
    assert api.get(answer.headers["Location"]).json() == answer.json() | {"active_job": None}
    again = api.post("/collections", json=body, headers=headers)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert "already" in check_problem(api.post("/collections", json=body), 409)["detail"]
    assert audit(sessions) == [("key:operate-key", "collection add", None)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Río"}, "cannot be a collection's name"),
        ({"source": "/etc/passwd"}, "is no http(s):// URL"),
        ({"source": ""}, "is no http(s):// URL"),
        ({"source": "ftp://rivers.example/x"}, "is no http(s):// URL"),
        ({"frequency": "hourly"}, "is no frequency"),
        ({"plan": ["print"]}, "print"),
        ({"plan": ["print"], "backends": ["native"]}, "print"),
        ({"backends": ["collect:pigeon"]}, "pigeon"),
        ({"backends": ["pigeon"]}, "is no choice"),
    ],
)
def test_what_cannot_be_added_is_refused(api, sessions, change, words):  # noqa: F811
    body = {"name": "rivers", "source": "https://rivers.example/x.jsonl"} | change
    assert words in check_problem(api.post("/collections", json=body), 422)["detail"]
    assert (collection(sessions, "rivers"), audit(sessions)) == (None, [])


# Jobs


def test_jobs_are_filtered_as_on_the_command_line_and_next_links_keep_it(api, anyone, sessions):  # noqa: F811
    with sessions.begin() as session:
        owner = make_collection(session, "a")
        first, failed = finished(session, owner), finished(session, owner, Result.FAILED)
        last = finished(session, owner)
        owner.active_job_id = last.id
        first.archived = True
        waiting = make_job(session, make_collection(session, "hidden", public=False))
        first, failed, last, waiting = first.id, failed.id, last.id, waiting.id
        session.execute(update(Job).where(Job.id == first).values(created=func.now() - timedelta(days=9)))

    def ids(query, client=api):
        response = client.get(f"/jobs?{query}")
        assert response.status_code == 200, response.text
        return [item["id"] for item in response.json()["jobs"]]

    assert ids("status=failed") == ids("status=failed", anyone) == [failed]
    assert ids("active=true") == [last]
    assert ids("active=false&collection=a") == [failed, first]
    assert ids("archived=true") == [first]
    assert ids("archived=false&status=successful,failed") == [last, failed]
    assert ids("since=2d&collection=a") == [last, failed]
    assert ids("stuck=true") == ids("stuck=true", anyone) == []
    with sessions.begin() as session:
        long_ago = {"modified": func.now() - timedelta(days=9)}
        session.execute(update(Task).values(long_ago))
        session.execute(update(Job).values(long_ago))
    assert ids("stuck=true") == [waiting]
    assert ids("stuck=true", anyone) == [], "its collection is private"
    page = api.get("/jobs?status=successful&collection=a&since=30d&limit=1")
    assert [item["id"] for item in follow(api, page).json()["jobs"]] == [first], "not the one that failed"
    pages = [api.get("/jobs?archived=false&since=30d&status=successful&status=failed&limit=1")]
    while "next" in rels(pages[-1]):
        pages.append(follow(api, pages[-1]))
    assert [[item["id"] for item in page.json()["jobs"]] for page in pages] == [[last], [failed]]
    for wrong in ("status=done", "since=soon", "active=maybe"):
        assert check_problem(api.get(f"/jobs?{wrong}"), 400)["detail"].startswith(wrong.partition("=")[0])


def test_notes_are_counted_by_task_level_and_type(api, anyone, sessions):  # noqa: F811
    with sessions.begin() as session:
        job = failed_job(session)
        task = job.tasks[0]
        notes = [("WARNING", "odd"), ("WARNING", "odd"), ("WARNING", "strange"), ("INFO", "well")]
        session.add_all([TaskNote(task_id=task.id, level=level, note=note, data={}) for level, note in notes])
    path = f"/jobs/{job.id}/notes"
    groups = has_shape(api.get(path), shapes.NoteGroups).items
    assert [(group.task, group.level, group.count) for group in groups] == [
        ("collect", "WARNING", 3),
        ("collect", "INFO", 1),
    ]
    assert [(note.note, note.count) for note in groups[0].notes] == [("odd", 2), ("strange", 1)]
    one = api.get(f"{path}?level=WARNING&examples=1")
    assert [(item["count"], len(item["notes"])) for item in one.json()["items"]] == [(3, 1)]
    assert rels(one)["self"] == f"http://testserver{path}?level=WARNING&examples=1"
    for wrong in ("level=LOUD", "examples=0", "examples=1001"):
        check_problem(api.get(f"{path}?{wrong}"), 400)
    for odd in ("4711", "x"):
        check_problem(api.get(f"/jobs/{odd}/notes"), 404)
    check_problem(anyone.get(path), 401)


def test_one_task_or_some_of_its_units_are_done_again(api, sessions):  # noqa: F811
    with sessions.begin() as session:
        job = failed_job(session, units=2)
    path = f"/jobs/{job.id}/tasks/export/restart"
    check_problem(api.post(path, json={"only": ["7"]}), 409)
    answer = api.post(path, json={"only": ["1"]}, headers={"Idempotency-Key": '"x"'})
    assert has_shape(answer, schemas.OperatorJobResource).status == JobState.RUNNING
    with sessions() as session:
        units = session.scalars(select(Unit.result).order_by(Unit.number)).all()
        assert units == ["", "FAILED"]
        details = session.scalar(select(Audit.details).where(Audit.action == "task restart"))
        assert details == {"task": "export", "units": [1]}
    assert audit(sessions) == [("key:operate-key", "task restart", job.id)]
    replayed = api.post(path, json={"only": ["1"]}, headers={"Idempotency-Key": '"x"'})
    assert replayed.headers["Idempotency-Replayed"] == "true"
    check_problem(api.post("/jobs/4711/tasks/export/restart"), 404)
    assert "print" in check_problem(api.post(f"/jobs/{job.id}/tasks/print/restart"), 409)["detail"]


def test_a_whole_task_is_planned_anew(api, sessions):  # noqa: F811
    with sessions.begin() as session:
        job = failed_job(session)
    assert api.post(f"/jobs/{job.id}/tasks/export/restart").status_code == 200
    with sessions() as session:
        status = session.scalar(select(Task.status).where(Task.job_id == job.id, Task.type == "export"))
        assert status == TaskStatus.PLANNED
