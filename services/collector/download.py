"""Sources on the web: downloaded to a file first, so that a slow server never holds a transaction open."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import requests

from shared.errors import PermanentError, TemporaryError
from shared.worker.context import Work

BLOCK_BYTES = 1 << 18
MAX_REDIRECTS = 5
OK, REQUEST_TIMEOUT, TOO_EARLY, TOO_MANY_REQUESTS, SERVER_ERROR = 200, 408, 425, 429, 500


def is_web_address(source: str) -> bool:
    """Return whether a source is an http(s) URL."""
    return source.lower().startswith(("http://", "https://"))


def shown_url(url: str) -> str:
    """Return a URL without what may be secret: user, password, query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "The source's URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def download(work: Work, url: str) -> Path:
    """Download a URL to the scratch directory; return the file. Progress is in bytes.

    :raises TemporaryError: no answer, a broken or short one, or a status that says to try again (408, 425, 429, 5xx).
    :raises PermanentError: any other status, too many redirects, or more than ``max_download_bytes``.
    """
    shown = shown_url(url)
    path = work.scratch / "download"
    with _translated_errors(shown, work.settings.http_timeout_seconds), requests.Session() as session:
        session.max_redirects = MAX_REDIRECTS
        session.headers["User-Agent"] = _user_agent(work.settings.public_url)
        with session.get(url, stream=True, timeout=work.settings.http_timeout_seconds) as response:
            _check_status(response, shown)
            _save(work, response, path, shown)
    return path


def _user_agent(public_url: str | None) -> str:
    product = f"bowerbird/{version('bowerbird')}"
    return f"{product} (+{public_url})" if public_url else product


@contextlib.contextmanager
def _translated_errors(shown: str, timeout: float) -> Iterator[None]:
    """Make errors of requests ours. Their own texts are not passed on: they repeat the URL, with its secrets."""
    try:
        yield
    except requests.TooManyRedirects:
        raise PermanentError(f"{shown} redirects more than {MAX_REDIRECTS} times. Correct the source.") from None
    except requests.Timeout:
        raise TemporaryError(f"{shown} did not answer within {timeout:g} s.") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise PermanentError(f"{shown} is no http(s) URL, or redirects to none. Correct the source.") from None
    except requests.RequestException as error:
        raise TemporaryError(f"{shown} could not be downloaded: {_reason(error)}.") from None


def _reason(error: requests.RequestException) -> str:
    """Return what happened, without the URL: the innermost of the nested errors."""
    cause: object = error
    while isinstance(cause, BaseException):
        inner = getattr(cause, "reason", None) or next((arg for arg in cause.args if isinstance(arg, Exception)), None)
        if inner is None or not isinstance(inner, BaseException):
            break
        cause = inner
    return str(cause).rpartition(": ")[2].strip(" .")


def _check_status(response: requests.Response, shown: str) -> None:
    status = response.status_code
    if status == OK:
        return
    answer = f"{shown} answered {status} {response.reason or ''}".rstrip()
    if status >= SERVER_ERROR or status in {REQUEST_TIMEOUT, TOO_EARLY, TOO_MANY_REQUESTS}:
        raise TemporaryError(f"{answer}.", retry_after=_retry_after(response.headers.get("Retry-After")))
    raise PermanentError(f"{answer}. Correct the source, or ask its publisher.")


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which has seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    now = datetime.now(date.tzinfo or UTC)
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def _save(work: Work, response: requests.Response, path: Path, shown: str) -> None:
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdecimal() else None
    if total is not None and total > work.settings.max_download_bytes:
        _fail_as_large(work, shown)
    with path.open("wb") as file:
        for block in response.iter_content(BLOCK_BYTES):
            file.write(block)
            if file.tell() > work.settings.max_download_bytes:
                _fail_as_large(work, shown)
            work.progress(response.raw.tell(), total, of="bytes")
    received = response.raw.tell()  # before it was unpacked, if it was packed for the transfer
    if total is not None and received != total:
        raise TemporaryError(f"{shown} sent {received:,} of {total:,} bytes.")


def _fail_as_large(work: Work, shown: str) -> NoReturn:
    raise PermanentError(
        f"{shown} is longer than {work.settings.max_download_bytes:,} bytes. If that is right, raise "
        "BOWERBIRD_MAX_DOWNLOAD_BYTES."
    )
