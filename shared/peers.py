"""Asking other systems (Scrapyd, Kingfisher Process, Pelican) over HTTP: one way to ask, one way to fail.

Whatever keeps a peer from answering well is a :class:`~shared.errors.TemporaryError` that names the collection, the
job, the task and the URL, without its credentials: peers are restarted, upgraded and moved behind other proxies, and
the work that they do for us goes on meanwhile. What the answer *says* is for the caller to judge.

Bounds: connecting and each read take ``peer_timeout_seconds`` at most, the whole answer three times that, and an answer
of over :data:`MAX_ANSWER_BYTES` is refused. Redirects are not followed: a request that changes something must not end
up as another one elsewhere.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from shared.errors import PermanentError, TemporaryError
from shared.logging import get_logger
from shared.settings import PREFIX, Settings

log = get_logger()

MAX_ANSWER_BYTES = 64 * 1024**2
BLOCK_BYTES = 1 << 16
PATIENCE = 3
"""How many timeouts a whole answer may take."""
OK, REDIRECT, NOT_FOUND, TOO_FAR, TOO_MANY, UNAVAILABLE = 200, 300, 404, 416, 429, 503


class AnswerTooLargeError(PermanentError):
    """An answer is over :data:`MAX_ANSWER_BYTES`."""


@dataclass(frozen=True)
class Caller:
    """For whom a peer is asked: named in errors."""

    source_id: str
    job_id: int
    task_type: str

    def __str__(self) -> str:
        return f"{self.source_id}, job {self.job_id}, {self.task_type}"


def require(settings: Settings, name: str) -> Any:
    """Return a setting that a backend cannot do without. Raise :class:`PermanentError` naming it if it is not set."""
    value = getattr(settings, name)
    if value in (None, ""):
        setting = PREFIX + name.upper()
        raise PermanentError(
            f"{setting} is not set, and this task's backend needs it. Set it, and restart the worker: docs/remote.md."
        )
    return value


def shown(url: str) -> str:
    """Return a URL as it is stored and shown: without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextlib.contextmanager
def request(
    method: str, url: str, *, caller: Caller, settings: Settings, accept: tuple[int, ...] = (), **options: Any
) -> Iterator[requests.Response]:
    """Send a request; yield the answer, whose body is not read yet.

    :param accept: statuses that are answers too, beside 2xx.
    :param options: as ``requests.request`` takes them (``data``, ``json``, ``params``, ``headers``).
    :raises TemporaryError: no answer, a broken one, or another status.
    """
    try:
        with requests.request(
            method, url, timeout=settings.peer_timeout_seconds, stream=True, allow_redirects=False, **options
        ) as response:
            status = response.status_code
            if not OK <= status < REDIRECT and status not in accept:
                answer = f"{status} {response.reason or ''}".rstrip()
                raise TemporaryError(
                    f"{method} {shown(url)} answered {answer} ({caller}).",
                    retry_after=_retry_after(response) if status in (TOO_MANY, UNAVAILABLE) else None,
                )
            yield response
    except requests.RequestException as error:
        raise TemporaryError(f"{method} {shown(url)} failed: {_reason(error, settings)} ({caller}).") from None


def ask(
    method: str, url: str, *, caller: Caller, settings: Settings, accept: tuple[int, ...] = (), **options: Any
) -> tuple[int, Any]:
    """Send a request; return the status and the answer's JSON value, None for an empty or accepted error answer.

    :raises TemporaryError: as :func:`request`; also an answer that is no JSON (a proxy's page), or takes too long.
    :raises AnswerTooLargeError: it is over :data:`MAX_ANSWER_BYTES`.
    """
    with request(method, url, caller=caller, settings=settings, accept=accept, **options) as response:
        body = _body(response, url, caller, settings)
        if response.status_code in accept or not body.strip():
            return response.status_code, None
        try:
            return response.status_code, json.loads(body)
        except (ValueError, RecursionError):
            raise TemporaryError(f"{method} {shown(url)} answered with something that is no JSON ({caller}).") from None


def _body(response: requests.Response, url: str, caller: Caller, settings: Settings) -> bytes:
    deadline = time.monotonic() + PATIENCE * settings.peer_timeout_seconds
    blocks, size = [], 0
    for block in response.iter_content(BLOCK_BYTES):
        blocks.append(block)
        size += len(block)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError(f"{shown(url)} answers with over {MAX_ANSWER_BYTES:,} bytes ({caller}).")
        if time.monotonic() > deadline:
            raise TemporaryError(f"{shown(url)} does not come to an end of its answer ({caller}).")
    return b"".join(blocks)


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "").strip()
    return float(value) if value.isdecimal() else None


def _reason(error: requests.RequestException, settings: Settings) -> str:
    """Say what happened without the texts of requests, which repeat the URL with its credentials."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {settings.peer_timeout_seconds:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was refused"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it broke"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "its answer broke off"
    return f"no proper answer ({type(error).__name__})"
