"""Sources on the web: downloaded to a file first, so that a slow server never holds a transaction open."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import requests

from shared import failures, outbound
from shared.errors import PermanentError, TemporaryError
from shared.worker.context import Work

BLOCK_BYTES = 1 << 18
OK = 200


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

    :raises TemporaryError: no answer, a broken or short one, or a status that says to try again (shared/failures.py).
    :raises PermanentError: any other status, too many redirects, more than ``max_download_bytes``, or an address that
        is not allowed (:class:`shared.outbound.ForbiddenAddressError`).
    """
    shown = shown_url(url)
    path = work.scratch / "download"
    with (
        _translated_errors(shown, work.settings.http_timeout_seconds),
        outbound.session(work.settings) as session,
        session.get(url, stream=True) as response,
    ):
        _check_status(response, shown)
        _save(work, response, path, shown)
    return path


@contextlib.contextmanager
def _translated_errors(shown: str, timeout: float) -> Iterator[None]:
    """Make errors of requests ours. Their own texts are not passed on: they repeat the URL, with its secrets."""
    try:
        yield
    except requests.RequestException as error:
        kind = TemporaryError if failures.is_temporary(error) else PermanentError
        raise kind(_sentence(error, shown, timeout)) from None


def _sentence(error: requests.RequestException, shown: str, timeout: float) -> str:
    if isinstance(error, requests.TooManyRedirects):
        return f"{shown} redirects more than {outbound.MAX_REDIRECTS} times. Correct the source."
    if isinstance(error, requests.Timeout):
        return f"{shown} did not answer within {timeout:g} s."
    if not failures.is_temporary(error):
        return f"{shown} is no http(s) URL, or redirects to none. Correct the source."
    return f"{shown} could not be downloaded: {_reason(error)}."


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
    if failures.is_temporary_status(status):
        retry_after = failures.retry_after_seconds(response.headers.get("Retry-After"))
        raise TemporaryError(f"{answer}.", retry_after=retry_after)
    raise PermanentError(f"{answer}. Correct the source, or ask its publisher.")


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
