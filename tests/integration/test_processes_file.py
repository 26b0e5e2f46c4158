"""Processes of an operator's file over HTTP: listed, described, kept for some, executed, and outlived by their jobs."""

import json
import re
from pathlib import Path

import pytest

from services.api import oas30
from services.api.app import create_app
from services.scheduler.decisions import publishes
from shared import callbacks, results
from shared.db.models import Audit, Job
from shared.processes import BUILT_IN, kind_of
from tests.e2e.suite import Suite
from tests.factories import make_collection
from tests.integration.test_api import PROBLEM, TestClient, check_problem
from tests.integration.test_api import process as process  # noqa: PLC0414  a fixture
from tests.integration.test_control import open_api as open_api  # noqa: PLC0414  a fixture
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
FILE = """
resources:
  publish: {enabled: false}
  echo: {title: Try it, keywords: [trial]}
  collect: {scope: admin, visible: read}
  rivers:
    type: process
    processor: {name: publish}
    title: Publish the rivers
    fixed: {collection: river_works}
  hello:
    processor: {name: echo}
    fixed: {text: "Hello, ${WHOM:-world}!", numbers: 7}
"""
OFFERED = [*(name for name in BUILT_IN if name != "publish"), "rivers", "hello"]
SEEN = [name for name in OFFERED if name != "collect"]


@pytest.fixture
def configured(settings, tmp_path):
    """Settings that name a file; by default the one above."""

    def configure(text=FILE):
        path = tmp_path / "processes.yml"
        path.write_text(text)
        return settings.model_copy(update={"processes_file": path})

    return configure


@pytest.fixture
def client(configured, sessions, database_url):
    with TestClient(create_app(configured(), database_url), raise_server_exceptions=False) as client:
        yield client


def ids(client, query=""):
    return [one["id"] for one in client.get(f"/processes{query}").json()["processes"]]


def execute(client, name, inputs, **more):
    return client.post(f"/processes/{name}/execution", json={"inputs": inputs, **more})


def test_what_the_file_says_is_listed_and_described(client):
    assert ids(client) == SEEN
    page = client.get("/processes?limit=7").json()
    following = next(link["href"] for link in page["links"] if link["rel"] == "next")
    assert [one["id"] for one in page["processes"] + client.get(following).json()["processes"]] == SEEN
    described = client.get("/processes/rivers").json()
    assert (described["title"], list(described["inputs"])) == ("Publish the rivers", ["keep_all_data"])
    assert described["description"] == BUILT_IN["publish"].description
    assert list(described["outputs"]) == list(BUILT_IN["publish"].outputs)
    assert not {"text", "numbers"} & client.get("/processes/hello").json()["inputs"].keys()
    echo = client.get("/processes/echo").json()
    assert (echo["title"], echo["keywords"], next(iter(echo["inputs"]))) == ("Try it", ["trial"], "text")
    for name in ("publish", "collect"):
        assert check_problem(client.get(f"/processes/{name}"), 404)["type"].endswith("no-such-process")
        check = client.post(f"/processes/{name}/execution", json={}, headers={"Accept": PROBLEM})
        assert check_problem(check, 404)["type"].endswith("no-such-process")


def test_whoever_may_sees_and_executes_what_others_do_not(configured, open_api, sessions):
    with sessions.begin() as session:
        make_collection(session, "river_works")
    clients = {scope: open_api(configured(), scope) for scope in ("read", "operate", "admin")}
    for client in clients.values():
        assert ids(client) == OFFERED
        assert client.get("/processes/collect").headers["Cache-Control"] == "private, no-cache"
    inputs = {"collection": "river_works"}
    assert [execute(clients[scope], "collect", inputs).status_code for scope in clients] == [403, 403, 201]
    refused = clients["read"].get("/processes", headers={"Authorization": f"Bearer bowerbird_{'0' * 12}_{'0' * 64}"})
    check_problem(refused, 401)


def test_a_fixed_input_cannot_be_given(client):
    refused = execute(client, "hello", {"text": "Bye"})
    assert (refused.status_code, refused.json()["detail"][:28]) == (400, "text: there is no such input")


def test_a_variant_does_what_its_base_does_in_a_job_of_its_own_name(configured, open_api, sessions):
    with sessions.begin() as session:
        make_collection(session, "river_works")
    operator = open_api(configured())
    created = execute(operator, "rivers", {"keep_all_data": True})
    assert (created.status_code, created.json()["processID"]) == (201, "rivers"), created.text
    with sessions() as session:
        job = session.get_one(Job, created.json()["id"])
        assert (job.process, job.keep_all_data, len(job.tasks)) == ("rivers", True, 6)
        assert job.request["inputs"] == {"collection": "river_works", "keep_all_data": True}
        assert publishes(kind_of(job.process, job.request), []), "as a job of publish does"
        assert session.query(Audit).filter_by(action="run").one().actor == "key:operate-key"
    assert [one["processID"] for one in operator.get("/jobs?processID=rivers").json()["jobs"]] == ["rivers"]
    assert operator.get("/jobs?processID=publish").json()["jobs"] == []


def test_the_definition_shows_what_is_offered(client, configured, database_url):
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    shown = paths["/processes/{process_id}"]["get"]
    assert shown["responses"]["200"]["content"]["application/json"]["example"]["id"] == "process"
    assert shown["parameters"][0]["schema"]["examples"] == ["process"]
    assert '"publish"' not in json.dumps([paths[path] for path in paths if path.startswith("/processes")])
    (asked,) = [one for one in paths["/jobs"]["get"]["parameters"] if one["name"] == "processID"]
    assert asked["schema"]["examples"] == [["process"]]
    execution = paths["/processes/{process_id}/execution"]["post"]
    example = execution["requestBody"]["content"]["application/json"]["example"]
    assert example["inputs"] == {"collection": "river_works"}
    assert client.get("/api").json()["paths"].keys() == paths.keys()
    only = "\n".join(f"  {name}: {{enabled: false}}" for name in BUILT_IN if name != "echo")
    app = create_app(configured(f"resources:\n{only}\n  echo: {{fixed: {{text: a}}}}"), database_url)
    execution = oas30.to_openapi_30(app.openapi())["paths"]["/processes/{process_id}/execution"]["post"]
    assert execution["requestBody"]["content"]["application/json"]["example"]["inputs"] == {}


def test_where_nothing_is_offered_to_everyone_the_definition_has_no_example(configured, database_url):
    nothing = "\n".join(f"  {name}: {{enabled: false}}" for name in BUILT_IN)
    with TestClient(create_app(configured(f"resources:\n{nothing}"), database_url)) as client:
        assert client.get("/processes").json()["processes"] == []
        assert "/processes" in client.get("/api").json()["paths"]


# Done by the whole suite


@pytest.fixture
def suite(configured, sessions, tmp_path):
    suite = Suite(configured(), sessions, tmp_path / "logs")
    suite.start("scheduler", "processor")
    yield suite
    suite.close()


def test_a_variant_is_executed_and_its_job_outlives_it(client, suite, sessions, settings, database_url):
    answered = execute(client, "hello", {"mixed": "too"}, response="document")
    assert (answered.status_code, answered.json()) == (
        200,
        {"text": "Hello, world!", "numbers": [7], "mixed": "too"},
    ), answered.text
    one = execute(client, "hello", {}, outputs={"text": {}})
    assert (one.status_code, one.text) == (200, "Hello, world!")
    monitor = re.search(r"<([^>]+)>; rel=monitor", one.headers["Link"])[1]
    assert client.get(monitor).json()["processID"] == "hello"
    number = client.get(monitor).json()["id"]
    with TestClient(create_app(settings, database_url)) as without:
        check_problem(without.get("/processes/hello"), 404)
        job = without.get(f"/jobs/{number}").json()
        assert (job["processID"], job["status"]) == ("hello", "successful")
        assert without.get(f"/jobs/{number}/results").text == "Hello, world!"
        assert without.get(f"/jobs/{number}/results/text").text == "Hello, world!"
        assert len(without.get("/jobs?processID=hello").json()["jobs"]) == 2
        assert without.delete(f"/jobs/{number}").status_code == 401, "whether anyone may is not known any more"
    with sessions() as session:
        told = callbacks.body_of(session, "job.succeeded", number, base_url="http://x")
        assert told == {"text": "Hello, world!"}
        assert results.outputs_of(session, number, base_url="http://x") == told


def test_the_example_of_the_page_works(configured, suite, database_url):
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    text = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    body, path = re.search(r"--json '([^']+)' http://127\.0\.0\.1:8080(/processes/greeting/execution)", page).groups()
    with TestClient(create_app(configured(text), database_url)) as client:
        answered = client.post(path, json=json.loads(body), headers={"Accept": "text/plain"})
    assert answered.text in page


def test_a_service_does_not_start_with_a_wrong_file_and_says_where(process, configured):
    settings = configured("resources: {hello: {processor: {name: ehco}}}")
    service = process(BOWERBIRD_PROCESSES_FILE=str(settings.processes_file))
    assert service.end() == 78
    assert "resources.hello.processor.name: there is no process 'ehco'" in service.seen[-1]
    eventually(lambda: service.process.returncode == 78)
