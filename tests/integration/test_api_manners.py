"""The manners of every endpoint: forms, problems and pages, headers, HEAD, compression, limits, prefix."""

import gzip
import json
import re

import pytest
from structlog.contextvars import get_contextvars

from services.api import description, routes
from services.api.app import create_app
from services.api.problem_types import TYPES
from shared.db.models import Collection, KeyScope
from shared.keys import create_key
from shared.webhooks import add_webhook
from tests.factories import make_collection, make_job
from tests.integration.test_api import (  # noqa: F401  process is a fixture
    CONTENT,
    TestClient,
    check_problem,
    curl,
    make_dead_letter,
    make_published,
    process,
)

PAGE = "text/html; charset=utf-8"


@pytest.fixture
def client(settings, database_url):
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def published(sessions, settings):
    """The id of a job that published ``sample``."""
    with sessions.begin() as session:
        return make_published(session, settings).id


# Problems and their pages


def test_the_type_of_a_problem_leads_to_its_explanation(client):
    document = check_problem(client.get("/collections/none"), 404)
    explained = client.get(document["type"]).json()
    assert explained["type"] == document["type"] == "http://testserver/problems/no-such-collection"
    assert (explained["title"], explained["status"]) == (document["title"], 404)
    assert explained["remedy"]


def test_a_kind_that_a_standard_named_is_explained_under_its_id(client):
    document = check_problem(client.get("/jobs/4711"), 404)
    assert client.get("/problems/no-such-job").json()["type"] == document["type"]


def test_every_kind_is_listed_with_a_link_to_it(client):
    items = client.get("/problems").json()["items"]
    assert len(items) == len(TYPES)
    for item in items:
        (own,) = (link["href"] for link in item["links"] if link["rel"] == "self")
        assert client.get(own).json() == item


def test_browsers_get_pages_that_load_nothing(client):
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    for path in ("/problems", "/problems/paused", "/docs", "/problems/paused?f=html"):
        answer = client.get(path, headers=browser)
        assert answer.headers["Content-Type"] == PAGE
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<script|<link|<img|<iframe|src=|url\(|@import", answer.text)


def test_a_kind_there_is_not_is_a_problem(client):
    check_problem(client.get("/problems/full-moon"), 404)
    check_problem(client.get("/problems?f=xml"), 400)
    check_problem(client.get("/problems", headers={"Accept": "image/png"}), 406)


def test_a_client_that_asks_for_plain_json_gets_problems_as_that(client):
    answer = client.get("/jobs/4711", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")
    assert answer.json()["status"] == 404


# The page about the API


def test_the_page_shows_every_operation_with_its_examples(client):
    document, shown = client.get("/openapi.json").json(), client.get("/docs").text
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert len(operations) > 30
    for operation in operations:
        assert f'<details id="{operation["operationId"]}">' in shown
    assert "Content-Security-Policy" not in client.get("/openapi.json").headers
    assert "ocds-a1b2c3" in shown
    assert "Idempotency-Key" in shown


def test_links_and_anchors_of_the_page_lead_somewhere(client):
    shown = client.get("/docs").text
    for href in re.findall(r'href="([^"]+)"', shown):
        if href.startswith("#"):
            assert f'id="{href[1:]}"' in shown
        else:
            assert client.get(f"/{href}").status_code == 200, href


def test_the_page_and_the_document_are_made_once(client, monkeypatch):
    made = []
    monkeypatch.setattr(description, "docs_page", lambda document: made.append(document) or b"page")
    assert [client.get("/docs").content for _ in range(3)] == [b"page"] * 3
    assert len(made) == 1


# Forms


def test_who_accepts_no_json_is_told_what_there_is(client, published):
    for path in ("/", "/collections", "/collections/sample", "/jobs", "/jobs/1", "/openapi.json"):
        document = check_problem(client.get(path, headers={"Accept": "text/csv"}), 406)
        assert "application/json" in document["detail"]


def test_an_action_whose_answer_would_not_be_accepted_is_not_carried_out(client, sessions):
    with sessions.begin() as session:
        make_collection(session)
        _, key = create_key(session, "me", scope=KeyScope.OPERATE, actor="ada")
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/csv"}
    check_problem(client.put("/collections/sample/pause", headers=headers), 406)
    assert client.get("/pauses", headers={"Authorization": f"Bearer {key}"}).json()["items"] == []


def test_the_trace_that_a_request_belongs_to_is_in_the_log(client, monkeypatch):
    seen = []
    monkeypatch.setattr(routes.views, "list_jobs", lambda *_a, **_k: seen.append(get_contextvars()) or [])
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for given in (f"00-{trace}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", "nonsense"):
        client.get("/jobs", headers={"traceparent": given})
    assert [context.get("trace") for context in seen] == [trace, None, None]


def test_the_form_may_be_chosen_in_the_address(client, published):
    assert client.get("/jobs?f=json", headers={"Accept": "text/csv"}).status_code == 200
    check_problem(client.get("/jobs?f=html"), 406)
    json.loads(client.get("/collections/sample?f=json").text)


# Every read


EXAMPLE_PATHS = {
    "ref": "sample",
    "name": "full.jsonl.gz",
    "job_id": "1",
    "letter_id": "1",
    "id": "paused",
    "process_id": "publish",
    "output_id": "coverage",
    "webhook_id": "1",
}


@pytest.fixture
def key(sessions, published):
    with sessions.begin() as session:
        make_dead_letter(session)
        add_webhook(session, "https://rivers.example/hook", actor="ada")
        return create_key(session, "me", scope=KeyScope.ADMIN, actor="ada")[1]


def reads(client):
    """Return the address of every documented read, but for streams, which have no end."""
    paths = client.get("/openapi.json").json()["paths"]
    reads = [path.format_map(EXAMPLE_PATHS) for path, methods in paths.items() if "get" in methods]
    return [path for path in reads if not path.endswith("/events")]


def test_every_read_has_a_tag_that_is_confirmed_and_says_how_long_it_may_be_kept(client, key):
    headers = {"Authorization": f"Bearer {key}"}
    paths = reads(client)
    assert len(paths) > 15
    for path in paths:
        answer = client.get(path, headers=headers)
        assert answer.status_code == 200, path
        assert "no-cache" in answer.headers["Cache-Control"], path
        again = client.get(path, headers={**headers, "If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["ETag"] == answer.headers["ETag"], path


def test_head_is_as_get_without_the_body_everywhere(client, key):
    headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
    ignored = {"x-request-id", "ratelimit"}
    for path in [*reads(client), "/docs", "/openapi.json", "/_mgmt/ping"]:
        got, asked = client.get(path, headers=headers), client.head(path, headers=headers)
        assert (asked.status_code, asked.content) == (got.status_code, b""), path
        assert {k: v for k, v in asked.headers.items() if k not in ignored} == {
            k: v for k, v in got.headers.items() if k not in ignored
        }, path


def test_every_json_read_with_links_repeats_them_in_a_header(client, key):
    for path in reads(client):
        answer = client.get(path, headers={"Authorization": f"Bearer {key}"})
        if answer.headers["Content-Type"] == "application/json" and "links" in answer.json():
            for link in answer.json()["links"]:
                assert f'<{link["href"]}>; rel="{link["rel"]}"' in answer.headers["Link"], path


def test_what_operators_see_is_for_no_shared_cache(client, key):
    answer = client.get("/collections/sample", headers={"Authorization": f"Bearer {key}"})
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in answer.headers["Vary"]


def test_a_page_of_another_site_can_read_every_header_that_says_something(client, published):
    answer = client.get("/collections", headers={"Origin": "https://elsewhere.example"})
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"ETag", "Link", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After"} <= exposed
    preflight = client.options(
        "/collections", headers={"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    )
    assert int(preflight.headers["Access-Control-Max-Age"]) >= 3600


# Compression


def test_large_answers_are_compressed_and_downloads_are_not(client, published):
    with client.stream("GET", "/openapi.json", headers={"Accept-Encoding": "gzip"}) as answer:
        body = b"".join(answer.iter_raw())
    assert (answer.headers["Content-Encoding"], len(body)) == ("gzip", int(answer.headers["Content-Length"]))
    assert json.loads(gzip.decompress(body))["openapi"]
    assert {"Accept-Encoding", "Accept", "Authorization"} <= set(answer.headers["Vary"].split(", "))
    assert client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    download = client.get("/collections/sample/downloads/full.jsonl.gz", headers={"Accept-Encoding": "gzip"})
    assert (download.content, "Content-Encoding" in download.headers) == (CONTENT, False)


# Versions: optimistic concurrency


def test_a_collection_is_changed_only_as_the_version_that_was_read(client, key):
    headers, path = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}, "/collections/sample"
    with client.stream("GET", path, headers={**headers, "Accept-Encoding": "gzip"}) as answer:
        tag = answer.headers["ETag"]
    changed = client.patch(path, headers={**headers, "If-Match": tag}, json={"title": "New"})
    assert changed.status_code == 200
    refused = client.patch(path, headers={**headers, "If-Match": tag}, json={"title": "Newer"})
    check_problem(refused, 412)
    assert refused.headers["ETag"] == changed.headers["ETag"]
    assert client.get(path, headers=headers).json()["title"] == "New"
    check_problem(client.delete(path, headers={**headers, "If-Match": f'"x", {tag}'}), 412)
    check_problem(client.patch(path, headers={**headers, "If-Match": f"W/{refused.headers['ETag']}"}, json={}), 412)
    for match in (refused.headers["ETag"], "*"):
        assert client.delete(f"{path}?dry_run=true", headers={**headers, "If-Match": match}).status_code == 202


# Limits


@pytest.fixture
def limited(settings, database_url, sessions):
    """A client that may send five reads, two actions and two wrong keys a minute, and a valid key."""
    limits = {"api_reads_per_minute": 5, "api_actions_per_minute": 2, "api_wrong_keys_per_minute": 2}
    with sessions.begin() as session:
        make_collection(session)
        _, key = create_key(session, "me", scope=KeyScope.ADMIN, actor="ada")
    with TestClient(create_app(settings.model_copy(update=limits), database_url)) as client:
        yield client, {"Authorization": f"Bearer {key}"}


def test_who_reads_too_much_is_told_to_wait_and_others_are_not(limited):
    client, key = limited
    answers = [client.get("/collections", headers={"Origin": "https://elsewhere.example"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    check_problem(answers[5], 429)
    assert answers[0].headers["RateLimit-Policy"] == '"reads";q=5;w=60'
    assert answers[0].headers["RateLimit"].startswith('"reads";r=4;t=')
    assert answers[5].headers["RateLimit"].startswith('"reads";r=0;t=')
    assert 1 <= int(answers[5].headers["Retry-After"]) <= 12
    assert answers[5].headers["Access-Control-Allow-Origin"] == "*"
    assert client.get("/collections", headers=key).status_code == 200
    assert 'bowerbird_api_requests_refused_total{limit="reads"} 1.0' in client.get("/metrics").text


def test_actions_have_a_limit_of_their_own(limited):
    client, key = limited
    pauses = [client.put("/collections/sample/pause", headers=key) for _ in range(3)]
    assert [answer.status_code for answer in pauses] == [200, 200, 429]
    assert client.get("/collections", headers=key).status_code == 200


def test_after_too_many_wrong_keys_none_from_there_is_looked_at(limited):
    client, key = limited
    guesses = [client.get("/jobs", headers={"Authorization": f"Bearer guess{number}"}) for number in range(4)]
    assert [answer.status_code for answer in guesses] == [401, 401, 429, 429]
    assert client.get("/jobs", headers=key).status_code == 429
    assert client.get("/jobs").status_code == 200


def test_what_watches_over_the_process_is_never_refused(limited):
    client, _ = limited
    for path in ("/health/live", "/health/ready", "/metrics", "/_mgmt/ping"):
        answers = [client.get(path) for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        assert "RateLimit" not in answers[0].headers


# Prefix and ping


@pytest.fixture
def prefixed(settings, database_url, published):
    app = create_app(settings.model_copy(update={"api_prefix": "/dpr"}), database_url)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_the_ping_is_answered_without_a_database(settings):
    with TestClient(create_app(settings, "postgresql://nobody@127.0.0.1:1/none")) as client:
        answer = client.get("/_mgmt/ping")
        assert (answer.status_code, answer.json()) == (200, "Healthy")
        assert "/_mgmt/ping" not in client.get("/openapi.json").json()["paths"]


def test_below_a_prefix_every_link_leads_somewhere(prefixed):
    seen, left = set(), {"http://testserver/dpr/"}
    while left:
        href = left.pop()
        seen.add(href)
        answer = prefixed.get(href)
        assert answer.status_code == (405 if href.endswith("/execution") else 200), href
        left |= (
            set()
            if href.endswith(("/openapi.json", "/api"))
            else set(re.findall(r'"href":"([^"]+)"', answer.text)) - seen
        )
    assert all(href.startswith("http://testserver/dpr/") for href in seen)
    assert "http://testserver/dpr/collections/sample/downloads/full.jsonl.gz" in seen


def test_below_a_prefix_the_description_locations_and_problems_have_it(prefixed, sessions):
    with sessions.begin() as session:
        _, key = create_key(session, "me", scope=KeyScope.ADMIN, actor="ada")
    assert prefixed.get("/dpr").json()["links"][0]["href"] == "http://testserver/dpr/"
    document = prefixed.get("/dpr/openapi.json").json()
    assert document["servers"] == [{"url": "/dpr"}]
    assert "/collections" in document["paths"]
    problem = check_problem(prefixed.get("/dpr/jobs/4711"), 404)
    assert problem["instance"] == "/dpr/jobs/4711"
    unknown = check_problem(prefixed.get("/dpr/nothing"), 404)
    assert prefixed.get(unknown["type"]).json()["id"] == "not-found"
    ran = prefixed.post("/dpr/collections/sample/jobs", headers={"Authorization": f"Bearer {key}"})
    assert ran.headers["Location"].startswith("http://testserver/dpr/jobs/")
    assert prefixed.post("/dpr/jobs").headers["Allow"] == "GET, HEAD"


NAMED = {
    "GET /nothing": "/",
    "GET /jobs/4711": "/jobs",
    "GET /jobs/2/results": "/jobs/2",
    "GET /collections/nothing": "/collections",
    "GET /collections/sample/downloads/1999.xlsx": "/collections/sample/downloads",
    "GET /problems/full-moon": "/problems",
    "GET /processes/print": "/processes",
    "POST /processes/publish/execution": "/collections",
    "GET /dead-letters/9": "/dead-letters",
    "GET /webhooks/9": "/webhooks",
    "POST /deliveries/9/retry": "/deliveries",
}
"""Request → the path that its problem names."""


@pytest.mark.parametrize(
    ("prefix", "public_url", "place"),
    [
        ("", None, ""),
        ("/dpr", None, "/dpr"),
        ("", "https://data.example.org/open/", "/open"),
        ("/dpr", "https://data.example.org/dpr", "/dpr"),
    ],
)
def test_a_problem_names_paths_where_users_reach_them(
    settings, database_url, published, sessions, prefix, public_url, place
):
    with sessions.begin() as session:
        assert make_job(session, session.get_one(Collection, 1), tasks=()).id == 2
        _, key = create_key(session, "me", scope=KeyScope.ADMIN, actor="ada")
    headers, body = {"Authorization": f"Bearer {key}"}, {"inputs": {"collection": "/collections"}}
    update = {"api_prefix": prefix, "public_url": public_url}
    with TestClient(create_app(settings.model_copy(update=update), database_url)) as client:
        for request, path in NAMED.items():
            method, _, asked = request.partition(" ")
            sent = body if asked.endswith("/execution") else None
            detail = client.request(method, prefix + asked, json=sent, headers=headers).json()["detail"]
            assert re.search(rf"[;:] (follow )?{re.escape(place + path)}( lists|\.$)", detail), detail


def test_outside_the_prefix_there_is_only_what_watches_over_the_process(prefixed):
    for path in ("/health/live", "/health/ready", "/metrics", "/_mgmt/ping"):
        assert prefixed.get(path).status_code == prefixed.get(f"/dpr{path}").status_code == 200
    for path in ("/", "/jobs", "/collections/sample", "/docs", "/dprx/jobs", "/dprhealth/live"):
        document = check_problem(prefixed.get(path), 404)
        assert "/dpr/ lists" in document["detail"]
        assert document["type"].startswith("http://testserver/dpr/problems/")


def test_the_public_url_goes_before_the_prefix(settings, database_url, published):
    update = {"api_prefix": "/dpr", "public_url": "https://data.example.org/dpr"}
    with TestClient(create_app(settings.model_copy(update=update), database_url)) as client:
        assert client.get("/dpr/jobs/1").json()["links"][0]["href"] == "https://data.example.org/dpr/jobs/1"
        assert client.get("/dpr/openapi.json").json()["servers"] == [{"url": "https://data.example.org/dpr"}]


# The process


@pytest.mark.parametrize(("trusted", "statuses"), [("127.0.0.0/8", ["200", "200"]), ("192.0.2.1", ["200", "429"])])
def test_a_client_is_told_apart_by_what_a_trusted_proxy_says_and_no_other(process, tmp_path, trusted, statuses):  # noqa: F811
    url = process(BOWERBIRD_TRUSTED_PROXIES=trusted, BOWERBIRD_API_READS_PER_MINUTE="1").address()
    status_of = ["-o", "/dev/null", "-w", "%{http_code}"]
    said = [
        curl([*status_of, "-H", f"X-Forwarded-For: 198.51.100.{number}", f"{url}/"], tmp_path).stdout
        for number in (1, 2)
    ]
    assert said == statuses


def test_the_process_says_where_it_is_below_its_prefix(process, tmp_path):  # noqa: F811
    url = process(BOWERBIRD_API_PREFIX="/dpr").address()
    assert url.endswith("/dpr")
    assert json.loads(curl([url], tmp_path).stdout)["links"][0]["href"] == f"{url}/"


def test_the_process_ends_when_the_database_does_not_come_in_time(process):  # noqa: F811
    service = process(
        BOWERBIRD_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        BOWERBIRD_DATABASE_WAIT_SECONDS="0.2",
        BOWERBIRD_DATABASE_PAUSE_SECONDS="0.1",
    )
    assert service.end() == 1
    assert "no database in time" in service.seen[-1]
    assert "BOWERBIRD_DATABASE_WAIT_SECONDS" in service.seen[-1]
