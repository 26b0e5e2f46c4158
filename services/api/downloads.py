"""Downloads: which file is meant, which part of it the client wants, and its bytes.

What can be downloaded is what the ``file`` table says of the collection's active job; the disk is never listed. The
file is opened before anything is answered, and closed when the answer ends: a newer job may replace it meanwhile, and
whoever has begun gets it whole. Memory per download is one block, whatever the file's size, and no database connection
is held.

Conditions and ranges follow RFC 9110 (sections 13 and 14). One range is served; a request for several gets the whole
file, as that standard allows.
"""

import base64
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import and_, select
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api.problems import ProblemError, no_such_collection, unavailable
from shared.db.models import Collection, File
from shared.exports import FILE_NAME, MEDIA_TYPES, Export, split_name
from shared.logging import get_logger
from shared.views import FileView, file_view, named

BLOCK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,30})-([0-9]{0,30})", re.IGNORECASE)

log = get_logger()


@dataclass(frozen=True)
class Published:
    """A file that the table says is published, and where it lies."""

    source_id: str
    path: Path
    file: FileView

    @property
    def etag(self) -> str:
        """Strong validator: the content's hash."""
        return f'"{self.file.sha256}"'

    @property
    def last_modified(self) -> str:
        """Time of publication, as HTTP writes it."""
        return format_datetime(self.file.created.astimezone(UTC), usegmt=True)

    def headers(self) -> dict[str, str]:
        """Headers of every answer about the file."""
        _, suffix = split_name(self.file.name)
        digest = base64.b64encode(bytes.fromhex(self.file.sha256)).decode()
        return {
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-cache",  # a newer job brings a newer file: ask, and be told 304 if not
            "Content-Disposition": f'attachment; filename="{self.source_id}_{self.file.name}"',
            "Content-Type": MEDIA_TYPES[suffix],
            "ETag": self.etag,
            "Last-Modified": self.last_modified,
            "Repr-Digest": f"sha-256=:{digest}:",
        }


def require_file_name(name: str) -> None:
    """Raise a problem (400) unless the name is that of an export file."""
    if not FILE_NAME.fullmatch(name):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"{name!r:.100} is no name of a download. Names are full, undated or a year of four digits, then "
            ".jsonl.gz, .csv.tar.gz or .xlsx: full.jsonl.gz, 2021.csv.tar.gz.",
        )


def find(session: Session, root: Path, ref: str, name: str) -> Published:
    """Return a published file of a visible collection. One statement. Raise a problem (404) if there is none."""
    statement = (
        select(Collection.source_id, *File.__table__.columns)
        .select_from(Collection)
        .outerjoin(File, and_(File.job_id == Collection.active_job_id, File.name == name))
        .where(Collection.public)
    )
    row = session.execute(named(statement, ref)).mappings().one_or_none()
    if row is None:
        raise no_such_collection(ref)
    source_id = row["source_id"]
    if row["name"] is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"There is no file {name!r}; /collections/{source_id}/downloads lists those there are.",
        )
    return Published(source_id, Export(root, source_id, row["job_id"]).path(name), file_view(row))


def serve(request: Request, published: Published) -> Response:
    """Return the answer to GET or HEAD of a published file: all of it, a range, or word that nothing changed."""
    headers = published.headers()
    if precondition_failed(request.headers, published):
        raise ProblemError(HTTPStatus.PRECONDITION_FAILED, "The file has changed since you began. Start again.")
    if not_modified(request.headers, published):
        kept = ("ETag", "Last-Modified", "Cache-Control")
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={name: headers[name] for name in kept})
    size = published.file.size
    span = wanted_range(request.headers, published) if request.method == "GET" else None
    start, end = span or (0, size)
    if start >= end and span:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes; the range begins after its end.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    stream = open_published(published)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
    if request.method == "HEAD":
        stream.close()
        return Response(status_code=status, headers=headers)
    return FilePart(stream, start, end, status_code=status, headers=headers)


def open_published(published: Published) -> BinaryIO:
    """Open the file. Raise a problem (503) and log it if it is not there, or is not the one that the table knows."""
    try:
        stream = published.path.open("rb")
    except OSError as error:
        fault = error.strerror or str(error)
    else:
        size = os.fstat(stream.fileno()).st_size
        if size == published.file.size:
            return stream
        stream.close()
        fault = f"{size} bytes where {published.file.size} were published"
    log.error("published file is unavailable", path=str(published.path), fault=fault)
    raise unavailable(
        "The file is published, but cannot be read where it should lie. Try again later; if it stays so, tell the "
        "operators."
    )


class FilePart(StreamingResponse):
    """Bytes ``start`` to ``end`` (exclusive) of an open file, which it closes."""

    def __init__(self, stream: BinaryIO, start: int, end: int, *, status_code: int, headers: Mapping[str, str]) -> None:
        self._stream = stream
        super().__init__(self._blocks(start, end), status_code=status_code, headers=headers)

    async def _blocks(self, start: int, end: int) -> AsyncIterator[bytes]:
        self._stream.seek(start)
        while start < end:
            block = await run_in_threadpool(self._stream.read, min(BLOCK_BYTES, end - start))
            if not block:
                raise EOFError(f"{self._stream.name} was shortened while it was downloaded")
            start += len(block)
            yield block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


def precondition_failed(headers: Mapping[str, str], published: Published) -> bool:
    """Return whether ``If-Match`` or ``If-Unmodified-Since`` forbids to answer."""
    if (tags := headers.get("if-match")) is not None:
        return tags.strip() != "*" and published.etag not in _tags(tags)
    since = _seconds(headers.get("if-unmodified-since"))
    return since is not None and int(published.file.created.timestamp()) > since


def not_modified(headers: Mapping[str, str], published: Published) -> bool:
    """Return whether the client has the file already: ``If-None-Match``, and only without it ``If-Modified-Since``."""
    if (tags := headers.get("if-none-match")) is not None:
        return matches(tags, published.etag)
    since = _seconds(headers.get("if-modified-since"))
    return since is not None and int(published.file.created.timestamp()) <= since


def matches(tags: str, etag: str) -> bool:
    """Return whether an ``If-None-Match`` header names the entity tag (weak comparison)."""
    return tags.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _tags(tags)}


def wanted_range(headers: Mapping[str, str], published: Published) -> tuple[int, int] | None:
    """Return start and end (exclusive) of the wanted range; None: the whole file. An empty range: none of it exists.

    A header that is not understood is ignored, and so is one whose ``If-Range`` names another version of the file.
    """
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or headers.get("if-range", published.etag) not in (published.etag, published.last_modified):
        return None
    first, last, size = match[1], match[2], published.file.size
    if not first:
        return (max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _tags(header: str) -> set[str]:
    return {tag.strip() for tag in header.split(",")}


def _seconds(date: str | None) -> float | None:
    """Return an HTTP date as seconds since the epoch; None if it is missing or not one."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None
