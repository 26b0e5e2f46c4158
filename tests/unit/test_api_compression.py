"""Compression: of text that is large enough, in the coding that the client likes best; tags fit what is sent."""

import gzip
import json
import warnings

import pytest
import zstandard
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from services.api.compression import SMALLEST_BYTES, Compressed, coding_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

TEXT = json.dumps({"text": "open data " * 1000}).encode()
TAG = '"abc"'


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("*", "zstd"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0, *;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("br, deflate", None),
        ("GZIP", "gzip"),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(accepted, expected):
    assert coding_for(accepted) == expected


def answer(request: Request) -> Response:
    """Answer as the parameters say."""
    kind, size = request.query_params.get("type", "application/json"), int(request.query_params.get("size", len(TEXT)))
    headers = {"ETag": TAG, "Content-Type": kind}
    if request.headers.get("if-none-match") == TAG:
        return Response(status_code=304, headers={"ETag": TAG})
    if "stream" in request.query_params:
        return StreamingResponse(iter([TEXT, TEXT]), headers=headers)
    if "encoded" in request.query_params:
        headers["Content-Encoding"] = "br"
    return Response(TEXT[:size] if request.method == "GET" else b"", headers=headers)


@pytest.fixture
def client():
    app = Starlette(routes=[Route("/", answer, methods=["GET", "HEAD"])], middleware=[Middleware(Compressed)])
    with TestClient(app) as client:
        yield client


def read(client, path="/", accepted="gzip", **headers):
    """Return the answer as it was sent, and its undecoded body."""
    with client.stream("GET", path, headers={"Accept-Encoding": accepted, **headers}) as response:
        return response, b"".join(response.iter_raw())


@pytest.mark.parametrize(
    ("coding", "decode"), [("gzip", gzip.decompress), ("zstd", zstandard.ZstdDecompressor().decompress)]
)
def test_a_text_is_compressed(client, coding, decode):
    response, body = read(client, accepted=coding)
    assert decode(body) == TEXT
    assert len(body) < len(TEXT) / 5
    assert response.headers["Content-Encoding"] == coding
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["ETag"] == f'"abc-{coding}"'
    assert response.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "path",
    [
        f"/?size={SMALLEST_BYTES - 1}",
        "/?stream=1",
        "/?encoded=1",
        "/?type=application/gzip",
        "/?type=text/event-stream",
        "/?type=application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ],
)
def test_what_is_small_or_a_stream_or_no_text_is_sent_as_it_is(client, path):
    response, body = read(client, path)
    assert body[:100] == TEXT[:100]
    assert response.headers["ETag"] == TAG
    assert response.headers.get("Content-Encoding") in (None, "br")


def test_what_is_sent_as_it_is_says_that_it_could_have_been_compressed(client):
    response, body = read(client, accepted="identity")
    assert body == TEXT
    assert response.headers["Vary"] == "Accept-Encoding"


def test_head_is_answered_as_without_compression(client):
    response = client.head("/", headers={"Accept-Encoding": "gzip"})
    assert (response.headers["ETag"], "Content-Encoding" in response.headers) == (TAG, False)


@pytest.mark.parametrize("tag", ['"abc"', '"abc-gzip"', '"abc-zstd"'])
def test_each_forms_tag_is_confirmed_as_it_was_given(client, tag):
    response = client.get("/", headers={"If-None-Match": tag, "Accept-Encoding": "gzip"})
    assert (response.status_code, response.headers["ETag"]) == (304, tag)
    assert response.headers["Vary"] == "Accept-Encoding"
