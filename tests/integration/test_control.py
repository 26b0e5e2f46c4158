"""Steering over HTTP: what is done is what the command line does, and it is done once, by whom it says."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update

from services.api import control_schemas, schemas
from services.api.app import create_app
from services.api.bodies import MAX_REQUEST_BYTES
from services.scheduler.scheduler import Scheduler
from shared import dead_letters, pauses
from shared.broker import open_broker
from shared.db.models import (
    Audit,
    Collection,
    DeadLetter,
    Job,
    JobStatus,
    KeptAnswer,
    Result,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.keys import create_key
from shared.messages import EVENTS_QUEUE, work_queue
from tests.factories import make_collection, make_job, make_unit
from tests.integration.test_api import TestClient, check_problem, follow, rels
from tests.integration.test_dead_letters import publish_raw
from tests.integration.test_retention import directory, past_job
from tests.waiting import eventually

PROBLEMS = "http://testserver/problems/"
AWAY = "amqp://nobody:secret@127.0.0.1:1/%2F"
EXPORTER = work_queue("exporter")


@pytest.fixture
def open_api(sessions, database_url):
    """Make clients of the API, each with a key of a scope."""
    clients = []

    def make(settings, scope="operate", name=None):
        name = name or f"{scope}-key"
        with sessions.begin() as session:
            _, key = create_key(session, name, scope=scope, actor="ada")
        app = create_app(settings, database_url)
        client = TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {key}"})
        clients.append(client.__enter__())
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def api(settings, open_api):
    """A client with a key that may operate."""
    return open_api(settings)


@pytest.fixture
def broker(settings):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield broker
    broker.close()


def audit(sessions):
    """Return (actor, action, job) of what was done since the keys were made."""
    with sessions() as session:
        rows = session.scalars(select(Audit).where(~Audit.action.startswith("key ")).order_by(Audit.id))
        return [(row.actor, row.action, row.job_id) for row in rows]


def failed_job(session, source_id="sample", *, units=1, reason="No space left on device"):
    """Insert a job whose export gave up, with its dead letters; return it."""
    job = make_job(session, make_collection(session, source_id), status=JobStatus.COMPLETED)
    job.end = func.now()
    for task in job.tasks:
        task.status, task.result = TaskStatus.COMPLETED, Result.SKIPPED
    export = next(task for task in job.tasks if task.type == "export")
    for task in job.tasks[: job.tasks.index(export)]:
        task.result = Result.OK
    export.result = Result.FAILED
    for number in range(1, units + 1):
        unit = make_unit(export, number, status="COMPLETED", result="FAILED", attempt=5)
        unit.error, unit.traceback = reason, f"Traceback …\nOSError: {reason}"
        session.add(unit)
        session.flush()
        session.add(
            DeadLetter(
                kind="UNIT",
                queue=EXPORTER,
                key=f"unit {unit.id}",
                type="RunUnit",
                body=json.dumps({"unit_id": unit.id}).encode(),
                body_bytes=20,
                reason=reason,
                traceback=unit.traceback,
                attempts=5,
                job_id=job.id,
                task_id=export.id,
                unit_id=unit.id,
            )
        )
    session.flush()
    return job


def running_job(session, source_id="sample"):
    """Insert a job whose first task has a unit that waits for a worker; return it."""
    job = make_job(session, make_collection(session, source_id))
    task = job.tasks[0]
    task.status = TaskStatus.RUNNING
    session.add(make_unit(task, status=UnitStatus.QUEUED, published_at=func.now()))
    session.flush()
    return job


def has_shape(response, model):
    read = model.model_validate_json(response.content, strict=True)
    assert json.loads(read.model_dump_json()) == response.json()
    return read


# Dead letters


def test_dead_letters_are_listed_by_every_filter_of_the_command_line(api, sessions):
    with sessions.begin() as session:
        first = failed_job(session, "a", units=2)
        second = failed_job(session, "b", reason="Broken 100%")
        session.execute(update(DeadLetter).where(DeadLetter.id == 1).values(last_at=func.now() - timedelta(days=3)))
        session.execute(update(DeadLetter).where(DeadLetter.id == 2).values(status="DISCARDED", resolved_by="ada"))

    def ids(query=""):
        response = api.get(f"/dead-letters{query}")
        assert response.status_code == 200, response.text
        has_shape(response, control_schemas.LetterPage)
        return [item["id"] for item in response.json()["items"]]

    assert ids() == [3, 1]
    assert set(ids("?resolved=true")) == {1, 2, 3}
    assert ids("?id=1&id=3") == [3, 1]
    assert ids("?id=2") == []
    assert ids(f"?job={first.id}") == [1]
    assert ids("?collection=b") == ids(f"?job={second.id}") == [3]
    assert ids("?queue=exporter") == ids(f"?queue={EXPORTER}") == [3, 1]
    assert ids("?queue=scheduler") == []
    assert ids("?reason=broken%20100%25") == [3]
    assert ids("?since=2d") == [3]


def test_pages_of_dead_letters_lose_and_repeat_none_and_keep_the_filters(api, sessions):
    with sessions.begin() as session:
        failed_job(session, units=5)  # all at the same moment: the id decides
    pages = [api.get("/dead-letters?queue=exporter&limit=2")]
    while "next" in rels(pages[-1]):
        pages.append(follow(api, pages[-1]))
    assert [[item["id"] for item in page.json()["items"]] for page in pages] == [[5, 4], [3, 2], [1]]
    assert "queue=exporter" in rels(pages[0])["next"]
    some = api.get("/dead-letters?id=1&id=2&id=4&limit=2")
    assert [item["id"] for item in follow(api, some).json()["items"]] == [1]


def test_a_dead_letter_is_shown_in_full(api, sessions):
    with sessions.begin() as session:
        job = failed_job(session, reason="GET https://u:secret@h.example/x?token=1 failed")
    letter = has_shape(api.get("/dead-letters/1"), control_schemas.LetterResource)
    assert letter.body == {"unit_id": 1}
    assert letter.reason == "GET https://u:***@h.example/x?token=1 failed", "all of it, but for passwords"
    assert "Traceback" in letter.traceback
    assert rels(api.get("/dead-letters/1"))["job"] == f"http://testserver/jobs/{job.id}"
    for odd in ("4711", "x", "9" * 30, "%00"):
        check_problem(api.get(f"/dead-letters/{odd}"), 404)


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "queue=printer",
        "before=x",
        "before=999999999999999999-1",
        "id=0",
        "id=x",
        "reason=%00",
        "job=0",
    ],
)
def test_a_wrong_filter_is_a_problem_that_names_it(api, query):
    assert check_problem(api.get(f"/dead-letters?{query}"), 400)["detail"].startswith(query.partition("=")[0])


def test_dead_letters_are_replayed_by_filter_and_the_answer_says_what_became_of_each(api, sessions):
    with sessions.begin() as session:
        job = failed_job(session, "a", units=2)
        cancelled = failed_job(session, "b")
        cancelled.tasks[4].result = Result.CANCELLED
        others = failed_job(session, "c")
    preview = api.post("/dead-letters/replay", json={"job": job.id, "dry_run": True})
    assert [letter.id for letter in has_shape(preview, control_schemas.LetterOutcomes).letters] == [2, 1]
    assert audit(sessions) == []
    response = api.post("/dead-letters/replay", json={"ids": [1, 2, 3]})
    assert response.status_code == 200
    outcomes = {one.id: one for one in has_shape(response, control_schemas.LetterOutcomes).outcomes}
    assert {number: one.outcome for number, one in outcomes.items()} == {1: "replayed", 2: "replayed", 3: "refused"}
    assert outcomes[3].detail == f"Job {cancelled.id} was cancelled. Restart it: bowerbird job restart {cancelled.id}"
    assert audit(sessions) == [("key:operate-key", "dead replay", job.id)]
    with sessions() as session:
        assert session.get_one(Job, job.id).status == JobStatus.RUNNING
        assert session.get_one(Job, others.id).status == JobStatus.COMPLETED
        letter = session.get_one(DeadLetter, 1)
        assert (letter.status, letter.resolved_by) == ("REPLAYED", "key:operate-key")
    again = api.post("/dead-letters/replay", json={"ids": [1, 2]}).json()
    assert [one["outcome"] for one in again["outcomes"]] == ["unchanged", "unchanged"]
    assert len(audit(sessions)) == 1


def test_dead_letters_are_discarded_all_of_them_only_if_that_is_said(api, sessions):
    with sessions.begin() as session:
        failed_job(session, "a", units=2)
        failed_job(session, "b")
    for body in ({}, {"dry_run": True}, {"reason": ""}, {"ids": []}, {"all": False}):
        problem = check_problem(api.post("/dead-letters/discard", json=body), 422)
        assert problem["detail"].startswith("Say which")
    check_problem(api.post("/dead-letters/discard"), 422)
    response = api.post("/dead-letters/discard", json={"all": True})
    assert {one["outcome"] for one in response.json()["outcomes"]} == {"discarded"}
    assert len(response.json()["outcomes"]) == 3
    assert api.get("/dead-letters").json()["items"] == []
    assert api.post("/dead-letters/discard", json={"all": True}).json()["outcomes"] == []


def test_one_dead_letter_is_replayed_or_discarded_and_a_refusal_is_a_conflict(api, sessions):
    with sessions.begin() as session:
        failed_job(session, "a", units=2)
        refused = failed_job(session, "b")
        refused.archived = True
    assert api.post("/dead-letters/1/replay").json() == {"id": 1, "outcome": "replayed", "detail": ""}
    assert api.post("/dead-letters/1/replay", json={}).json()["outcome"] == "unchanged"
    assert api.post("/dead-letters/2/discard").json()["outcome"] == "discarded"
    problem = check_problem(api.post("/dead-letters/3/replay"), 409)
    assert problem["type"] == f"{PROBLEMS}state-conflict"
    assert "temporary data is deleted" in problem["detail"]
    for odd in ("4711", "0", "x", "9" * 30):
        check_problem(api.post(f"/dead-letters/{odd}/replay"), 404)


def test_a_message_that_was_not_understood_goes_back_to_its_queue(any_settings, open_api, sessions):
    api = open_api(any_settings)
    broker = open_broker(any_settings, any_settings.database_url)
    broker.declare()
    publish_raw(any_settings, b"[]", queue=EVENTS_QUEUE, message_id="odd", message_type="JobPlanned")
    consumer = broker.consume([EVENTS_QUEUE], prefetch=1)
    delivery = eventually(lambda: consumer.receive(0.1), what="the message")
    with sessions.begin() as session:
        dead_letters.record_message(session, delivery, reason="no object")
    consumer.reject(delivery, "no object")
    consumer.close()
    (letter,) = api.get("/dead-letters?queue=scheduler").json()["items"]
    outcome = api.post(f"/dead-letters/{letter['id']}/replay").json()
    assert outcome["outcome"] == "replayed", outcome
    eventually(lambda: broker.depth(EVENTS_QUEUE).ready == 1, what="the message in its queue")
    assert broker.depth(EVENTS_QUEUE).dead == 0
    assert audit(sessions) == [("key:operate-key", "dead replay", None)]
    broker.close()


def test_dead_letters_are_acted_on_by_one_request_at_a_time(api, sessions):
    with sessions.begin() as session:
        failed_job(session)
    answers = []
    waiting = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    with sessions.begin() as turn:
        dead_letters.take_turn(turn)
        second = threading.Thread(target=lambda: answers.append(api.post("/dead-letters/1/replay")))
        second.start()
        with sessions() as session:
            eventually(lambda: session.scalar(waiting) == 1, what="the second waits for its turn")
        assert answers == []
    second.join()
    assert answers[0].json()["outcome"] == "replayed"


def test_dead_letters_of_units_are_replayed_while_the_broker_is_away(settings, open_api, sessions):
    api = open_api(settings.model_copy(update={"broker_url": AWAY}))
    with sessions.begin() as session:
        failed_job(session)
    assert api.post("/dead-letters/replay", json={"all": True}).json()["outcomes"][0]["outcome"] == "replayed"


# Jobs


def test_a_collection_is_run_and_the_scheduler_told(api, sessions, broker):
    with sessions.begin() as session:
        make_collection(session, "hidden", public=False)
    response = api.post("/collections/hidden/jobs", json={"keep_all_data": True})
    assert (response.status_code, response.headers["Location"]) == (201, "http://testserver/jobs/1")
    job = has_shape(response, schemas.OperatorJobResource)
    assert (job.status, job.keep_all_data, job.source_id) == ("accepted", True, "hidden")
    assert api.get(response.headers["Location"]).json()["id"] == 1
    assert audit(sessions) == [("key:operate-key", "run", 1)]
    assert broker.depth(EVENTS_QUEUE).ready == 1
    check_problem(api.post("/collections/nobody/jobs"), 404)


def test_while_a_job_is_in_progress_another_is_a_conflict_that_names_it(api, sessions):
    with sessions.begin() as session:
        make_collection(session)
    api.post("/collections/sample/jobs")
    response = api.post("/collections/1/jobs")
    problem = check_problem(response, 409)
    assert problem["type"] == f"{PROBLEMS}job-in-progress"
    assert problem["detail"] == "Job 1 of sample is not completed yet; a collection has one job at a time."
    assert response.headers["Link"].startswith("<http://testserver/jobs/1>")


def test_without_the_broker_a_job_is_planned_and_left_to_the_next_tick(settings, open_api, sessions):
    api = open_api(settings.model_copy(update={"broker_url": AWAY}))
    with sessions.begin() as session:
        make_collection(session)
    assert api.post("/collections/sample/jobs").status_code == 201


def test_a_job_is_cancelled_with_a_reason_once(api, sessions):
    with sessions.begin() as session:
        running_job(session)
    response = api.post("/jobs/1/cancel", json={"reason": "wrong source"})
    job = has_shape(response, schemas.OperatorJobResource)
    assert job.status == "dismissed"
    assert job.tasks[0].note == "Cancelled by key:operate-key: wrong source"
    problem = check_problem(api.post("/jobs/1/cancel"), 409)
    assert problem["detail"] == "Job 1 is completed; there is nothing to cancel."
    assert audit(sessions) == [("key:operate-key", "job cancel", 1)]
    with sessions() as session:
        assert session.scalars(select(Unit.result)).all() == [Result.CANCELLED]


def test_a_job_is_restarted_from_a_task(api, sessions, broker):
    with sessions.begin() as session:
        failed_job(session)
    job = has_shape(api.post("/jobs/1/restart", json={"from_task": "export"}), schemas.OperatorJobResource)
    assert (job.status, job.task, [task.status for task in job.tasks][3:]) == ("running", "export", ["PLANNED"] * 3)
    assert audit(sessions) == [("key:operate-key", "job restart", 1)]
    assert broker.depth(EVENTS_QUEUE).ready == 1
    problem = check_problem(api.post("/jobs/1/restart", json={"from_task": "print"}), 409)
    assert "no task 'print'" in problem["detail"]


@pytest.mark.parametrize("path", ["/jobs/{}/cancel", "/jobs/{}/restart"])
def test_a_job_that_is_not_there_is_its_own_problem(api, path):
    for number in ("4711", "0", "x", "9" * 30):
        assert check_problem(api.post(path.format(number)), 404)["type"].endswith("/no-such-job")


def test_a_jobs_data_is_kept_or_not_and_not_once_it_is_deleted(api, sessions):
    with sessions.begin() as session:
        running_job(session)
    for keep in (True, True, False):
        response = api.patch("/jobs/1", json={"keep_all_data": keep})
        assert has_shape(response, schemas.OperatorJobResource).keep_all_data is keep
    assert audit(sessions) == [("key:operate-key", "job keep", 1)] * 2
    with sessions.begin() as session:
        session.get_one(Job, 1).archived = True
    assert "is deleted" in check_problem(api.patch("/jobs/1", json={"keep_all_data": True}), 409)["detail"]
    assert check_problem(api.patch("/jobs/1", json={}), 422)["detail"] == "keep_all_data: Field required"


def test_messages_of_waiting_units_are_published_again(api, sessions, broker):
    with sessions.begin() as session:
        job = running_job(session)
    assert api.post("/replay", json={"dry_run": True}).json() == {"messages": 1, "published": False}
    assert api.post("/replay", json={"queue": "exporter"}).json()["messages"] == 0
    body = {"queue": "collector", "job": job.id, "since": "1h"}
    assert api.post("/replay", json=body).json() == {"messages": 1, "published": True}
    assert broker.depth(work_queue("collector")).ready == 1
    assert audit(sessions) == [("key:operate-key", "replay", None), ("key:operate-key", "replay", job.id)]
    assert check_problem(api.post("/replay", json={"queue": "printer"}), 422)["detail"].startswith("queue: ")
    assert check_problem(api.post("/replay", json={"since": "soon"}), 422)["detail"].startswith("since: 'soon' is no")


# Pauses and queues


def test_a_collection_is_paused_and_resumed_and_repeating_it_is_harmless(api, sessions, broker):
    with sessions.begin() as session:
        running_job(session)
    paused = {"kind": "collection", "name": "sample", "paused": True}
    assert api.put("/collections/1/pause").json() == paused | {"changed": True}
    assert api.put("/collections/sample/pause").json() == paused | {"changed": False}
    assert api.get("/collections/sample").json()["paused"] is True
    (pause,) = has_shape(api.get("/pauses"), control_schemas.PauseList).items
    assert (pause.kind, pause.name, pause.actor) == ("collection", "sample", "key:operate-key")
    with sessions.begin() as session:
        session.execute(update(Unit).values(status=UnitStatus.PLANNED))
    resumed = {"kind": "collection", "name": "sample", "paused": False}
    assert api.delete("/collections/sample/pause").json() == resumed | {"changed": True}
    assert api.delete("/collections/sample/pause").json()["changed"] is False
    assert broker.depth(work_queue("collector")).ready == 1
    assert [row[1] for row in audit(sessions)] == ["pause collection", "resume collection"]
    check_problem(api.put("/collections/nobody/pause"), 404)


def test_a_paused_collection_is_not_run(api, sessions):
    with sessions.begin() as session:
        make_collection(session)
    api.put("/collections/sample/pause")
    problem = check_problem(api.post("/collections/sample/jobs"), 409)
    assert problem["type"] == f"{PROBLEMS}paused"
    assert "Resume it: bowerbird resume collection sample" in problem["detail"]


def test_a_queue_is_paused_and_resumed_by_either_name(api, sessions, broker):
    assert api.put("/queues/exporter/pause").json()["name"] == EXPORTER
    assert api.put(f"/queues/{EXPORTER}/pause").json()["changed"] is False
    queues = {queue.name: queue for queue in has_shape(api.get("/queues"), control_schemas.QueueList).items}
    assert queues[EXPORTER].paused
    assert not queues[work_queue("collector")].paused
    assert api.delete("/queues/exporter/pause").json()["changed"] is True
    assert [row[1] for row in audit(sessions)] == ["pause queue", "resume queue"]
    assert "There are: collector" in check_problem(api.put("/queues/printer/pause"), 404)["detail"]
    check_problem(api.put("/queues/scheduler/pause"), 404)


def test_without_the_broker_queues_are_unavailable_and_a_pause_ends_all_the_same(settings, open_api, sessions):
    api = open_api(settings.model_copy(update={"broker_url": AWAY}))
    for response in (api.get("/queues"), api.post("/replay")):
        assert "broker" in check_problem(response, 503)["detail"]
        assert int(response.headers["Retry-After"]) > 0
        assert "nobody" not in response.text
    api.put("/queues/exporter/pause")
    assert api.delete("/queues/exporter/pause").json()["changed"] is True
    with sessions() as session:
        assert pauses.list_pauses(session) == []


# Audit and retention


def test_the_audit_is_listed_by_who_what_to_which_job_and_when(api, sessions):
    with sessions.begin() as session:
        session.add(Audit(actor="ada@host", action="job cancel", job_id=7, details={"reason": "x"}))
        session.add(Audit(actor="key:other", action="job cancel", job_id=8))
        session.add(Audit(actor="ada@host", action="run", job_id=9, created=datetime.now(UTC) - timedelta(days=3)))

    def jobs(query):
        return [row.job_id for row in has_shape(api.get(f"/audit?{query}"), control_schemas.AuditPage).items]

    assert jobs("actor=ada@host") == [9, 7]
    assert jobs("action=job%20cancel") == [8, 7]
    assert jobs("job=8") == [8]
    assert jobs("since=2d") == [8, 7, None], "None: the key was made"
    first = api.get("/audit?actor=ada@host&limit=1")
    assert [item["job_id"] for item in follow(api, first).json()["items"]] == [7]
    check_problem(api.get("/audit?since=x"), 400)


def test_retention_is_previewed_by_who_reads_and_applied_by_who_may_delete(settings, open_api, sessions, broker):
    reader, admin = open_api(settings, "read"), open_api(settings, "admin")
    with sessions.begin() as session:
        collection_id = make_collection(session).id
    active = past_job(sessions, settings, collection_id, 1, active=True)
    old = past_job(sessions, settings, collection_id, 300, result=Result.FAILED)
    kept = {"source_id": "sample", "job_id": active, "delete": False, "reason": "it is the active job"}
    gone = {"source_id": "sample", "job_id": old, "delete": True}
    gone["reason"] = "it did not succeed, and started over 180 days ago"
    preview = has_shape(reader.get("/retention"), control_schemas.RetentionPage)
    assert [item.model_dump() for item in preview.items] == [kept, gone]
    assert audit(sessions) == []
    check_problem(admin.post("/retention"), 422)
    check_problem(admin.post("/retention", json={"collection": "sample", "all": True}), 422)
    check_problem(admin.post("/retention", json={"collection": "nobody"}), 404)
    response = admin.post("/retention", json={"collection": "sample"})
    assert (response.status_code, response.json()["items"]) == (202, [kept, gone])
    assert audit(sessions) == [("key:admin-key", "job delete", old)]
    assert directory(settings, old).exists(), "marked, and not yet deleted"
    scheduler = Scheduler(settings, sessions, broker)
    while scheduler.delete_marked():
        pass
    assert not directory(settings, old).exists()
    assert directory(settings, active).exists()
    assert admin.post("/retention", json={"all": True}).json()["items"] == [kept]


def test_a_preview_of_retention_is_paged_by_collection(settings, open_api, sessions):
    reader = open_api(settings, "read")
    for name in ("a", "b", "c"):
        with sessions.begin() as session:
            collection_id = make_collection(session, name).id
            job = make_job(session, session.get_one(Collection, collection_id), status=JobStatus.COMPLETED)
            job.collection.active_job_id = job.id
    pages = [reader.get("/retention?limit=2")]
    pages.append(follow(reader, pages[0]))
    assert [[item["source_id"] for item in page.json()["items"]] for page in pages] == [["a", "b"], ["c"]]
    assert "next" not in rels(pages[1])
    assert [item["source_id"] for item in reader.get("/retention?collection=b").json()["items"]] == ["b"]


# Bodies


def test_a_member_that_is_not_known_is_refused_by_name(api, sessions):
    with sessions.begin() as session:
        failed_job(session)
    problem = check_problem(api.post("/dead-letters/replay", json={"all": True, "jobs": 1}), 422)
    assert problem["type"] == f"{PROBLEMS}invalid-body"
    assert problem["detail"].startswith("jobs: there is no such member; there are: ids, job,")
    problem = check_problem(api.put("/collections/sample/pause", json={"until": "tomorrow"}), 422)
    assert problem["detail"] == "until: there is no such member; there are: none"
    assert audit(sessions) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"nonsense", 400),
        (b'{"reason": "\\ud83d"}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 60_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"reason": 7}', 422),
        (b'{"reason": "a\\u0000b"}', 422),
        (b'{"reason": null}', 422),
        (b'{"reason": "' + b"x" * 1001 + b'"}', 422),
    ],
)
def test_a_body_that_is_not_possible_is_a_problem(api, sessions, body, status):
    with sessions.begin() as session:
        running_job(session)
    check_problem(api.post("/jobs/1/cancel", content=body, headers={"Content-Type": "application/json"}), status)
    assert audit(sessions) == []


def test_numbers_are_not_read_from_texts_nor_yes_and_no(api):
    for body in ({"ids": ["1"]}, {"job": True}, {"all": "true"}, {"ids": [0]}, {"job": 2**63}, {"ids": [1.5]}):
        check_problem(api.post("/dead-letters/replay", json=body), 422)


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_a_body_that_is_not_said_to_be_json_is_refused(api, sessions, type_):
    with sessions.begin() as session:
        running_job(session)
    response = api.post("/jobs/1/cancel", content=b"{}", headers={"Content-Type": type_})
    check_problem(response, 415)
    assert response.headers["Accept-Post"] == "application/json"


def test_json_with_a_charset_is_json(api, sessions):
    with sessions.begin() as session:
        running_job(session)
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert api.post("/jobs/1/cancel", content=b"{}", headers=headers).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_and_not_read(api, sessions, declared):
    with sessions.begin() as session:
        running_job(session)
    read = []

    def chunks():
        for _ in range(100):
            read.append(1)
            yield b" " * 10_000

    content = b" " * (MAX_REQUEST_BYTES + 1) if declared else chunks()
    headers = {"Content-Type": "application/json"}
    check_problem(api.post("/jobs/1/cancel", content=content, headers=headers), 413)
    largest = b'{"reason": ""}' + b" " * (MAX_REQUEST_BYTES - 14)
    assert api.post("/jobs/1/cancel", content=largest, headers=headers).status_code == 200


def test_each_path_names_the_methods_that_can_be_used_there(api):
    for method, path, allowed in (
        ("PUT", "/jobs/1", "GET, HEAD, PATCH, DELETE"),
        ("GET", "/jobs/1/cancel", "POST"),
        ("POST", "/queues/exporter/pause", "PUT, DELETE"),
        ("POST", "/dead-letters", "GET, HEAD"),
    ):
        response = api.request(method, path)
        check_problem(response, 405)
        assert response.headers["Allow"] == allowed


# Once


def once(key="8e03978e-40d5-43dd-bc93-6894a57f9324"):
    return {"Idempotency-Key": key}


def test_a_request_that_is_sent_again_is_carried_out_once_and_answered_alike(api, sessions):
    with sessions.begin() as session:
        make_collection(session)
    first = api.post("/collections/sample/jobs", headers=once())
    again = api.post("/collections/sample/jobs", headers=once('"8e03978e-40d5-43dd-bc93-6894a57f9324"'))
    assert (first.status_code, first.headers.get("Idempotency-Replayed")) == (201, None)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    check_problem(api.post("/collections/sample/jobs", headers=once("another")), 409)
    assert len(audit(sessions)) == 1


def test_another_request_with_the_same_key_is_refused(api, sessions):
    with sessions.begin() as session:
        make_collection(session)
        make_collection(session, "other")
    api.post("/collections/sample/jobs", headers=once())
    for response in (
        api.post("/collections/other/jobs", headers=once()),
        api.post("/collections/sample/jobs", json={"keep_all_data": True}, headers=once()),
        api.post("/collections/sample/jobs?x=1", headers=once()),
    ):
        assert check_problem(response, 422)["type"] == f"{PROBLEMS}idempotency-key-reused"
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_the_keys_of_two_askers_do_not_meet(settings, open_api, sessions):
    with sessions.begin() as session:
        make_collection(session, "a")
        make_collection(session, "b")
    one, other = open_api(settings, name="one"), open_api(settings, name="other")
    assert one.post("/collections/a/jobs", headers=once()).status_code == 201
    assert other.post("/collections/b/jobs", headers=once()).status_code == 201


def test_while_the_first_is_under_way_the_second_is_told_so(api, sessions, monkeypatch):
    with sessions.begin() as session:
        make_collection(session)
    reached, go_on = threading.Event(), threading.Event()
    plan_job = __import__("shared.jobs").jobs.plan_job

    def slow(*arguments, **options):
        reached.set()
        assert go_on.wait(60)
        return plan_job(*arguments, **options)

    monkeypatch.setattr("shared.jobs.plan_job", slow)
    answers = []
    first = threading.Thread(target=lambda: answers.append(api.post("/collections/sample/jobs", headers=once())))
    first.start()
    assert reached.wait(60)
    response = api.post("/collections/sample/jobs", headers=once())
    assert check_problem(response, 409)["type"] == f"{PROBLEMS}request-under-way"
    assert response.headers["Retry-After"] == "1"
    go_on.set()
    first.join()
    assert answers[0].status_code == 201
    assert api.post("/collections/sample/jobs", headers=once()).headers["Idempotency-Replayed"] == "true"


def test_after_a_problem_the_request_is_judged_anew(api, sessions):
    with sessions.begin() as session:
        make_collection(session)
    api.put("/collections/sample/pause")
    check_problem(api.post("/collections/sample/jobs", headers=once()), 409)
    api.delete("/collections/sample/pause")
    assert api.post("/collections/sample/jobs", headers=once()).status_code == 201


def test_what_was_done_is_undone_if_its_answer_cannot_be_kept(api, sessions, monkeypatch):
    with sessions.begin() as session:
        make_collection(session)

    def break_down(*_arguments):
        raise RuntimeError("no room")

    with monkeypatch.context() as patched:
        patched.setattr("services.api.idempotency.Once.keep", break_down)
        check_problem(api.post("/collections/sample/jobs", headers=once()), 500)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
    assert api.post("/collections/sample/jobs", headers=once()).status_code == 201


def test_answers_are_kept_for_a_day_and_then_cleaned(api, sessions):
    with sessions.begin() as session:
        running_job(session)
    api.post("/replay", headers=once("old"))
    with sessions.begin() as session:
        session.execute(update(KeptAnswer).values(created=func.now() - timedelta(hours=25)))
    api.post("/replay", headers=once("new"))
    with sessions() as session:
        assert session.scalars(select(KeptAnswer.key)).all() == ["new"]
    with sessions.begin() as session:
        session.execute(update(KeptAnswer).values(created=func.now() - timedelta(hours=23)))
    assert api.post("/replay", headers=once("new")).headers["Idempotency-Replayed"] == "true"
    with sessions.begin() as session:
        session.execute(update(KeptAnswer).values(created=func.now() - timedelta(hours=25)))
    assert "Idempotency-Replayed" not in api.post("/replay", headers=once("new")).headers
    assert len(audit(sessions)) == 3


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, '"unfinished', "ä"])
def test_a_malformed_idempotency_key_is_refused(api, sessions, key):
    check_problem(api.post("/replay", headers={"Idempotency-Key": key.encode("latin-1")}), 400)
    assert audit(sessions) == []


def test_two_idempotency_keys_are_refused(api):
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    check_problem(api.post("/replay", headers=headers), 400)
