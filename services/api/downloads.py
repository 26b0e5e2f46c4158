"""Downloads: which file is meant, which part of it the client wants, and its bytes.

What can be downloaded is what the ``file`` table says of the collection's active job; the disk is never listed. The
file is opened before anything is answered, and closed when the answer ends: a newer one may replace it meanwhile, and
whoever has begun gets it whole. Memory per download is one block, whatever the file's size, and no database connection
is held.

What is sent is what the row says, byte for byte, although files move while we look (shared/filing.py): what lies in a
row's place is never changed, and what lies under a name is another row's only after this one is gone. So a file that
was opened is the right one if the row is still there afterwards.

Another server can do the sending (``BOWERBIRD_DOWNLOAD_URL``): then the answer is a redirect there, after the same
look at the row. Not for a collection that is not public, whose files must come from where the key is asked for, and not
for a file that is not under its name yet. A redirect heeds no condition and no range (RFC 9110, 13.2.1): its target
does.

Conditions and ranges follow RFC 9110 (sections 13 and 14). One range is served; a request for several gets the whole
file, as that standard allows.
"""

import base64
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import and_, select
from sqlalchemy.orm import Session
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api.problems import ProblemError, no_such_collection, unavailable
from services.api.schemas import PROBLEMS
from shared.db.models import Collection, File
from shared.exports import FILE_NAME, MEDIA_TYPES, Export, split_name
from shared.logging import get_logger
from shared.views import FileView, file_view, named

BLOCK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,30})-([0-9]{0,30})", re.IGNORECASE)

log = get_logger()


@dataclass(frozen=True)
class Published:
    """A file that the table says is published, and where it lies: under its name, unless it is still where it was made.

    ``row``: the table's, of which each file has one of its own.
    """

    source_id: str
    path: Path
    file: FileView
    made: Path | None = None
    row: int = 0
    public: bool = False

    @property
    def etag(self) -> str:
        """Strong validator: the content's hash."""
        return f'"{self.file.sha256}"'

    def address(self, server: str) -> str | None:
        """Return where another server that sends the published files has it; None: it is not to be had there."""
        in_place = self.public and self.made is None
        return f"{server}/{self.source_id}/{self.path.parent.name}/{self.file.name}" if in_place else None

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
            ".jsonl.gz, .csv.tar.gz, .xlsx or .parquet.tar: full.jsonl.gz, 2021.csv.tar.gz.",
        )


def find(session: Session, root: Path, ref: str, name: str, *, public_only: bool = True) -> Published:
    """Return a published file of a visible collection. One statement. Raise a problem (404) if there is none."""
    statement = (
        select(Collection.source_id, Collection.public, *File.__table__.columns)
        .select_from(Collection)
        .outerjoin(File, and_(File.job_id == Collection.active_job_id, File.name == name, File.published))
    )
    if public_only:
        statement = statement.where(Collection.public)
    row = session.execute(named(statement, ref)).mappings().one_or_none()
    if row is None:
        raise no_such_collection(ref)
    source_id = row["source_id"]
    if row["name"] is None:
        path = f"/collections/{source_id}/downloads"
        detail = f"There is no file {name!r}; {path} lists those there are."
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, kind=f"{PROBLEMS}no-such-file", path=path)
    *made, place = Export(root, source_id, row["job_id"]).places(name, row["place"])
    return Published(source_id, place, file_view(row), made[0] if made else None, row["id"], row["public"])


def serve(request: Request, find: Callable[[], Published], *, server: str | None = None) -> Response:
    """Return the answer to GET or HEAD of a published file: all of it, a range, or word that nothing changed.

    :param find: asks the database for the file as it is now.
    :param server: the address of another server that sends files; None: there is none.
    """
    published = find()
    if server is not None and (address := published.address(server)) is not None:
        return Response(status_code=HTTPStatus.FOUND, headers={"Location": address})
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
    try:
        stream = open_published(published)
    except OSError as error:
        if find().row != published.row:  # replaced since we asked, and away with what we asked for
            return serve(request, find, server=server)
        log.error("published file is unavailable", path=str(published.path), fault=error.strerror or str(error))
        raise unavailable(
            "The file is published, but cannot be read where it should lie. Try again later; if it stays so, tell the "
            "operators."
        ) from error
    if find().row != published.row:  # replaced since we asked, so what we have opened may be either
        stream.close()
        return serve(request, find, server=server)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
    if request.method == "HEAD":
        stream.close()
        return Response(status_code=status, headers=headers)
    return FilePart(stream, start, end, status_code=status, headers=headers)


def open_published(published: Published) -> BinaryIO:
    """Open the file. Raise OSError if it is not there, or is not the one that the table knows."""
    if published.made is not None:
        with contextlib.suppress(OSError):
            return _open(published.made)
    stream = _open(published.path)
    size = os.fstat(stream.fileno()).st_size
    if size != published.file.size:
        stream.close()
        raise OSError(f"{size} bytes where {published.file.size} were published")
    return stream


def _open(path: Path) -> BinaryIO:
    """Open a file itself. A link in its place is none of ours, and could lead to any file of this machine."""
    return cast("BinaryIO", open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)))


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


def precondition_failed(headers: Headers, published: Published) -> bool:
    """Return whether ``If-Match`` or ``If-Unmodified-Since`` forbids to answer."""
    if (tags := _field(headers, "if-match")) is not None:
        return not names(tags, published.etag)
    since = _seconds(headers.get("if-unmodified-since"))
    return since is not None and int(published.file.created.timestamp()) > since


def not_modified(headers: Headers, published: Published) -> bool:
    """Return whether the client has the file already: ``If-None-Match``, and only without it ``If-Modified-Since``."""
    if (tags := _field(headers, "if-none-match")) is not None:
        return matches(tags, published.etag)
    since = _seconds(headers.get("if-modified-since"))
    return since is not None and int(published.file.created.timestamp()) <= since


def names(tags: str, etag: str) -> bool:
    """Return whether an ``If-Match`` header names the entity tag (strong comparison)."""
    return tags.strip() == "*" or etag in _tags(tags)


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


def _field(headers: Headers, name: str) -> str | None:
    """Return a header that is a list, which may come in several lines; None if it is missing."""
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def _tags(header: str) -> set[str]:
    return {tag.strip() for tag in header.split(",")}


def _seconds(date: str | None) -> float | None:
    """Return an HTTP date as seconds since the epoch; None if it is missing or not one.

    One of its three forms names no time zone: all are in GMT.
    """
    try:
        if not date:
            return None
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
