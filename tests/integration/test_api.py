"""Reading over HTTP: in the process with a test client, and as the real process."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError
from structlog.testing import CapturingLogger

from services.api import downloads, problems, routes, schemas
from services.api.app import create_app
from shared.db import connect
from shared.db.migrate import downgrade, upgrade
from shared.db.models import DeadLetter, File, KeyScope
from shared.exports import Export
from shared.keys import create_key
from tests import backends
from tests.collector import Collector
from tests.factories import make_collection, make_job, make_unit
from tests.waiting import eventually

with warnings.catch_warnings():
    # The client works with either of two HTTP libraries, and warns of the older one.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

ROOT = Path(__file__).parents[2]
PROBLEM = "application/problem+json"
CONTENT = gzip.compress(b'{"ocid": "ocds-a1b2c3-1"}\n' * 2000, mtime=0)
CLOSED = "postgresql://nobody@127.0.0.1:1/none"


def publish(session, settings, job, name, content, *, records=1):
    """Write a file where it should lie, with its row; return its path."""
    unit = make_unit(job.tasks[-1], number=job_files(session, job) + 1, status="COMPLETED")
    session.add(unit)
    session.flush()
    digest = hashlib.sha256(content).hexdigest()
    row = File(job_id=job.id, unit_id=unit.id, name=name, size=len(content), records=records, sha256=digest)
    session.add(row)
    session.flush()
    export = Export(settings.exports, job.collection.source_id, job.id)
    export.directory.mkdir(parents=True, exist_ok=True)
    export.path(name).write_bytes(content)
    return export.path(name)


def job_files(session, job):
    return session.query(File).filter_by(job_id=job.id).count()


def make_dead_letter(session, source_id="other"):
    """Insert a job, far from the others, whose export gave up; its dead letter is the first."""
    job = make_job(session, make_collection(session, source_id), tasks=("export",), id=900, status="COMPLETED")
    (task,) = job.tasks
    task.status, task.result = "COMPLETED", "FAILED"
    unit = make_unit(task, status="COMPLETED", result="FAILED", error="no space left")
    session.add(unit)
    session.flush()
    about = {"job_id": job.id, "task_id": task.id, "unit_id": unit.id, "attempts": 5}
    letter = DeadLetter(kind="UNIT", queue="exporter.v1", key=f"unit {unit.id}", reason="no space left", **about)
    letter.body, letter.body_bytes = b"{}", 2
    session.add(letter)
    session.flush()


def make_published(session, settings, source_id="sample"):
    """Insert a public collection whose active job has two files; return the job."""
    collection = make_collection(session, source_id)
    job = make_job(session, collection, status="COMPLETED")
    for task in job.tasks:
        task.status, task.result = "COMPLETED", "OK"
    publish(session, settings, job, "full.jsonl.gz", CONTENT, records=2000)
    publish(session, settings, job, "2021.xlsx", b"not really a workbook")
    collection.active_job_id = job.id
    session.flush()
    return job


@pytest.fixture
def client(settings, database_url):
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def logged(monkeypatch):
    """The calls of the API's loggers."""
    logger = CapturingLogger()
    for module in (downloads, problems):
        monkeypatch.setattr(module, "log", logger)
    return logger.calls


@pytest.fixture
def published(sessions, settings):
    """The id of a job that published ``sample``."""
    with sessions.begin() as session:
        return make_published(session, settings).id


def check_problem(response, status):
    """Assert that the answer is a problem document, complete and consistent; return it."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == PROBLEM
    document = response.json()
    assert set(document) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert document["status"] == status
    assert document["detail"]
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert document["instance"] == response.request.url.path
    return document


def follow(client, response):
    """Follow the ``next`` link of a page."""
    return client.get(next(link["href"] for link in response.json()["links"] if link["rel"] == "next"))


def rels(response):
    return {link["rel"]: link["href"] for link in response.json()["links"]}


# The shape of answers


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/", schemas.Landing),
        ("/collections", schemas.CollectionPage),
        ("/collections/sample", schemas.CollectionDetail),
        ("/collections/sample/downloads", schemas.DownloadList),
        ("/jobs", schemas.JobPage),
        ("/jobs/1", schemas.JobResource),
        ("/health/live", schemas.Health),
        ("/health/ready", schemas.Health),
    ],
)
def test_what_is_answered_is_what_is_documented(client, published, path, model):
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    read = model.model_validate_json(response.content, strict=True)
    assert json.loads(read.model_dump_json()) == response.json()


@pytest.mark.parametrize("path", ["/", "/collections", "/collections/sample", "/jobs", "/jobs/1", "/health/ready"])
def test_head_answers_as_get_does_without_the_body(client, published, path):
    plain = {"Accept-Encoding": "identity"}
    got, asked = client.get(path, headers=plain), client.head(path, headers=plain)
    assert (asked.status_code, asked.content) == (200, b"")
    ignored = {"x-request-id", "ratelimit"}
    assert {k: v for k, v in asked.headers.items() if k not in ignored} == {
        k: v for k, v in got.headers.items() if k not in ignored
    }


def test_times_are_utc_with_a_z(client, published):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", client.get("/jobs/1").json()["created"])


def test_every_link_of_every_answer_leads_somewhere(client, published):
    seen, left = set(), {"http://testserver/"}
    while left:
        href = left.pop()
        seen.add(href)
        response = client.get(href)
        if href.endswith("/execution"):  # to be posted to
            assert response.status_code == 405
            continue
        assert response.status_code == 200, href
        examples = href.endswith(("/openapi.json", "/api"))  # of elsewhere
        left |= set() if examples else set(re.findall(r'"href":"([^"]+)"', response.text)) - seen
    assert {url.removeprefix("http://testserver") for url in seen} >= {
        "/collections/sample",
        "/collections/sample/downloads/full.jsonl.gz",
        "/jobs?collection=sample",
        "/jobs/1",
        "/docs",
        "/openapi.json",
    }


def test_links_are_repeated_in_a_header(client, published):
    response = client.get("/jobs?limit=1")
    assert response.headers["Link"] == '<http://testserver/jobs?limit=1>; rel="self"; type="application/json"'


def test_links_begin_with_the_public_url_when_there_is_one(settings, database_url, published):
    settings = settings.model_copy(update={"public_url": "https://data.example.org/bowerbird/"})
    with TestClient(create_app(settings, database_url)) as client:
        assert rels(client.get("/jobs/1"))["self"] == "https://data.example.org/bowerbird/jobs/1"


def test_nothing_is_sent_again_to_who_has_it(client, published, sessions):
    first = client.get("/jobs/1")
    tag = {"If-None-Match": first.headers["ETag"]}
    again = client.get("/jobs/1", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    with sessions.begin() as session:
        session.execute(text("UPDATE task SET note = 'changed'"))
    assert client.get("/jobs/1", headers=tag).status_code == 200


# Lists


def test_pages_are_followed_by_their_next_links_to_the_end(client, sessions):
    with sessions.begin() as session:
        for index in range(5):
            make_job(session, make_collection(session, f"c{index}"))
    for path, expected in (("/collections", [[1, 2], [3, 4], [5]]), ("/jobs", [[5, 4], [3, 2], [1]])):
        pages = [client.get(path, params={"limit": 2})]
        while "next" in rels(pages[-1]):
            pages.append(follow(client, pages[-1]))
        items = [page.json()[path.strip("/") if path == "/jobs" else "items"] for page in pages]
        assert [[item["id"] for item in page] for page in items] == expected


def test_a_page_that_holds_exactly_the_rest_has_no_next_link(client, sessions):
    with sessions.begin() as session:
        for index in range(2):
            make_collection(session, f"c{index}")
    assert "next" not in rels(client.get("/collections?limit=2"))
    assert client.get("/collections?after=2").json()["items"] == []


def test_a_page_holds_as_many_items_as_the_setting_says(settings, database_url, sessions):
    with sessions.begin() as session:
        for index in range(3):
            make_collection(session, f"c{index}")
    with TestClient(create_app(settings.model_copy(update={"page_size": 2}), database_url)) as client:
        response = client.get("/collections")
        assert len(response.json()["items"]) == 2
        assert rels(response)["next"] == "http://testserver/collections?after=2"


def test_jobs_are_filtered_and_the_next_link_keeps_the_filters(client, sessions):
    with sessions.begin() as session:
        for name in ("a", "b"):
            collection = make_collection(session, name)
            for _ in range(2):
                job = make_job(session, collection, tasks=("collect",), status="COMPLETED")
                job.tasks[0].status, job.tasks[0].result = "COMPLETED", "OK"
            make_job(session, collection)
    first = client.get("/jobs?collection=a&status=successful&limit=1")
    assert [item["id"] for item in first.json()["jobs"]] == [2]
    second = follow(client, first)
    assert [item["id"] for item in second.json()["jobs"]] == [1]
    assert "next" not in rels(second)
    assert [item["id"] for item in client.get("/jobs?collection=1&status=running").json()["jobs"]] == [3]
    assert client.get("/jobs?collection=nobody").json()["jobs"] == []


@pytest.mark.parametrize(
    "query",
    [
        "/collections?limit=0",
        "/collections?limit=1001",
        "/collections?limit=-1",
        "/collections?limit=ten",
        "/collections?limit=",
        "/collections?after=x",
        "/collections?after=-1",
        "/collections?after=9223372036854775808",
        "/jobs?limit=1.5",
        "/jobs?before=x",
        "/jobs?status=DONE",
        "/jobs?status=WAITING",
    ],
)
def test_a_wrong_query_value_is_a_problem_that_names_it(client, query):
    name = re.search(r"\?(\w+)=", query)[1]
    assert check_problem(client.get(query), 400)["detail"].startswith(f"{name}: ")


# Who sees what


def test_what_is_not_public_is_answered_like_what_does_not_exist(client, sessions, settings):
    with sessions.begin() as session:
        job = make_published(session, settings, "hidden")
        job.collection.public = False

    def answer(path):
        response = client.get(path)
        document = check_problem(response, 404)
        hidden = {"instance", "request_id"}
        return re.sub(r"hidden|absent|\d+", "X", json.dumps({k: v for k, v in document.items() if k not in hidden}))

    for path in ("/collections/{}", "/collections/{}/downloads", "/collections/{}/downloads/full.jsonl.gz"):
        assert answer(path.format("hidden")) == answer(path.format("absent"))
        assert answer(path.format(job.collection_id)) == answer(path.format(4711))
    assert answer(f"/jobs/{job.id}") == answer("/jobs/4711")
    for path in ("/collections", "/jobs", "/jobs?collection=hidden", f"/jobs?collection={job.collection_id}"):
        assert client.get(path).json()["jobs" if path.startswith("/jobs") else "items"] == []


def test_the_public_is_never_shown_what_the_collector_reads(client, sessions):
    with sessions.begin() as session:
        collection = make_collection(session, source="https://u:secret@h.example/x?token=secret")
        job = make_job(session, collection, context={"log": "secret", "records": 4})
        job.tasks[0].note = "https://u:secret@h.example/x?token=secret answered 500"
    for path in ("/collections", "/collections/sample", "/jobs", "/jobs/1"):
        response = client.get(path)
        assert "secret" not in response.text
    assert response.json()["tasks"][0]["note"] == "https://h.example/x answered 500"
    assert response.json()["context"] == {"records": 4}


# Problems


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/jobs/", "/collections/sample/downloads/a/b", "/collections/%00", "/collections/A%20b", "/%2e%2e/x"],
)
def test_what_is_not_there_is_a_problem(client, path):
    check_problem(client.get(path), 404)


@pytest.mark.parametrize("job_id", ["4711", "0", "-1", "abc", "9" * 40, "1.0", "%00", "٣", "1e3"])
def test_no_job_has_an_id_of_another_form_and_the_problem_has_its_standard_name(client, published, job_id):
    document = check_problem(client.get(f"/jobs/{job_id}"), 404)
    assert document["type"] == "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-job"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writing_is_a_problem_that_names_the_methods_there_are(client, method):
    response = client.request(method, "/jobs")
    check_problem(response, 405)
    assert response.headers["Allow"] == "GET, HEAD"


def test_a_defect_is_a_problem_without_its_insides_and_a_log_line_with_them(client, published, monkeypatch, logged):
    def break_down(*_arguments, **_options):
        raise RuntimeError("secret insides")

    monkeypatch.setattr(routes.views, "get_job", break_down)
    response = client.get("/jobs/1", headers={"Origin": "https://elsewhere.example"})
    check_problem(response, 500)
    assert "secret" not in response.text
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    (line,) = logged
    assert (line.method_name, line.args, line.kwargs["path"]) == ("exception", ("request failed",), "/jobs/1")


def test_a_database_error_that_will_not_pass_is_a_defect(client, monkeypatch, logged):
    def break_down(*_arguments, **_options):
        raise IntegrityError("INSERT", {}, Exception("no"))

    monkeypatch.setattr(routes.views, "list_jobs", break_down)
    check_problem(client.get("/jobs"), 500)


def test_a_request_id_that_came_along_is_kept_and_another_is_made_up(client):
    assert client.get("/", headers={"X-Request-Id": "proxy-1.a_B"}).headers["X-Request-Id"] == "proxy-1.a_B"
    for odd in ("a b", "a" * 101, "<script>"):
        assert client.get("/", headers={"X-Request-Id": odd}).headers["X-Request-Id"] != odd


def test_other_sites_may_read(client, published):
    answer = client.get("/collections", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"ETag", "Link", "X-Request-Id"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    preflight = client.options(
        "/collections/sample/downloads/full.jsonl.gz",
        headers={
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "Range",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, HEAD"


# Downloads

FULL = "/collections/sample/downloads/full.jsonl.gz"
FULL_ROUTE = "/collections/{ref}/downloads/{name}"


def test_the_list_of_downloads_says_all_about_each_file(client, published):
    response = client.get("/collections/sample/downloads")
    assert response.json()["job_id"] == published
    full, workbook = response.json()["items"]
    assert (full["name"], full["segment"], full["format"], full["records"]) == ("full.jsonl.gz", "full", "jsonl", 2000)
    assert (full["size"], full["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert full["links"] == [{"href": f"http://testserver{FULL}", "rel": "enclosure", "type": "application/gzip"}]
    assert workbook["format"] == "xlsx"


def test_a_collection_without_an_active_job_has_no_downloads(client, sessions):
    with sessions.begin() as session:
        make_job(session, make_collection(session))
    assert client.get("/collections/sample/downloads").json()["items"] == []
    assert client.get("/collections/sample/downloads").json()["job_id"] is None
    check_problem(client.get(FULL), 404)


@pytest.mark.parametrize("ref", ["sample", "1"])
def test_a_file_is_downloaded_whole(client, published, ref):
    response = client.get(f"/collections/{ref}/downloads/full.jsonl.gz", headers={"Accept-Encoding": "gzip, br"})
    assert response.status_code == 200
    assert response.content == CONTENT
    headers = response.headers
    assert headers["Content-Type"] == "application/gzip"
    assert headers["Content-Disposition"] == 'attachment; filename="sample_full.jsonl.gz"'
    assert headers["Content-Length"] == str(len(CONTENT))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert headers["Last-Modified"].endswith("GMT")
    assert "Content-Encoding" not in headers


def test_head_of_a_file_has_the_headers_of_its_download(client, published):
    got, asked = client.get(FULL), client.head(FULL)
    assert (asked.status_code, asked.content) == (200, b"")
    ignored = {"x-request-id", "ratelimit"}
    assert {k: v for k, v in asked.headers.items() if k not in ignored} == {
        k: v for k, v in got.headers.items() if k not in ignored
    }
    assert client.head(FULL, headers={"Range": "bytes=0-1"}).status_code == 200


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=10-", 10, None), ("bytes=-7", -7, None), ("bytes=5-9", 5, 10)],
)
def test_a_range_is_part_of_the_file(client, published, header, start, end):
    response = client.get(FULL, headers={"Range": header})
    assert response.status_code == 206
    assert response.content == CONTENT[start:end]
    first, last, size = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers["Content-Range"]).groups())
    assert CONTENT[first : last + 1] == response.content
    assert size == len(CONTENT)
    assert response.headers["Content-Length"] == str(len(response.content))


def test_a_range_beyond_the_end_is_a_problem_that_says_how_long_the_file_is(client, published):
    response = client.get(FULL, headers={"Range": f"bytes={len(CONTENT)}-"})
    check_problem(response, 416)
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_several_ranges_get_the_whole_file(client, published):
    response = client.get(FULL, headers={"Range": "bytes=0-1,4-5"})
    assert (response.status_code, response.content) == (200, CONTENT)


def test_an_interrupted_download_goes_on_only_if_the_file_is_still_the_same(client, published):
    tag = client.head(FULL).headers["ETag"]
    rest = client.get(FULL, headers={"Range": "bytes=100-", "If-Range": tag})
    assert (rest.status_code, rest.content) == (206, CONTENT[100:])
    anew = client.get(FULL, headers={"Range": "bytes=100-", "If-Range": '"another"'})
    assert (anew.status_code, anew.content) == (200, CONTENT)
    check_problem(client.get(FULL, headers={"Range": "bytes=100-", "If-Match": '"another"'}), 412)


def test_a_file_is_not_sent_again_to_who_has_it(client, published):
    headers = client.head(FULL).headers
    for condition in (
        {"If-None-Match": headers["ETag"]},
        {"If-None-Match": f'"x", W/{headers["ETag"]}'},
        {"If-Modified-Since": headers["Last-Modified"]},
    ):
        for response in (client.get(FULL, headers=condition), client.head(FULL, headers=condition)):
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["ETag"] == headers["ETag"]


@pytest.mark.parametrize(
    "name",
    [
        "full.zip",
        "manifest.json",
        "exporter_full.jsonl.gz.lock",
        "21.xlsx",
        "full.jsonl",
        "FULL.xlsx",
        "٢٠٢١.xlsx",
        "..",
    ],
)
def test_any_other_name_is_refused_before_the_database_is_asked(settings, name):
    with TestClient(create_app(settings, CLOSED)) as client:
        check_problem(client.get(f"/collections/sample/downloads/{name.replace('..', '%2e%2e')}"), 400)


def test_a_file_on_disk_that_was_not_published_is_not_there(client, published, settings):
    path = Export(settings.exports, "sample", published).path("full.xlsx")
    path.write_bytes(b"left over")
    check_problem(client.get("/collections/sample/downloads/full.xlsx"), 404)


def test_only_the_active_jobs_files_can_be_downloaded(client, published, sessions, settings):
    with sessions.begin() as session:
        collection = make_collection(session, "other")
        old = make_job(session, collection, status="COMPLETED")
        publish(session, settings, old, "full.xlsx", b"old")
        new = make_job(session, collection, status="COMPLETED")
        publish(session, settings, new, "2020.xlsx", b"new")
        collection.active_job_id = new.id
    assert client.get("/collections/other/downloads/2020.xlsx").content == b"new"
    check_problem(client.get("/collections/other/downloads/full.xlsx"), 404)


def make_again(sessions, settings, job_id, content, place):
    """Let the active job have made a file again, which is published and not under its name yet."""
    with sessions.begin() as session:
        old = session.scalars(select(File).where(File.job_id == job_id, File.name == "full.jsonl.gz")).one()
        session.delete(old)
        session.flush()
        digest = hashlib.sha256(content).hexdigest()
        values = {"size": len(content), "records": 1, "sha256": digest, "place": place}
        session.add(File(job_id=job_id, unit_id=old.unit_id, name=old.name, **values))
    export = Export(settings.exports, "sample", job_id)
    (export.directory / place).mkdir()
    (export.directory / place / "full.jsonl.gz").write_bytes(content)
    return export


def test_a_file_is_found_where_it_was_made_and_then_under_its_name(client, published, sessions, settings):
    newer = CONTENT[::-1]
    export = make_again(sessions, settings, published, newer, ".made-1-2")
    assert client.get(FULL).content == newer
    (export.directory / ".made-1-2" / "full.jsonl.gz").replace(export.path("full.jsonl.gz"))
    assert client.get(FULL).content == newer


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_is_replaced_while_it_is_opened_is_the_newer_one_whole(
    client, published, sessions, settings, monkeypatch, gone
):
    """Of the same size, so that nothing else could tell. ``gone``: the older one is away already."""
    newer = CONTENT[::-1]
    open_published = downloads.open_published

    def replace(asked):
        monkeypatch.setattr(downloads, "open_published", open_published)
        export = make_again(sessions, settings, published, newer, ".made-1-2")
        if gone:
            export.path("full.jsonl.gz").unlink()
        else:
            (export.directory / ".made-1-2" / "full.jsonl.gz").replace(export.path("full.jsonl.gz"))
        return open_published(asked)

    monkeypatch.setattr(downloads, "open_published", replace)
    response = client.get(FULL)
    assert response.content == newer
    assert response.headers["ETag"] == f'"{hashlib.sha256(newer).hexdigest()}"'


@pytest.mark.parametrize("damage", ["missing", "shorter", "directory"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_published_file_that_is_not_on_disk_is_a_problem_and_a_log_line(
    client, published, settings, logged, damage, method
):
    path = Export(settings.exports, "sample", published).path("full.jsonl.gz")
    path.unlink()
    if damage == "shorter":
        path.write_bytes(CONTENT[:-1])
    elif damage == "directory":
        path.mkdir()
    response = client.request(method, FULL)
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert str(settings.exports) not in response.text
    (line,) = logged
    assert (line.method_name, line.args) == ("error", ("published file is unavailable",))
    assert line.kwargs["path"] == str(path)
    assert line.kwargs["fault"]


def test_an_empty_file_is_downloaded(client, published, sessions, settings):
    with sessions.begin() as session:
        job = make_job(session, make_collection(session, "empty"), status="COMPLETED")
        publish(session, settings, job, "full.jsonl.gz", b"")
        job.collection.active_job_id = job.id
    response = client.get("/collections/empty/downloads/full.jsonl.gz")
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "0")


@dataclass
class Transfer:
    """A download driven by hand, below HTTP: what was sent, and what to do at each message."""

    app: object
    path: str
    at_each: object = None
    disconnect: bool = False

    def run(self):
        self.messages = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"testserver")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        asyncio.run(self._run(scope))
        return self.messages

    async def _run(self, scope):
        gone = asyncio.Event()
        requests = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            if requests:
                return requests.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            self.messages.append(message)
            if self.at_each:
                self.at_each(message)
            if self.disconnect and message.get("body"):
                gone.set()
                await asyncio.Event().wait()  # nobody reads on

        await self.app(scope, receive, send)


@pytest.fixture
def big(sessions, settings, database_url, monkeypatch):
    """An application with a published file of many blocks, its path on disk, and the streams it opened."""
    with sessions.begin() as session:
        job = make_job(session, make_collection(session), status="COMPLETED")
        path = publish(session, settings, job, "full.xlsx", os.urandom(5 * downloads.BLOCK_BYTES + 17))
        job.collection.active_job_id = job.id
    opened = []
    open_published = downloads.open_published
    monkeypatch.setattr(
        downloads, "open_published", lambda published: opened.append(open_published(published)) or opened[-1]
    )
    app = create_app(settings, database_url)
    yield app, path, opened
    engine(app).dispose()


def engine(app):
    bound = app.state.context.sessions.kw["bind"]
    assert isinstance(bound, Engine)
    return bound


def test_a_download_holds_one_block_and_no_database_connection(big):
    app, path, opened = big
    held = []
    sent = Transfer(
        app, "/collections/sample/downloads/full.xlsx", lambda _: held.append(engine(app).pool.checkedout())
    ).run()
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    assert b"".join(bodies) == path.read_bytes()
    assert max(map(len, bodies)) == downloads.BLOCK_BYTES
    assert set(held) == {0}
    assert all(stream.closed for stream in opened)


def test_a_download_that_has_begun_goes_on_when_the_file_is_replaced_or_removed(big):
    app, path, _ = big
    content = path.read_bytes()

    def remove(message):
        if message["type"] == "http.response.start":
            path.unlink()
            path.write_bytes(b"newer")

    sent = Transfer(app, "/collections/sample/downloads/full.xlsx", remove).run()
    assert b"".join(message.get("body", b"") for message in sent) == content


def test_a_download_that_nobody_reads_on_closes_its_file(big):
    app, _, opened = big
    sent = Transfer(app, "/collections/sample/downloads/full.xlsx", disconnect=True).run()
    assert len(sent) == 2
    assert [stream.closed for stream in opened] == [True]


def test_a_file_that_shrinks_while_it_is_downloaded_cuts_the_download(big):
    app, path, opened = big

    def shorten(message):
        if message["type"] == "http.response.start":
            os.truncate(path, 10)

    with pytest.raises(BaseException) as caught:  # noqa: PT011  grouped by the framework
        Transfer(app, "/collections/sample/downloads/full.xlsx", shorten).run()
    assert "was shortened" in repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    assert [stream.closed for stream in opened] == [True]


# The database


def test_without_a_database_the_process_lives_and_everything_else_asks_to_come_back(settings, logged):
    with TestClient(create_app(settings, CLOSED)) as client:
        assert client.get("/health/live").status_code == 200
        for path in ("/health/ready", "/collections", "/collections/sample", FULL, "/jobs", "/jobs/1"):
            response = client.get(path)
            check_problem(response, 503)
            assert int(response.headers["Retry-After"]) > 0
            assert "nobody" not in response.text
        assert client.get("/").status_code == 200
    assert {line.method_name for line in logged} == {"warning"}


def test_the_api_is_ready_once_the_schema_is_there_and_says_what_to_do_before(settings, postgres_url):
    with backends.fresh_database(postgres_url) as url, TestClient(create_app(settings, url)) as client:
        assert "bowerbird migrate" in check_problem(client.get("/health/ready"), 503)["detail"]
        assert "bowerbird migrate" in check_problem(client.get("/collections"), 503)["detail"]
        upgrade(url)
        assert client.get("/health/ready").json() == {"status": "ok"}
        assert client.get("/collections").json()["items"] == []
        downgrade(url, "base")
        check_problem(client.get("/health/ready"), 503)


def test_the_api_is_ready_on_a_schema_newer_than_its_own(settings, postgres_url):
    with backends.fresh_database(postgres_url) as url, TestClient(create_app(settings, url)) as client:
        upgrade(url)
        execute(url, "UPDATE alembic_version SET version_num = 'from_the_future'")
        assert client.get("/health/ready").status_code == 200


def test_the_api_recovers_by_itself_when_the_database_comes_back(settings, postgres_url):
    with backends.fresh_database(postgres_url) as url, TestClient(create_app(settings, url)) as client:
        upgrade(url)
        name = url.rpartition("/")[2]
        assert client.get("/jobs").status_code == 200
        execute(postgres_url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        execute(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        check_problem(client.get("/jobs"), 503)
        check_problem(client.get("/health/ready"), 503)
        execute(postgres_url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        assert client.get("/jobs").status_code == 200
        assert client.get("/health/ready").status_code == 200


def execute(url, statement):
    connection = connect(url, application_name="bowerbird tests")
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)


# Metrics


def metric(client, name, **labels):
    """Return a metric's value; None if there is none."""
    wanted = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    found = re.findall(
        rf"^{name}{re.escape('{' + wanted + '}') if wanted else ''} (\S+)$", scrape(client), re.MULTILINE
    )
    return float(found[0]) if found else None


def scrape(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return answer.text


def test_requests_are_counted_by_route_and_status_never_by_what_the_client_made_up(client, published):
    for path in ("/jobs/1", "/jobs/2", "/jobs/999", "/nothing/here", "/nothing/else"):
        client.get(path)
    client.request("BREW", "/jobs/1")
    name, route = "bowerbird_api_requests_total", "/jobs/{job_id}"
    assert metric(client, name, method="GET", route=route, status=200) == 1
    assert metric(client, name, method="GET", route=route, status=404) == 2
    assert metric(client, name, method="GET", route="other", status=404) == 2
    assert metric(client, "bowerbird_api_request_duration_seconds_count", route=route) >= 3
    assert "nothing" not in scrape(client)
    assert "BREW" not in scrape(client)


def test_the_bytes_of_downloads_are_counted_as_they_were_sent(client, published):
    client.get(FULL)
    client.get(FULL, headers={"Range": "bytes=0-9"})
    client.head(FULL)
    assert metric(client, "bowerbird_api_downloaded_bytes_total") == len(CONTENT) + 10
    assert metric(client, "bowerbird_api_request_duration_seconds_count", route=FULL_ROUTE) is None


def test_a_request_that_fails_is_counted_as_the_client_saw_it(client, published, monkeypatch):
    monkeypatch.setattr(routes.views, "get_job", lambda *_: 1 / 0)
    assert client.get("/jobs/1").status_code == 500
    assert metric(client, "bowerbird_api_requests_total", method="GET", route="/jobs/{job_id}", status=500) == 1


def test_the_framework_sends_nothing_of_its_own_accord(settings, database_url, monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with TestClient(create_app(settings, database_url)) as client:
            assert client.get("/health/ready").status_code == 200
            assert client.head("/metrics").text == ""
    assert collector.bodies == []


# The process


class Process:
    """The real service, started on a free port; its log lines are read as they come."""

    def __init__(self, settings, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.api"],
            cwd=ROOT,
            env={**os.environ, **settings.environment(), "BOWERBIRD_LOG_FORMAT": "json", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue = queue.Queue()
        self.seen: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.put(line)

    def address(self):
        """Wait for the line that says where it listens."""
        while True:
            line = self.lines.get(timeout=60)
            self.seen.append(line)
            if (event := json.loads(line)).get("event") == "listening":
                return event["url"]

    def stop(self, number=signal.SIGTERM):
        """Ask it to stop; return its exit status."""
        self.process.send_signal(number)
        return self.end()

    def end(self):
        status = self.process.wait(timeout=60)
        self.reader.join()
        self.process.stderr.close()
        while not self.lines.empty():
            self.seen.append(self.lines.get())
        return status


@pytest.fixture
def process(settings):
    """Starts the service; ends it if the test did not."""
    started = []

    def start(**environment):
        started.append(Process(settings, **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.end()


def curl(arguments, cwd):
    return subprocess.run(
        ["curl", "--noproxy", "*", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_listens_and_ends_well_when_asked_to(process, published, tmp_path, number):
    service = process()
    url = service.address()
    answer = curl([f"{url}/jobs"], tmp_path)
    assert json.loads(answer.stdout)["jobs"][0]["links"][0]["href"] == f"{url}/jobs/1"
    head = curl(["-I", f"{url}{FULL}"], tmp_path)
    assert f"content-length: {len(CONTENT)}" in head.stdout
    assert service.stop(number) == 0
    log = [json.loads(line)["event"] for line in service.seen]
    assert log == ["service started", "listening", "service stopped"]


def test_the_process_listens_before_the_database_is_there(process, tmp_path):
    service = process(BOWERBIRD_DATABASE_URL=CLOSED)
    url = service.address()
    assert json.loads(curl([f"{url}/health/live"], tmp_path).stdout) == {"status": "ok"}
    assert json.loads(curl([f"{url}/health/ready"], tmp_path).stdout)["status"] == 503
    assert service.stop() == 0


def test_a_download_that_runs_when_the_process_is_asked_to_stop_ends_whole(process, sessions, settings):
    content = os.urandom(30_000_000)  # more than all the buffers between the two hold
    with sessions.begin() as session:
        job = make_job(session, make_collection(session), status="COMPLETED")
        publish(session, settings, job, "full.xlsx", content)
        job.collection.active_job_id = job.id
    service = process()
    host, port = service.address().removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET /collections/sample/downloads/full.xlsx HTTP/1.1\r\nHost: x\r\n\r\n")
        received = bytearray(connection.recv(1000))
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: refuses(host, int(port)), what="the process takes no new connections")
        while block := connection.recv(1 << 20):
            received += block
    assert received.partition(b"\r\n\r\n")[2] == content
    assert service.end() == 0


def refuses(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_port_in_use_is_a_configuration_error_that_names_the_settings(process):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = process(BOWERBIRD_API_PORT=str(taken.getsockname()[1]))
        assert service.end() == os.EX_CONFIG
    assert "BOWERBIRD_API_PORT" in service.seen[-1]


def test_a_process_without_a_database_url_says_what_to_set(process):
    service = process(BOWERBIRD_DATABASE_URL="")
    assert service.end() == os.EX_CONFIG
    assert "BOWERBIRD_DATABASE_URL" in service.seen[-1]
    assert "bowerbird up" in service.seen[-1]


# The page about it


def examples():
    """Return the commands of docs/api.md."""
    return re.findall(r"`(curl [^`]+)`", (ROOT / "docs" / "api.md").read_text())


def method_of(arguments):
    """Return the method that curl uses."""
    if "-X" in arguments:
        return arguments[arguments.index("-X") + 1]
    return "HEAD" if "-I" in arguments else "POST" if "--json" in arguments else "GET"


def test_the_page_shows_every_endpoint_with_an_example(client):
    commands = [shlex.split(command) for command in examples()]
    shown = [
        f"{method_of(command)} {command[-1].removeprefix('http://127.0.0.1:8080').partition('?')[0]}"
        for command in commands
    ]
    operations = [
        f"{method.upper()} {path}"
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
    ]
    patterns = {operation: re.compile(re.sub(r"\{\w+\}", "[0-9a-z_.]+", operation)) for operation in operations}
    missing = [operation for operation, pattern in patterns.items() if not any(map(pattern.fullmatch, shown))]
    assert missing == []


def test_every_example_of_the_page_works(process, sessions, settings, tmp_path):
    with sessions.begin() as session:
        job = make_published(session, settings)
        publish(session, settings, job, "full.csv.tar.gz", CONTENT)
        make_dead_letter(session)
        _, key = create_key(session, "me", scope=KeyScope.ADMIN, actor="ada")
    url = process().address()
    assert len(examples()) >= 30
    for command in examples():
        _, *arguments = shlex.split(command.replace("http://127.0.0.1:8080", url).replace("$KEY", key))
        result = curl(["--fail", *arguments], tmp_path)
        assert result.returncode == 0, (command, result.stderr)
    assert (tmp_path / "sample_full.jsonl.gz").read_bytes() == CONTENT


# Languages


def test_texts_are_in_the_language_asked_for_and_next_links_keep_it(client, sessions):
    with sessions.begin() as session:
        for name in ("a", "b"):
            make_collection(session, name, title="Contracts", translations={"es": {"title": "Contratos"}})
    page = client.get("/collections?limit=1&language=es")
    assert page.json()["items"][0]["title"] == "Contratos"
    assert "translations" not in page.json()["items"][0]
    assert client.get(rels(page)["next"]).json()["items"][0]["title"] == "Contratos"
    assert client.get("/collections/a?language=es").json()["title"] == "Contratos"
    assert client.get("/collections/a?language=xx").json()["title"] == "Contracts"
    assert client.get("/collections/a").json()["title"] == "Contracts"
    check_problem(client.get(f"/collections/a?language={'x' * 99}"), 400)
