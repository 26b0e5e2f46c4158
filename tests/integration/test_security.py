"""The API against those who mean it ill: over real sockets where HTTP clients are too polite."""

import contextlib
import json
import os
import pkgutil
import re
import re._constants as codes
import re._parser as parser
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import services
import shared
from services.api.bodies import MAX_REQUEST_BYTES
from services.api.server import MAX_HEAD_BYTES
from shared.keys import create_key
from tests.factories import make_collection, make_job
from tests.integration.test_api import CONTENT, FULL, check_problem, client, make_published, process, publish  # noqa: F401
from tests.integration.test_control import api, audit, open_api  # noqa: F401
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
CLOSE = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
SHORT = {"BOWERBIRD_API_REQUEST_SECONDS": "0.5", "BOWERBIRD_API_STALL_SECONDS": "0.5"}


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def read(connection):
    """Return all that is answered until the connection ends."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(1 << 16):
            received += block
    return bytes(received)


def ask(url, request):
    """Return status, head and body of the answer to what is sent, byte for byte."""
    with connect(url) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(request)
        head, _, body = read(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


def alive(url):
    return ask(url, b"GET /health/live" + CLOSE + b"\r\n")[0] == 200


def key_of(sessions, scope="operate"):
    with sessions.begin() as session:
        return create_key(session, "me", scope=scope, actor="ada")[1].encode()


# Those who take their time


def dribble(connection, rest):
    """Send a byte now and then until there is an answer; return it."""
    connection.settimeout(0.02)
    for byte in rest:
        try:
            connection.sendall(bytes([byte]))
            return connection.recv(1 << 16)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return b""
    raise AssertionError("all of it was waited for")


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_head_that_comes_slowly_is_not_waited_for(process, beginning):  # noqa: F811
    url = process(**SHORT).address()
    with connect(url) as connection:
        connection.sendall(beginning)
        answer = dribble(connection, b"x" * 10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 408
    assert alive(url)


def test_a_client_that_says_nothing_is_not_waited_for(process):  # noqa: F811
    with connect(process(**SHORT).address()) as connection:
        assert read(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("framing", [b"Content-Length: 60000", b"Transfer-Encoding: chunked"])
def test_a_body_that_comes_slowly_is_not_waited_for(process, sessions, framing):  # noqa: F811
    service = process(**SHORT)
    head = b"POST /replay HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
    with connect(service.address()) as connection:
        connection.sendall(head % key_of(sessions) + framing + b"\r\n\r\n")
        assert dribble(connection, b"1\r\n{\r\n" * 5_000).startswith(b"HTTP/1.1 408 ")
    assert service.stop() == 0


def test_a_second_request_that_comes_slowly_is_not_waited_for(process):  # noqa: F811
    with connect(process(**SHORT).address()) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET ")
        received = b""
        while b"ok" not in received:
            received += connection.recv(1 << 16)
        assert b"HTTP/1.1 408 " in dribble(connection, b"x" * 10_000)


def test_an_answer_that_nobody_takes_is_given_up(process, sessions, settings):  # noqa: F811
    with sessions.begin() as session:
        job = make_job(session, make_collection(session), status="COMPLETED")
        publish(session, settings, job, "full.xlsx", os.urandom(30_000_000))
        job.collection.active_job_id = job.id
    service = process(**SHORT)
    url = service.address()
    with connect(url) as connection:
        connection.sendall(b"GET /collections/sample/downloads/full.xlsx" + CLOSE + b"\r\n")
        line = json.loads(service.lines.get(timeout=60))
        assert (line["event"], line["cause"]) == ("connection ended", "the answer is not taken")
        assert len(read(connection)) < 30_000_000
    assert alive(url)
    assert service.stop() == 0


def test_connections_beyond_the_limit_are_told_so_and_there_is_room_again(process):  # noqa: F811
    url = process(BOWERBIRD_API_CONNECTIONS="3").address()
    held = [connect(url) for _ in range(3)]
    for connection in held:
        connection.sendall(b"GET ")
    with connect(url) as connection:
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer
    held.pop().close()
    eventually(lambda: alive(url), what="there is room again")
    for connection in held:
        connection.close()


# What is too large, or no HTTP


NO_REQUESTS = [
    b"GET /" + b"a" * 1_000_000 + CLOSE + b"\r\n",
    b"GET /jobs?" + b"since=2d&" * 100_000 + CLOSE + b"\r\n",
    b"GET /" + CLOSE + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
    b"GET /" + CLOSE + b"X: y\r\n" * 100_000 + b"\r\n",
    b"GET /\xc3\xa9" + CLOSE + b"\r\n",
    b"GET /\x00" + CLOSE + b"\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /" + CLOSE + b"X y: z\r\n\r\n",
    b"GET /" + CLOSE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"GET /" + CLOSE + b"Content-Length: -1\r\n\r\n",
    b"GET /" + CLOSE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /" + CLOSE + b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",
    b"GET /" + CLOSE + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
]


def test_what_is_no_proper_request_is_refused_as_a_problem_and_the_server_goes_on(process):  # noqa: F811
    service = process()
    url = service.address()
    for request in NO_REQUESTS:
        status, head, body = ask(url, request)
        assert 400 <= status < 502, request[:40]
        assert b"application/problem+json" in head, request[:40]
        assert json.loads(body)["status"] == status
    assert ask(url, b"GET /" + CLOSE + b"X: " + b"y" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n")[0] == 200
    service.stop()
    assert "Traceback" not in "".join(service.seen)


def test_a_body_in_chunks_is_cut_at_the_limit(process, sessions):  # noqa: F811
    url = process().address()
    chunk = b"%x\r\n%s\r\n" % (10_000, b" " * 10_000)
    head = b"POST /replay" + CLOSE + b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n"
    chunks = chunk * (MAX_REQUEST_BYTES // 10_000 + 1)
    status, _, body = ask(url, head % key_of(sessions) + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (status, json.loads(body)["status"]) == (413, 413)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"job": ' + b"9" * 60_000 + b"}",
        b'{"job": 1e999999}',
        b'{"job": -0.1e-999999}',
        b'{"job": NaN}',
        b'{"job": "\\ud800"}',
        b'{"translations": {' + b",".join(b'"x%d": {}' % number for number in range(5000)) + b"}}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}x",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
@pytest.mark.parametrize("path", ["/replay", "/collections"])
def test_no_json_brings_the_server_down(api, path, body):  # noqa: F811
    response = api.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert len(response.content) < MAX_REQUEST_BYTES


def test_of_members_given_twice_the_last_counts(api, sessions):  # noqa: F811
    body = b'{"name": "a", "source": "https://a.example/", "name": "b"}'
    response = api.post("/collections", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["source_id"]) == (201, "b")


# Files


OTHER_NAMES = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/secret",
    "%252e%252e%252fsecret",
    "..%5c..%5csecret",
    "..\\..\\secret",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "full.jsonl.gz%00.txt",
    "full.jsonl.gz%0a",
    "full.jsonl.gz/",
    "full.jsonl.gz/..",
    ".%2ffull.jsonl.gz",
    "full.jsonl.gz;x",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8Fsecret",
    "..%c0%afsecret",
    "FULL.jsonl.gz",
    "%EF%BC%92021.jsonl.gz",
    "manifest.json",
]


def test_no_name_leads_out_of_the_published_files(process, sessions, settings):  # noqa: F811
    with sessions.begin() as session:
        make_published(session, settings)
    (settings.exports / "secret").write_text("root: sesame")
    url = process().address()
    for name in OTHER_NAMES:
        status, head, body = ask(url, b"GET /collections/sample/downloads/%s" % name.encode() + CLOSE + b"\r\n")
        assert status in {400, 404}, name
        assert b"application/problem+json" in head
        assert b"root:" not in body


def test_a_link_in_the_place_of_a_file_is_not_followed(client, sessions, settings, tmp_path):  # noqa: F811
    with sessions.begin() as session:
        make_published(session, settings)
    assert client.get(FULL).content == CONTENT
    (path,) = (found for found in settings.exports.rglob("full.jsonl.gz") if found.read_bytes() == CONTENT)
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * len(CONTENT))
    path.unlink()
    path.symlink_to(secret)
    check_problem(client.get(FULL), 503)


# Headers and logs


BROKEN_LINES = [
    "/collections/x%0d%0aSet-Cookie:%20a=1/downloads/full.jsonl.gz",
    "/collections/sample%0d%0aSet-Cookie:%20a=1",
    "/jobs?collection=%0d%0aSet-Cookie:%20a=1",
    "/collections?language=en%0d%0aSet-Cookie:%20a=1",
    "/collections?limit=1&after=%0d%0aSet-Cookie:%20a=1",
    "/%0d%0aSet-Cookie:%20a=1",
]


def test_nothing_of_a_request_becomes_a_header(process, sessions, settings):  # noqa: F811
    with sessions.begin() as session:
        make_published(session, settings)
    url = process().address()
    for target in BROKEN_LINES:
        status, head, _ = ask(url, b"GET " + target.encode() + CLOSE + b"X-Request-Id: a\tb\r\n\r\n")
        assert status < 500, target
        assert b"\nset-cookie" not in head, target
        assert b"a\tb" not in head, target


FORGED = "2026-01-01T00:00:00Z [info     ] forged"
SCRIPT = f"""
import logging, sys
from shared.logging import configure_logging, get_logger
from shared.settings import Settings
configure_logging(Settings(log_format=sys.argv[1]), "test")
evil = "x\\n{FORGED}\\r\\x1b[2J\\x9b1m\\u2028\\u202e\\x00\\x7f"
get_logger().warning("request refused", path=evil, more={{"path": evil}}, **{{"exc": ValueError(evil)}})
logging.getLogger("uvicorn.error").warning("Invalid %s", evil)
try:
    raise ValueError(evil)
except ValueError:
    get_logger().exception("request failed")
"""


@pytest.mark.parametrize("format_", ["console", "json"])
def test_no_text_passes_for_a_log_line_or_steers_a_terminal(format_):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, format_], capture_output=True, text=True, check=True, cwd=ROOT, encoding="utf-8"
    )
    lines = re.split("[\n\r\u2028]", result.stderr.rstrip("\n"))
    assert not any(line.startswith(FORGED[:10]) and "forged" in line.partition("]")[2][:8] for line in lines)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", result.stderr)
    assert "forged" in result.stderr
    if format_ == "json":
        assert [json.loads(line)["level"] for line in lines] == ["warning", "warning", "error"]


def test_a_key_in_an_address_is_in_no_answer_and_no_line(process, sessions):  # noqa: F811
    key = key_of(sessions)
    secret = key.rpartition(b"_")[2]
    service = process(BOWERBIRD_LOG_LEVEL="DEBUG")
    url = service.address()
    targets = [b"http://user:%s@x/jobs", b"/jobs?key=%s", b"/jobs?limit=%s", b"/collections/%s", b"/jobs/%s", b"/%s"]
    answers = [ask(url, b"GET " + target % key + CLOSE + b"\r\n") for target in targets]
    answers.append(ask(url, b"GET /openapi.json" + CLOSE + b"Authorization: Bearer " + key + b"\r\n\r\n"))
    service.stop()
    assert not [head for _, head, body in answers if secret in head + body]
    assert secret.decode() not in "".join(service.seen)


# Methods and browsers


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "PROPFIND", "OPTIONS"])
def test_no_other_method_does_anything(client, method):  # noqa: F811
    assert client.request(method, "/health/live").status_code in {404, 405}


def test_a_method_is_what_the_request_line_says(api, sessions):  # noqa: F811
    with sessions.begin() as session:
        make_collection(session, "a")
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert api.get("/collections/a?_method=DELETE", headers={name: "DELETE"}).status_code == 200
    assert audit(sessions) == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8080"])
def test_no_page_of_another_site_is_lent_credentials(client, origin):  # noqa: F811
    for method in ("GET", "POST", "DELETE"):
        asked = {"Origin": origin, "Access-Control-Request-Method": method}
        for response in (client.get("/jobs", headers={"Origin": origin}), client.options("/jobs", headers=asked)):
            assert "access-control-allow-credentials" not in response.headers
            assert response.headers.get("access-control-allow-origin", "*") == "*"
        preflight = client.options("/jobs", headers=asked)
        assert method == "GET" or method not in preflight.headers.get("access-control-allow-methods", "")


# Where a source may be


@pytest.mark.parametrize(
    "source",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fd00::1]/",
        "http://0xa000001/",
        "http://167772161/",
        "http://user@10.1/",
    ],
)
def test_no_source_leads_inside(api, sessions, source):  # noqa: F811
    with sessions.begin() as session:
        make_collection(session, "a", source="https://a.example/")
    new = api.post("/collections", json={"name": "b", "source": source})
    assert "BOWERBIRD_ALLOWED_NETWORKS" in check_problem(new, 422)["detail"]
    check_problem(api.patch("/collections/a", json={"source": source}), 422)
    check_problem(api.patch("/collections", json={"all": True, "change": {"source": source}}), 422)
    assert audit(sessions) == []


# Patterns


def patterns():
    """Return every compiled pattern that a module of ours holds, by place."""
    found = {}
    for package in (services, shared):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__") or ".migrations" in info.name:
                continue
            for name, value in vars(import_module(info.name)).items():
                if isinstance(value, re.Pattern):
                    found[f"{info.name}.{name}"] = value
    return found


def repeats_within_repeats(items, inside=False):
    """Return whether an unbounded repetition is inside another, which can take time beyond all bounds."""
    for code, value in items:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            unbounded = value[1] == codes.MAXREPEAT
            if unbounded and inside:
                return True
            if repeats_within_repeats(value[2], inside or unbounded):
                return True
        elif code == codes.SUBPATTERN:
            if repeats_within_repeats(value[3], inside):
                return True
        elif code == codes.BRANCH and any(repeats_within_repeats(branch, inside) for branch in value[1]):
            return True
    return False


def test_no_pattern_repeats_within_a_repeat():
    assert repeats_within_repeats(parser.parse("(a+)+b"))
    assert len(patterns()) > 15
    assert [
        place
        for place, pattern in patterns().items()
        if isinstance(pattern.pattern, str) and repeats_within_repeats(parser.parse(pattern.pattern, pattern.flags))
    ] == []
