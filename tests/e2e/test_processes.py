"""Processes over HTTP, done by the whole suite: waited for, followed, stage by stage, and dismissed."""

import base64
import email

import pytest

from services.api.app import create_app
from shared.db.models import KeyScope
from shared.keys import create_key
from shared.sample import PACKAGES
from tests.e2e.suite import Suite
from tests.integration.test_api import TestClient
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def suite(any_settings, sessions, tmp_path):
    suite = Suite(any_settings, sessions, tmp_path / "logs")
    suite.start()
    yield suite
    suite.close()


@pytest.fixture
def client(suite, database_url):
    """Anyone."""
    with TestClient(create_app(suite.settings, database_url)) as client:
        yield client


@pytest.fixture
def operator(client, sessions):
    """The headers of somebody who may operate."""
    with sessions.begin() as session:
        _, key = create_key(session, "op", scope=KeyScope.ADMIN, actor="ada")
    return {"Authorization": f"Bearer {key}"}


def echo(client, inputs, headers=None, **more):
    return client.post("/processes/echo/execution", json={"inputs": inputs, **more}, headers=headers)


def ended(client, response):
    """Follow a job to its end; return its status document."""
    location = response.headers["Location"]
    words = ("successful", "failed", "dismissed")
    return eventually(
        lambda: next((job for job in [client.get(location).json()] if job["status"] in words), None),
        seconds=60,
        what=f"the end of {location}",
    )


def test_the_line_is_done_stage_by_stage_and_published_once_it_is_exported(client, operator, suite):
    name = suite.add(PACKAGES)

    def execute(process, **inputs):
        body = {"inputs": {"collection": name, **inputs}, "response": "document"}
        response = client.post(f"/processes/{process}/execution", json=body, headers=operator)
        assert response.status_code == 201, response.text
        job = ended(client, response)
        assert (job["status"], job["processID"]) == ("successful", process), job
        return job

    first = execute("collect")
    assert client.get(f"/collections/{name}").json()["active_job_id"] is None
    refused = client.post("/processes/export/execution", json={"inputs": {"collection": name}}, headers=operator)
    assert (refused.status_code, "Execute process first" in refused.json()["detail"]) == (409, True)
    for process in ("process", "check"):
        job = execute(process, job=first["id"])
        assert client.get(f"/collections/{name}").json()["active_job_id"] is None
    summary = client.get(f"/jobs/{job['id']}/results").json()
    assert set(summary) == {"quality"}
    assert execute("export")["id"] == first["id"], "in the collection's newest job"
    assert client.get(f"/collections/{name}").json()["active_job_id"] == first["id"]
    execute("flatten")
    coverage = execute("coverage")
    assert [task["type"] for task in coverage["tasks"]] == [
        "collect",
        "process",
        "check",
        "export",
        "flatten",
        "coverage",
    ]
    results = client.get(f"/jobs/{coverage['id']}/results").json()
    assert results["coverage"]["value"]["/ocid"] > 0
    files = client.get(f"/collections/{name}/downloads").json()["items"]
    assert {file["format"] for file in files} == {"jsonl", "csv", "xlsx"}


def test_what_is_waited_for_is_answered_in_the_form_that_was_asked_for(client):
    plain = echo(client, {"text": "hello"})
    assert (plain.status_code, plain.text) == (200, "hello")
    assert "rel=monitor" in plain.headers["Link"]
    assert echo(client, {"text": "hello"}, {"Accept": "application/json"}).json() == "hello"
    given = {
        "text": "hé",
        "numbers": [1, 2.5],
        "object": {"value": {"name": "a", "value": 3}},
        "binary": base64.b64encode(b"\x00\xff").decode(),
        "bbox": {"bbox": [1, 2, 3, 4]},
    }
    document = echo(client, given, response="document").json()
    assert document == given, "an object in a value, all else as it is"
    references = {name: {"transmissionMode": "reference"} for name in ("text", "numbers")}
    linked = echo(client, given, outputs=references)
    assert linked.status_code == 204
    assert linked.headers["Link"].count('rel="item"') == 2
    mixed = echo(client, given, response="raw")
    message = email.message_from_bytes(
        b"Content-Type: " + mixed.headers["Content-Type"].encode() + b"\r\n\r\n" + mixed.content
    )
    parts = {part["Content-ID"].strip("<>"): part for part in message.get_payload()}
    assert list(parts) == list(given)
    assert parts["text"].get_payload(decode=True).decode() == "hé"
    assert parts["binary"].get_content_type() == "application/octet-stream"
    one = echo(client, given, outputs={"binary": {}})
    assert (one.headers["Content-Type"], one.content) == ("application/octet-stream", b"\x00\xff")


def test_a_job_is_followed_to_its_results_or_its_failure(client):
    response = echo(client, {"text": "later", "pause": 0.2}, ASYNC)
    assert (response.status_code, response.headers["Preference-Applied"]) == (201, "respond-async")
    job = ended(client, response)
    assert (job["status"], job["progress"], job["collection_id"]) == ("successful", 100, None)
    assert client.get(f"/jobs/{job['jobID']}/results").text == "later"
    failed = echo(client, {"text": "x", "fail": True})
    assert (failed.status_code, failed.json()["type"]) == (400, "http://testserver/problems/process-failed")
    assert failed.json()["detail"] == "It failed, as it was asked to."
    jobs = client.get("/jobs?processID=echo&status=failed").json()["jobs"]
    assert [job["message"] for job in jobs] == ["It failed, as it was asked to."]


def test_a_job_that_is_dismissed_is_not_done(client, suite):
    response = echo(client, {"text": "never", "pause": 60}, ASYNC)
    number = response.json()["id"]
    eventually(lambda: client.get(f"/jobs/{number}").json()["status"] == "running", what="it runs")
    assert client.get(f"/jobs/{number}/results").json()["type"].endswith("/result-not-ready")
    dismissed = client.delete(f"/jobs/{number}")
    assert (dismissed.status_code, dismissed.json()["status"]) == (200, "dismissed")
    assert client.get(f"/jobs/{number}").json()["status"] == "dismissed"
    assert client.get(f"/jobs/{number}/results").status_code == 410
    assert client.delete(f"/jobs/{number}").json()["status"] == "dismissed"
    assert client.get(f"/jobs/{number}").status_code == 404
    eventually(lambda: suite.job(number) is None, what="its row is deleted")
