"""Which part of a file a request wants, and whether it has it already (RFC 9110)."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from services.api.downloads import Published, matches, not_modified, precondition_failed, wanted_range
from shared.views import FileView

SHA256 = "ab" * 32
ETAG = f'"{SHA256}"'
PUBLISHED = "Mon, 02 Mar 2026 04:00:11 GMT"
EARLIER, LATER = "Mon, 02 Mar 2026 04:00:10 GMT", "Mon, 02 Mar 2026 04:00:12 GMT"


def published(size=1000):
    view = FileView(
        name="full.jsonl.gz",
        segment="full",
        format="jsonl",
        size=size,
        records=3,
        sha256=SHA256,
        created=datetime(2026, 3, 2, 4, 0, 11, 700_000, tzinfo=UTC),
    )
    return Published("sample", Path("/exports/sample/1/full.jsonl.gz"), view)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-", (500, 1000)),
        ("bytes=500-99999", (500, 1000)),
        ("bytes=-200", (800, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes = 0 - 9", (0, 10)),
    ],
)
def test_a_range_is_start_and_exclusive_end(header, span):
    assert wanted_range(Headers({"Range": header}), published()) == span


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=" + "9" * 25 + "-"])
def test_a_range_beyond_the_end_is_empty(header):
    start, end = wanted_range(Headers({"Range": header}), published())
    assert start >= end


@pytest.mark.parametrize(
    "header",
    ["", "bytes=", "bytes=-", "bytes=9-2", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=0-1-2", "bytes=٣-٤"],
)
def test_a_range_that_is_not_understood_is_no_range(header):
    headers = Headers(raw=[(b"range", header.encode("utf-8"))])
    assert wanted_range(headers, published()) is None


@pytest.mark.parametrize(
    ("if_range", "span"),
    [
        (ETAG, (0, 10)),
        (PUBLISHED, (0, 10)),
        ('"another"', None),
        (f"W/{ETAG}", None),
        (EARLIER, None),
    ],
)
def test_a_range_of_another_version_is_no_range(if_range, span):
    assert wanted_range(Headers({"Range": "bytes=0-9", "If-Range": if_range}), published()) == span


def test_every_range_of_an_empty_file_is_empty():
    start, end = wanted_range(Headers({"Range": "bytes=0-"}), published(size=0))
    assert start >= end


@pytest.mark.parametrize("tags", [ETAG, f"W/{ETAG}", "*", f'"x", {ETAG}', f' "x",W/{ETAG} '])
def test_an_entity_tag_matches_weakly_and_in_a_list(tags):
    assert matches(tags, ETAG)


@pytest.mark.parametrize("tags", ["", '"x"', SHA256, f'"{SHA256}', "W/*"])
def test_another_entity_tag_does_not_match(tags):
    assert not matches(tags, ETAG)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"If-None-Match": ETAG}, True),
        ({"If-None-Match": '"x"'}, False),
        ({"If-Modified-Since": PUBLISHED}, True),
        ({"If-Modified-Since": LATER}, True),
        ({"If-Modified-Since": EARLIER}, False),
        ({"If-Modified-Since": "Mon Mar  2 04:00:11 2026"}, True),
        ({"If-Modified-Since": "Monday, 02-Mar-26 04:00:11 GMT"}, True),
        ({"If-Modified-Since": "yesterday"}, False),
        ({"If-Modified-Since": "Mon, 02 Mar 99999 04:00:10 GMT"}, False),
        ({"If-None-Match": '"x"', "If-Modified-Since": LATER}, False),
    ],
)
def test_the_entity_tag_decides_before_the_date_whether_anything_changed(headers, expected):
    assert not_modified(Headers(headers), published()) is expected


def test_entity_tags_may_come_in_several_lines():
    lines = Headers(raw=[(b"if-none-match", b'"x"'), (b"if-none-match", ETAG.encode())])
    assert not_modified(lines, published())


def test_an_http_date_without_a_zone_is_in_gmt_wherever_the_server_is(monkeypatch):
    monkeypatch.setenv("TZ", "America/Bogota")
    time.tzset()
    try:
        assert not not_modified(Headers({"If-Modified-Since": "Mon Mar  2 04:00:10 2026"}), published())
        assert not_modified(Headers({"If-Modified-Since": "Mon Mar  2 04:00:11 2026"}), published())
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"If-Match": ETAG}, False),
        ({"If-Match": "*"}, False),
        ({"If-Match": '"x"'}, True),
        ({"If-Match": f"W/{ETAG}"}, True),
        ({"If-Unmodified-Since": PUBLISHED}, False),
        ({"If-Unmodified-Since": EARLIER}, True),
        ({"If-Match": ETAG, "If-Unmodified-Since": EARLIER}, False),
    ],
)
def test_who_has_a_part_of_another_version_is_told(headers, expected):
    assert precondition_failed(Headers(headers), published()) is expected


def test_the_headers_name_type_version_and_a_name_to_save_under():
    assert published().headers() == {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Disposition": 'attachment; filename="sample_full.jsonl.gz"',
        "Content-Type": "application/gzip",
        "ETag": ETAG,
        "Last-Modified": PUBLISHED,
        "Repr-Digest": "sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:",
    }


@pytest.mark.parametrize(
    ("state", "address"),
    [
        ({"public": True}, "https://files.example.org/exports/sample/1/full.jsonl.gz"),
        ({}, None),
        ({"public": True, "made": Path("/exports/sample/1/.made-1-2/full.jsonl.gz")}, None),
    ],
)
def test_another_server_has_what_is_public_and_under_its_name(state, address):
    assert replace(published(), **state).address("https://files.example.org/exports") == address
