"""What is temporary is decided in one place, and the page for operators says the same."""

import errno
import os
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared import failures
from shared.db import errors as database
from shared.errors import BrokerUnavailableError, ConfigurationError, PermanentError, TemporaryError
from shared.failures import classify, is_temporary, is_temporary_status, retry_after_seconds

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page():
    """The section for operators."""
    text = (ROOT / "docs/operations.md").read_text()
    return re.search(r"## What is tried again by itself\n(.*?)\n## ", text, re.DOTALL)[1]


def answer(status, **headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError(f"{status}", response=response)


def test_the_page_for_operators_lists_every_error_of_the_system(page):
    told = set(re.findall(r"`(E[A-Z]+)`", page))
    assert told == {errno.errorcode[number] for number in failures.TEMPORARY_ERRNOS}


def test_the_page_for_operators_lists_every_status(page):
    (line,) = re.findall(r"^- HTTP answers (.*?);", page, re.MULTILINE)
    first, last = map(int, re.search(r"(\d+) to (\d+)", line).groups())
    single = map(int, re.findall(r"\d+", line.partition(" and ")[0]))
    told = {*single, *range(first, last + 1)}
    assert told == {status for status in range(100, 600) if is_temporary_status(status)}


def test_the_page_for_operators_lists_every_class_of_the_database(page):
    told = set(re.findall(r"\b[0-9]{2}(?:P[0-9]{2}|P)?\b", re.search(r"classes (.*?)\)", page, re.DOTALL)[1]))
    assert told == {*database.TEMPORARY_CLASSES, database.LOCK_NOT_AVAILABLE}


@pytest.mark.parametrize("number", sorted(failures.TEMPORARY_ERRNOS), ids=errno.errorcode.get)
def test_an_error_of_the_system_that_passes_is_temporary(number):
    assert is_temporary(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG])
def test_an_error_of_the_system_that_stays_is_permanent_and_a_defect(number):
    failure = classify(OSError(number, os.strerror(number)))
    assert (failure.kind, failure.foreseen) == ("permanent", False)


@pytest.mark.parametrize(
    "error",
    [
        TemporaryError("busy"),
        BrokerUnavailableError("away"),
        TimeoutError("timed out"),
        MemoryError(),
        PoolTimeoutError("no connection is free"),
        DBAPIError("SELECT", {}, Exception("gone"), connection_invalidated=True),
        requests.ConnectionError("refused"),
        requests.ReadTimeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut"),
        answer(503),
        answer(429),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_what_may_pass_is_temporary(error):
    assert classify(error).kind == "temporary"


@pytest.mark.parametrize(
    ("error", "foreseen"),
    [
        (PermanentError("wrong"), True),
        (ConfigurationError("wrong"), True),
        (requests.TooManyRedirects("round and round"), True),
        (requests.exceptions.InvalidProxyURL("no address"), True),
        (requests.exceptions.MissingSchema("no address"), True),
        (answer(404), True),
        (KeyError("missing"), False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), False),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_what_stays_is_permanent(error, foreseen):
    failure = classify(error)
    assert (failure.kind, failure.foreseen) == ("permanent", foreseen)


def test_what_a_peer_asks_for_is_passed_on():
    assert classify(TemporaryError("busy", retry_after=7)).retry_after == 7
    assert classify(answer(503, **{"Retry-After": "120"})).retry_after == 120
    assert classify(answer(503)).retry_after is None


def test_a_date_to_retry_after_is_seconds_from_now_and_one_that_has_passed_is_now():
    soon = retry_after_seconds(format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True))
    assert 290 < soon <= 300
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5"])
def test_a_retry_after_that_is_none_is_ignored(value):
    assert retry_after_seconds(value) is None
