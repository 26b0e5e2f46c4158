"""API keys: who is let in, to what, and that nothing of a key is ever told."""

import json
import re
import socket
import threading
import traceback
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update
from structlog.testing import CapturingLogger

from services.api import administration, control, problems, routes
from services.api.app import create_app
from shared import keys
from shared.db.models import ApiKey, Audit, KeyScope
from shared.keys import InvalidKeyError, KeyRefusedError, authenticate, create_key, list_keys, revoke_key, rotate_key
from shared.logging import mask
from shared.settings import Settings
from tests.factories import make_collection, make_job
from tests.integration.test_api import CLOSED, FULL, Process, TestClient, check_problem, make_published

PROBLEMS = "http://testserver/problems/"
SCOPES = (None, "read", "operate", "admin")
DOCUMENT = create_app(Settings(), CLOSED).openapi()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
PUBLIC = [(method, path) for method, path, operation in OPERATIONS if {} in operation.get("security", [])]
UNKNOWN = f"bowerbird_{'0' * 12}_{'0' * 64}"


def make(sessions, name="night-watch", scope="operate", **options):
    with sessions.begin() as session:
        return create_key(session, name, scope=KeyScope(scope), actor="ada@host", **options)


def ask(sessions, key):
    """Return the name under which a key is let in, or why it is not."""
    try:
        with sessions.begin() as session:
            return authenticate(session, key).name
    except KeyRefusedError as error:
        return error.reason


def rows(sessions):
    with sessions() as session:
        return session.scalars(select(ApiKey).order_by(ApiKey.id)).all()


@pytest.fixture
def client(settings, database_url):
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


# Keys


def test_a_key_can_be_recognised_and_the_database_holds_its_hash_only(sessions):
    view, key = make(sessions)
    assert re.fullmatch(r"bowerbird_[0-9a-f]{12}_[0-9a-f]{64}", key)
    assert key.startswith(f"{view.prefix}_")
    with sessions() as session:
        stored = str(session.execute(text("SELECT api_key::text || audit::text FROM api_key, audit")).all())
    assert view.prefix in stored
    assert key.rpartition("_")[2] not in stored
    assert len({make(sessions, f"n{number}")[1] for number in range(20)}) == 20
    assert ask(sessions, key) == "night-watch"


def test_hashes_are_compared_in_constant_time_also_where_there_is_no_such_key(sessions, monkeypatch):
    _, key = make(sessions)
    compared = []
    compare = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda *pair: compared.append(pair) or compare(*pair))
    for wrong in (
        UNKNOWN,
        "nonsense",
        "",
        key[:-1],
        key + "0",
        key.upper(),
        key[:-1] + ("0" if key[-1] != "0" else "1"),
    ):
        assert ask(sessions, wrong) == "unknown"
    assert len(compared) == 7
    assert all(len(left) == len(right) == 32 for left, right in compared)


def test_a_key_ends_when_it_expires_or_is_revoked_and_only_its_holder_is_told(sessions):
    _, expiring = make(sessions, "a", expires_in=timedelta(days=90))
    _, revoked = make(sessions, "b")
    assert ask(sessions, expiring) == "a"
    with sessions.begin() as session:
        session.execute(update(ApiKey).where(ApiKey.name == "a").values(expires_at=func.now()))
        assert revoke_key(session, "b", actor="ada@host") == 1
    assert ask(sessions, expiring) == "expired"
    assert ask(sessions, revoked) == "revoked"
    assert ask(sessions, revoked[:-64] + "0" * 64) == "unknown"


def test_a_rotated_key_has_two_secrets_until_the_grace_ends(sessions):
    view, old = make(sessions, expires_in=timedelta(days=90))
    with sessions.begin() as session:
        newer, new = rotate_key(session, "night-watch", actor="ada@host", grace=timedelta(hours=2))
    assert (newer.scope, newer.expires_at - newer.created) == (view.scope, timedelta(days=90)), "as it was"
    assert ask(sessions, old) == ask(sessions, new) == "night-watch"
    before, after = rows(sessions)
    assert before.expires_at - before.replaced_at == timedelta(hours=2)
    with sessions.begin() as session:
        session.execute(update(ApiKey).where(ApiKey.id == before.id).values(expires_at=func.now()))
    assert (ask(sessions, old), ask(sessions, new)) == ("expired", "night-watch")
    with sessions.begin() as session:
        rotate_key(session, "night-watch", actor="ada@host", grace=timedelta(0))
    assert ask(sessions, new) == "expired"
    assert after.replaced_at is None


def test_rotating_never_makes_an_old_secret_valid_for_longer(sessions):
    make(sessions, expires_in=timedelta(minutes=5))
    with sessions.begin() as session:
        rotate_key(session, "night-watch", actor="ada@host", grace=timedelta(days=1))
    before, _ = rows(sessions)
    assert before.expires_at - before.created == timedelta(minutes=5)


def test_revoking_ends_every_secret_and_frees_the_name(sessions):
    _, old = make(sessions)
    with sessions.begin() as session:
        _, new = rotate_key(session, "night-watch", actor="ada@host")
        assert revoke_key(session, "night-watch", actor="ada@host") == 2
    assert ask(sessions, old) == ask(sessions, new) == "revoked"
    for refused in (rotate_key, revoke_key):
        with sessions.begin() as session, pytest.raises(InvalidKeyError, match="There is no key 'night-watch'"):
            refused(session, "night-watch", actor="ada@host")
    _, again = make(sessions)
    assert ask(sessions, again) == "night-watch"
    with sessions() as session:
        assert [view.state for view in list_keys(session)] == ["valid"]
        assert [view.state for view in list_keys(session, every=True)] == ["valid", "revoked", "revoked"]


def test_a_name_has_one_key_whoever_is_faster(sessions):
    make(sessions)
    with pytest.raises(InvalidKeyError, match="There is a key night-watch already"):
        make(sessions)
    outcomes, start = [], threading.Barrier(4)

    def race():
        start.wait()
        try:
            outcomes.append(make(sessions, "other")[0].name)
        except InvalidKeyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["other", "refused", "refused", "refused"]


@pytest.mark.parametrize("name", ["", "A", "a b", "key:x", "x" * 64, "-a", "a\n", "ada@host"])
def test_a_name_is_one_that_can_be_told_from_a_person(sessions, name):
    with pytest.raises(InvalidKeyError, match="is no name for a key"):
        make(sessions, name)


def test_use_is_noted_once_a_minute_and_waits_for_nobody(sessions):
    _, key = make(sessions)
    assert ask(sessions, key) == "night-watch"
    (first,) = rows(sessions)
    ask(sessions, key)
    assert rows(sessions)[0].last_used_at == first.last_used_at
    with sessions.begin() as session:
        session.execute(update(ApiKey).values(last_used_at=func.now() - timedelta(seconds=61)))
    with sessions.begin() as other:
        other.execute(select(ApiKey).with_for_update())
        assert ask(sessions, key) == "night-watch", "while another writes it"
    ask(sessions, key)
    assert rows(sessions)[0].last_used_at > first.last_used_at


def test_what_is_done_with_keys_is_audited(sessions):
    make(sessions)
    with sessions.begin() as session:
        rotate_key(session, "night-watch", actor="ada@host")
        revoke_key(session, "night-watch", actor="ada@host")
    with sessions() as session:
        audit = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [(row.actor, row.action) for row in audit] == [
        ("ada@host", "key create"),
        ("ada@host", "key rotate"),
        ("ada@host", "key revoke"),
    ]
    assert all(row.details["name"] == "night-watch" for row in audit)


def test_what_looks_like_a_key_is_masked_wherever_it_stands():
    key = f"bowerbird_{'a' * 12}_{'b' * 64}"
    shown = f"bowerbird_{'a' * 12}_***"
    assert mask(f'"{key}", {key[:40]} {key}more') == f'"{shown}", {shown} {shown}more'
    assert mask(key.upper()) == f"BOWERBIRD_{'A' * 12}_***"
    assert mask("bowerbird_database_url and bowerbird_test_0123456789ab") == (
        "bowerbird_database_url and bowerbird_test_0123456789ab"
    )


# The command


def test_the_command_makes_a_key_and_prints_it_alone_for_a_shell_to_catch(call, sessions):
    result = call("key", "create", "ci", "--scope", "operate", "--expires", "90d")
    key = result.stdout.removesuffix("\n")
    assert ask(sessions, key) == "ci"
    assert "not shown again" in result.stderr
    assert key not in result.stderr
    (row,) = rows(sessions)
    assert (row.scope, row.expires_at - row.created) == ("operate", timedelta(days=90))
    assert "@" in row.created_by
    view = json.loads(call("key", "create", "other", "--json").stdout)
    assert (view["scope"], view["expires_at"], ask(sessions, view["key"])) == ("read", None, "other")


def test_the_command_lists_keys_without_their_secrets(call, sessions):
    key = call("key", "create", "ci").stdout.strip()
    listed = call("key", "list").stdout
    assert "ci" in listed
    assert key.rpartition("_")[0] in listed
    (view,) = json.loads(call("key", "list", "--json").stdout)
    assert view["state"] == "valid"
    assert key.rpartition("_")[2] not in listed + json.dumps(view)


def test_the_command_rotates_and_revokes(call, sessions):
    old = call("key", "create", "ci", "--scope", "admin").stdout.strip()
    new = call("key", "rotate", "ci", "--grace", "0s").stdout.strip()
    assert (ask(sessions, old), ask(sessions, new)) == ("expired", "ci")
    assert len(json.loads(call("key", "list", "--json").stdout)) == 1
    assert len(json.loads(call("key", "list", "--all", "--json").stdout)) == 2
    call("key", "revoke", "ci")
    assert ask(sessions, new) == "revoked"
    assert "There is no key 'ci'" in call("key", "revoke", "ci", status=1).stderr
    assert "No keys" in call("key", "list").stderr


def test_the_command_says_what_is_wrong(call):
    assert "read, operate, admin" in call("key", "create", "ci", "--scope", "root", status=2).stderr
    assert "is no time" in call("key", "create", "ci", "--expires", "soon", status=2).stderr
    assert "is no name" in call("key", "create", "Not this", status=1).stderr
    call("key", "create", "ci")
    assert "already" in call("key", "create", "ci", status=1).stderr


# Scopes, over every operation


def state_of(operation):
    """Return the scope that an operation states: None: anyone's; a name; and whether it takes a key at all."""
    stated = operation.get("security", [])
    needed = [scope for one in stated for scope in one.get("apiKey", [])]
    return (None if {} in stated or not stated else needed[0]), bool(stated)


@pytest.mark.parametrize("scope", SCOPES)
def test_every_operation_answers_as_its_stated_scope_says(client, sessions, scope):
    headers = bearer(make(sessions, "x", scope)[1]) if scope else {}
    checked = 0
    for method, path, operation in OPERATIONS:
        needed, _ = state_of(operation)
        enough = SCOPES.index(scope) >= SCOPES.index(needed)
        answer = operation["responses"].get("200", {})
        if enough and "text/event-stream" in answer.get("content", {}) and "{" not in path:
            continue  # it has no end: test_streams.py asks it
        # What is asked for is not there, or nothing is asked for: who may, is told so and changes nothing.
        url = re.sub(r"\{\w+\}", "4711", path)
        for way in {method, "HEAD"} if method == "GET" else {method}:
            response = client.request(way, url, headers=headers)
            if enough:
                assert response.status_code not in (401, 403, 405), (way, path)
                continue
            assert response.status_code == (403 if scope else 401), (way, path)
            assert response.headers["WWW-Authenticate"].startswith('Bearer realm="bowerbird"')
            if way != "HEAD":
                kind = check_problem(response, 403 if scope else 401)["type"]
                assert kind == PROBLEMS + ("scope-too-small" if scope else "no-key")
            if scope:
                assert f'error="insufficient_scope", scope="{needed}"' in response.headers["WWW-Authenticate"]
            checked += 1
    assert checked == {None: 45, "read": 25, "operate": 6, "admin": 0}[scope]


def test_every_route_is_documented(client):
    documented = {(method, path) for method, path, _ in OPERATIONS}
    documented.add(("GET", "/metrics"))  # which only Prometheus reads
    heads = {("HEAD", path) for method, path in documented if method == "GET"}
    for router in (routes.router, control.router, administration.router):
        for route in router.routes:
            for method in route.methods:
                assert (method, route.path) in documented | heads


def test_who_is_not_let_in_is_told_so_before_anything_of_the_request_is_read(client, sessions):
    _, reading = make(sessions, "r", "read")
    for headers, status in (({}, 401), (bearer(reading), 403)):
        for content in (b"nonsense", b" " * 100_000):
            check_problem(client.post("/jobs/x/cancel", content=content, headers=headers), status)
        check_problem(client.get("/audit?limit=x", headers=headers), 401 if status == 401 else 400)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer  ", "bearer a b", "Bearer ä", "Bearer a\tb", "Bearerx", "Bearer: x", "Bearer,x"],
)
def test_a_malformed_key_is_refused_everywhere(client, sessions, header):
    for path in ("/collections", "/audit"):
        response = client.get(path, headers={"Authorization": header.encode("latin-1")})
        assert check_problem(response, 401)["type"] == f"{PROBLEMS}malformed-key"
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="bowerbird", error="invalid_token"'


@pytest.mark.parametrize(("method", "path"), PUBLIC)
def test_a_key_that_is_not_valid_is_refused_also_where_none_is_needed(client, sessions, method, path):
    url = re.sub(r"\{\w+\}", "1", path).replace("s/1/d", "s/sample/d")
    # To execute a process, OGC clients ask for nothing and are answered in plain JSON.
    response = client.request(method, url, headers=bearer(UNKNOWN) | {"Accept": "application/problem+json, */*"})
    assert response.status_code == 401
    if method != "HEAD":
        assert check_problem(response, 401)["type"] == f"{PROBLEMS}unknown-key"


def test_revoked_and_expired_keys_are_refused_and_their_holder_is_told_why(client, sessions):
    _, key = make(sessions)
    assert client.get("/audit", headers=bearer(key)).status_code == 200
    with sessions.begin() as session:
        session.execute(update(ApiKey).values(expires_at=func.now()))
    problem = check_problem(client.get("/audit", headers=bearer(key)), 401)
    assert problem["type"] == f"{PROBLEMS}expired-key"
    with sessions.begin() as session:
        session.execute(update(ApiKey).values(revoked_at=func.now()))
    assert check_problem(client.get("/audit", headers=bearer(key)), 401)["type"] == f"{PROBLEMS}revoked-key"


def test_two_authorizations_are_refused_and_one_of_another_scheme_is_no_key(client, sessions):
    _, key = make(sessions)
    for pair in ((f"Bearer {key}", f"Bearer {key}"), ("Basic dTpw", f"Bearer {key}"), (f"Bearer {key}", "Basic dTpw")):
        check_problem(client.get("/audit", headers=[("Authorization", one) for one in pair]), 401)
    assert client.get("/collections", headers={"Authorization": "Basic dTpw"}).status_code == 200
    assert check_problem(client.get("/audit", headers={"Authorization": key}), 401)["type"] == f"{PROBLEMS}no-key"
    assert client.get("/audit", headers={"authorization": f"bEARER  {key} "}).status_code == 200


def test_a_key_in_the_address_is_no_key(client, sessions):
    _, key = make(sessions)
    for name in ("key", "api_key", "access_token"):
        assert key not in check_problem(client.get(f"/audit?{name}={key}"), 401)["instance"]


# What is shown


def test_with_a_key_private_collections_are_shown_in_full_and_without_one_as_ever(client, sessions, settings):
    _, key = make(sessions, scope="read")
    with sessions.begin() as session:
        job = make_published(session, settings, "hidden")
        job.collection.public, job.collection.source = False, "https://u:secret@h.example/x?token=1"
        job.tasks[0].note = "https://u:secret@h.example/x?token=1 answered 500"
        session.execute(text("UPDATE unit SET error = 'it broke', traceback = 'Traceback …' WHERE number = 1"))
    headers = bearer(key)
    collection = client.get("/collections/hidden", headers=headers).json()
    assert (collection["source"], collection["paused"]) == ("https://u:***@h.example/x?token=1", False)
    (listed,) = client.get("/collections", headers=headers).json()["items"]
    assert (listed["id"], listed["source"], listed["paused"]) == (collection["id"], collection["source"], False)
    shown = client.get(f"/jobs/{job.id}", headers=headers).json()
    assert shown["tasks"][0]["note"] == "https://u:***@h.example/x?token=1 answered 500"
    assert [(error["error"], error["traceback"]) for error in shown["errors"]] == [("it broke", "Traceback …")]
    assert len(client.get("/jobs?collection=hidden", headers=headers).json()["jobs"]) == 1
    assert len(client.get("/collections/hidden/downloads", headers=headers).json()["items"]) == 2
    assert client.get("/collections/hidden/downloads/full.jsonl.gz", headers=headers).status_code == 200
    for path in ("/collections/hidden", f"/jobs/{job.id}", "/collections/hidden/downloads/full.jsonl.gz"):
        check_problem(client.get(path), 404)


def test_caches_keep_what_a_key_is_shown_for_nobody_else(client, sessions, settings):
    _, key = make(sessions, scope="read")
    with sessions.begin() as session:
        make_published(session, settings)
    for path in ("/collections", "/jobs/1", FULL):
        public, private = client.get(path), client.get(path, headers=bearer(key))
        assert (public.headers["Cache-Control"], private.headers["Cache-Control"]) == ("no-cache", "private, no-cache")
        assert all("Authorization" in response.headers["Vary"] for response in (public, private))
        again = client.get(path, headers=bearer(key) | {"If-None-Match": private.headers["ETag"]})
        assert (again.status_code, again.headers["Cache-Control"]) == (304, "private, no-cache")
    assert client.get("/jobs/1").headers["ETag"] != client.get("/jobs/1", headers=bearer(key)).headers["ETag"]


def test_what_an_action_answers_is_kept_by_no_cache(client, sessions):
    _, key = make(sessions)
    assert client.put("/queues/exporter/pause", headers=bearer(key)).headers["Cache-Control"] == "no-store"


def test_pages_of_other_sites_may_read_and_not_steer(client, sessions):
    _, key = make(sessions)
    origin = {"Origin": "https://elsewhere.example"}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        asked = origin | {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "Authorization, Content-Type",
        }
        preflight = client.options("/dead-letters/replay", headers=asked)
        assert preflight.status_code == 400
        assert method not in preflight.headers.get("Access-Control-Allow-Methods", "")
    # What a browser sends without asking has no key.
    check_problem(client.post("/dead-letters/replay", content=b'{"all": true}', headers=origin), 401)
    read = client.get("/collections", headers=origin | bearer(key))
    assert read.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in read.headers


# Nothing of a key is told


@pytest.fixture
def logged(monkeypatch):
    logger = CapturingLogger()
    for module in (problems, control):
        monkeypatch.setattr(module, "log", logger)
    return logger.calls


def test_a_defect_tells_nothing_of_the_key(client, sessions, monkeypatch, logged):
    _, key = make(sessions)
    secret = key.rpartition("_")[2]
    seen = []

    def break_down(*_arguments, **_options):
        raise RuntimeError("insides")

    def record(*_arguments, **_options):
        seen.append(traceback.format_exc())

    monkeypatch.setattr("shared.keys._note_use", break_down)
    monkeypatch.setattr(problems.log, "exception", record, raising=False)
    response = client.get("/audit", headers=bearer(key))
    check_problem(response, 500)
    assert "insides" in seen[0]
    assert secret not in seen[0] + response.text + str(logged)


def test_what_is_quoted_of_a_request_is_masked(client, sessions):
    _, key = make(sessions)
    secret = key.rpartition("_")[2]
    for response in (
        client.get(f"/collections/{key}", headers=bearer(key)),
        client.get(f"/jobs/{key}"),
        client.get(f"/{key}"),
        client.get(f"/collections?limit={key}"),
        client.get(f"/audit?since={key}", headers=bearer(key)),
        client.get(f"/dead-letters/{key}", headers=bearer(key)),
        client.post("/dead-letters/replay", json={key: 1}, headers=bearer(key)),
        client.post("/dead-letters/replay", json={"queue": key}, headers=bearer(key)),
        client.get(f"/audit?actor={key}", headers=bearer(key)),
    ):
        assert secret not in response.text, response.request.url
    with sessions.begin() as session:
        make_job(session, make_collection(session))
    cancelled = client.post("/jobs/1/cancel", json={"reason": f"with {key}"}, headers=bearer(key))
    assert (cancelled.status_code, secret in cancelled.text) == (200, False)


HEADERS = [
    b"Authorization: Bearer %s",
    b"Authorization: Bearer %sx",
    b"Authorization: bearer\t%s",
    b"Authorization: %s",
    b"Authorization: Basic %s",
    b"Authorization: Bearer %s %s",
    b"Authorization: Bearer \xff%s",
    b"Authorization: Bearer %s\r\nAuthorization: Bearer %s",
    b"Authorization: Bearer\r\n %s",
    b"Authorization Bearer %s",
    b"Authorization: Bearer %s\x00",
    b"Authorization: Bearer %s\rX: y",
    b"Idempotency-Key: %s",
    b"X-Request-Id: %s",
]


@pytest.mark.parametrize("database", ["there", "away"])
def test_the_process_logs_nothing_of_a_key_however_it_is_sent(settings, sessions, database):
    _, key = make(sessions, scope="admin")
    secret = key.rpartition("_")[2].encode()
    environment = {"BOWERBIRD_LOG_LEVEL": "DEBUG"} | ({"BOWERBIRD_DATABASE_URL": CLOSED} if database == "away" else {})
    service = Process(settings, **environment)
    try:
        host, port = service.address().removeprefix("http://").split(":")
        answers = []
        for header in HEADERS:
            line = header.replace(b"%s", key.encode())
            for start in (b"GET /audit", b"GET /collections", b"PUT /queues/exporter/pause", b"POST /" + key.encode()):
                with socket.create_connection((host, int(port)), timeout=60) as connection:
                    connection.sendall(start + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + line + b"\r\n\r\n")
                    answer = b""
                    while block := connection.recv(1 << 16):
                        answer += block
                    answers.append(answer)
    finally:
        service.stop()
    told = b"".join(answers)
    # The request id is the asker's own, and only comes back to them.
    assert secret not in re.sub(rb"(?im)^x-request-id: .*$|\"request_id\":\"[^\"]*\"", b"", told)
    assert secret.decode() not in "".join(service.seen)
    statuses = {int(answer.split()[1]) for answer in answers}
    assert statuses >= ({200, 400, 401} if database == "there" else {400, 401, 503})
    assert 500 not in statuses
